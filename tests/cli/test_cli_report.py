"""``aifs-tune report``: a report, a table for a paper, or a measurement, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from aifs_tune.study.open import open_study


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Path:
    """A folder with a storage: ``lab`` with six results and one running trial, ``dark`` with none."""
    folder = tmp_path_factory.mktemp("told")
    url = f"sqlite:///{folder}/aifs_tune.db"
    space = {
        "x": {"type": "float", "low": 0.0, "high": 1.0, "default": 0.25},
        "kind": {"type": "choice", "choices": ["a", "b"], "default": "a"},
    }
    study = open_study("lab", space=space, storage=url, metric="score", sampler="random")
    for value in (0.5, 0.75, 0.25, 0.7, 0.6, 0.4):
        study.tell(study.ask(), value, seconds=value)
    study.ask()
    dark = open_study("dark", space=space, storage=url, metric="score")
    dark.tell(dark.ask(), state="failed", reason="the lamp broke")
    study.storage.close()
    dark.storage.close()
    return folder


@pytest.fixture
def lab(told, tmp_path) -> Path:
    """The current folder, with that storage."""
    shutil.copytree(told, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words", "begins"),
    [
        ("report.html", [], b"<!DOCTYPE html>"),
        ("report.pdf", [], b"%PDF-"),
        ("report.md", [], b"# Study lab"),
        ("page", ["--format", "html"], b"<!DOCTYPE html>"),
        ("table.tex", ["--table", "space"], b"% needs \\usepackage{booktabs}"),
        ("table.csv", [], b"trial,score,"),
    ],
)
def test_the_ending_or_the_option_says_the_format(run, lab, name, words, begins):
    ran = run("report", "lab", "-o", name, *words)
    assert ran.code == 0, ran.err
    assert (lab / name).read_bytes().startswith(begins)
    assert f"wrote {name}" in ran.err
    assert ran.out == ""
    assert os.stat(lab / name).st_mode & 0o444 == 0o444


def test_pictures_of_markdown_lie_beside_it(run, lab):
    assert "pictures in notes_figures" in run("report", "lab", "-o", "notes.md").err
    text = (lab / "notes.md").read_text()
    for picture in (lab / "notes_figures").iterdir():
        assert f"](<notes_figures/{picture.name}>)" in text
        assert picture.read_text().startswith("<?xml")


def test_a_table_for_a_paper_goes_to_stdout(run, lab):
    rows = list(csv.reader(io.StringIO(run("report", "lab", "--format", "csv", "--table", "trials").out)))
    assert rows[0][:2] == ["trial", "score"]
    assert [float(row[1]) for row in rows[1:]] == [0.75, 0.7, 0.6, 0.5, 0.4, 0.25]
    latex = run("report", "lab", "--format", "latex").out
    assert latex.count(r"\\" + "\n") == 7
    assert latex.endswith("\\end{tabular}\n\\end{table}\n")


def test_with_a_trial_it_stores_a_measurement(run, lab):
    ran = run("report", "lab", "6", "1", "0.5")
    assert (json.loads(ran.out)["trial"], json.loads(ran.out)["epochs"]) == (6, 1)
    assert json.loads(run("report", "lab", "6", "2", "--metric", "score=0.7").out)["metrics"] == {"score": 0.7}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lab"], "give -o FILE.html, FILE.pdf or FILE.md"),
        (["lab", "--format", "html"], "give -o FILE.html"),
        (["lab", "-o", "report.docx"], "report.docx: unknown file ending of a report; allowed: .html"),
        (
            ["lab", "-o", "nowhere/report.html"],
            "the folder nowhere does not exist; allowed: a file in an existing folder",
        ),
        (["lab", "-o", ".", "--format", "html"], ". is a folder; allowed: a file"),
        (["lab", "-o", "r.html", "--table", "space"], "--table: a report contains all tables"),
        (["lab", "6", "1", "0.5", "-o", "r.html"], "allowed: one of the two"),
        (["lab", "6"], "a measurement needs TRIAL and EPOCH"),
        (["lab", "--metric", "score=1", "-o", "r.html"], "--metric belongs to a measurement"),
        (["lab", "--format", "csv", "--table", "test"], "no predicted classes of a test set"),
        (["dark", "-o", "r.html"], "study 'dark' has no complete trial yet; its trials: 1 failed"),
        (["dark", "--format", "csv"], "study 'dark' has no complete trial yet"),
        (["nobody", "-o", "r.html"], "holds no study 'nobody'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(run, lab, words, says):
    ran = run("report", *words)
    assert ran.code == 2
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert not list(lab.glob("r.*"))


@pytest.mark.parametrize(("missing", "name"), [("matplotlib", "r.html"), ("typst", "r.pdf")])
def test_without_its_libraries_it_names_the_extra(run, lab, monkeypatch, missing, name):
    monkeypatch.setitem(sys.modules, missing, None)
    ran = run("report", "lab", "-o", name)
    assert ran.code == 2
    assert "pip install 'aifs-tune[report]'" in ran.err
    assert not (lab / name).exists()
