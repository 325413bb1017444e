"""The commands that say what a study's trials mean: their tables, JSON, files and refusals."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import aifs_tune
from aifs_tune.cli.main import app
from aifs_tune.errors import AifsTuneError

SPACE = {
    "x": {"type": "float", "low": 0.0, "high": 1.0},
    "kind": {"type": "choice", "choices": ["a", True]},
    "z": {"type": "int", "low": 1, "high": 3},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('lab')}/lab.db"
    study = aifs_tune.open_study("lab", space=SPACE, storage=url, sampler="random")
    for _ in range(16):
        trial = study.ask()
        study.tell(trial, float(trial.params["x"]) ** 2, seconds=1.0)
    study.tell(study.ask(), state="failed", reason="lamp 3 broke")
    few = aifs_tune.open_study("few", space=SPACE, storage=url)
    few.tell(few.ask(), 1.0)
    return url


def ran(url: str, *words: str):
    return CliRunner().invoke(app, [*words, "--storage", url])


def test_importance_is_a_table_for_a_person(lab):
    done = ran(lab, "importance", "lab")
    assert done.exit_code == 0, done.output
    for text in ("fanova, 16 complete trials", "95 % interval", "x, kind", "suggestion"):
        assert text in done.output


def test_importance_as_json_has_all_of_it(lab):
    told = json.loads(ran(lab, "importance", "lab", "--json", "--evaluator", "pedanova").stdout)
    assert told["study"] == "lab"
    assert [row["evaluator"] for row in told["importance"]] == ["pedanova"] * 3
    assert told["importance"][0]["parameter"] == "x"
    assert {"interactions", "explained", "suggestions", "remarks"} < set(told)


@pytest.mark.parametrize("name", ["importance", "slices", "parallel", "pareto", "failures", "suggestions"])
def test_a_table_is_the_same_in_each_format(lab, tmp_path, name):
    rows = json.loads(ran(lab, "analyse", "lab", "--table", name, "--format", "json").stdout)
    file = tmp_path / "t.parquet"
    assert ran(lab, "analyse", "lab", "--table", name, "--format", "parquet", "--output", str(file)).exit_code == 0
    read = pd.read_parquet(file)
    assert rows
    assert list(read.columns) == list(rows[0])
    assert len(read) == len(rows)
    assert ran(lab, "analyse", "lab", "--table", name).exit_code == 0
    assert ran(lab, "analyse", "lab", "--table", name, "--format", "csv").stdout.count("\n") == len(rows) + 1


def test_a_contour_is_of_two_parameters(lab):
    words = ("analyse", "lab", "--table", "contour", "--first", "x", "--second", "kind", "--format", "json")
    rows = json.loads(ran(lab, *words).stdout)
    assert len(rows) == 21 * 2
    assert {row["kind"] for row in rows} == {"a", True}


def test_an_empty_table_says_why(lab):
    done = ran(lab, "analyse", "few", "--table", "importance", "--format", "json")
    assert json.loads(done.stdout) == []
    assert "1 of at least 8 required trials are complete" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("importance", "few"), "no importance can be computed: 1 of at least 8 required trials"),
        (("importance", "other"), "it holds: few, lab"),
        (("analyse", "other", "--table", "slices"), "it holds: few, lab"),
        (("analyse", "lab", "--table", "contour"), "allowed: two of x, kind, z"),
        (("analyse", "lab", "--table", "contour", "--first", "x", "--second", "q"), "allowed: x, kind, z"),
        (("analyse", "lab", "--table", "pareto", "--first", "x"), "allowed: with --table contour"),
        (("analyse", "lab", "--table", "pareto", "--format", "parquet"), "give --output FILE"),
        (("analyse", "lab", "--table", "pareto", "--output", "f"), "--format table is only printed"),
    ],
)
def test_bad_requests_are_refused_in_words(lab, words, said):
    done = ran(lab, *words)
    assert isinstance(done.exception, AifsTuneError)
    assert said in str(done.exception)
