"""From a sweep to a bundle, and from the bundle to a verdict, on a real Ray."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import aifs_tune
from aifs_tune.artifacts.data_files import match_files
from aifs_tune.cli.main import app
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.trusted_code import trust
from aifs_tune.data.sources import prepare
from aifs_tune.errors import ConflictError, DataError, RequestError, WorkError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.confirm import SweepOptions
from aifs_tune.execution.data import located
from aifs_tune.publishing.bundle.export import export
from aifs_tune.publishing.bundle.reproduce import REPRODUCES, Reproduction, ReproductionVerdict, reproduce
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study, start_study
from aifs_tune.trainers.function import import_function

pytestmark = pytest.mark.usefixtures("one_ray")
OPTIONS = SweepOptions(workers=2, callback=NullCallback())
NOISY = """
import random

def noisy(x, seed):
    return {"score": x + random.Random(seed).gauss(0, 0.01)}
"""


@pytest.fixture
def lab_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle of a lab's own function that is noisy, of three trials."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "noisy_lab.py").write_text(NOISY)
    document = {
        "name": "noisy",
        "trainer": "noisy_lab:noisy",
        "objective": {"metric": "score"},
        "search": {"trials": 3, "epochs": 1, "workers": 2, "sampler": "random", "scheduler": "none"},
        "space": {"x": {"type": "float", "low": 0.1, "high": 0.2, "default": 0.15}},
    }
    study = start_study(Storage(f"sqlite:///{tmp_path}/lab.db", create=True), parse_sweep(document), "noisy")
    trust(["noisy_lab:noisy"])
    function = import_function("noisy_lab:noisy")
    for _ in range(3):
        trial = study.ask()
        study.tell(trial, function(**trial.params, seed=trial.seed))
    aifs_tune.export("noisy", tmp_path / "bundle", storage=f"sqlite:///{tmp_path}/lab.db")
    return tmp_path / "bundle"


def test_a_score_is_reached_again_or_it_is_said_that_it_is_not(lab_bundle: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/other.db"
    found = reproduce(lab_bundle, storage=url, options=OPTIONS, seeds=2)
    recorded = json.loads((lab_bundle / "results.json").read_text())
    assert found.verdict.same_seed == recorded["best"]["value"] == found.verdict.recorded
    assert found.is_reproduced == ("NOT" not in found.verdict.text)
    assert len(set(found.verdict.fresh)) == 2
    assert found.study.trial(0).seed == recorded["seeds"]["best_trial"]
    assert len({trial.seed for trial in found.study.all_trials()}) == 3
    assert found.study.fact(REPRODUCES)["seeds"] == 2
    again = reproduce(lab_bundle, storage=url, options=OPTIONS, seeds=2)
    assert again.study.name == found.study.name == "noisy-reproduce"
    assert len(again.study.all_trials()) == 3, "what is there is not trained again"


def test_the_command_says_it_with_its_exit_code(
    lab_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = get_study(Storage(f"sqlite:///{tmp_path}/lab.db"), "noisy")
    found = [Reproduction(ReproductionVerdict("score", 0.2, value, [], None), study) for value in (0.2, 0.3)]
    monkeypatch.setattr("aifs_tune.publishing.bundle.reproduce.reproduce", lambda *_args, **_options: found.pop(0))
    done = CliRunner().invoke(app, ["reproduce", str(lab_bundle)])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "REPRODUCED: the same score")
    done = CliRunner().invoke(app, ["reproduce", str(lab_bundle), "--json"])
    assert json.loads(done.stdout)["is_reproduced"] is False
    assert isinstance(done.exception, WorkError)
    assert done.exception.exit_code == 1
    assert "was not reached again; see study noisy" in str(done.exception)


def test_code_is_not_in_a_bundle(lab_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "noisy_lab.py").unlink()
    monkeypatch.delitem(sys.modules, "noisy_lab", raising=False)
    with pytest.raises(RequestError, match=r"A bundle contains no code, and noisy_lab:noisy is code of its author"):
        reproduce(lab_bundle, storage=f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(RequestError, match="--seeds: -1 is not allowed; allowed: a whole number from 0 to 1000"):
        reproduce(lab_bundle, seeds=-1)


def test_changed_data_are_named_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    values = random.normal(size=(80, 3))
    lines = [f"{a},{b},{c},{'high' if a + b > 0 else 'low'}" for a, b, c in values]
    (tmp_path / "stars.csv").write_text("\n".join(["a,b,c,target", *lines]) + "\n")
    document = {
        "name": "stars",
        "trainer": "boosting",
        "data": {"table": {"file": "stars.csv"}},
        "search": {"trials": 1, "epochs": 2, "workers": 1, "sampler": "random", "scheduler": "none"},
        "space": {"learning_rate": {"type": "float", "low": 0.01, "high": 0.5, "default": 0.1}},
    }
    url = f"sqlite:///{tmp_path}/lab.db"
    study = start_study(Storage(url, create=True), located(parse_sweep(document)), "stars")
    assert study.spec.data is not None
    prepared = prepare(study.spec.data, "table", strict=True, tell=lambda _: None, progress=lambda *_: None)
    match_files(study, prepared.fingerprint, prepared.files)
    study.tell(study.ask(), 0.5)
    made = export("stars", tmp_path / "bundle", storage=url)
    assert "no weights of trial 0 are kept" in made.missing["model, weights"]

    other = tmp_path / "elsewhere"
    other.mkdir()
    os.chdir(other)
    with pytest.raises(DataError, match=r"does not contain the data of study 'stars' \(stars\.csv\); give --data PATH"):
        reproduce(tmp_path / "bundle", storage=f"sqlite:///{other}/lab.db", options=OPTIONS)
    (other / "stars.csv").write_text((tmp_path / "stars.csv").read_text().replace("high", "low", 1))
    with pytest.raises(ConflictError) as refused:
        reproduce(tmp_path / "bundle", data="stars.csv", storage=f"sqlite:///{other}/lab.db", options=OPTIONS)
    assert "the data differ from those of study 'stars'" in str(refused.value)
    assert "1 file changed (stars.csv)" in str(refused.value)
    assert "--allow-changed-data" in str(refused.value)
    found = reproduce(
        tmp_path / "bundle",
        data="stars.csv",
        seeds=0,
        allow_changed_data=True,
        storage=f"sqlite:///{other}/lab.db",
        options=OPTIONS,
    )
    assert found.changed_data is not None
    assert found.verdict.same_seed is not None
    assert found.study.fingerprint != study.fingerprint


def test_an_instrument_cannot_be_run_again(url: str, tmp_path: Path) -> None:
    study = open_study("furnace", space={"x": {"type": "float", "low": 0, "high": 1}}, storage=url)
    study.tell(study.ask(), 1.0)
    export("furnace", tmp_path / "bundle", storage=url)
    with pytest.raises(RequestError, match="is of an instrument, so its measurements cannot be repeated here"):
        reproduce(tmp_path / "bundle", storage=url)
    assert get_study(Storage(url), "furnace").counts()["complete"] == 1
