"""Several divisions of the same data: what they share, and what cannot be divided so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from aifs_tune.config.cross_validation import CrossValidation, split_of
from aifs_tune.config.data import DataSpec, Fold, SeriesSpec, SplitSpec, TableSpec
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data import prepare_images, prepare_series, prepare_table
from aifs_tune.data.split import refold_subsets
from aifs_tune.errors import DataError, SweepFileError


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
    cv = CrossValidation(folds=4, repeats=2, seed=7, among=among)
    undivided = rows(table)
    found = [rows(cv.select_split(table, split)) for split in range(cv.n_splits)]
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
        parts = rows(CrossValidation(folds=3).select_split(table, split))
        train, fold = ({patients[row] for row in parts[part]} for part in ("train", "test"))
        assert train.isdisjoint(fold)


def test_one_fold_is_the_division_that_the_file_asks_for(table: DataSpec) -> None:
    cv = CrossValidation(folds=1, repeats=3)
    assert cv.n_splits == 3
    assert cv.select_split(table, 2) == table


def test_a_class_that_is_too_rare_for_so_many_folds_is_named(table: DataSpec) -> None:
    with pytest.raises(DataError, match=r"class a has \d+ groups for the folds; allowed: at least 50"):
        rows(table.model_copy(update={"split": SplitSpec(fold=Fold(index=0, of=50))}))


def test_a_class_that_misses_a_fold_is_named() -> None:
    part_of, labels = np.zeros(8, np.int64), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    units = np.array([0, 1, 2, 3, 0, 1, 2, 3])  # each group has both classes
    for index in range(4):
        fold = Fold(index=index, of=4)
        parts = refold_subsets(fold, part_of, labels, units, where="here", names=["x", "y"], what="groups")
        assert sorted(labels[parts == 1].tolist()) == [0, 1]
    units = np.array([0, 1, 2, 3, 3, 3, 3, 3])
    with pytest.raises(DataError, match=r"here: class y has 1 groups for the folds; allowed: at least 2"):
        refold_subsets(Fold(index=0, of=2), part_of, labels, units, where="here", names=["x", "y"], what="groups")


def forecast_parts(n_folds: int, split: int, **given: Any) -> dict[str, list[int]]:
    """The first steps of the windows in each part of a fold."""
    forecast = {"forecast": {"target": "value", "history": 8, "horizon": 3}, "simulate": {"what": "quasi_periodic"}}
    forecast["simulate"]["steps"] = 600
    data = DataSpec(series=SeriesSpec.model_validate(forecast))
    examples = prepare_series(CrossValidation(folds=n_folds, repeats=2, **given).select_split(data, split)).examples
    return {part: getattr(examples, part).tolist() for part in ("train", "val", "test")}


@pytest.mark.parametrize("among", ["train", "all"])
def test_folds_of_a_series_train_on_what_came_before(among: Any) -> None:
    undivided = forecast_parts(1, 0)
    measuring = "test" if among == "train" else "val"
    sizes = []
    for split in range(8):
        parts = forecast_parts(4, split, among=among)
        begin = parts[measuring][0]
        assert parts["train"][-1] + 8 + 3 - 1 < begin, "no step is seen or foretold on both sides"
        assert parts["train"][-1] == begin - 8 - 3, "and none is wasted"
        assert parts["val" if among == "train" else "test"] == undivided["val" if among == "train" else "test"]
        assert parts[measuring][-1] < undivided["val" if among == "train" else "test"][0]
        sizes.append(len(parts["train"]))
    assert sizes[:4] == sorted(sizes[:4])
    assert sizes[4] != sizes[0], "another deal has other borders"


def series_in_order(tmp_path: Path, n: int = 40) -> SeriesSpec:
    random = np.random.default_rng(0)
    for i in range(n):
        pd.DataFrame({"v": random.normal(size=5)}).to_csv(tmp_path / f"s{i}.csv", index=False)
    told = {"path": [f"s{i}.csv" for i in range(n)], "label": list("ab") * (n // 2), "night": np.arange(n) // 2}
    pd.DataFrame(told).to_csv(tmp_path / "manifest.csv", index=False)
    return SeriesSpec(path=tmp_path, order="night")


def test_folds_of_series_in_order_train_on_earlier_nights(tmp_path: Path) -> None:
    data = DataSpec(series=series_in_order(tmp_path))
    seen = []
    for split in range(3):
        found = prepare_series(CrossValidation(folds=3).select_split(data, split)).examples
        nights = {part: {row // 2 for row in getattr(found, part).tolist()} for part in ("train", "val", "test")}
        assert max(nights["train"]) < min(nights["test"])
        assert max(nights["test"]) < min(nights["val"])
        seen += found.test.tolist()
    assert len(seen) == len(set(seen)), "no series is measured twice in one deal"
    with pytest.raises(DataError, match=r"in the test set of fold 0 of 30, which follow each other in time"):
        prepare_series(CrossValidation(folds=30).select_split(data, 0))


def test_the_named_training_part_is_dealt_into_folds(tmp_path: Path) -> None:
    named = ["train"] * 16 + ["val"] * 4 + ["test"] * 4
    frame = pd.DataFrame({"u": range(24), "part": named, "target": list("aabb" * 6)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = DataSpec(table=TableSpec(file=tmp_path / "t.csv", part="part", keep=["u"]))
    found = [rows(CrossValidation(folds=4).select_split(data, split)) for split in range(4)]
    assert sorted(row for each in found for row in each["test"]) == list(range(16))
    for each in found:
        assert each["val"] == set(range(16, 20))
        assert each["train"] == set(range(16)) - each["test"]
    with pytest.raises(DataError, match=r"class a has 8 different examples for the folds; allowed: at least 9"):
        rows(CrossValidation(folds=9).select_split(data, 0))


def test_the_folder_of_training_images_is_dealt_into_folds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for part, n in (("train", 6), ("val", 3), ("test", 3)):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / part / label / f"{i}.png")
    data = DataSpec(folder=tmp_path, image_size=8)
    seen = set()
    for split in range(3):
        table = prepare_images(CrossValidation(folds=3).select_split(data, split)).files.to_frame()
        folds = set(table[table["part"] == "test"]["path"])
        assert {path.split("/")[0] for path in folds} == {"train"}
        assert set(table[table["part"] == "val"]["path"].str.split("/").str[0]) == {"val"}
        assert table[table["path"].str.startswith("test/")]["part"].isna().all()
        seen |= folds
    assert len(seen) == 12


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
        ({}, {}, "space.split: missing, but cross_validation needs it"),
        ({"split": {"type": "int", "low": 0, "high": 2}}, {}, "space.split: 2 of type int is not a split"),
        ({"split": {"type": "float", "low": 0, "high": 1}}, {}, "space.split: 0 of type float is not a split"),
        ({"split": 0}, {"search": {"scheduler": "pbt"}}, "search.scheduler: pbt would copy weights from one split"),
        ({"split": 0}, {"cross_validation": {"folds": 0}}, "cross_validation.folds"),
    ],
)
def test_what_does_not_fit_is_refused(space: dict[str, Any], sections: dict[str, Any], words: str) -> None:
    with pytest.raises(SweepFileError, match=words):
        sweep(space, **sections)
