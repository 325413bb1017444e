"""A study as users get it, and its record as the package uses it."""

from __future__ import annotations

import inspect

import pytest
from records import open_record

import aifs_tune
from aifs_tune.client.study import RemoteStudy
from aifs_tune.errors import NotFoundError, StorageBusyError
from aifs_tune.study.index import get_study
from aifs_tune.study.record import StudyRecord, record_of
from aifs_tune.study.study import Study

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}}


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/lab.db"


@pytest.fixture
def record(url) -> StudyRecord:
    return open_record("lab", space=SPACE, storage=url)


def methods(of: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(of).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def test_a_study_here_and_one_of_a_service_are_used_alike():
    here, there = methods(Study), methods(RemoteStudy)
    assert {name: there[name] for name in there if name in here} == {name: here[name] for name in here if name in there}
    assert set(there) - set(here) == {"events", "log"}
    assert set(here) - set(there) == {"posterior_means", "transfer_weights"}


def test_users_get_a_study_without_what_only_the_package_needs(url, record):
    opened = aifs_tune.open_study("lab", space=SPACE, storage=url), aifs_tune.load_study("lab", url)
    for study in (record.as_study(), *opened):
        assert type(study) is Study
        assert not hasattr(study, "record_fact")


def test_a_study_and_its_record_share_all_that_is_stored(record):
    study = record.as_study()
    study.tell(study.ask(), 0.5)
    record.record_fact("note", [1, None])
    assert record.all_trials() == study.all_trials() == record_of(study).all_trials()
    assert record_of(study).fact("note") == [1, None]
    assert record_of(record) is record


def test_a_sweep_that_lost_the_lead_cannot_write_and_a_user_can(record):
    with record.storage.writing("lab"):
        record.take_lead("first")
    trial = record.ask(sweep="first")
    other = get_study(record.storage, "lab")
    with other.storage.writing("lab"):
        assert [again.number for again in other.take_lead("second")] == [trial.number]
    with pytest.raises(StorageBusyError, match="was taken over by another sweep"):
        record.report(trial, 1, {"value": 0.5})
    assert record.as_study().ask().number == trial.number


def test_a_wrong_name_is_answered_with_the_nearest_one(url, record):
    assert aifs_tune.load_study("lab", url).name == "lab"
    with pytest.raises(NotFoundError, match=r"holds no study 'lob' of aifs-tune, did you mean lab\?; it holds: lab"):
        aifs_tune.load_study("lob", url)
    with pytest.raises(NotFoundError):
        aifs_tune.load_study("lab", url.replace("lab.db", "none.db"))
