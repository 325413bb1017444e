"""Programs that use Optuna alone write to a storage at the same time, or somebody takes its file away."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from processes import start

from aifs_tune import import_study, load_study, open_study
from aifs_tune.errors import ConflictError, StorageError

VALUES = (0.1, 0.2, 0.3, 0.4)
SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}}

ASK_AND_TELL = """
    import sys, optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="lab", storage=sys.argv[1], sampler=optuna.samplers.RandomSampler())
    print("ready", flush=True)
    for i in range(40):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, i / 100)
        print(trial.number, i / 100, flush=True)
"""

EVERYTHING = """
    import sys, optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="lab", storage=sys.argv[1], sampler=optuna.samplers.RandomSampler())
    x = optuna.distributions.FloatDistribution(0.0, 1.0)
    print("ready", flush=True)
    for i in range(12):
        study.enqueue_trial({"x": i / 12})
        study.add_trial(optuna.trial.create_trial(params={"x": 0.5}, distributions={"x": x}, value=1 + i / 100))
        study.set_user_attr("note", i)
        try:
            study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        except Exception as error:  # as Optuna checks and changes a state in two steps, it may lose a race in SQLite
            assert "its first result stands" in str(error.__cause__) or "can not be updated" in str(error), error
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/lab.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.mark.parametrize("is_held", [False, True], ids=["each step locks", "a sweep holds the lock"])
def test_trials_of_an_optuna_process_beside_ours_have_numbers_of_their_own(url, is_held):
    study = open_study("lab", space=SPACE, storage=url, sampler="random")
    study.tell(study.ask(), 0.5)
    other = start(ASK_AND_TELL, url)
    assert other.stdout.readline() == "ready\n"
    told: dict[int, float] = {0: 0.5}

    def take_turns() -> None:
        while other.poll() is None:
            trial = study.ask()
            study.tell(trial, 2.0)
            told[trial.number] = 2.0
            time.sleep(0.01)  # SQLite lets others write only while nobody does

    if is_held:
        with study.storage.writing("lab"):
            take_turns()
    else:
        take_turns()
    theirs = [line.split() for line in other.stdout]
    assert (other.returncode, len(theirs)) == (0, 40)
    assert len(told) > 5
    there = load_study("lab", storage=url).all_trials()
    assert [trial.number for trial in there] == list(range(len(told) + 40))
    assert {trial.number: trial.value for trial in there} == told | {int(n): float(value) for n, value in theirs}


def test_every_way_in_of_optuna_beside_a_writer_of_ours(url):
    study = open_study("lab", space=SPACE, storage=url, sampler="random")
    other = start(EVERYTHING, url)
    assert other.stdout.readline() == "ready\n"
    told = {}
    with study.storage.writing("lab"):
        while other.poll() is None:
            trial = study.ask()
            time.sleep(0.01)
            with suppress(ConflictError):  # the other program took the same queued trial, and told it first
                study.tell(trial, 5.0)
                told[trial.number] = 5.0
    assert other.returncode == 0
    while study.counts()["waiting"]:
        study.tell(study.ask(), 5.0)
    there = study.all_trials()
    assert [trial.number for trial in there] == list(range(len(there)))
    # some of those that were queued were taken by the other program, the rest by us
    assert sum(trial.value == 1 + i / 100 for i in range(12) for trial in there) == 12
    assert {number: there[number].value for number in told} == told
    assert {trial.params["x"] for trial in there} >= {i / 12 for i in range(12)}
    assert all(trial.state == "complete" for trial in there)
    assert optuna.load_study(study_name="lab", storage=url).user_attrs["note"] == 11


def test_what_optuna_told_first_stands(url):
    study = open_study("lab", space=SPACE, storage=url)
    with study.storage.writing("lab"):
        trial = study.ask()
        study.report(trial, 1, {"value": 0.1})
        optuna.load_study(study_name="lab", storage=url).tell(trial.number, 0.25)
        with pytest.raises(ConflictError, match=r"trial 0 is complete with value 0\.25; the first result stands"):
            study.tell(trial, 0.75)
    assert load_study("lab", storage=url).trial(0).value == 0.25


def test_a_number_that_was_given_twice_does_not_stop_a_study(tmp_path):
    url = f"sqlite:///{tmp_path}/lab.db"
    study = open_study("lab", space=SPACE, storage=url)
    for value in VALUES[:3]:
        study.tell(study.ask(), value)
    with sqlite3.connect(tmp_path / "lab.db") as database:
        database.execute("UPDATE trials SET number = 1 WHERE number = 2")
    again = load_study("lab", storage=url)
    assert again.trial(1).value == 0.3
    assert again.tell(again.ask(), 0.4).number == 3
    assert again.tell(1, 0.3).value == 0.3
    with again.storage.writing("lab"):
        assert again.trial(1).value == 0.3
    with sqlite3.connect(tmp_path / "lab.db") as database:
        assert database.execute("SELECT value FROM trial_values ORDER BY 1").fetchall() == [(v,) for v in VALUES]


# -- the file goes away -------------------------------------------------------------------------


def moved(folder: Path) -> None:
    (folder / "lab.db").rename(folder / "elsewhere.db")


def deleted(folder: Path) -> None:
    (folder / "lab.db").unlink()


def replaced(folder: Path) -> None:
    shutil.copy(folder / "lab.db", folder / "copy.db")
    (folder / "copy.db").replace(folder / "lab.db")


def folder_moved(folder: Path) -> None:
    folder.rename(folder.with_name("archive"))


@pytest.mark.parametrize("is_held", [False, True], ids=["each step locks", "the lock is held"])
@pytest.mark.parametrize("happens", [moved, deleted, replaced, folder_moved])
def test_nothing_is_acknowledged_once_the_file_is_gone_and_what_was_known_can_be_imported(
    tmp_path, monkeypatch, happens, is_held
):
    folder = tmp_path / "lab"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    study = open_study("lab", space=SPACE, storage=f"sqlite:///{folder}/lab.db")
    study.tell(study.ask(), 0.25)
    pending = study.ask()

    def lose_it() -> str:
        happens(folder)
        with pytest.raises(StorageError, match=r"lab.db: the database was (deleted or moved|replaced)") as caught:
            study.tell(pending, 0.75)
        for read in (study.all_trials, study.counts, lambda: study.best, study.storage.data_version):
            with pytest.raises(StorageError, match="while it was open"):
                read()
        return str(caught.value)

    if is_held:
        with study.storage.writing():
            said = lose_it()
    else:
        said = lose_it()
    file = Path(said.split("as this process knew it is in ")[1].split(";")[0])
    assert f"aifs-tune import {file} --storage sqlite:///NEW.db" in said
    assert json.loads(file.read_text())["name"] == "lab"
    copy = import_study(file, storage=f"sqlite:///{tmp_path}/new.db")
    kept = {trial.number: (trial.state, trial.value) for trial in copy.all_trials()}
    assert kept[0] == ("complete", 0.25)
    has_step = is_held or happens is not folder_moved  # there no lock can be had, so the step does not even begin
    assert kept[1] == (("complete", 0.75) if has_step else ("running", None))
    assert copy.tell(1, 0.75).value == copy.tell(copy.ask(), 0.75).value == 0.75


def test_a_lock_file_that_is_deleted_is_made_again_and_keeps_others_out(tmp_path):
    study = open_study("lab", space=SPACE, storage=f"sqlite:///{tmp_path}/lab.db")
    other = load_study("lab", storage=f"sqlite:///{tmp_path}/lab.db")
    other.storage.wait_s = 0.1
    with study.storage.writing():
        (tmp_path / "lab.db.lock").unlink()
        study.tell(study.ask(), 0.5)
        with pytest.raises(StorageError, match=r"is being written by another thread|is being written by process"):
            other.ask()
    assert Counter(trial.state for trial in load_study("lab", storage=study.storage.url).all_trials()) == {
        "complete": 1
    }
