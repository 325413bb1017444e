"""Rows and attributes that no program should have written: each is one marked trial or study, mended if possible."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import optuna
import pytest
from records import every_answer_is_json

from aifs_tune import check_storage, load_study, open_study
from aifs_tune.errors import DamagedError, RequestError, StorageError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.document import copied_study, study_document
from aifs_tune.study.index import get_study
from aifs_tune.study.record import record_of

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}, "kind": {"type": "choice", "choices": ["a", "b"]}}
TRIAL = "trial_id = (SELECT trial_id FROM trials WHERE number = 5)"


@pytest.fixture
def url(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return f"sqlite:///{tmp_path}/lab.db"


def measured(url, n=12):
    study = open_study("lab", space=SPACE, storage=url, metric="score")
    for i in range(n):
        trial = study.ask()
        study.report(trial, 1, {"score": 0.5 if i == 5 else i / 24, "loss": 1.0}, seconds=0.5)
        study.tell(trial)
    return study


def execute(url, *statements):
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        for trigger in ("trials", "trial_values"):
            database.execute(f"DROP TRIGGER IF EXISTS aifs_tune_final_{trigger}")
        for statement in statements:
            assert database.execute(*statement).rowcount > 0 if isinstance(statement, tuple) else True
        database.commit()


def attribute(kind, key, text):
    """Write an attribute of trial 5 as it stands in the database."""
    return (
        f"INSERT INTO trial_{kind}_attributes (trial_id, key, value_json) "
        "SELECT trial_id, ?, ? FROM trials WHERE number = 5 "
        "ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json",
        (key, text),
    )


ATTRIBUTES = {
    "a text as seed": (attribute("user", "seed", '"abc"'), "seed: 'abc'"),
    "a seed of 90 bits": (attribute("user", "seed", str(2**90)), "seed: "),
    "a list of metrics": (attribute("user", "metrics", "[1, 2]"), "metrics: "),
    "metrics of inf": (attribute("user", "metrics", '{"score": Infinity}'), "metrics: score: inf"),
    "a text of seconds": (attribute("user", "seconds", '"long"'), "seconds: 'long'"),
    "seconds of nothing": (attribute("user", "seconds", "null"), "seconds: None"),
    "weights elsewhere": (attribute("user", "weights", '{"../../x": "' + "0" * 64 + '"}'), "weights: "),
    "an epoch of text": (attribute("system", "aifs_tune:epoch:00001", '"x"'), "aifs_tune:epoch:00001: 'x'"),
    "an epoch without metrics": (attribute("system", "aifs_tune:epoch:00001", "{}"), "epoch:00001: metrics"),
    "a change to nowhere": (attribute("system", "aifs_tune:change:00002", "[]"), "change:00002"),
    "superseded by text": (attribute("system", "aifs_tune:superseded_by", '"7"'), "superseded_by: '7'"),
    "deep JSON": (attribute("user", "metrics", "[" * 50_000), "cannot be decoded: attribute metrics"),
    "deep JSON of another tool": (
        attribute("user", "note", "[" * 200 + "]" * 200),
        "cannot be decoded: attribute note",
    ),
    "no JSON": (attribute("user", "seed", "{junk"), "cannot be decoded: attribute seed"),
    "no JSON inside": (attribute("system", "aifs_tune:epoch:00001", "{junk"), "attribute aifs_tune:epoch:00001"),
}
ROWS = {
    "a time of text": (f"UPDATE trials SET datetime_start = 'soon' WHERE {TRIAL}", "column datetime_start"),
    "the first year": (f"UPDATE trials SET datetime_complete = '0001-01-01 00:00:00' WHERE {TRIAL}", "_complete"),
    "the last year": (f"UPDATE trials SET datetime_complete = '9999-12-31 23:59:59' WHERE {TRIAL}", "_complete"),
    "a choice that is none below": (
        f"UPDATE trial_params SET param_value = -1 WHERE {TRIAL} AND param_name = 'kind'",
        "parameter kind",
    ),
    "half a choice": (
        f"UPDATE trial_params SET param_value = 0.5 WHERE {TRIAL} AND param_name = 'kind'",
        "parameter kind",
    ),
    "deep distribution": (f"UPDATE trial_params SET distribution_json = '{'[' * 50_000}' WHERE {TRIAL}", "kind, x"),
    "a negative objective": (f"UPDATE trial_values SET objective = -1 WHERE {TRIAL}", "value -1"),
    "the epoch abc": (f"UPDATE trial_intermediate_values SET step = 'abc' WHERE {TRIAL}", "value of epoch abc"),
    "the epoch -1": (f"UPDATE trial_intermediate_values SET step = -1 WHERE {TRIAL}", "value of epoch -1"),
    "a huge epoch": (f"UPDATE trial_intermediate_values SET step = 9223372036854775807 WHERE {TRIAL}", "of epoch 922"),
    "an attribute without a name": (
        f"UPDATE trial_user_attributes SET key = x'ff' WHERE {TRIAL} AND key = 'seed'",
        "xff",
    ),
    "an unknown state": (f"UPDATE trials SET state = 'ASLEEP' WHERE {TRIAL}", "column state"),
    "no value of a parameter": (f"UPDATE trial_params SET param_value = NULL WHERE {TRIAL}", "parameter kind, x"),
    "a parameter of text": (
        f"UPDATE trial_params SET param_value = 'abc' WHERE {TRIAL} AND param_name = 'x'",
        "parameter x",
    ),
    "a choice that is none": (
        f"UPDATE trial_params SET param_value = 9 WHERE {TRIAL} AND param_name = 'kind'",
        "parameter kind",
    ),
    "a distribution of text": (f"UPDATE trial_params SET distribution_json = '<' WHERE {TRIAL}", "parameter kind, x"),
    "a value of text": (f"UPDATE trial_values SET value = 'abc' WHERE {TRIAL}", "value 0"),
    "a value that is NaN": (f"UPDATE trial_values SET value = NULL WHERE {TRIAL}", "value 0"),
    "an objective too many": (f"UPDATE trial_values SET objective = 3 WHERE {TRIAL}", "value 3"),
    "a kind of value": (f"UPDATE trial_values SET value_type = 'ODD' WHERE {TRIAL}", "value 0"),
    "an epoch of nothing": (
        f"UPDATE trial_intermediate_values SET intermediate_value_type = 'ODD' WHERE {TRIAL}",
        "value of epoch 1",
    ),
}


COMMANDS = [
    "studies",
    "trials lab",
    "trials lab --format csv",
    "best lab --top 3",
    "status lab",
    "importance lab",
    *(f"analyse lab --table {table}" for table in ("curves", "saved", "failures", "parallel", "slices")),
    "recommend lab",
]


@pytest.mark.parametrize(("damage", "says"), (ATTRIBUTES | ROWS).values(), ids=[*ATTRIBUTES, *ROWS])
def test_a_damaged_trial_is_marked_and_the_others_count(url, run, damage, says):
    measured(url)
    execute(url, damage if isinstance(damage, tuple) else (damage,))
    study = load_study("lab", storage=url)
    marked = study.all_trials()[5]
    assert (marked.value, study.best.value) == (None, 11 / 24)
    assert says in marked.problem
    assert study.tell(study.ask(), {"score": 0.3}).problem is None
    prints_without_traceback(run, url, "trials lab --format csv")
    prints_without_traceback(run, url, "status lab")


def test_every_command_works_on_trials_with_all_kinds_of_damage(url, run):
    """Each kind in a trial of its own, as a reader may fail at any of them."""
    kinds = (ATTRIBUTES | ROWS).values()
    measured(url, n=12 + len(kinds))
    for number, (damage, _) in enumerate(kinds, 12):
        statement, *values = damage if isinstance(damage, tuple) else (damage,)
        execute(url, (statement.replace("number = 5", f"number = {number}"), *values))
    study = load_study("lab", storage=url)
    assert [trial.number for trial in study.all_trials() if trial.problem] == list(range(12, 12 + len(kinds)))
    every_answer_is_json(study)
    for command in COMMANDS:
        prints_without_traceback(run, url, command)


def prints_without_traceback(run, url, command):
    told = run(*command.split(), "--storage", url)
    assert (told.code, "Traceback" in told.out + told.err) == (0, False), command


@pytest.mark.parametrize(("damage", "says"), ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_a_trial_with_a_damaged_attribute_counts_again_after_a_repair(url, damage, says):
    del says
    measured(url)
    execute(url, damage)
    kept = damage[1]
    found, _ = check_storage(url, repair=True)
    assert [f.trial for f in found if f.trial is not None] == [5]
    assert check_storage(url)[0] == []
    study = load_study("lab", storage=url)
    assert (study.best.number, study.best.value) == (5, 0.5)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        tables = " UNION ALL ".join(
            f"SELECT key, value_json FROM trial_{kind}_attributes WHERE {TRIAL}" for kind in ("user", "system")
        )
        stored = dict(database.execute(tables).fetchall())
    assert stored[f"unreadable:{kept[0]}"] in (kept[1], json.dumps(kept[1]))


@pytest.mark.parametrize("number", ["NULL", "'abc'", "9223372036854775807", "-1", "5.5", "4"])
def test_a_trial_without_a_number_of_its_own_is_named_and_given_one(url, tmp_path, number):
    before = sorted(trial.value for trial in measured(url).all_trials())
    execute(url, (f"UPDATE trials SET number = {number} WHERE {TRIAL}",))
    study = load_study("lab", storage=url)
    assert study.ask().number == 12
    found, _ = check_storage(url, repair=True)
    told = "its number was given twice" if number == "4" else "a trial has the number .*, so it is not read"
    assert [f for f in found if re.fullmatch(told, f.problem)]
    study = load_study("lab", storage=url)
    assert sorted(trial.value for trial in study.all_trials() if trial.is_finished) == before
    told = json.loads(json.dumps(study_document(record_of(study)), allow_nan=False))
    copied = copied_study(Storage(f"sqlite:///{tmp_path}/other.db", create=True), "lab", told)
    assert sorted(t.value for t in copied.all_trials() if t.state == "complete") == before
    assert copied.all_trials()[5].reason == "left out when the study was copied: no trial had this number"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (f"UPDATE trials SET study_id = NULL WHERE {TRIAL}", "1 row of the table trials belongs to nothing"),
        (
            f"UPDATE trial_user_attributes SET trial_id = NULL WHERE {TRIAL}",
            "rows of the table trial_user_attributes belong to nothing",
        ),
        (f"UPDATE trial_system_attributes SET key = NULL WHERE {TRIAL}", "of the table trial_system_attributes belong"),
    ],
)
def test_rows_that_belong_to_nothing_are_named(url, damage, says):
    measured(url)
    execute(url, (damage,))
    assert [f.problem for f in check_storage(url)[0] if says in f.problem]


def test_a_study_whose_name_is_no_text_hides_no_other(url, run):
    measured(url)
    open_study("other", space=SPACE, storage=url)
    execute(url, ("UPDATE studies SET study_name = x'fffe' WHERE study_name = 'lab'",))
    assert [each["study"] for each in run("studies", "--json", "--storage", url).json] == ["other"]
    assert [f.problem for f in check_storage(url)[0] if "the name of study 1 is b'" in f.problem]


def test_text_that_is_no_unicode_is_escaped_in_a_document(url, tmp_path):
    measured(url)
    execute(url, attribute("user", "note", json.dumps({"\ud800": "\ud800"})))
    study = record_of(load_study("lab", storage=url))
    (tmp_path / "study.json").write_text(json.dumps(study_document(study), ensure_ascii=False), encoding="utf-8")
    assert "\\\\ud800" in (tmp_path / "study.json").read_text(encoding="utf-8")


def study_attribute(key, text):
    return (
        "INSERT INTO study_user_attributes (study_id, key, value_json) "
        "SELECT study_id, ?, ? FROM studies WHERE study_name = 'lab' "
        "ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json",
        (key, text),
    )


STUDY_ATTRIBUTES = {
    "deep": "[" * 50_000,
    "aifs_tune:requested": '"many"',
    "aifs_tune:data": "7",
    "aifs_tune:fact:noise": '{"sd": "large", "freedom": 3, "study": "x"}',
    "aifs_tune:fact:candidates": "[]",
    "aifs_tune:fact:data": "[1]",
    "aifs_tune:fact:sizes": "[[1]]",
    "aifs_tune:fact:warm_start": '[{"study": "x"}]',
    "aifs_tune:fact:files": '{"entry": "../x", "hashes": {}}',
    "aifs_tune:source_tasks": '[{"study": "x", "trials": [[1, 2]]}]',
    "of another tool": "{junk",
}


@pytest.mark.parametrize(("key", "text"), STUDY_ATTRIBUTES.items(), ids=STUDY_ATTRIBUTES)
def test_a_study_with_a_damaged_attribute_says_so_hides_no_other_and_is_mended(url, run, key, text):
    measured(url)
    open_study("other", space=SPACE, storage=url)
    execute(url, study_attribute(key, text))
    with pytest.raises(DamagedError, match=rf"'lab' has attributes that cannot be read \({key}.*doctor --repair"):
        load_study("lab", storage=url)
    names = [each["study"] for each in run("studies", "--json", "--storage", url).json]
    assert {"lab", "other"} <= set(names)
    assert run("status", "other", "--storage", url).code == 0
    found, _ = check_storage(url, repair=True)
    assert [f.study for f in found if f.study] == ["lab"]
    assert check_storage(url)[0] == []
    assert load_study("lab", storage=url).best.value == 0.5


def test_a_study_whose_attributes_were_all_mended_answers_everything(url):
    measured(url)
    execute(url, *(study_attribute(key, text) for key, text in STUDY_ATTRIBUTES.items()))
    assert check_storage(url, repair=True)[0]
    assert check_storage(url)[0] == []
    every_answer_is_json(load_study("lab", storage=url))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (study_attribute("aifs_tune:spec", "{junk"), "keeps a sweep file that cannot be read"),
        (("DELETE FROM study_directions WHERE study_id = 1",), "has the directions none, and its sweep file has maxi"),
        (("UPDATE study_directions SET direction = 'MINIMIZE'",), "has the directions minimize"),
        (("UPDATE study_directions SET direction = 'UP'",), "has the directions up"),
    ],
)
def test_a_study_that_cannot_be_read_at_all_is_named_and_hides_no_other(url, run, damage, says):
    measured(url)
    execute(url, damage)
    open_study("other", space=SPACE, storage=url)
    with pytest.raises(DamagedError, match=says):
        load_study("lab", storage=url)
    assert {each["study"] for each in run("studies", "--json", "--storage", url).json} == {"lab", "other"}
    assert [f.study for f in check_storage(url)[0] if f.study] == ["lab"]
    told = run("best", "lab", "--storage", url)
    assert (told.code, "Traceback" in told.err) == (1, False)


def test_a_study_that_another_program_deletes_while_it_is_open_says_so(url):
    study = measured(url)
    trial = study.ask()
    optuna.delete_study(study_name="lab", storage=url)
    for call in (
        study.all_trials,
        study.ask,
        study.counts,
        lambda: study.best,
        lambda: study.tell(trial, {"score": 1.0}),
        lambda: record_of(study).n_requested,
    ):
        with pytest.raises(StorageError, match="another program deleted the study"):
            call()


def test_what_no_reader_would_take_is_refused_when_it_is_told(url):
    study = open_study("lab", space=SPACE, storage=url, metric="score")
    trial = study.ask()
    for more in ({"seconds": -1.0}, {"seconds": float("nan")}, {"worker": "x" * 2000}):
        with pytest.raises(RequestError, match=f"trial 0: .*{next(iter(more))}"):
            study.report(trial, 1, {"score": 0.5}, **more)
    with pytest.raises(RequestError, match=r"trial 0: .*allowed"):
        study.report(trial, 1, [0.5])
    with pytest.raises(RequestError, match="trial 0: seconds: -1"):
        study.tell(trial, {"score": 0.5}, seconds=-1)
    with pytest.raises(RequestError, match="names no epoch"):
        study.report(trial, 10**10, {"score": 0.5})
    failed = study.tell(trial, state="failed", reason="x" * 100_000)
    assert (failed.problem, len(failed.reason)) == (None, 20_000)
    limited = open_study("l", space=SPACE, storage=url, metric="score", limits=["score <= -1.7e308"])
    assert limited.tell(limited.ask(), {"score": 1.7e308}).problem is None


def test_a_study_with_damaged_trials_is_copied_without_them(url, tmp_path):
    study = measured(url)
    theirs = optuna.load_study(study_name="lab", storage=url)
    for value in (float("inf"), 99.0):
        theirs.add_trial(optuna.trial.create_trial(value=value, user_attrs={"note": float("nan")}))
    mine = study.ask()
    theirs._storage.set_trial_user_attr(theirs.trials[mine.number]._trial_id, "note", [float("nan"), {"a": 1}])
    execute(url, (ROWS["a value of text"][0],))
    study = load_study("lab", storage=url)
    told = json.loads(json.dumps(study_document(record_of(study)), allow_nan=False))
    copied = copied_study(Storage(f"sqlite:///{tmp_path}/other.db", create=True), "lab", told)
    assert [trial.value for trial in copied.all_trials()] == [trial.value for trial in study.all_trials()]
    left_out = [trial for trial in copied.all_trials() if trial.state == "failed"]
    assert [trial.number for trial in left_out] == [5, 12, 13]
    assert left_out[1].reason.startswith("left out when the study was copied: another program told it inf")
    assert check_storage(f"sqlite:///{tmp_path}/other.db")[0] == []


def test_a_damaged_trial_of_a_server_is_marked(postgres_url):
    study = open_study("lab", space=SPACE, storage=postgres_url, metric="score")
    for value in (0.25, 0.5):
        study.tell(study.ask(), {"score": value})
    with study.storage.rdb.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_user_attributes SET value_json = '{junk' WHERE trial_id = 2")
        connection.exec_driver_sql("UPDATE trial_params SET distribution_json = '<' WHERE trial_id = 2")
    trials = get_study(Storage(postgres_url), "lab").all_trials()
    assert [trial.value for trial in trials] == [0.25, None]
    assert trials[1].problem.startswith("it cannot be decoded: parameter")
