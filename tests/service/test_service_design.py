"""Tests of experiment design over HTTP: the results are those of a local study."""

from __future__ import annotations

import httpx
import pytest
from services import Service, storage_in

import aifs_tune
from aifs_tune import Client

SPACE = {name: {"type": "float", "low": 0.0, "high": 1.0} for name in ("a", "b", "c")}
SPACE["grade"] = {"type": "choice", "choices": ["low", "mid", "high"], "ordered": True}
QUESTION = {
    "space": SPACE,
    "metric": "strength",
    "mixtures": [{"components": ["a", "b", "c"]}],
    "constraints": ["not (grade == 'high' and a > 0.5)"],
    "exclude": [{"grade": "low"}],
    "limits": ["cost <= 1.2"],
    "initial": {"design": "latin_hypercube", "points": 4, "centre_points": 2},
    "replicates": 2,
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(storage_in(tmp_path_factory.mktemp("design"))) as running:
        yield running


def loop(study) -> None:
    for number in range(14):
        trial = study.ask()
        a, b = trial.params["a"], trial.params["b"]
        study.tell(trial, {"strength": a + 2 * b - b * b + 0.01 * (number % 3), "cost": a + 2 * b})
    study.tell(study.ask(), state="infeasible", reason="it cracked")


def test_a_designed_study_is_the_same_local_and_remote(service, tmp_path):
    here = aifs_tune.open_study("mix", storage=storage_in(tmp_path), **QUESTION)
    loop(here)
    with Client(service.url) as client:
        there = client.open_study("mix", **QUESTION)
        loop(there)
        assert [dict(t.params) for t in there.all_trials()] == [dict(t.params) for t in here.all_trials()]
        assert [t.feasible for t in there.all_trials()] == [t.feasible for t in here.all_trials()]
        assert {t.feasible for t in there.all_trials()} == {True, False, None}  # of the last, a copy waits
        assert there.best.replicates == here.best.replicates is not None
        assert [t.number for t in there.front] == [t.number for t in here.front]
        assert there.recommendation() == here.recommendation()
    for trial in here.all_trials():
        assert trial.params["grade"] != "low" or trial.number in (0, 3, 4, 9)
        assert sum(trial.params[name] for name in "abc") == pytest.approx(1.0, abs=1e-12)
    told = httpx.get(f"{service.url}/v1/studies/mix").json()
    assert told["limits"] == QUESTION["limits"]
    assert told["mixtures"] == [{"components": ["a", "b", "c"], "total": 1.0}]
    assert told["search"]["replicates"] == 2


def test_names_with_dots_and_letters_of_other_alphabets_travel(service, tmp_path):
    """Both ways, with constraints, conditions and values that were measured elsewhere."""
    space = {
        "model": {"lr": {"type": "float", "low": 0.0, "high": 1.0}},
        "θ": {"type": "float", "low": 0.0, "high": 1.0},
        "größe": {"type": "choice", "choices": ["klein", "groß"]},
        "model.momentum": {"type": "float", "low": 0.0, "high": 1.0, "when": {"größe": "groß"}},
    }
    question = {"space": space, "constraints": ["model.lr + θ < 1"]}
    here = aifs_tune.open_study("namen", storage=storage_in(tmp_path), **question)
    with Client(service.url) as client:
        there = client.open_study("namen", **question)
        for study in (here, there):
            study.enqueue({"model.lr": 0.25, "θ": 0.5, "größe": "klein"})
            study.attach({"model.lr": 0.5, "θ": 0.25, "größe": "groß", "model.momentum": 0.5}, 0.1)
            for _ in range(4):
                trial = study.ask()
                study.tell(trial, trial.params["model.lr"] + trial.params["θ"])
        assert [dict(t.params) for t in there.all_trials()] == [dict(t.params) for t in here.all_trials()]
    told = httpx.get(f"{service.url}/v1/studies/namen").json()
    assert list(told["space"]) == ["model.lr", "θ", "größe", "model.momentum"]
    refused = httpx.post(f"{service.url}/v1/studies/namen/enqueue", json={"params": {"my lr": 1}}).json()
    assert "letters of any alphabet" in str(refused)


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        ({"mixtures": [{"components": ["a", "z"]}]}, "#/mixtures/0/components/1"),
        ({"limits": ["cost < 2"]}, "#/limits/0"),
        ({"exclude": [{"grade": "top"}]}, "#/exclude/0/grade"),
        ({"search": {"initial": {"design": "sobol"}}}, "#/search/initial/points"),
    ],
)
def test_an_error_has_a_pointer_to_the_field(service, part, pointer):
    answer = httpx.post(f"{service.url}/v1/studies", json={"name": "bad", "space": SPACE, **part})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
