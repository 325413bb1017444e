"""Values at the ends of what a number can be, as a diverged loss has them: every table and report is made."""

from __future__ import annotations

import math

import pytest

from aifs_tune import analyse, open_study

SPACE = {name: {"type": "float", "low": 0.0, "high": 1.0} for name in ("x", "y")}
TABLES = ("importance", "interactions", "explained", "slices", "parallel", "curves", "saved", "failures", "suggestions")
EXTREMES = {
    "both ends": [1e308, -1e308, 5e-324],
    "large": [1e200, -1e200, 1e-200],
    "the largest": [1.7e308, 1.6e308, 1.5e308],
    "one of them": [0.25, 0.5, 1e308],
}


@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_extreme_values_end_nothing(values, run, tmp_path):
    url = f"sqlite:///{tmp_path}/lab.db"
    study = open_study("lab", space=SPACE, storage=url, mode="min")
    for i in range(12):
        study.tell(study.ask(), values[i % 3])
    assert study.best.value == min(values)
    assert analyse(study).importance()["importance"].map(math.isfinite).all()
    for command in (
        "best lab --json",
        "recommend lab --json",
        f"report lab --output {tmp_path}/report.html",
        f"export lab --output {tmp_path}/bundle",
        "analyse lab --table contour --first x --second y",
        *(f"analyse lab --table {table}" for table in TABLES),
    ):
        told = run(*command.split(), "--storage", url)
        assert told.code == 0, (command, told.err)
        assert "nan" not in told.out.lower().replace("nano", ""), command


def test_values_that_are_analysed_as_others_are_named(run, tmp_path):
    url = f"sqlite:///{tmp_path}/lab.db"
    study = open_study("lab", space=SPACE, storage=url, mode="min")
    for i in range(12):
        study.tell(study.ask(), i % 3 if i else 1e308)
    told = run("importance", "lab", "--storage", url)
    assert "1 values of value beyond 1e+100 are taken as that" in " ".join((told.out + told.err).split())
    for number in range(1, 12):
        study.attach({"x": number / 12, "y": 0.5}, 1e308)
    beyond = open_study("beyond", space=SPACE, storage=url)
    for value in range(12):
        beyond.tell(beyond.ask(), 1.1e308 + value * 1e306)
    told = run("importance", "beyond", "--storage", url)
    assert (told.code, "value is beyond 1e+100 in all 12 complete trials" in told.err) == (2, True)
