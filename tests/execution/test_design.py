"""Designs of a study of alloys: what is proposed, the file that goes to the lab and comes back, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import aifs_tune
from aifs_tune.cli.main import app
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import AifsTuneError, DataError, RequestError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study

TARGETS = {"strength": "MPa", "elongation": "%"}


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Strength is best at ni 14 and co 9; cobalt costs elongation, and furnace B strength."""
    bends = (frame["ni"] - 14) ** 2 + 2 * (frame["co"] - 9) ** 2
    strength = 2000 - 8 * bends - 100 * (frame["furnace"] == "B")
    return frame.assign(strength=strength.round(1), elongation=(22 - frame["co"]).round(2))


@pytest.fixture
def lab(url: str, tmp_path: Path) -> str:
    """A study of 90 alloys of three components, with one complete trial of a random forest."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"ni": random.uniform(2, 16, 90).round(2), "co": random.uniform(0, 8, 90).round(2)})
    frame = measured(frame.assign(fe=(100 - frame["ni"] - frame["co"]).round(2), furnace=list("ABB") * 30))
    frame.loc[::9, "elongation"] = np.nan
    frame.to_csv(tmp_path / "alloys.csv", index=False)
    spec = parse_sweep(
        {
            "name": "alloys",
            "trainer": "sklearn.ensemble:ExtraTreesRegressor",
            "data": {"table": {"file": str(tmp_path / "alloys.csv"), "targets": TARGETS}},
            "objective": {"metric": "val_loss", "mode": "min"},
            "search": {"scheduler": "none", "epochs": 1},
            "space": {"n_estimators": 10, "min_samples_leaf": {"type": "int", "low": 1, "high": 9, "default": 1}},
        }
    )
    study = start_study(Storage(url, create=True), spec, "alloys")
    study.tell(study.ask(), {"val_loss": 0.1})
    study.storage.close()
    return url


def design(lab: str, **given: Any) -> aifs_tune.execution.design.Design:
    asked: dict[str, Any] = {"maximise": "strength", "batch": 4, "models": 6, "storage": lab}
    return aifs_tune.design("alloys", **asked | given)


def test_proposals_keep_limits_sums_and_ranges_and_are_better_than_what_was_measured(lab: str) -> None:
    found = design(lab, subject_to=["elongation >= 14", "co <= 7"], sums="ni + co + fe = 100", ranges="furnace=A")
    table = found.table
    assert len(table) == 4
    np.testing.assert_allclose(table[["ni", "co", "fe"]].sum(axis=1), 100, atol=1e-4)
    assert set(table["furnace"]) == {"A"}
    assert table["co"].max() <= 7 + 1e-6
    assert (table["distance"] <= 1).all()
    assert table["p_limits"].between(0, 1).all()
    assert (table["low strength"] < table["expected strength"]).all()
    assert len(table.drop_duplicates(["ni", "co"])) == 4
    truth = measured(table[["ni", "co", "furnace"]])["strength"]
    assert truth.max() > 1850
    assert found.best is not None
    assert any("learnt from 72 rows; the 18 rows of the test set are not used" in text for text in found.remarks)
    assert [each.target for each in found.calibrations] == ["strength", "elongation"]


def test_the_same_seed_proposes_the_same(lab: str) -> None:
    assert design(lab, batch=2).table.equals(design(lab, batch=2).table)


def test_results_come_back_and_teach_the_next_design(lab: str, tmp_path: Path) -> None:
    first = design(lab, sums="ni + co + fe = 100")
    file = first.write(tmp_path / "next.csv")
    with pytest.raises(RequestError, match="exists, and may hold results; allowed: a new file"):
        first.write(file)
    told = pd.read_csv(file)
    assert told[["strength", "elongation"]].isna().all(axis=None)
    filled = measured(told)
    filled.loc[3, ["strength", "elongation"]] = np.nan
    filled.to_csv(file, index=False)
    second = design(lab, sums="ni + co + fe = 100", measured=file)
    assert "next.csv: 3 rows with results joined the measured ones" in second.remarks
    assert "next.csv: 1 rows without any result were left out" in second.remarks
    assert any("of 3 results of strength are in the 90 % intervals given for them" in text for text in second.remarks)
    assert second.best == pytest.approx(max(first.best or 0, filled["strength"].max()))
    assert any("learnt from 75 rows" in text for text in second.remarks)


def test_rows_of_a_table_are_chosen_from(lab: str, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    pool = pd.DataFrame({"ni": random.uniform(2, 16, 40), "co": random.uniform(0, 8, 40), "furnace": ["A"] * 40})
    pool.assign(fe=100 - pool["ni"] - pool["co"]).to_csv(tmp_path / "stock.csv", index=False)
    found = design(lab, candidates=tmp_path / "stock.csv")
    truth = measured(pool)["strength"]
    chosen = truth[found.table["candidate"] - 1]
    assert chosen.max() >= truth.quantile(0.9)
    np.testing.assert_allclose(found.table["ni"], pool["ni"][found.table["candidate"] - 1], rtol=1e-4)


def test_the_command_prints_json_and_writes_the_file(lab: str, tmp_path: Path) -> None:
    words = ["design", "alloys", "--maximise", "strength", "--minimise", "elongation", "--batch", "2", "--models", "6"]
    output = tmp_path / "next.csv"
    done = CliRunner().invoke(app, [*words, "--storage", lab, "-o", str(output), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told) == {"study", "proposals", "calibration", "best_measured", "remarks"}
    assert len(told["proposals"]) == len(pd.read_csv(output)) == 2
    assert told["best_measured"] is None
    again = CliRunner().invoke(app, [*words, "--storage", lab, "-o", str(output)])
    assert isinstance(again.exception, RequestError)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"maximise": "hardness"}, "target: no target 'hardness'; allowed: strength, elongation"),
        ({"maximise": ()}, "none given; allowed: one or several of strength, elongation"),
        ({"batch": 0}, "batch: 0 is not allowed; allowed: 1 to 100"),
        ({"models": 3}, "models: 3 is not allowed; allowed: 6 to 100"),
        ({"reach": 0}, "reach: 0 is not allowed; allowed: a number above 0"),
        ({"sums": "ni + co = 90"}, "within the ranges, not = 90"),
        ({"measured": "no.csv"}, "no.csv: there is no such file"),
    ],
)
def test_what_cannot_be_designed_is_refused(lab: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(AifsTuneError, match=message):
        design(lab, **given)


def test_a_result_that_is_no_number_is_named(lab: str, tmp_path: Path) -> None:
    row = {"ni": 3, "co": 1, "fe": 96, "furnace": "A", "strength": "broke", "elongation": 9}
    pd.DataFrame([row]).to_csv(tmp_path / "back.csv", index=False)
    with pytest.raises(DataError, match=r"back.csv: strength is '?broke'?; allowed: a number, or empty"):
        design(lab, measured=tmp_path / "back.csv")
