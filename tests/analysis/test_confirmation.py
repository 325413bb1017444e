"""Confirmations as studies, without training: candidates, results and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aifs_tune.analysis.candidates import BASELINE, Candidate, candidates_of, chosen_candidates
from aifs_tune.analysis.confirmation import read_confirmation, start_confirmation
from aifs_tune.analysis.noise import noise_of
from aifs_tune.analysis.test_part import TEST_EVALUATION
from aifs_tune.artifacts.data_files import match_files, share_files
from aifs_tune.config.cross_validation import SIZES, CrossValidation
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data import prepare_table
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.execution.confirm import _test_study, confirm
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord

CV = CrossValidation(folds=4, repeats=2)


@pytest.fixture
def study(url: str) -> StudyRecord:
    """Five trials of an mlp: the default, and four others."""
    spec = parse_sweep(
        {
            "name": "genes",
            "trainer": "mlp",
            "data": {"table": {"bundled": "breast_cancer"}},
            "space": {"dropout": {"type": "float", "low": 0, "high": 0.9, "default": 0.5}},
        }
    )
    study = start_study(Storage(url, create=True), spec, "genes")
    for dropout, value in ((None, 0.7), (0.1, 0.8), (0.2, 0.9), (0.2, 0.85), (0.3, 0.6)):
        if dropout is not None:
            study.enqueue({"dropout": dropout})
        study.tell(study.ask(), {"val_macro_f1": value})
    return study


def measured(study: StudyRecord, scores: dict[float, list[float | None]]) -> StudyRecord:
    """``study`` with the scores of each dropout by split; None fails."""
    for _ in study.all_trials():
        trial = study.ask()
        score = scores[float(trial.params["dropout"])][int(trial.params["split"])]
        if score is None:
            study.tell(trial, state="failed", reason="lost")
        else:
            study.report(trial, 1, {"val_macro_f1": 0.9})
            study.report(trial, 2, {"val_macro_f1": 0.8, "fold_macro_f1": score})
            study.tell(trial)
    return study


def test_the_best_that_differ_are_compared_with_the_default(study: StudyRecord) -> None:
    found = candidates_of(study, top=2)
    assert [(each.name, each.trial, each.params) for each in found] == [
        (BASELINE, None, {"dropout": 0.5}),
        ("trial 2", 2, {"dropout": 0.2}),
        ("trial 1", 1, {"dropout": 0.1}),
    ]
    assert [each.name for each in candidates_of(study, top=9, baseline=4)] == [
        BASELINE,
        "trial 2",
        "trial 1",
        "trial 0",
    ]


def test_two_studies_are_compared_by_their_best(study: StudyRecord) -> None:
    other = start_study(study.storage, study.spec, "genes-by-chance")
    other.tell(other.ask(), {"val_macro_f1": 0.7})
    other.enqueue({"dropout": 0.8})
    other.tell(other.ask(), {"val_macro_f1": 0.75})
    found = chosen_candidates(study, ["genes-by-chance"])
    assert [(each.name, each.trial, each.params) for each in found] == [
        ("genes trial 2", 2, {"dropout": 0.2}),
        ("genes-by-chance trial 1", 1, {"dropout": 0.8}),
    ]
    found = chosen_candidates(study, ["1", "genes-by-chance:0", "4"])
    assert [each.name for each in found] == ["trial 1", "genes-by-chance trial 0", "trial 4"]


def test_every_candidate_is_trained_on_every_split_with_seeds_of_its_own(study: StudyRecord) -> None:
    candidates = candidates_of(study, top=2)
    created = start_confirmation(study.storage, study.spec, "genes-confirm", candidates, CV)
    trials = created.all_trials()
    assert [trial.state for trial in trials] == ["waiting"] * 24
    assert {(trial.params["split"], trial.params["dropout"]) for trial in trials} == {
        (split, each.params["dropout"]) for split in range(8) for each in candidates
    }
    assert len({trial.seed for trial in (*trials, *study.all_trials())}) == 24 + 5
    assert created.n_requested == 24
    assert created.spec.search.scheduler == "none"


def test_the_same_confirmation_continues_and_another_gets_another_name(study: StudyRecord) -> None:
    def start(top: int, cv: CrossValidation = CV) -> StudyRecord:
        candidates = candidates_of(study, top=top)
        return start_confirmation(study.storage, study.spec, "genes-confirm", candidates, cv)

    assert start(2).name == start(2).name == "genes-confirm"
    assert start(1).name == "genes-confirm-2"
    assert start(2, CrossValidation(folds=3)).name == "genes-confirm-3"
    assert len(start(2).all_trials()) == 24


def test_the_verdicts_are_those_of_the_scores(study: StudyRecord) -> None:
    candidates = candidates_of(study, top=2)
    created = start_confirmation(study.storage, study.spec, "c", candidates, CV)
    created.record_fact(SIZES, [[300, 100]] * 8)
    base = [0.70, 0.71, 0.69, 0.70, 0.72, 0.70, 0.69, 0.71]
    better = [value + 0.1 + 0.002 * (i % 3) for i, value in enumerate(base)]
    same = [value + 0.02 * (-1) ** i for i, value in enumerate(base)]
    measured(created, {0.5: base, 0.2: better, 0.1: same})
    found = read_confirmation(study.storage, "c")
    assert [(each.name, each.verdict) for each in found.comparisons] == [
        ("trial 2", "better"),
        ("trial 1", "not distinguishable"),
    ]
    assert found.comparisons[0].difference == pytest.approx(0.1 + 0.002 * 7 / 8)
    assert found.leader.name == "trial 2"
    assert [split.n_test for split in found.scores.splits] == [100] * 8
    assert len(found.table) == 24
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["candidates"][0]["mean"] == pytest.approx(sum(base) / 8)
    assert told["splits"][5] == {"repeat": 1, "fold": 1}


def test_the_split_of_a_failed_training_run_is_left_out_and_reported(study: StudyRecord) -> None:
    candidates = candidates_of(study, top=1)
    created = start_confirmation(study.storage, study.spec, "c", candidates, CV)
    lost: list[float | None] = [0.7, None, 0.71, 0.69, 0.7, 0.72, 0.7, 0.71]
    measured(created, {0.5: lost, 0.2: [0.8, 0.81, 0.8, 0.8, 0.82, 0.8, 0.79, 0.8]})
    (comparison,) = read_confirmation(study.storage, "c").comparisons
    assert (comparison.n_pairs, comparison.n_splits) == (7, 8)
    assert "1 of 8 splits left out" in comparison.text


def test_the_noise_is_the_spread_of_one_configuration(study: StudyRecord) -> None:
    (baseline, *_) = candidates_of(study, top=1)
    created = start_confirmation(study.storage, study.spec, "n", [baseline], CrossValidation(folds=4))
    created.record_fact(SIZES, [[300, 100]] * 4)
    measured(created, {0.5: [0.7, 0.74, None, 0.72]})
    found = noise_of(read_confirmation(study.storage, "n"))
    assert (found.n, found.low, found.high) == (3, 0.7, 0.74)
    assert found.sd == pytest.approx(0.02)
    assert found.smallest == pytest.approx(2 * 0.02 * (2 * (1 / 3 + 1 / 3)) ** 0.5)


def test_one_training_of_each_is_refused_before_it_begins(study: StudyRecord, url: str) -> None:
    with pytest.raises(RequestError, match="one training of each configuration gives no verdict"):
        confirm("genes", storage=url, cv=CrossValidation(folds=1, repeats=1))
    assert find_study(study.storage, "genes-confirm") is None


def test_what_proposes_stops_or_repeats_trials_is_no_part_of_a_confirmation(study: StudyRecord) -> None:
    document = study.spec.model_dump(mode="json")
    document["search"] |= {
        "cost": "1 + dropout",
        "budget": 40.0,
        "finalists": 3,
        "stop": "gain_below_noise",
        "timeout_s": 1.0,
        "trials": 7,
        "epochs": 9,
        "workers": 2,
    }
    spec = parse_sweep(document)
    found = start_confirmation(study.storage, spec, "genes-confirm", candidates_of(study, top=1), CV).spec.search
    assert (found.sampler.name, found.scheduler, found.cost, found.budget) == ("random", "none", None, None)
    assert (found.finalists, found.stop, found.timeout_s) == (0, "never", None)
    assert (found.epochs, found.workers) == (9, 2)


def test_the_test_set_is_used_once(study: StudyRecord) -> None:
    first, second, _ = candidates_of(study, top=2)
    created = _test_study(study, second)
    assert created.name == "genes-test"
    assert created.spec.evaluate_test
    assert [dict(trial.params) for trial in created.all_trials()] == [{"dropout": 0.2}]
    assert created.fact(TEST_EVALUATION)["name"] == "trial 2"
    assert _test_study(study, second).name == "genes-test"
    with pytest.raises(ConflictError, match=r"the test set of study 'genes' was used for trial 2"):
        _test_study(study, first)


def on_a_table(tmp_path: Path, url: str, name: str, rows: range, seed: int = 0) -> StudyRecord:
    """A study with one trial on a table of these rows, whose data are recorded as by a sweep."""
    table = tmp_path / f"{rows.start}.csv"
    table.write_text("a,kind\n" + "".join(f"{row * 7919 % 10007 / 97},{'ab'[row % 2]}\n" for row in rows))
    data = {"table": {"file": str(table), "target": "kind"}, "split": {"seed": seed}}
    document = {"name": "lab", "trainer": "mlp", "data": data, "space": {"dropout": 0.5}}
    study = start_study(Storage(url, create=True), parse_sweep(document), name, with_default=False)
    assert study.spec.data is not None
    prepared = prepare_table(study.spec.data)
    match_files(study, prepared.examples.fingerprint, prepared.files)
    study.tell(study.ask(), {"val_macro_f1": 0.7})
    return study


def test_the_rows_of_a_test_set_are_answered_once_whatever_the_study(tmp_path: Path, url: str) -> None:
    first = on_a_table(tmp_path, url, "first", range(60))
    candidate = Candidate("trial 0", 0, {"dropout": 0.5})
    share_files(_test_study(first, candidate), first)
    again = on_a_table(tmp_path, url, "second", range(60))
    with pytest.raises(ConflictError, match=r"12 of the 12 test examples of study 'second' were answered already, by"):
        _test_study(again, candidate)
    divided_again = on_a_table(tmp_path, url, "third", range(60), seed=1)
    with pytest.raises(ConflictError, match=r"of the 12 test examples of study 'third' were answered already"):
        _test_study(divided_again, candidate)
    new = on_a_table(tmp_path, url, "fourth", range(100, 160))
    assert _test_study(new, candidate).name == "fourth-test"


def test_a_study_of_a_project_is_confirmed_in_its_project(study: StudyRecord) -> None:
    theirs = start_study(study.storage, study.spec, "genes", project="biology")
    theirs.tell(theirs.ask(), {"val_macro_f1": 0.7})
    theirs.enqueue({"dropout": 0.2})
    theirs.tell(theirs.ask(), {"val_macro_f1": 0.8})
    candidates = candidates_of(theirs, top=1)
    created = start_confirmation(theirs.storage, theirs.spec, f"{theirs.name}-confirm", candidates, CV)
    assert created.name == "biology/genes-confirm"
    assert _test_study(theirs, candidates[1]).name == "biology/genes-test"


def test_what_cannot_be_confirmed_is_refused(study: StudyRecord, url: str) -> None:
    def refused(words: str, kind: type[Exception] = RequestError, **sections: Any) -> None:
        document = study.spec.model_dump(mode="json") | {"name": "other"} | sections
        other = start_study(study.storage, parse_sweep(document), f"other-{len(sections)}-{words[:4].strip()}")
        with pytest.raises(kind, match=words):
            start_confirmation(study.storage, other.spec, "o", candidates_of(study, top=1), CV)

    refused("other has no trainer", trainer=None, data=None)
    divided = {"cross_validation": {"folds": 2}, "space": {"dropout": 0.5, "split": 0}}
    refused("uses cross-validation already", **divided)
    refused("has no data to split into 4 folds", trainer="mylab:run", data=None)
    spec = parse_sweep({"name": "e", "trainer": "mlp", "space": {"dropout": {"type": "float", "low": 0, "high": 0.9}}})
    empty = start_study(study.storage, spec, "empty")
    with pytest.raises(RequestError, match="has no default configuration"):
        candidates_of(empty, top=1)
    trial = empty.ask()
    with pytest.raises(NotFoundError, match="has no complete trial yet"):
        candidates_of(empty, top=1, baseline=trial.number)
    empty.tell(trial, {"val_macro_f1": 0.5})
    with pytest.raises(RequestError, match="has no complete trial with another configuration"):
        candidates_of(empty, top=1, baseline=trial.number)
    with pytest.raises(RequestError, match="trial 2 and trial 3 have the same configuration"):
        chosen_candidates(study, ["2", "3"])
    with pytest.raises(NotFoundError, match="Study 'genes' is not a confirmation"):
        read_confirmation(study.storage, "genes")
    start_confirmation(study.storage, study.spec, "c", candidates_of(study, top=1), CV)
    with pytest.raises(NotFoundError, match="Confirmation 'c' has no result yet"):
        read_confirmation(study.storage, "c")
