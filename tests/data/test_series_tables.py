"""Series that stand together in one file: long tables, wide tables and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aifs_tune.config.data import DataSpec
from aifs_tune.data import PreparedExamples, prepare_series
from aifs_tune.errors import DataError

N, STEPS = 24, 12


def curves() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, STEPS)).round(3)


def prepared(file: Path, **section: Any) -> PreparedExamples:
    return prepare_series(DataSpec(series={"path": file, **section}))


def values_of(found: PreparedExamples) -> np.ndarray:
    """The series in the units of the file."""
    channel = found.examples.facts["channels"][0]
    return found.examples.inputs[0][..., 0] * channel["scale"] + channel["centre"]


@pytest.fixture
def long_table(tmp_path: Path) -> Path:
    rows = [
        {"object_id": i, "mjd": 59000 + 0.5 * j, "flux": flux, "label": "ab"[i % 2], "mass": i * 0.1}
        for i, curve in enumerate(curves())
        for j, flux in enumerate(curve)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "long.csv", index=False)
    return tmp_path / "long.csv"


def test_a_long_table(long_table: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'path'; .* name the column of the series: data.series.id"):
        prepared(long_table)
    found = prepared(long_table, id="object_id", columns=["flux"])
    assert found.examples.classes == ("a", "b")
    np.testing.assert_allclose(values_of(found), curves(), atol=1e-4)
    numbers = prepared(long_table, id="object_id", columns=["flux"], targets={"mass": "kg"}).examples
    mass = numbers.y_true[:, 0] * numbers.targets[0].scale + numbers.targets[0].centre
    np.testing.assert_allclose(mass, np.arange(N) / 10, atol=1e-6)


def test_a_series_of_a_long_table_with_two_classes_is_left_out(long_table: Path) -> None:
    frame = pd.read_csv(long_table)
    frame.loc[3, "label"] = "b"
    frame.to_csv(long_table, index=False)
    with pytest.raises(DataError, match="object_id 0: label has several entries or none; allowed: one for each series"):
        prepare_series(DataSpec(series={"path": long_table, "id": "object_id"}), strict=True)
    found = prepared(long_table, id="object_id")
    assert len(found.examples.y_true) == N - 1
    reason = "label has several entries or none; allowed: one for each series"
    assert f"left out: 1 of {N} series: {reason} (object_id 0)" in found.lines


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_a_wide_table_of_the_ucr_archive(suffix: str, tmp_path: Path) -> None:
    table = np.column_stack([np.arange(N) % 2 + 1, curves()])
    file = tmp_path / f"Coffee_TRAIN{suffix}"
    np.savetxt(file, table, delimiter="\t" if suffix == ".tsv" else ",")
    found = prepared(file)
    assert found.examples.classes == ("1", "2")
    np.testing.assert_allclose(values_of(found), curves(), atol=1e-4)


def test_a_wide_table_with_names_and_series_of_several_lengths(tmp_path: Path) -> None:
    frame = pd.DataFrame(curves(), columns=[f"t{i}" for i in range(STEPS)])
    frame.insert(0, "label", [("mira", "rr")[i % 2] for i in range(N)])
    frame.loc[frame.index[::3], ["t10", "t11"]] = np.nan
    frame.to_csv(tmp_path / "wide.csv", index=False)
    found = prepared(tmp_path / "wide.csv")
    assert found.examples.inputs[1].tolist() == [10 if i % 3 == 0 else 12 for i in range(N)]
    frame.rename(columns={"label": "kind"}).to_csv(tmp_path / "named.csv", index=False)
    with pytest.raises(
        DataError, match=r"no column 'label' with the class of each series; .*name it in data.series.label"
    ):
        prepared(tmp_path / "named.csv")
    assert prepared(tmp_path / "named.csv", label="kind").examples.classes == ("mira", "rr")


@pytest.mark.parametrize("channels", [0, 1, 2])
def test_arrays_x_and_y(channels: int, tmp_path: Path) -> None:
    x = curves() if channels == 0 else np.stack([curves() + c for c in range(channels)], axis=2)
    np.savez(tmp_path / "data.npz", X=x, y=np.arange(N) % 2)
    found = prepared(tmp_path / "data.npz")
    assert found.examples.inputs[0].shape == (N, STEPS, max(1, channels))
    np.testing.assert_allclose(values_of(found), curves(), atol=1e-4)


@pytest.mark.parametrize(("dtype", "n_classes"), [(np.float32, 3), (bool, 2)])
@pytest.mark.parametrize("form", ["npz", "npy", "parts"])
def test_one_hot_classes_of_arrays(form: str, dtype: Any, n_classes: int, tmp_path: Path) -> None:
    kinds = np.arange(N) % n_classes
    x, y, file = curves(), np.eye(n_classes, dtype=dtype)[kinds], tmp_path / f"x.{form}"
    if form == "npy":
        np.save(file, x)
        np.save(tmp_path / "y.npy", y)
    else:
        file = tmp_path / "x.npz"
        arrays = {"x_train": x[:15], "y_train": y[:15], "x_test": x[15:], "y_test": y[15:]}
        np.savez(file, **({"X": x, "y": y} if form == "npz" else arrays))
    found = prepared(file)
    assert found.examples.classes == tuple(map(str, range(n_classes)))
    assert found.examples.y_true.tolist() == kinds.tolist()
    assert any("a single 1 in each row (one-hot): its position, from 0, is the class" in line for line in found.lines)


@pytest.mark.parametrize(("y", "section"), [(np.eye(2)[np.arange(N) % 2], {"targets": {"mass": None}}), (None, {})])
def test_arrays_of_two_axes_that_are_no_classes_are_refused(y: Any, section: dict[str, Any], tmp_path: Path) -> None:
    several = np.ones((N, 3), int)  # three 1 in each row are several classes of one series
    np.savez(tmp_path / "bad.npz", X=curves(), y=several if y is None else y)
    with pytest.raises(DataError, match=r"y \(24, [23]\); allowed: X \(series, steps\)"):
        prepared(tmp_path / "bad.npz", **section)


def test_arrays_of_other_shapes_and_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", X=curves(), y=np.arange(3))
    with pytest.raises(DataError, match=r"holds X \(24, 12\), y \(3,\); allowed: X \(series, steps\)"):
        prepared(tmp_path / "bad.npz")
