"""Notes, copies, new names and the end of a study, and the commands for them."""

from __future__ import annotations

import json

import pytest

import aifs_tune
from aifs_tune.errors import ConflictError, NotFoundError, RequestError

SPACE = {
    "heat": {"type": "float", "low": 20, "high": 90},
    "kind": {"type": "choice", "choices": ["a", "1", None, [1, 2]]},
}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def lab_url(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path}/lab.db"


def made(url: str, name: str = "oven"):
    study = aifs_tune.open_study(name, space={**SPACE, "k": 3}, storage=url)
    for value in (0.1, 0.9, 0.4):
        study.tell(study.ask(), value)
    study.ask()
    study.cancel(study.enqueue({"heat": 30, "kind": None, "k": 3}), "no sample")
    study.set_note("first run")
    study.set_note("the lid was open", 1)
    folder = study.artifacts / "trial-1"
    folder.mkdir(parents=True)
    (folder / "weights.npz").write_bytes(b"weights")
    return study


def test_a_copy_has_all_trials_notes_and_files(lab_url):
    study = made(lab_url)
    copy = aifs_tune.copy_study("oven", "oven-2", lab_url)
    assert [t.params for t in copy.all_trials()] == [t.params for t in study.all_trials()]
    assert [t.state for t in copy.all_trials()] == ["complete", "complete", "complete", "waiting", "failed"]
    assert (copy.best.value, copy.note, copy.trial_notes) == (0.9, "first run", {1: "the lid was open"})
    assert (copy.artifacts / "trial-1" / "weights.npz").read_bytes() == b"weights"
    copy.tell(copy.ask(), 0.5)
    assert study.counts()["complete"] == 3
    with pytest.raises(ConflictError, match="has a study 'oven-2' already"):
        aifs_tune.copy_study("oven", "oven-2", lab_url)


def test_a_study_with_a_new_name_goes_on(lab_url):
    study = made(lab_url)
    renamed = aifs_tune.rename_study("oven", "kiln", lab_url)
    assert renamed.name == "kiln"
    assert renamed.artifacts == study.artifacts
    renamed.tell(renamed.ask(), 0.7)
    assert aifs_tune.load_study("kiln", lab_url).counts()["complete"] == 4
    with pytest.raises(NotFoundError, match=r"no study .oven."):
        aifs_tune.load_study("oven", lab_url)
    made(lab_url, "other")
    for wrong in ("other", "kiln"):
        with pytest.raises(ConflictError, match="already"):
            aifs_tune.rename_study("kiln", wrong, lab_url)
    with pytest.raises(RequestError):
        aifs_tune.rename_study("kiln", "a b", lab_url)


def test_a_deleted_study_leaves_nothing(lab_url):
    files = made(lab_url).artifacts
    kept = made(lab_url, "kept")
    aifs_tune.delete_study("oven", lab_url)
    assert not files.exists()
    assert kept.artifacts.exists()
    assert kept.counts()["complete"] == 3
    with pytest.raises(NotFoundError):
        aifs_tune.load_study("oven", lab_url)
    assert made(lab_url).counts()["complete"] == 3


def test_a_study_that_is_being_written_is_left_alone(lab_url):
    study = made(lab_url)
    with study.storage.writing("oven"):
        for change in (
            lambda: aifs_tune.delete_study("oven", lab_url),
            lambda: aifs_tune.rename_study("oven", "kiln", lab_url),
            lambda: aifs_tune.copy_study("oven", "kiln", lab_url),
        ):
            with pytest.raises(ConflictError, match="stop it first with: aifs-tune stop oven"):
                change()
    assert study.counts()["complete"] == 3


def test_a_note_is_replaced_and_removed(lab_url):
    study = made(lab_url)
    study.set_note("second", 1)
    study.set_note("", 1)
    study.set_note("")
    assert (study.note, study.trial_notes) == (None, {})
    with pytest.raises(RequestError, match="at most 2,000 characters"):
        study.set_note("x" * 2_001)
    with pytest.raises(NotFoundError):
        study.set_note("x", 99)


def test_a_cancelled_trial_teaches_nothing(lab_url):
    study = made(lab_url)
    assert study.trial(4).reason == "no sample"
    assert 4 in study._marked(study._frozen())
    with pytest.raises(ConflictError, match="trial 0 is complete"):
        study.cancel(0)
    assert study.cancel(3).reason == "cancelled"


def test_the_commands(run, tmp_path):
    url = f"sqlite:///{tmp_path}/lab.db"
    made(url)
    run_on = lambda *words: run(*words, "--storage", url)  # noqa: E731
    assert run_on("enqueue", "oven", "heat=30", "kind=1").json["params"] == {"heat": 30.0, "kind": "1", "k": 3}
    assert run_on("enqueue", "oven", "heat=4e1", "kind=null", "k=3").json["params"]["kind"] is None
    attached = run_on("attach", "oven", "heat=50", "kind=[1, 2]", "--value", "0.95").json
    assert (attached["state"], attached["value"], attached["params"]["kind"]) == ("complete", 0.95, [1, 2])
    failed = run_on("attach", "oven", "heat=50", "kind=a", "--failed", "it cracked").json
    assert (failed["state"], failed["reason"]) == ("failed", "it cracked")
    assert run_on("cancel", "oven", "5", "--reason", "no time").json["reason"] == "no time"
    for words, said in (
        (("enqueue", "oven", "heat=300", "kind=a"), "heat: 300 is not allowed; allowed: a number from 20 to 90"),
        (("enqueue", "oven", "heat=30"), "kind: missing"),
        (("enqueue", "oven", "heat"), "allowed: NAME=VALUE, once for each of heat, kind, k"),
        (("enqueue", "oven", "heat=1", "heat=2"), "'heat=2' is given twice"),
        (("enqueue", "oven", "hat=1", "kind=a", "heat=30"), "did you mean heat?"),
        (("attach", "oven", "heat=50", "kind=a"), "attach: no value; allowed: --value"),
        (("attach", "oven", "heat=50", "kind=a", "--value", "nan"), "attach: nan is not a result for value"),
        (("cancel", "oven", "0"), "trial 0 is complete, it cannot become failed"),
    ):
        refused = run_on(*words)
        assert (refused.code, said in refused.err) == (2, True), refused.err
    assert run_on("note", "oven", "second run").code == 0
    assert run_on("note", "oven", "good", "--trial", "0").code == 0
    assert run_on("note", "oven").out == "second run\ntrial 0: good\ntrial 1: the lid was open\n"
    assert "note: second run" in run_on("status", "oven").out
    assert "note: the lid was open" in run_on("trials", "oven").out
    rows = run_on("trials", "oven", "--format", "json").json
    assert [row.get("note") for row in rows][:3] == ["good", "the lid was open", None]
    assert ",note\n" in run_on("trials", "oven", "--format", "csv").out
    assert run_on("report", "oven", "-o", "r.html").code == 0
    page = (tmp_path / "r.html").read_text()
    assert "Note of the study: second run" in page
    assert "Note of trial 1: the lid was open" in page
    assert run_on("copy", "oven", "oven-confirm").err.startswith("copied 9 trials to oven-confirm")
    assert "keep their names: oven-confirm" in run_on("rename", "oven", "kiln").err
    refused = run_on("delete", "kiln")
    assert (refused.code, "to do so, add --yes" in refused.err) == (2, True)
    assert run_on("delete", "kiln", "--yes").err.startswith("deleted study kiln with 9 trials")
    assert [line["study"] for line in json.loads(run_on("studies", "--json").out)] == ["oven-confirm"]


@pytest.mark.parametrize("told", ["x", None, float("nan"), 10**400, [1], {"value": "x"}, {"value": None}, {}])
def test_what_is_no_number_is_not_reported(url, told):
    study = aifs_tune.open_study("oven", space=SPACE, storage=url)
    trial = study.ask()
    with pytest.raises(RequestError, match="trial 0"):
        study.report(trial, 1, told)
    for epoch in ("1", 1.5, None, True, 0):
        with pytest.raises(RequestError, match="is not an epoch"):
            study.report(trial, epoch, 0.3)
    assert study.report(trial, 1, 0.3).value == 0.3
    assert study.tell(trial).value == 0.3


def test_one_number_does_not_say_which_objective_it_is(url):
    study = aifs_tune.open_study("oven", space=SPACE, storage=url, trade_off={"cost": "min"})
    with pytest.raises(RequestError, match="a value for each of value, cost"):
        study.report(study.ask(), 1, 0.3)


def test_another_space_is_compared_parameter_by_parameter(url):
    made(url)
    other = {
        "heat": {"type": "float", "low": 20, "high": 95, "unit": "C"},
        "kind": {"type": "choice", "choices": ["a", [1, 2]]},
        "new": True,
    }
    with pytest.raises(ConflictError) as caught:
        aifs_tune.open_study("oven", space=other, storage=url)
    for said in (
        "new is new; k is missing; heat.high is 95 and was 90; heat.unit is C and was not given",
        "kind.choices is [a, [1, 2]] and was [a, 1, null, [1, 2]]",
        "open_study('NEW', ..., warm_start='oven')",
        "load_study('oven')",
    ):
        assert said in str(caught.value)


@pytest.mark.parametrize("sampler", ["aifs", "tpe", "grid", "brute_force"])
def test_a_space_that_is_used_up_is_told_once(url, run, sampler):
    space = {
        "x": {"type": "choice", "choices": [6, 7]},
        "n": {"type": "int", "low": 1, "high": 2, "when": {"x": 7}},
        "k": 3,
    }
    study = aifs_tune.open_study("few", space=space, storage=url, sampler=sampler)
    for i in range(7):
        study.tell(study.ask(), float(i))
        said = run("status", "few", "--storage", url).out.count("All 3 configurations of the search space")
        assert said == (len({str(t.params) for t in study.all_trials()}) == 3 and i >= 3)
    assert run("best", "few", "--storage", url).err.count("All 3 configurations of the search space") == 1


def test_replicates_and_continuous_spaces_are_not_used_up(url, run):
    study = aifs_tune.open_study("r", space={"x": {"type": "choice", "choices": [6, 7, 8]}}, storage=url, replicates=2)
    for i in range(4):
        study.tell(study.ask(), float(i))
    wide = aifs_tune.open_study("w", space={"x": {"type": "float", "low": 0, "high": 1}}, storage=url)
    for _ in range(2):
        wide.attach({"x": 0.5}, 1.0)
    for name in ("r", "w"):
        assert "configurations of the search space" not in run("best", name, "--storage", url).err
