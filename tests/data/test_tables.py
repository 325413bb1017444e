from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aifs_tune.config.data import DataSpec, Genes, SplitSpec, TableSpec
from aifs_tune.data import open_examples, prepare_table
from aifs_tune.data.tables import simulate_genes
from aifs_tune.errors import DataError, NotFoundError


def frame_of(n: int = 60, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    kind = np.array(["a", "b", "c"])[np.arange(n) % 3]
    return pd.DataFrame(
        {
            "id": [f"s{i}" for i in range(n)],
            "u": random.normal(5, 3, n),
            "v": random.normal(-1, 0.1, n),
            "colour": random.choice(["red", "green"], n),
            "patient": [f"p{i // 4}" for i in range(n)],
            "target": kind,
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., TableSpec]:
    def written(frame: pd.DataFrame, name: str = "table.csv", **section: Any) -> TableSpec:
        path = tmp_path / name
        frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
        return TableSpec(file=path, **section)

    return written


def test_prepared_data_of_an_earlier_version_are_refused(write: Callable[..., TableSpec], tmp_path: Path) -> None:
    entry = shutil.copytree(prepare_table(DataSpec(table=write(frame_of()))).location, tmp_path / "earlier")
    (entry / "y_true.npy").rename(entry / "truths.npy")
    facts = json.loads((entry / "facts.json").read_text())
    (entry / "facts.json").write_text(json.dumps(facts | {"version": 1}))
    with pytest.raises(NotFoundError, match=r"version 1 of the format; this release reads 2\); prepare the data again"):
        open_examples(entry)


def test_numbers_are_filled_and_scaled_by_the_training_set_alone(write: Callable[..., TableSpec]) -> None:
    frame = frame_of()
    frame.loc[::7, "u"] = np.nan
    examples = prepare_table(DataSpec(table=write(frame, leave_out=["id", "patient"]))).examples
    (inputs,) = examples.inputs
    columns = examples.facts["columns"]
    assert [column["name"] for column in columns] == ["u", "v", "colour", "colour"]
    known = frame["u"].to_numpy()[examples.train]
    known = known[~np.isnan(known)]
    filled = frame["u"].fillna(np.median(known)).to_numpy()
    np.testing.assert_allclose(inputs[:, 0], (filled - known.mean()) / known.std(), rtol=1e-5)
    assert columns[0]["missing"] == frame["u"].isna().sum()
    np.testing.assert_array_equal(inputs[:, 3] > 0, frame["colour"] == "red")
    assert [examples.classes[i] for i in examples.y_true] == list(frame["target"])
    assert inputs.dtype == np.float32


def test_what_is_not_in_the_training_set_changes_nothing_there(write: Callable[..., TableSpec]) -> None:
    frame = frame_of()
    frame["part_"] = np.where(np.arange(60) < 36, "train", np.where(np.arange(60) < 48, "val", "test"))
    before = prepare_table(DataSpec(table=write(frame, part="part_", leave_out=["id", "patient"]))).examples
    frame.loc[36:, "u"] *= 1000
    after = prepare_table(DataSpec(table=write(frame, part="part_", leave_out=["id", "patient"]))).examples
    np.testing.assert_array_equal(before.inputs[0][before.train], after.inputs[0][after.train])
    assert before.train.tolist() == list(range(36))
    assert before.test.tolist() == list(range(48, 60))
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "semicolon.csv", "tab.tsv"])
def test_formats_give_the_same_examples(name: str, tmp_path: Path) -> None:
    frame = frame_of()
    path = tmp_path / name
    separators = {"semicolon.csv": ";", "tab.tsv": "\t"}
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep=separators.get(name, ","))
    frame.to_csv(tmp_path / "plain.csv", index=False)
    found, expected = (
        prepare_table(DataSpec(table=TableSpec(file=file, leave_out=("id", "patient")))).examples
        for file in (path, tmp_path / "plain.csv")
    )
    np.testing.assert_array_equal(found.inputs[0], expected.inputs[0])
    assert found.train.tolist() == expected.train.tolist()
    assert found.fingerprint == expected.fingerprint


def test_groups_and_equal_rows_stay_together_and_shares_are_kept(write: Callable[..., TableSpec]) -> None:
    frame = frame_of(120)
    examples = prepare_table(DataSpec(table=write(frame, group="patient", leave_out=["id"]))).examples
    patients = [set(frame["patient"].iloc[part]) for part in (examples.train, examples.val, examples.test)]
    assert not patients[0] & patients[1] | patients[0] & patients[2] | patients[1] & patients[2]
    twice = pd.concat([frame_of(), frame_of()], ignore_index=True)
    examples = prepare_table(DataSpec(table=write(twice, leave_out=["id", "patient"]))).examples
    part_of = np.zeros(120, int)
    for i, part in enumerate((examples.train, examples.val, examples.test)):
        part_of[part] = i
    np.testing.assert_array_equal(part_of[:60], part_of[60:])
    assert np.bincount(part_of).tolist() == pytest.approx([72, 24, 24], abs=6)


def test_numbers_to_predict_are_scaled_and_come_back_in_their_unit(write: Callable[..., TableSpec]) -> None:
    frame = frame_of().assign(target=lambda f: 3 * f["u"] + 100)
    table = write(frame, predict="values", unit="K", leave_out=["id", "patient"])
    examples = prepare_table(DataSpec(table=table)).examples
    (target,) = examples.targets
    assert (target.name, target.unit, examples.classes) == ("target", "K", ())
    np.testing.assert_allclose(
        examples.y_true[:, 0] * target.scale + target.centre, frame["target"].to_numpy(), rtol=1e-5
    )
    assert examples.y_true[examples.train].mean() == pytest.approx(0, abs=1e-5)
    assert examples.y_true[examples.train].std() == pytest.approx(1, rel=1e-4)


def test_what_was_stored_is_opened_again_and_found_missing_when_it_is() -> None:
    prepared = prepare_table(DataSpec(table=TableSpec(simulate=Genes(samples=60, genes=20))))
    opened = open_examples(prepared.location)
    np.testing.assert_array_equal(opened.inputs[0], prepared.examples.inputs[0])
    assert (opened.fingerprint, opened.classes) == (prepared.examples.fingerprint, ("kidney", "liver", "lung"))
    with pytest.raises(NotFoundError, match="missing or damaged"):
        open_examples(prepared.location / "nowhere")


def test_genes_follow_the_seed_and_carry_the_class() -> None:
    one, same, other = (simulate_genes(Genes(samples=90, genes=50, seed=seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)
    assert 0 < one.isna().to_numpy().mean() < 0.05
    means = one.groupby("target").mean(numeric_only=True)
    spread = one.drop(columns="target").std()
    assert ((means.max() - means.min()) / spread > 0.8).sum() >= 10


WRONG: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], dict[str, Any], str]] = {
    "no target": (lambda f: f.drop(columns="target"), {}, "no column 'target'; allowed: id, u, v"),
    "no group": (lambda f: f, {"group": "ward"}, "no column 'ward'"),
    "one class": (lambda f: f.assign(target="a"), {}, r"target has 1 class\(es\); allowed: at least 2"),
    "numbers as classes": (lambda f: f.assign(target=f["u"]), {}, "60 distinct entries in 60 rows"),
    "classes as numbers": (lambda f: f, {"predict": "values"}, "target is 'a' in row 1; allowed: finite numbers"),
    "a constant": (lambda f: f.assign(target=1.0), {"predict": "values"}, "target is constant in"),
    "rare classes": (
        lambda f: f.assign(target=["x", "X", *["y"] * 58]),
        {},
        "class X has 1 different rows; .*; class x .*"
        r"the classes X, x differ in capitals alone\); allowed at least 2 other classes",
    ),
    "nothing to learn from": (lambda f: f[["id", "target"]], {}, "no column to learn from .*60 different|no column to"),
    "too few rows": (lambda f: f.head(8), {}, "8 rows with a target; allowed: at least 10"),
    "a strange part": (
        lambda f: f.assign(part="training"),
        {"part": "part"},
        "'training' is not a subset; allowed: train",
    ),
    "no rows": (
        lambda f: f.head(0),
        {},
        r"has a line of column names \(id, u, v, .*\) and no rows; allowed: at least 10",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_table_is_refused_with_what_was_found(case: str, write: Callable[..., TableSpec]) -> None:
    change, section, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        prepare_table(DataSpec(table=write(change(frame_of()), **section)))


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        prepare_table(DataSpec(table=TableSpec(file=tmp_path / "none.csv")))
    for name in ("broken.parquet", "empty.csv"):
        (tmp_path / name).write_bytes(b"\x00\x01" if name.startswith("broken") else b"")
        with pytest.raises(DataError, match=f"{name}: cannot be read as a table"):
            prepare_table(DataSpec(table=TableSpec(file=tmp_path / name)))
    (tmp_path / "twice.csv").write_text("a,a,target\n1,2,x\n")
    with pytest.raises(DataError, match="column 'a' is duplicated"):
        prepare_table(DataSpec(table=TableSpec(file=tmp_path / "twice.csv")))


def test_what_is_left_out_is_reported(write: Callable[..., TableSpec]) -> None:
    frame = frame_of().assign(same=1.0, empty=np.nan)
    frame.loc[5, "target"] = None
    lines = "\n".join(prepare_table(DataSpec(table=write(frame), split=SplitSpec(val=0.3, test=0))).lines)
    assert "left out: 1 rows without target" in lines
    assert "column id, text with" in lines
    assert "column same, constant in the training set" in lines
    assert "column empty, no value in the training set" in lines
    assert "test 0 rows" in lines


def alloys(n: int = 80) -> pd.DataFrame:
    """Alloys in pairs of nearly the same composition."""
    random = np.random.default_rng(2)
    first = random.uniform(0, 20, (n // 2, 2)).round(2)
    values = np.repeat(first, 2, axis=0) + np.tile([[0.0, 0.0], [0.02, 0.03]], (n // 2, 1))
    frame = pd.DataFrame(values, columns=["ni", "cr"])
    frame["strength"] = 1000 + 10 * values[:, 0] + random.normal(0, 5, n)
    frame["elongation"] = 20 - values[:, 1] / 2 + random.normal(0, 0.5, n)
    frame.loc[::8, "elongation"] = np.nan
    frame.loc[3, ["strength", "elongation"]] = np.nan
    return frame


TWO = {"targets": {"strength": "MPa", "elongation": "%"}}
NEAR = {"columns": ["ni", "cr"], "distance": 0.05}


def test_rows_that_lack_one_of_several_targets_are_used_and_told(write: Callable[..., TableSpec]) -> None:
    frame = alloys()
    prepared = prepare_table(DataSpec(table=write(frame, **TWO)))
    examples = prepared.examples
    assert [(one.name, one.unit) for one in examples.targets] == [("strength", "MPa"), ("elongation", "%")]
    assert examples.y_true.shape == (79, 2)
    assert np.isnan(examples.y_true).sum(axis=0).tolist() == [0, 10]
    rows = frame["elongation"].drop(3).to_numpy()
    known = rows[examples.train][~np.isnan(rows[examples.train])]
    assert examples.targets[1].centre == pytest.approx(known.mean())
    assert "left out: 1 rows without strength or elongation" in prepared.lines
    assert "target elongation: 10 rows lack it, and teach and test the other targets alone" in prepared.lines
    assert [column["name"] for column in examples.facts["columns"]] == ["ni", "cr"]


def test_numbers_beside_a_class_are_scaled_and_rows_need_the_class_alone(write: Callable[..., TableSpec]) -> None:
    frame = alloys().assign(kind=["hard", "soft"] * 40)
    frame.loc[[5, 6], "kind"] = None
    frame["strength"] = frame["strength"].astype(object)
    frame.loc[10, "strength"] = "NA"
    prepared = prepare_table(DataSpec(table=write(frame, target="kind", numbers=TWO["targets"])))
    examples = prepared.examples
    assert (examples.classes, [one.name for one in examples.targets]) == (("hard", "soft"), ["strength", "elongation"])
    assert examples.y_true.shape == (78, 3)
    assert examples.y_true.dtype == np.float32
    kept = frame.drop([5, 6])
    assert [examples.classes[i] for i in examples.labels] == list(kept["kind"])
    target, strength = examples.targets[0], pd.to_numeric(kept["strength"], errors="coerce").to_numpy()
    np.testing.assert_allclose(examples.numbers[:, 0] * target.scale + target.centre, strength, rtol=1e-5)
    assert np.isnan(strength).sum() == 2, "a row without one number, or without any, is kept"
    assert "left out: 2 rows without kind" in prepared.lines
    assert "classes: hard 39, soft 39" in prepared.lines
    assert "target elongation: 11 rows lack it, and teach and test the other targets alone" in prepared.lines
    assert [column["name"] for column in examples.facts["columns"]] == ["ni", "cr"]
    parts = [np.bincount(examples.labels[getattr(examples, part)]).tolist() for part in ("val", "test")]
    assert all(abs(hard - soft) <= 2 for hard, soft in parts)


def test_nearly_equal_rows_stay_in_one_part(write: Callable[..., TableSpec]) -> None:
    prepared = prepare_table(DataSpec(table=write(alloys().drop(index=3), **TWO, group_near=NEAR)))
    part_of = {int(row): part for part in ("train", "val", "test") for row in getattr(prepared.examples, part)}
    groups = dict(zip(prepared.files.example, prepared.files.group, strict=True))
    parts = {group: {part_of[row] for row in groups if groups[row] == group} for group in groups.values()}
    assert all(len(each) == 1 for each in parts.values())
    assert 38 <= len(parts) <= 40
    line = next(line for line in prepared.lines if "near rows" in line)
    assert line.endswith("rows whose ni, cr differ by at most 0.05 in total, and rows linked by them")
    apart = prepare_table(DataSpec(table=write(alloys().drop(index=3), **TWO))).examples
    crossing = sum(
        (row in set(apart.train.tolist())) != (row + 1 in set(apart.train.tolist())) for row in range(4, 78, 2)
    )
    assert crossing > 5, "without it pairs are torn apart"


def test_rows_are_linked_by_others_and_a_row_without_a_number_is_alone(write: Callable[..., TableSpec]) -> None:
    frame = pd.DataFrame({"ni": [0.0, 0.1, 0.2, 9.0, np.nan, *range(20, 60)], "strength": range(45)})
    near = {"columns": ["ni"], "distance": 0.1}
    prepared = prepare_table(DataSpec(table=write(frame, targets={"strength": None}, group_near=near)))
    assert prepared.files.group[:5] == ["near row 1"] * 3 + ["near row 4", "near row 5"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({**TWO, "target": "strength"}, "target: cannot be combined with targets"),
        ({**TWO, "unit": "MPa"}, "unit: cannot be combined with targets"),
        ({**TWO, "numbers": {"mass": "kg"}}, "targets: cannot be combined with numbers"),
        ({"numbers": {"mass": "kg"}, "predict": "values"}, "predict: cannot be combined with numbers"),
        ({"numbers": {"mass": "kg"}, "target": "mass"}, "numbers: mass is the column of classes; allowed: other"),
        ({**TWO, "group_near": NEAR, "group": "ni"}, "group_near: cannot be combined with group"),
        ({**TWO, "group_near": {**NEAR, "distance": 0}}, "greater than 0"),
    ],
)
def test_settings_of_several_targets_that_contradict_each_other_are_refused(section: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableSpec.model_validate({"file": "t.csv", **section})


def test_near_rows_need_columns_of_numbers(write: Callable[..., TableSpec]) -> None:
    near = {"columns": ["colour"], "distance": 1}
    with pytest.raises(DataError, match="group_near compares 'colour', which has no numbers; allowed: numbers"):
        prepare_table(DataSpec(table=write(frame_of(), group_near=near)))
    with pytest.raises(DataError, match="no column 'zn'"):
        prepare_table(DataSpec(table=write(frame_of(), group_near={"columns": ["zn"], "distance": 1})))
