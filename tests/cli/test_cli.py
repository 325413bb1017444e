"""The command line's words, JSON and exit codes are a contract."""

from __future__ import annotations

import io
from pathlib import Path

import jsonschema
import pandas as pd
import pytest
import yaml

from aifs_tune import load_study
from aifs_tune.cli import main
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study


@pytest.fixture
def lab(tmp_path, space) -> Path:
    """A storage in the current folder with three complete trials, one pruned and one failed."""
    study = open_study("lab", space=space, storage=f"sqlite:///{tmp_path}/aifs_tune.db", metric="score")
    for value in (0.5, 0.75, 0.25):
        trial = study.ask()
        study.report(trial, 1, {"score": value, "auc": value / 2}, seconds=1.5, worker="here:1")
        study.tell(trial)
    pruned = study.ask()
    study.report(pruned, 1, {"score": 0.125, "auc": None}, seconds=1.0)
    study.tell(pruned, state="pruned", reason="stopped early at epoch 1")
    study.tell(study.ask(), state="failed", reason="the lamp <b>broke</b>")
    return tmp_path


COUNTS = {"complete": 3, "pruned": 1, "failed": 1, "running": 0, "waiting": 0}


def test_best_answers_the_contracts_object(lab, run):
    answer = run("best", "lab", "--json").json
    assert list(answer) == ["study", "objective", "trial", "value", "epoch", "params", "metrics", "n_trials"]
    assert answer["objective"] == {"metric": "score", "mode": "max"}
    assert (answer["trial"], answer["value"], answer["epoch"]) == (1, 0.75, 1)
    assert answer["metrics"] == {"score": 0.75, "auc": 0.375}
    assert answer["n_trials"] == COUNTS
    assert set(answer["params"]) <= {"x", "kind", "power"}
    assert yaml.safe_load(run("best", "lab", "--yaml").out) == answer


def test_best_lists_the_top(lab, run):
    answer = run("best", "lab", "--top", "2", "--json").json
    assert [trial["value"] for trial in answer["best"]] == [0.75, 0.5]
    assert answer["n_trials"] == COUNTS


def test_trials_answer_in_every_format(lab, run):
    listed = run("trials", "lab", "--format", "json").json
    keys = "trial state value epochs params metrics seconds worker started_at finished_at reason"
    assert [list(trial) for trial in listed] == [keys.split()] * 5
    assert [trial["state"] for trial in listed] == ["complete", "complete", "complete", "pruned", "failed"]
    assert listed[4]["reason"] == "the lamp <b>broke</b>"
    csv = pd.read_csv(io.StringIO(run("trials", "lab", "--format", "csv").out))
    assert list(csv["trial"]) == [0, 1, 2, 3, 4]
    assert run("trials", "lab", "--format", "parquet", "--output", "t.parquet").code == 0
    parquet = pd.read_parquet(lab / "t.parquet")
    assert list(parquet.columns) == list(csv.columns)
    assert list(parquet["value"][:3]) == [0.5, 0.75, 0.25]
    table = run("trials", "lab").out
    assert "the lamp <b>broke</b>" in table
    assert "0.75" in table


def test_studies_and_status(lab, run):
    (study,) = run("studies", "--json").json
    assert (study["study"], study["value"], study["n_trials"]) == ("lab", 0.75, COUNTS)
    status = run("status", "lab", "--json").json
    assert (status["n_trials"], status["writer"], status["best"]["trial"]) == (COUNTS, None, 1)
    assert "5 trials finished" in run("status", "lab").out


def test_status_shows_the_latest_notices(lab, run):
    study = get_study(Storage(f"sqlite:///{lab}/aifs_tune.db"), "lab")
    for number in range(25):
        study.add_notice(f"node {number} has left")
    notices = run("status", "lab", "--json").json["notices"]
    assert [notice["text"] for notice in notices] == [f"node {number} has left" for number in range(5, 25)]
    shown = run("status", "lab").out
    assert "node 24 has left" in shown
    assert "node 21 has left" not in shown
    assert "lab" in run("studies").out


def test_an_instrument_asks_and_tells(run, tmp_path):
    asked = run("ask", "crystals", "--sweep", "crystal_growth").json
    assert asked["trial"] == 0
    number = str(asked["trial"])
    assert run("report", "crystals", number, "1", "0.5").json["epochs"] == 1
    assert run("tell", "crystals", number, "0.625").json["state"] == "complete"
    assert run("tell", "crystals", number, "0.625").code == 0
    late = run("tell", "crystals", number, "0.75")
    assert (late.code, "the first result stands" in late.err) == (2, True)
    second = str(run("ask", "crystals").json["trial"])
    assert run("tell", "crystals", second, "--failed", "cracked").json["reason"] == "cracked"
    assert run("best", "crystals", "--json").json["value"] == 0.625
    asked = run("ask", "crystals", "--label", "-7").json
    assert asked["lease"]["label"] == "-7"
    third = str(asked["trial"])
    assert run("report", "crystals", third, "1", "-2.5e-1").json["value"] == -0.25
    assert run("tell", "crystals", third, "-.5").json["value"] == -0.5, "a negative number is no option"


def test_space_shows_a_shipped_file_and_the_schema(run):
    shown = run("space", "celestial_cnn")
    assert shown.code == 0
    for word in ("learning_rate", "momentum", "val_macro_f1", "48 trials"):
        assert word in shown.out
    jsonschema.Draft202012Validator.check_schema(run("space", "--schema").json)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["best", "nobody"], 2, "no storage at"),
        (["space", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["space"], 2, "give a sweep file, or --schema"),
        (["run", "crystal_growth"], 2, "names no trainer"),
        (["run", "celestial_cnn", "--set", "search.trails=8"], 2, "search.trails"),
        (["run", "celestial_cnn", "--trials", "0"], 2, "--trials"),
        (["run", "celestial_cnn", "--data", "no/such/folder"], 2, "no/such/folder"),
        (["run", "celestial_cnn", "--storage", "mysql://me:secret@host/db"], 2, "sqlite:///FILE"),
        (["trials", "lab", "--format", "xml"], 2, "xml"),
        (["fly"], 2, "fly"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(run, words, code, said):
    ran = run(*words)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert "secret" not in ran.err


def test_other_wrong_requests_on_a_study(lab, run):
    for words, said in (
        (["best", "other"], "it holds: lab"),
        (["trials", "lab", "--format", "parquet"], "--output"),
        (["trials", "lab", "--output", "x"], "--format json, csv or parquet"),
        (["tell", "lab", "99", "1.0"], "no trial 99"),
        (["tell", "lab", "0", "1.0", "--failed", "x"], "give only one of"),
        (["stop", "lab"], "no sweep is running"),
    ):
        ran = run(*words)
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--metric", "scor=3"],
            "tell: no value for score (scor: did you mean score?); allowed: a finite number for each",
        ),
        (["--metric", "other=3"], "tell: no value for score; allowed: a finite number for each of score; or --failed"),
        (["nan"], "tell: nan is not a result for score"),
        (["--metric", "score=inf", "--metric", "other=3"], "tell: inf is not a result for score"),
        ([], "tell: no value, and nothing was reported for trial"),
        (["0.5", "--metric", "score=0.7"], "tell: 0.5 and --metric score=0.7; allowed: one value"),
        (["--metric", "score=1", "--metric", "score=2"], "--metric: score is given twice"),
    ],
)
def test_a_mistyped_result_does_not_fail_its_trial(run, lab, words, said):
    trial = str(run("ask", "lab").json["trial"])
    ran = run("tell", "lab", trial, *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert run("tell", "lab", trial, "0.5", "--metric", "other=3").json["state"] == "complete"


def test_space_shows_all_that_changes_what_is_proposed(run, tmp_path):
    (tmp_path / "dye.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "dye",
                "objective": {"metric": "gain", "mode": "max"},
                "search": {"shared": ["heat"], "cost": "1 + hours", "budget": 40},
                "space": {
                    "heat": {"type": "float", "low": 300, "high": 400},
                    "hours": {"type": "float", "low": 1, "high": 8},
                    "solvent": {"type": "choice", "choices": ["a", "b"], "descriptors": {"polarity": [1.5, 78.5]}},
                },
            }
        )
    )
    shown = run("space", "dye.yaml").out
    for line in (
        "descriptors of solvent: polarity",
        "shared by the trials of a batch: heat",
        "cost of a trial: 1 + hours, expected to be 40 in all",
    ):
        assert line in shown


def test_an_unfinished_study_has_no_best(run, space, tmp_path):
    open_study("new", space=space, storage=f"sqlite:///{tmp_path}/aifs_tune.db")
    ran = run("best", "new")
    assert ran.code == 2
    assert "no complete trial yet; its trials: 1 waiting" in ran.err


def test_debug_shows_where_it_happened(run):
    with pytest.raises(main.AifsTuneError):
        run("best", "nobody", "--debug")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("survey", "--data: survey is not a path that all nodes have; allowed: an absolute path, or a URL"),
        ("ftp://lab/survey", "--data: 'ftp://lab/survey' is not a supported URL; allowed: s3://"),
    ],
)
def test_what_nodes_would_not_find_is_not_submitted(run, data, said):
    ran = run("submit", "quick_sky", "--data", data, "--address", "http://127.0.0.1:1")
    assert (ran.code, said in ran.err) == (2, True), ran.err


def test_data_at_a_url_are_asked_for_as_it_is_typed(run):
    ran = run("run", "celestial_cnn", "--data", "s3://key:secret@lab/survey")
    assert (ran.code, "allowed: a bucket and a path, without secrets" in ran.err) == (2, True), ran.err
    assert "secret@" not in ran.err


def test_names_of_metrics_are_no_markup(lab, run):
    study = load_study("lab", storage=f"sqlite:///{lab}/aifs_tune.db")
    trial = study.ask()
    study.report(trial, 1, {"score": 0.875, "[/red]a": 1.0, "\x1b]0;b": 1.0})
    study.tell(trial)
    shown = run("best", "lab")
    assert shown.code == 0
    assert "[/red]a" in shown.out
    assert "\x1b" not in shown.out


def test_the_sampler_of_a_bundle_is_not_sent_to_a_cluster(run, tmp_path):
    (tmp_path / "ro-crate-metadata.json").write_text("{}")
    (tmp_path / "theirs.py").write_text("raise SystemExit('imported')")
    sweep = {
        "name": "theirs",
        "trainer": "mlp",
        "objective": {"metric": "val_loss", "mode": "min"},
        "search": {"sampler": "theirs:Mine"},
        "space": {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    refused = run("submit", "sweep.yaml", "--address", "http://127.0.0.1:1")
    assert refused.code != 0
    assert "theirs:Mine is code that a study or a bundle names, and nobody has allowed it here" in refused.err
