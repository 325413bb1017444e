"""Studies that can be exported without a sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from records import open_record
from small_images import SMALL_NET, blobs

from aifs_tune._util.hashing import hashes_of
from aifs_tune.artifacts.data_files import keep_files
from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data.file_table import file_table
from aifs_tune.publishing.bundle.ro_crate import METADATA
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.trainers.models.cnn import CnnTrainer

SPACE = {
    "x": {"type": "float", "low": 0.0, "high": 1.0, "default": 0.25, "unit": "mm"},
    "kind": {"type": "choice", "choices": ["a", "no"], "default": "a"},
    "power": {"type": "int", "low": 1, "high": 8, "default": 2, "when": {"kind": "no"}},
}
CNN = {
    "name": "blobs",
    "trainer": "cnn",
    "data": {"folder": "/somewhere/secret/blobs", "image_size": 16},
    "search": {"sampler": "random", "scheduler": "none", "epochs": 1},
    "space": {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True, "default": 3e-3}}
    | {name: value for name, value in SMALL_NET.items() if name != "learning_rate"},
}


def instrument(url: str, name: str = "furnace") -> StudyRecord:
    """Trials in all states, with curves, reasons, labels and leases."""
    study = open_record(name, space=SPACE, storage=url, metric="score", mode="max", sampler="random")
    for value in (1.0, 3.0, 2.0):
        trial = study.ask(label=f"sample {value}", owner="ann", lease_s=3600)
        study.report(trial, 1, {"score": value - 1, "heat": 7.0}, seconds=2.0, worker="lab:1")
        study.report(trial, 2, {"score": value, "heat": float("nan")}, seconds=3.0, worker="lab:1")
        study.tell(trial)
    pruned, failed, _running = (study.ask() for _ in range(3))
    study.report(pruned, 1, {"score": 9.0})
    study.tell(pruned, state="pruned", reason="no gain")
    study.tell(failed, state="failed", reason="the lamp\nbroke")
    study.enqueue({"x": 0.5, "kind": "no", "power": 3})
    return study


def trained(url: str) -> StudyRecord:
    """A study of images with one trial, whose network was trained and whose weights are kept."""
    storage = Storage(url, create=True)
    study = start_study(storage, parse_sweep(CNN), "blobs")
    images = blobs()
    trial = study.ask()
    trainer = CnnTrainer(images, trial.params, seed=trial.seed, precision="float32")
    study.report(trial, 1, trainer.epoch(), worker="here:1")
    weights = TrialArtifacts(study.artifacts, trial.number).save_weights(trainer.save_best)
    study.tell(trial, weights=weights)
    study.match_data(images.fingerprint)
    names = [f"class {label}/{i}.png" for i, label in enumerate(images.labels)]
    parts = {"train": images.train, "val": images.val, "test": images.test}
    table = file_table([([name], None) for name in names], dict.fromkeys(names, "0" * 64), parts)
    keep_files(study, table.to_frame())
    return study


def reseal(folder: Path) -> None:
    """Write the current hashes of the files in ``folder`` into the metadata, as a forger of a bundle would."""
    crate = json.loads((folder / METADATA).read_text())
    found = {name: digest for name, digest in hashes_of(folder).items() if name != METADATA}
    for entity in crate["@graph"]:
        if entity["@id"] in found:
            entity["sha256"] = found[entity["@id"]]
    (folder / METADATA).write_text(json.dumps(crate))


def edit(file: Path, change: Any) -> None:
    """Let ``change`` alter the JSON in ``file``, and reseal its bundle."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    reseal(file.parent)


def entities(folder: Path) -> Mapping[str, Any]:
    """What the metadata of a bundle describe, by its identifier."""
    return {entity["@id"]: entity for entity in json.loads((folder / METADATA).read_text())["@graph"]}
