"""Several divisions of the same data: what they share, and what cannot be divided so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aifs_tune.cross_validation import CrossValidation, split_of
from aifs_tune.data import prepare_series, prepare_table
from aifs_tune.data.dealing import in_folds
from aifs_tune.data_spec import DataSpec, Fold, Split, TableSpec
from aifs_tune.errors import DataError, SweepFileError
from aifs_tune.series_spec import SeriesSpec
from aifs_tune.sweep_file import parse_sweep


@pytest.fixture
def table(tmp_path: Path) -> DataSpec:
    """90 rows of three classes, four rows to a patient."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"u": random.normal(size=90), "v": random.normal(size=90)})
    frame["patient"] = [f"p{i // 3 % 30}" for i in range(90)]
    frame["target"] = np.array(["a", "b", "c"])[np.arange(90) % 3]
    frame.to_csv(tmp_path / "table.csv", index=False)
    return DataSpec(table=TableSpec(file=tmp_path / "table.csv", group="patient"))


def rows(data: DataSpec) -> dict[str, set[int]]:
    examples = prepare_table(data).examples
    return {part: set(getattr(examples, part).tolist()) for part in ("train", "val", "test")}


@pytest.mark.parametrize("among", ["all", "train"])
def test_each_example_measures_once_a_repeat_and_the_test_part_stays_locked(among: Any, table: DataSpec) -> None:
    divisions = CrossValidation(folds=4, repeats=2, seed=7, among=among)
    undivided = rows(table)
    found = [rows(divisions.divided(table, split)) for split in range(divisions.n_splits)]
    dealt = undivided["train"] | (undivided["val"] if among == "all" else set())
    measuring = "val" if among == "all" else "test"
    for repeat in (found[:4], found[4:]):
        assert sorted(row for each in repeat for row in each[measuring]) == sorted(dealt)
    for each in found:
        assert each["train"] == dealt - each[measuring]
        if among == "all":
            assert each["test"] == undivided["test"]
        else:
            assert each["val"] == undivided["val"]
            assert undivided["test"].isdisjoint(set.union(*each.values()))
    assert {frozenset(each[measuring]) for each in found[:4]} != {frozenset(each[measuring]) for each in found[4:]}


def test_groups_stay_together_in_folds(table: DataSpec) -> None:
    assert table.table is not None
    patients = pd.read_csv(table.table.file)["patient"].to_numpy()
    for split in range(3):
        parts = rows(CrossValidation(folds=3).divided(table, split))
        train, fold = ({patients[row] for row in parts[part]} for part in ("train", "test"))
        assert train.isdisjoint(fold)


def test_one_fold_is_the_division_that_the_file_asks_for(table: DataSpec) -> None:
    divisions = CrossValidation(folds=1, repeats=3)
    assert divisions.n_splits == 3
    assert divisions.divided(table, 2) == table


def test_a_class_that_is_too_rare_for_so_many_folds_is_named(table: DataSpec) -> None:
    with pytest.raises(DataError, match=r"class a has \d+ groups to be dealt; allowed: at least 50"):
        rows(table.model_copy(update={"split": Split(fold=Fold(index=0, of=50))}))


def test_a_class_that_misses_a_fold_is_named() -> None:
    part_of, labels = np.zeros(8, np.int64), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    units = np.array([0, 1, 2, 3, 0, 1, 2, 3])  # each group has both classes
    for index in range(4):
        fold = Fold(index=index, of=4)
        parts = in_folds(fold, part_of, labels, units, where="here", names=["x", "y"], what="groups")
        assert sorted(labels[parts == 1].tolist()) == [0, 1]
    units = np.array([0, 1, 2, 3, 3, 3, 3, 3])
    with pytest.raises(DataError, match=r"here: class y has 1 groups to be dealt; allowed: at least 2"):
        in_folds(Fold(index=0, of=2), part_of, labels, units, where="here", names=["x", "y"], what="groups")


def test_parts_that_follow_each_other_in_time_are_not_dealt_into_folds() -> None:
    forecast = {"forecast": {"target": "value", "history": 8, "horizon": 1}, "simulate": {"what": "quasi_periodic"}}
    data = DataSpec(series=SeriesSpec.model_validate(forecast), split=Split(fold=Fold(index=0, of=3)))
    with pytest.raises(DataError, match="parts follow each other in time, and folds would mix the parts"):
        prepare_series(data)


def test_parts_that_the_data_name_are_not_dealt_into_folds(tmp_path: Path) -> None:
    frame = pd.DataFrame({"u": range(12), "part": ["train", "val"] * 6, "target": list("aabb" * 3)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    spec = TableSpec(file=tmp_path / "t.csv", part="part")
    with pytest.raises(DataError, match="the data name their parts"):
        prepare_table(DataSpec(table=spec, split=Split(fold=Fold(index=0, of=2))))


def sweep(space: dict[str, Any], **sections: Any) -> Any:
    base = {"name": "s", "trainer": "mlp", "cross_validation": {"folds": 2}}
    return parse_sweep({**base, "space": {"dropout": 0.5, **space}, **sections})


def test_a_sweep_of_several_divisions_numbers_them_in_its_space() -> None:
    spec = sweep({"split": {"type": "int", "low": 0, "high": 1}})
    assert split_of(spec.cross_validation, {"dropout": 0.5, "split": 1}) == (1, {"dropout": 0.5})
    assert split_of(None, {"dropout": 0.5}) == (None, {"dropout": 0.5})


@pytest.mark.parametrize(
    ("space", "sections", "words"),
    [
        ({}, {}, "space.split: is not there, and cross_validation is"),
        ({"split": {"type": "int", "low": 0, "high": 2}}, {}, "space.split: 2 of type int is no split"),
        ({"split": {"type": "float", "low": 0, "high": 1}}, {}, "space.split: 0 of type float is no split"),
        ({"split": 0}, {"search": {"scheduler": "pbt"}}, "search.scheduler: pbt hands weights from one division"),
        ({"split": 0}, {"cross_validation": {"folds": 0}}, "cross_validation.folds"),
    ],
)
def test_what_does_not_fit_is_refused(space: dict[str, Any], sections: dict[str, Any], words: str) -> None:
    with pytest.raises(SweepFileError, match=words):
        sweep(space, **sections)
