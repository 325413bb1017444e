"""Studies of one trial that was trained here, without Ray, on files that a test has made."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data.sources import prepare
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.trainers.factory import find_trainer_entry, make_trainer


def trained_study(url: str, sweep: Mapping[str, Any], *, epochs: int = 1) -> StudyRecord:
    """Train the default configuration of a sweep, and keep its best epoch."""
    options = {"sampler": "random", "scheduler": "none", "epochs": epochs, "trials": 1}
    spec = parse_sweep({"name": "mine", "search": options, **sweep})
    entry = find_trainer_entry(spec)
    assert entry is not None
    assert spec.data is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = prepare(spec.data, entry.kind, strict=False, tell=lambda _: None, progress=lambda *_: None)
    study = start_study(Storage(url, create=True), spec, spec.name)
    study.match_data(made.fingerprint)
    trial = study.ask()
    trainer = make_trainer(spec, Path(made.location), params=trial.params, seed=0, threads=1)
    for epoch in range(1, epochs + 1):
        study.report(trial, epoch, trainer.epoch(), worker="here:1")
    study.tell(trial, weights=TrialArtifacts(study.artifacts, trial.number).save_weights(trainer.save_best))
    return study
