"""Null and lists as values of parameters: what trials, functions, storage, files and services have of them."""

from __future__ import annotations

import json
import warnings

import optuna
import pandas as pd
import pytest
import yaml
from services import Service

import aifs_tune
from aifs_tune import Client
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import RequestError

SPACE = {
    "size": {"type": "choice", "choices": [(1, 2), [3, 4], [[5], [6, 7.5]]]},
    "clip": {"type": "choice", "choices": [None, 5, "off"]},
    "rate": {"type": "float", "low": 0.0, "high": 1.0, "when": {"clip": None}},
    "side": {"type": "int", "low": 1, "high": 9, "when": {"size": [[3, 4]]}},
    "weights": {"type": "fixed", "value": [0.5, 0.25]},
    "nothing": None,
}
SIZES = [[1, 2], [3, 4], [[5], [6, 7.5]]]


def looped(study, n: int = 12):
    for i in range(n):
        study.tell(study.ask(), float(i % 5))
    return study


@pytest.mark.parametrize("sampler", ["aifs", "tpe", "random", "nsga2", "qmc"])
def test_every_sampler_hands_out_the_values_themselves(url: str, sampler: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Optuna warns of choices that it cannot store
        study = looped(aifs_tune.open_study("s", space=SPACE, storage=url, sampler=sampler))
        again = aifs_tune.load_study("s", url)
    for trial in study.all_trials():
        assert trial.params["size"] in SIZES
        assert trial.params["clip"] in (None, 5, "off")
        assert ("rate" in trial.params) == (trial.params["clip"] is None)
        assert ("side" in trial.params) == (trial.params["size"] == [3, 4])
        assert trial.params["weights"] == [0.5, 0.25]
        assert trial.params["nothing"] is None
        assert trial.problem is None
    assert {repr(t.params["size"]) for t in study.all_trials()} == set(map(repr, SIZES))
    assert {repr(t.params["clip"]) for t in study.all_trials()} == {"None", "5", "'off'"}
    assert [t.params for t in again.all_trials()] == [t.params for t in study.all_trials()]


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_a_grid_has_each_value_once(url: str, sampler: str) -> None:
    space = {name: SPACE[name] for name in ("size", "clip")}
    study = looped(aifs_tune.open_study("grid", space=space, storage=url, sampler=sampler), 9)
    assert len({json.dumps(t.params) for t in study.all_trials()}) == 9


def test_what_is_queued_or_attached_is_stored_alike(url: str) -> None:
    study = aifs_tune.open_study("q", space=SPACE, storage=url)
    params = {"size": (3, 4), "side": 2, "clip": None, "rate": 0.5, "weights": (0.5, 0.25), "nothing": None}
    stored = {**params, "size": [3, 4], "weights": [0.5, 0.25]}
    assert study.enqueue(params).params == stored
    assert study.ask().params == stored
    assert study.attach(params, 0.7).params == stored
    assert study.attach(stored, 0.9).params == stored
    assert study.best.replicates.trials == (1, 2)
    with pytest.raises(RequestError, match=r"size: \[1, 3\] is not allowed; allowed: one of \[1, 2\], \[3, 4\]"):
        study.enqueue({**params, "size": [1, 3]})


def test_in_optuna_they_are_json_text(url: str) -> None:
    looped(aifs_tune.open_study("s", space=SPACE, storage=url), 6)
    theirs = optuna.load_study(study_name="s", storage=url)
    assert {t.params["size"] for t in theirs.trials} <= {"[1, 2]", "[3, 4]", "[[5], [6, 7.5]]"}
    assert {t.params["nothing"] for t in theirs.trials} == {"null"}


def test_a_default_of_null_is_the_first_configuration(url: str) -> None:
    clip = {"type": "choice", "choices": [None, 5], "default": None}
    size = {"type": "choice", "choices": [[1], [2]], "default": [2]}
    study = aifs_tune.open_study("d", space={"clip": clip, "size": size}, storage=url)
    assert study.ask().params == {"clip": None, "size": [2]}
    assert aifs_tune.load_study("d", url).spec.space["clip"].default_value == "null"
    without = aifs_tune.open_study("e", space={"clip": {"type": "choice", "choices": [None, 5]}}, storage=url)
    assert aifs_tune.load_study("e", url).spec == without.spec
    assert without.spec.space["clip"].default_value is None


def test_a_sweep_file_has_them_as_yaml_does() -> None:
    text = """
name: s
space:
  size: {type: choice, choices: [[1, 2], [3, 4]], default: [3, 4], prior: [1, 2]}
  clip: {type: choice, choices: [null, 5], default: null}
  other: {type: fixed, value: [1, 2]}
constraints: ['size == "[3, 4]" or clip == "null"']
exclude: [{size: [1, 2], clip: null}]
"""
    spec = parse_sweep(yaml.safe_load(text))
    assert spec.space.default_params() == {"size": "[3, 4]", "clip": "null", "other": "[1, 2]"}
    assert not spec.allows({"size": [1, 2], "clip": 5, "other": [1, 2]})
    assert not spec.allows({"size": [1, 2], "clip": None, "other": [1, 2]})
    assert spec.allows({"size": [3, 4], "clip": 5, "other": [1, 2]})
    written = spec.model_dump(mode="json")
    assert written["space"]["size"]["choices"] == [[1, 2], [3, 4]]
    assert written["space"]["clip"]["choices"] == [None, 5]
    assert written["exclude"] == [{"size": [1, 2], "clip": None}]
    assert parse_sweep(json.loads(json.dumps(written))) == spec


def test_a_function_gets_the_values_themselves(url: str) -> None:
    seen = []

    def score(size, clip, weights, nothing=1, rate=0.0, side=0):
        seen.append((size, clip, weights, nothing))
        return float(side)

    result = aifs_tune.tune(score, SPACE, trials=8, storage=url, name="f")
    assert len(result.trials) == 8
    for size, clip, weights, nothing in seen:
        assert type(size) is list
        assert size in SIZES
        assert clip in (None, 5, "off")
        assert (weights, nothing) == ([0.5, 0.25], None)


def test_what_the_commands_print(run, tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/lab.db"
    study = looped(aifs_tune.open_study("s", space=SPACE, storage=url))
    shown = run("trials", "s", "--format", "json", "--storage", url).json
    assert [row["params"] for row in shown] == [t.params for t in study.all_trials()]
    run("trials", "s", "--format", "csv", "--output", "t.csv", "--storage", url)
    table = pd.read_csv("t.csv", keep_default_na=False, dtype=str)
    assert set(table["params_size"]) == {"[1, 2]", "[3, 4]", "[[5], [6, 7.5]]"}
    assert set(table["params_clip"]) == {"null", "5", "off"}
    run("trials", "s", "--format", "parquet", "--output", "t.parquet", "--storage", url)
    assert set(pd.read_parquet("t.parquet")["params_size"]) == {"[1, 2]", "[3, 4]", "[[5], [6, 7.5]]"}
    best = run("best", "s", "--storage", url)
    assert "clip" in best.out
    assert json.dumps(study.best.params["size"]) in best.out
    assert run("importance", "s", "--storage", url).code == 0
    assert run("report", "s", "-o", "r.html", "--storage", url).code == 0
    assert run("export", "s", "-o", "bundle", "--author", "A", "--licence", "CC0-1.0", "--storage", url).code == 0
    assert run("import", "bundle", "--study", "copy", "--storage", url).code == 0
    copy = aifs_tune.load_study("copy", url)
    assert [t.params for t in copy.all_trials()] == [t.params for t in study.all_trials()]
    first = next(t for t in study.all_trials() if t.params["size"] == [1, 2])
    assert study.posterior_means()[first.number] is not None


def test_a_warm_start_takes_them_over(url: str) -> None:
    looped(aifs_tune.open_study("first", space=SPACE, storage=url))
    second = aifs_tune.open_study("second", space=SPACE, storage=url, warm_start="first")
    assert second.ask().params == aifs_tune.load_study("first", url).best.params
    looped(second, 3)


def test_a_study_of_optuna_with_null_is_imported(tmp_path) -> None:
    theirs = optuna.create_study(study_name="t", storage=f"sqlite:///{tmp_path}/optuna.db")
    theirs.optimize(lambda trial: float(trial.suggest_categorical("clip", [None, 5]) is None), n_trials=6)
    copy, left_out = aifs_tune.import_optuna(
        "t", f"sqlite:///{tmp_path}/optuna.db", storage=f"sqlite:///{tmp_path}/l.db"
    )
    assert left_out == {}
    assert [t.params for t in copy.all_trials()] == [t.params for t in theirs.trials]


@pytest.mark.server
def test_a_service_has_them_as_json(url: str) -> None:
    with Service(url) as service, Client(service.url) as client:
        study = client.open_study("s", space=SPACE)
        trial = study.ask()
        assert trial.params["size"] in SIZES
        study.tell(trial, 0.5)
        queued = {"size": [1, 2], "clip": "off", "weights": [0.5, 0.25], "nothing": None}
        assert study.enqueue(queued).params == queued
        assert study.attach(queued, 0.9).params == queued
        here = aifs_tune.load_study("s", url)
        assert [t.params for t in here.all_trials()] == [t.params for t in study.all_trials()]
