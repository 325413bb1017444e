"""What differs between studies, and the verdict of ``aifs-tune compare`` as a JSON object."""

from __future__ import annotations

import pytest
from reported import genes_studies, retrain

from aifs_tune.publishing.study_comparison import compare_studies
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import open_study, start_study
from aifs_tune.study.record import StudyRecord, record_of


@pytest.fixture
def studies(url: str) -> list[StudyRecord]:
    return genes_studies(Storage(url, create=True))


def test_what_differs_is_named_with_the_value_of_each_study(studies: list[StudyRecord]) -> None:
    found = compare_studies(studies)
    assert found["parameters"] == [
        {"name": "dropout", "is_equal": True, "definitions": ["float, 0 to 0.9 fraction"] * 2},
        {"name": "width", "is_equal": False, "definitions": ["int, 8 to 32", "int, 8 to 64"]},
    ]
    assert found["settings"] == [{"name": "search.sampler", "values": ["random", "tpe"]}]


def test_a_parameter_that_one_study_lacks_and_limits_differ(url: str, studies: list[StudyRecord]) -> None:
    space = {"gas": {"type": "choice", "choices": ["argon", "air"], "default": "air"}, "dropout": 0.5}
    other = record_of(open_study("oven", storage=url, space=space, metric="yield", mode="min", limits=["cost <= 3"]))
    found = compare_studies([studies[0], other])
    assert [(each["name"], each["is_equal"]) for each in found["parameters"]] == [
        ("dropout", False),
        ("width", False),
        ("gas", False),
    ]
    assert found["parameters"][0]["definitions"] == ["float, 0 to 0.9 fraction", "fixed, 0.5"]
    assert found["parameters"][2]["definitions"] == [None, "choice, argon, air, default air"]
    settings = {each["name"]: each["values"] for each in found["settings"]}
    assert settings["trainer"] == ["mlp", None]
    assert settings["objective.mode"] == ["max", "min"]
    assert settings["limits"] == [[], ["cost <= 3"]]


def test_the_data_are_compared_by_their_fingerprints(studies: list[StudyRecord]) -> None:
    first, second = studies
    assert compare_studies(studies)["data"] == {
        "is_equal": None,
        "text": "Not known: no study has recorded data.",
    }
    first.match_data("a" * 40)
    assert compare_studies(studies)["data"] == {
        "is_equal": None,
        "text": "Not known for all: genes (fingerprint aaaaaaaaaaaa). No data were recorded for genes-tpe.",
    }
    second.match_data("a" * 40)
    told = compare_studies(studies)["data"]
    assert told["is_equal"] is True
    assert told["text"].endswith("are the same for genes and genes-tpe (fingerprint aaaaaaaaaaaa).")
    third = start_study(first.storage, first.spec, "third")
    third.match_data("b" * 40)
    told = compare_studies([*studies, third])["data"]
    assert told["is_equal"] is False
    assert "genes and genes-tpe (fingerprint aaaaaaaaaaaa) and third (fingerprint bbbbbbbbbbbb)" in told["text"]


def test_the_verdict_is_that_of_the_configurations_that_were_trained_again(studies: list[StudyRecord]) -> None:
    before = compare_studies(studies)
    assert before["verdicts"] == []
    assert before["command"] == "aifs-tune compare genes genes-tpe"
    retrain(studies[0], ["genes-tpe"], [0.6, 0.6])
    studies[1].enqueue({"dropout": 0.8, "width": 20})
    studies[1].tell(studies[1].ask(), {"val_macro_f1": 1.2})
    created = retrain(studies[0], ["genes-tpe"], [0.6, 0.7])
    after = compare_studies(studies)
    assert (after["next_step"], after["command"]) == (None, None)
    (verdict,) = after["verdicts"]
    assert (verdict["confirmation"], verdict["n_splits"]) == (created.name, 8) == ("genes-compare-2", 8)
    assert verdict["baseline"] == "genes trial 2"
    (comparison,) = verdict["comparisons"]
    assert comparison["verdict"] == "better"
    assert comparison["text"].startswith("genes-tpe trial 2: better than genes trial 2 by 0.1")
    assert compare_studies([studies[1], studies[0]])["verdicts"] == [verdict]
    third = start_study(studies[0].storage, studies[0].spec, "third")
    of_three = compare_studies([*studies, third])
    assert of_three["verdicts"] == [verdict], "a comparison of some of the studies is told too"
    assert of_three["next_step"].startswith("The best configurations cannot be trained again and compared:")
    assert compare_studies([studies[0], third])["verdicts"] == []


def test_why_studies_cannot_be_trained_again_is_said(url: str, studies: list[StudyRecord]) -> None:
    studies[0].match_data("a" * 40)
    refused = compare_studies(studies)
    assert refused["command"] is None
    assert refused["next_step"].endswith("have different data; allowed: the same data.")
    ovens = [
        record_of(open_study(name, storage=url, space={"heat": {"type": "float", "low": 0, "high": 9}}))
        for name in "ab"
    ]
    for heat, oven in enumerate(ovens):
        oven.attach({"heat": float(heat)}, 1.0)
    refused = compare_studies(ovens)
    assert "has no trainer. To measure a configuration of an instrument again, enqueue it." in refused["next_step"]
