"""A study as a document, and a study made of it: the same in every answer."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import RandomSource, spaces
from studies_to_export import instrument

from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import ConflictError, DamagedError, NotFoundError
from aifs_tune.publishing.summary import best_summary
from aifs_tune.storage.storage import Storage
from aifs_tune.study.document import copied_study, spec_in, study_document
from aifs_tune.study.index import study_names
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def storages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Storage]:
    folder = tmp_path_factory.mktemp("storages")
    return Storage(f"sqlite:///{folder}/one.db", create=True), Storage(f"sqlite:///{folder}/other.db", create=True)


def answers(study: StudyRecord) -> dict[str, Any]:
    """All that can be asked of a study."""
    trials = study.all_trials()
    try:
        best = best_summary(study, top=9)
    except NotFoundError as error:
        best = {"none": str(error).replace(study.name, "")}
    return {
        "best": {key: value for key, value in best.items() if key != "study"},
        "trials": [trial.to_json() for trial in trials],
        "csv": study.trials.to_csv(index=False),
        "curves": [study.curve(trial) for trial in trials],
        "n_requested": study.n_requested,
        "facts": study.fact("fact"),
    }


ends = st.sampled_from(["complete", "pruned", "failed", "infeasible", "running", "waiting"])
trials = st.lists(st.tuples(st.integers(0, 2**31), ends, st.lists(st.floats(-1e300, 1e300), max_size=3)), max_size=5)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(space=spaces, trials=trials, mode=st.sampled_from(["max", "min"]))
def test_any_study_is_the_same_in_another_storage(
    storages: tuple[Storage, Storage], space: Any, trials: list[tuple[int, Any, list[float]]], mode: str
) -> None:
    name = f"study-{next(NUMBERS)}"
    document = {"name": "any", "objective": {"metric": "score", "mode": mode}, "space": space.model_dump(mode="json")}
    search = {"sampler": "random", "scheduler": "none"}
    study = start_study(storages[0], parse_sweep({**document, "search": search}), name, with_default=False)
    study.record_fact("fact", {"of": [1, None]})
    with storages[0].writing(name):
        for seed, end, scores in trials:
            study.enqueue(space.suggest(RandomSource(seed)), seed=seed)
            if end == "waiting":
                continue
            trial = study.ask()
            for epoch, score in enumerate(scores, start=1):
                study.report(trial, epoch, {"score": score, "other": None}, seconds=0.5, worker="here:1")
            if end != "running":
                study.tell(trial, state=end, reason=None if end == "complete" else "so")
    told = json.loads(json.dumps(study_document(study), allow_nan=False))
    copied = copied_study(storages[1], name, told)
    assert answers(copied) == answers(study)
    assert copied.spec == study.spec
    assert study_document(copied) == told


def test_the_search_goes_on_where_it_was(url: str, tmp_path: Path) -> None:
    study = instrument(url)
    copied = copied_study(Storage(f"sqlite:///{tmp_path}/b.db", create=True), "furnace", study_document(study))
    for _ in range(2):
        ours, theirs = study.ask(), copied.ask()
        assert (ours.number, ours.params, ours.seed) == (theirs.number, theirs.params, theirs.seed)
    assert (copied.counts()["waiting"], copied.ask().number) == (0, 8)


def test_a_name_that_is_taken_is_refused(url: str) -> None:
    study = instrument(url)
    with pytest.raises(ConflictError, match="has a study 'furnace' already; choose another name with --study"):
        copied_study(study.storage, "furnace", study_document(study))


@pytest.fixture(scope="module")
def furnace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document of an instrument's study."""
    return study_document(instrument(f"sqlite:///{tmp_path_factory.mktemp('furnace')}/lab.db"))


def change(**parts: Any) -> Any:
    """A change of the first trial."""
    return lambda told: told["trials"][0].update(parts)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (change(state="asleep"), "trial 0: state: 'asleep': .*'complete', 'pruned'"),
        (change(number=7), "trial 7 is listed where trial 0 is expected"),
        (change(params={"x": 5.0, "kind": "a"}), "x: 5.0 is not allowed"),
        (change(params={"y": 1}), "no such parameter"),
        (change(values=[1.0, 2.0]), "has 2 values; allowed: 1"),
        (change(values=[float("inf")]), "values.0: inf: .* a finite number"),
        (change(values=None), "complete"),
        (change(started_at="yesterday"), "yesterday"),
        (change(steps={"1": "much"}), "steps.1: 'much': .* a valid number"),
        (change(system={"aifs_tune:epoch:00001": {}}), "metrics"),
        (change(user={"weights": 3, "metrics": 4}), "is not valid"),
        (change(system={"aifs_tune:epoch:" + "9" * 30: {"metrics": {}, "seconds": None}}), "names no epoch"),
        (change(system={"aifs_tune:epoch:00001": {"metrics": {}, "seconds": "long"}}), "seconds: 'long': .* number"),
        (change(user={"seconds": "long"}), "seconds: 'long': .* number"),
        (change(user={"seed": -1}), "seed: -1"),
        (change(user={"weights": {"../../x": "0" * 64}}), "is not the name of a file in a folder"),
        (change(system={"aifs_tune:lease": {"until": "soon"}}), "aifs_tune:lease"),
        (lambda told: told["attributes"].update({"aifs_tune:spec": told["spec"]}), "'aifs_tune:spec' is reserved"),
        (lambda told: told["attributes"].update({"aifs_tune:leader": "me"}), "'aifs_tune:leader' is reserved"),
        (lambda told: told["attributes"].update({"aifs_tune:other": 1}), "is not known to this version"),
        (lambda told: told["attributes"].update({"aifs_tune:requested": "all"}), "aifs_tune:requested: 'all'"),
        (lambda told: told.pop("attributes"), "attributes"),
        (lambda told: told["trials"].append("one more"), "is not valid"),
    ],
)
def test_what_no_study_could_be_leaves_nothing_behind(
    storages: tuple[Storage, Storage], furnace: dict[str, Any], damage: Any, says: str
) -> None:
    told = copy.deepcopy(furnace)
    damage(told)
    with pytest.raises(DamagedError, match=says):
        copied_study(storages[1], "furnace", told)
    assert "furnace" not in study_names(storages[1])


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"format": "other"}, "is not the document of a study"),
        ({"format": "aifs-tune study", "version": 2}, "document of a study: version 2; allowed: 1"),
        ({"format": "aifs-tune study", "version": 1, "name": "x"}, "'x' has no valid sweep file"),
        ({"format": "aifs-tune study", "version": 1, "spec": {"name": "x"}}, "space"),
        ([], "is not the document of a study"),
    ],
)
def test_what_is_no_document_is_refused(told: Any, says: str) -> None:
    with pytest.raises(DamagedError, match=says):
        spec_in(told)
