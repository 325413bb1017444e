"""Whole series as examples: what is read, how it is divided, filled, scaled and padded, and what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from aifs_tune.config.data import DataSpec, SeriesSpec, SplitSpec
from aifs_tune.data import prepare_series
from aifs_tune.data.sources import locate, prepare
from aifs_tune.errors import DataError

MakeFolder = Callable[..., Path]


def curve(number: int, n: int = 8) -> pandas.DataFrame:
    random = np.random.default_rng(number)
    return pandas.DataFrame({"time": np.arange(n) * 0.5, "flux": random.normal(3, 2, n), "band": "V"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten curves of 5 to 8 steps."""
    for label in ("mira", "rrlyr"):
        (tmp_path / "stars" / label).mkdir(parents=True)
        for i in range(10):
            curve(i + 100 * (label == "mira"), 5 + i % 4).to_csv(tmp_path / "stars" / label / f"{i}.csv", index=False)
    return tmp_path / "stars"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twenty curves in one folder, with what is known of each."""
    rows = []
    for i in range(20):
        curve(i).to_csv(tmp_path / f"{i}.csv", index=False)
        part = ("train", "train", "train", "val", "test")[i % 5]
        rows.append({"path": f"{i}.csv", "label": "ab"[i % 2], "period": i * 0.1, "star": i // 4, "part": part})
    frame = pandas.DataFrame(rows).assign(night=[f"2024-01-{1 + i // 2:02d}" for i in range(20)])
    frame.to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


def prepared(path: Path, **given: Any) -> Any:
    return prepare_series(DataSpec(series=SeriesSpec(path=path, **given)))


def test_a_folder_for_each_class(folder: Path) -> None:
    found = prepared(folder)
    examples = found.examples
    values, lengths = examples.inputs
    assert (values.shape, values.dtype, lengths.dtype) == ((20, 8, 1), np.float32, np.int32)
    assert examples.classes == ("mira", "rrlyr")
    assert lengths.tolist() == [5 + i % 4 for i in range(10)] * 2
    assert [len(getattr(examples, part)) for part in ("train", "val", "test")] == [12, 4, 4]
    told = "\n".join(found.lines)
    assert "20 series of 5 to 8 steps" in told
    assert "left out: column band, text" in told
    assert examples.facts["channels"][0]["name"] == "flux"


def test_scaled_by_the_training_set_and_padded_with_0(folder: Path) -> None:
    examples = prepared(folder).examples
    values, lengths = examples.inputs
    is_there = np.arange(8)[None, :] < lengths[:, None]
    seen = values[examples.train][is_there[examples.train]]
    assert seen.mean() == pytest.approx(0, abs=1e-6)
    assert seen.std() == pytest.approx(1, abs=1e-6)
    assert values[is_there].std() != pytest.approx(1, abs=1e-4)
    assert not values[~is_there].any()
    column = examples.facts["channels"][0]
    raw = pandas.read_csv(folder / "mira" / "3.csv")["flux"]
    np.testing.assert_allclose(values[3, :8, 0], (raw - column["centre"]) / column["scale"], rtol=1e-5)


@pytest.mark.parametrize(("keep", "place"), [("last", slice(-6, None)), ("first", slice(6))])
def test_longer_series_are_cut(folder: Path, keep: str, place: slice) -> None:
    examples = prepared(folder, length=6, keep=keep).examples
    assert examples.inputs[0].shape == (20, 6, 1)
    assert examples.inputs[1].max() == 6
    column = examples.facts["channels"][0]
    raw = pandas.read_csv(folder / "mira" / "3.csv")["flux"].to_numpy()[place]
    np.testing.assert_allclose(examples.inputs[0][3, :, 0], (raw - column["centre"]) / column["scale"], rtol=1e-5)


def test_gaps_are_filled_and_reported(folder: Path) -> None:
    frame = curve(1)
    frame.loc[[0, 3, 4], "flux"] = [np.nan, np.nan, np.inf]
    frame.to_csv(folder / "mira" / "3.csv", index=False)
    examples = prepared(folder).examples
    assert [channel["role"] for channel in examples.facts["channels"]] == ["value", "measured"]
    values = examples.inputs[0][3]
    assert values[:, 1].tolist() == [0, 1, 1, 0, 0, 1, 1, 1]
    assert values[0, 0] == 0
    assert values[3, 0] == values[4, 0] == values[2, 0]
    assert examples.inputs[0][4, :, 1].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]


def test_uneven_times_become_a_channel(folder: Path) -> None:
    frame = curve(1)
    frame["time"] = [0, 0.5, 1, 1.5, 9.5, 10, 10, 10.5]
    frame.to_csv(folder / "mira" / "3.csv", index=False)
    examples = prepared(folder).examples
    step = examples.facts["channels"][1]
    assert (step["role"], step["median"]) == ("step", 0.5)
    raw = np.log1p(np.array([0.5, 0.5, 0.5, 0.5, 8, 0.5, 0, 0.5]) / 0.5)
    np.testing.assert_allclose(examples.inputs[0][3, :, 1] * step["scale"] + step["centre"], raw, atol=1e-6)


def test_dates_are_times(folder: Path) -> None:
    frame = curve(1)
    frame["time"] = pandas.date_range("2024-01-01", periods=8, freq="D").astype(str)
    for file in folder.rglob("*.csv"):
        frame.assign(flux=frame["flux"] + hash(file.parent.name + file.name) % 97).to_csv(file, index=False)
    assert [c["role"] for c in prepared(folder).examples.facts["channels"]] == ["value"]


def test_each_series_can_be_scaled_by_itself(folder: Path) -> None:
    raw, centred, own = (prepared(folder, scaling=how).examples for how in ("set", "centred", "series"))
    assert abs(raw.inputs[0][3, :8].mean()) > 0.01
    for examples in (centred, own):
        np.testing.assert_allclose(examples.inputs[0][3, :8].mean(), examples.inputs[0][4, :5].mean(), atol=1e-6)
    spreads = [own.inputs[0][i, :n].std() for i, n in enumerate(own.inputs[1])]
    assert np.ptp(spreads) < 1e-5


def test_a_manifest_of_classes_and_other_formats(manifest: Path) -> None:
    frame = curve(0)
    np.savez(manifest / "0.npz", flux=frame["flux"], time=frame["time"])
    curve(1).to_parquet(manifest / "1.parquet")
    listed = pandas.read_csv(manifest / "manifest.csv")
    listed.loc[[0, 1], "path"] = ["0.npz", "1.parquet"]
    plain = prepared(manifest).examples
    listed.to_csv(manifest / "manifest.csv", index=False)
    other = prepared(manifest / "manifest.csv").examples
    assert plain.classes == other.classes == ("a", "b")
    np.testing.assert_allclose(plain.inputs[0], other.inputs[0], rtol=1e-6)


def test_a_two_dimensional_array_has_a_column_for_each(folder: Path) -> None:
    for i, file in enumerate(sorted(folder.rglob("*.csv"))):
        file.unlink()
        np.savez(file.with_suffix(".npz"), wave=np.random.default_rng(i).normal(size=(6, 3)))
    examples = prepared(folder).examples
    assert [channel["name"] for channel in examples.facts["channels"]] == ["wave0", "wave1", "wave2"]


def test_numbers_of_a_manifest_are_targets(manifest: Path) -> None:
    data = DataSpec(series=SeriesSpec(path=manifest, targets={"period": "d", "star": None}))
    assert data.targets("series") == ("period", "star")
    examples = prepare_series(data).examples
    assert [(target.name, target.unit) for target in examples.targets] == [("period", "d"), ("star", None)]
    assert examples.y_true[examples.train].std(axis=0) == pytest.approx([1, 1], abs=1e-5)
    np.testing.assert_allclose(
        examples.y_true[:, 0] * examples.targets[0].scale + examples.targets[0].centre, np.arange(20) * 0.1, atol=1e-6
    )


def test_subsets_by_group_by_column_or_in_order(manifest: Path) -> None:
    told = prepared(manifest, part="part").examples
    assert told.test.tolist() == [4, 9, 14, 19]
    grouped = prepared(manifest, group="star").examples
    parts = [{i // 4 for i in getattr(grouped, part)} for part in ("train", "val", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 5
    ordered = prepared(manifest, order="night").examples
    assert ordered.train.tolist() == list(range(12))
    assert ordered.val.tolist() == [12, 13, 14, 15]
    assert ordered.test.tolist() == [16, 17, 18, 19]


def test_equal_series_stay_in_one_subset_and_everything_is_repeatable(folder: Path) -> None:
    for label in ("mira", "rrlyr"):
        (folder / label / "copy.csv").write_bytes((folder / label / "0.csv").read_bytes())
    one, two = prepared(folder), prepared(folder)
    assert one.location == two.location
    for part in ("train", "val", "test"):
        picked = set(getattr(one.examples, part).tolist())
        assert (0 in picked) == (10 in picked)
    other = prepare_series(DataSpec(series=SeriesSpec(path=folder), split=SplitSpec(seed=5)))
    assert other.examples.fingerprint != one.examples.fingerprint


def change(**columns: Any) -> Callable[[Path], None]:
    return lambda folder: curve(3).assign(**columns).to_csv(folder / "mira" / "3.csv", index=False)


BAD: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "absent": (lambda f: None, {"path": "nowhere"}, r"series nowhere: there is no such folder or file"),
    "no column": (lambda f: None, {"columns": ("magnitude",)}, r"no column 'magnitude'; allowed: time, flux, band"),
    "no time": (lambda f: None, {"time": "mjd"}, r"mira/0.csv: no column 'mjd'; allowed: time, flux, band"),
    "text": (change(flux="bright"), {}, r"mira/3.csv: flux is 'bright' in row 1; allowed: numbers"),
    "falls": (change(time=[0, 1, 2, 1, 4, 5, 6, 7]), {}, r"mira/3.csv: time decreases in row 4; allowed: times that"),
    "no times": (
        change(time="noon"),
        {},
        r"mira/3.csv: time is 'noon' in row 1; allowed: numbers, ISO 8601 such as 2024-03-30T21:05:00",
    ),
    "short": (lambda f: curve(1, 1).to_csv(f / "mira" / "3.csv", index=False), {}, r"3.csv: 1 step\(s\); allowed: at"),
    "empty": (lambda f: (f / "mira" / "3.csv").write_text(""), {}, r"mira/3.csv: cannot be read as a table"),
    "header": (lambda f: (f / "mira" / "0.csv").write_text("time,flux\n"), {}, r"0.csv: 0 step\(s\)"),
    "npz": (lambda f: (f / "mira" / "x.npz").write_text("x"), {}, r"mira/x.npz: cannot be read as NPZ"),
    "shape": (lambda f: np.savez(f / "mira" / "x.npz", flux=np.ones((2, 2, 2))), {}, r"flux has shape \(2, 2, 2\)"),
    "uneven": (lambda f: np.savez(f / "mira" / "x.npz", flux=[1, 2], time=[1]), {}, r"of different lengths \(flux 2, "),
    "group": (lambda f: None, {"group": "star"}, r"group \(star\) is a column of a manifest"),
    "nothing": (lambda f: (f / "sub").mkdir(), {}, r"no series in sub; allowed: files named"),
    "parts": (
        lambda f: [(f / a).rename(f / b) for a, b in (("mira", "train"), ("rrlyr", "val"))],
        {},
        "named like subsets",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_by_name(folder: Path, case: str) -> None:
    spoil, given, message = BAD[case]
    spoil(folder)
    with pytest.raises(DataError, match=message):
        prepare_series(DataSpec(series=SeriesSpec(**{"path": folder} | given)), strict=True)


def test_a_file_that_cannot_be_read_is_left_out_and_named(folder: Path) -> None:
    change(flux="bright")(folder)
    (folder / "rrlyr" / "notes.md").write_text("seen at dusk")
    found = prepared(folder)
    assert len(found.examples.y_true) == 19
    assert any(line.startswith("left out: 1 of 20 series: flux is 'bright' in row 1") for line in found.lines)
    assert any("(mira/3.csv)" in line for line in found.lines)
    assert "left out: 1 files of other kinds, such as rrlyr/notes.md" in found.lines


@pytest.mark.parametrize("name", ["Time", "HJD", "BJD", "MJD", "date", "t"])
def test_times_are_known_by_their_common_names(folder: Path, name: str) -> None:
    for file in folder.rglob("*.csv"):
        frame = pandas.read_csv(file).rename(columns={"time": name})
        frame.assign(**{name: frame[name] * 2 + 2_450_000}).to_csv(file, index=False)
    assert [fact["name"] for fact in prepared(folder).examples.facts["channels"]] == ["flux"]


def test_a_column_of_row_numbers_without_a_name_is_left_out(folder: Path) -> None:
    for file in folder.rglob("*.csv"):
        pandas.read_csv(file).to_csv(file)
    assert [fact["name"] for fact in prepared(folder).examples.facts["channels"]] == ["flux"]


def test_one_class_no_numbers_and_nothing_that_varies(folder: Path, tmp_path: Path) -> None:
    for file in folder.rglob("*.csv"):
        curve(1).assign(flux=2.0).to_csv(file, index=False)
    with pytest.raises(DataError, match=r"cannot be split|has 1 different rows"):
        prepared(folder)
    for i, file in enumerate(sorted(folder.rglob("*.csv"))):
        curve(1).assign(flux=2.0, time=np.arange(8) * (i + 1.0)).to_csv(file, index=False)
    with pytest.raises(DataError, match=r"no column to learn from \(column flux, constant in the training set\)"):
        prepared(folder)
    for file in folder.rglob("*.csv"):
        curve(1)[["time", "band"]].to_csv(file, index=False)
    with pytest.raises(
        DataError, match=r"mira/0.csv: no column of numbers \(columns other than the time: band: text\)"
    ):
        prepared(folder)
    (folder / "mira").rename(tmp_path / "away")
    with pytest.raises(DataError, match=r"1 class folder\(s\) and no manifest.csv"):
        prepared(folder)


BAD_MANIFESTS: dict[str, tuple[Callable[[pandas.DataFrame], pandas.DataFrame], dict[str, Any], str]] = {
    "no path": (lambda m: m.drop(columns="path"), {}, "no column 'path'; allowed: label"),
    "no label": (lambda m: m, {"label": "kind"}, "no column 'kind'"),
    "no target": (lambda m: m, {"targets": {"mass": None}}, "no column 'mass'"),
    "text": (lambda m: m.assign(period="long"), {"targets": {"period": None}}, "period is 'long' in row 1"),
    "gone": (
        lambda m: m.assign(path=[f"gone{i}.csv" for i in range(20)]),
        {},
        r"gone0.csv: there is no such file.*\(20 of 20 series cannot be read\)",
    ),
    "one class": (lambda m: m.assign(label="a"), {}, "all series are of class a; allowed: at least 2 classes"),
    "no val": (lambda m: m[m["part"] != "val"], {"part": "part"}, "no row for val"),
    "strange part": (lambda m: m.assign(part="x"), {"part": "part"}, "'x' is not a subset; allowed: train, val, test"),
    "class not in val": (
        lambda m: m.assign(label=["a"] * 18 + ["b"] * 2),
        {"order": "night"},
        "series of class b",
    ),
    "one night": (
        lambda m: m.assign(night=1),
        {"order": "night"},
        "too few distinct entries in the column order",
    ),
    "empty group": (lambda m: m.assign(star=None), {"group": "star"}, "star is empty in row 1"),
    "above": (
        lambda m: m.assign(path=[f"{i}.csv" for i in range(19)] + ["a/../../19.csv"]),
        {},
        r"row 20 has the path 'a/../../19.csv', outside the folder of the manifest; allowed: a relative path below it",
    ),
    "absolute": (
        lambda m: m.assign(path=["/0.csv", *m["path"][1:]]),
        {},
        "row 1 has the path '/0.csv', outside the folder of the manifest; allowed: a relative path below it",
    ),
    "row of the file": (
        lambda m: m.assign(label=[None, *m["label"][1:]], path=[*m["path"][:4], "..\\4.csv", *m["path"][5:]]),
        {},
        r"row 5 has the path '\.\.\\+4.csv', outside the folder",
    ),
    "few": (lambda m: m[:9], {}, "9 series; allowed: at least 10"),
    "constant": (lambda m: m.assign(period=1.0), {"targets": {"period": None}}, "period is constant in"),
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_a_bad_manifest_is_refused_by_name(manifest: Path, case: str) -> None:
    spoil, given, message = BAD_MANIFESTS[case]
    spoil(pandas.read_csv(manifest / "manifest.csv")).to_csv(manifest / "manifest.csv", index=False)
    with pytest.raises(DataError, match=message):
        prepared(manifest, **given)


@pytest.mark.parametrize("linked", ["3.csv", "deep"])
def test_links_out_of_the_folder_of_a_manifest_are_refused(manifest: Path, linked: str) -> None:
    folder, outside = manifest / "inner", manifest / "3.csv"
    folder.mkdir()
    for file in manifest.glob("*.csv"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "3.csv").unlink()
    entry = "3.csv" if linked == "3.csv" else "deep/3.csv"
    (folder / linked).symlink_to(outside if linked == "3.csv" else manifest)
    listed = pandas.read_csv(folder / "manifest.csv")
    listed.assign(path=listed["path"].replace("3.csv", entry)).to_csv(folder / "manifest.csv", index=False)
    with pytest.raises(
        DataError, match=f"row 4 has the path '{entry}', a link to '.*3.csv', outside the folder of .*data.follow_links"
    ):
        prepared(folder)


def test_links_within_the_folder_of_a_manifest_are_read(manifest: Path) -> None:
    (manifest / "kept").mkdir()
    (manifest / "3.csv").rename(manifest / "kept" / "3.csv")
    (manifest / "3.csv").symlink_to("kept/3.csv")
    plain = prepared(manifest).examples
    (manifest.parent / "link").symlink_to(manifest)
    again = prepared(manifest.parent / "link").examples
    assert len(plain.y_true) == 20
    np.testing.assert_array_equal(plain.inputs[0], again.inputs[0])


def test_paths_of_one_file_in_two_forms_are_read_once(manifest: Path) -> None:
    listed = pandas.read_csv(manifest / "manifest.csv")
    again = listed[:2].assign(path=["./0.csv", "a\\..\\1.csv"])
    pandas.concat([listed, again]).to_csv(manifest / "manifest.csv", index=False)
    found = prepared(manifest)
    assert "2 rows list a file again; each is read once" in found.lines
    assert len(found.examples.y_true) == 20


def test_series_without_a_label_are_left_out(manifest: Path) -> None:
    frame = pandas.read_csv(manifest / "manifest.csv")
    frame.loc[:2, "label"] = None
    frame.to_csv(manifest / "manifest.csv", index=False)
    found = prepared(manifest)
    assert "left out: 3 series without label" in found.lines
    assert len(found.examples.y_true) == 17


def test_the_data_section_leads_to_what_workers_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"rnn needs series; give --data PATH or data\.series"):
        locate(DataSpec(), "series", "rnn")
    monkeypatch.chdir(folder.parent)
    data = locate(DataSpec().at(Path("stars"), "series"), "series", "rnn")
    assert data.series is not None
    assert data.series.path == folder
    told: list[str] = []
    made = prepare(data, "series", strict=False, tell=told.append, progress=lambda *_: None)
    assert (made.location / "facts.json").is_file()
    assert made.fingerprint == prepared(folder).examples.fingerprint
    assert any("classes: mira 10, rrlyr 10" in line for line in told)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            lambda i: f"{i % 12 + 1:02d}/20/2023 12:00",
            "dates such as .*data.series.time_format.*data.series.time: charttime",
        ),
        (
            lambda i: f"2023-02-{i % 28 + 1:02d}",
            "dates that are not the time; if they are: data.series.time: charttime",
        ),
    ],
)
def test_dates_under_another_name_are_no_input_and_named(tmp_path: Path, entry: Any, words: str) -> None:
    for i in range(24):
        file = tmp_path / "curves" / "ab"[i % 2] / f"{i}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(i).normal(size=10)
        rows = "\n".join(f"{entry(i + 3 * k)},{v}" for k, v in enumerate(values))
        file.write_text(f"charttime,flux\n{rows}\n")
    lines = prepare_series(DataSpec(series={"path": tmp_path / "curves"})).lines
    assert any(re.search(words, line) for line in lines), lines


def test_a_pipe_among_the_series_is_left_out_and_not_waited_for(tmp_path: Path) -> None:
    for i in range(24):
        file = tmp_path / "curves" / "ab"[i % 2] / f"{i}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = "\n".join(f"{k},{v}" for k, v in enumerate(np.random.default_rng(i).normal(size=10)))
        file.write_text(f"time,flux\n{rows}\n")
    os.mkfifo(tmp_path / "curves" / "a" / "z.csv")
    lines = prepare_series(DataSpec(series={"path": tmp_path / "curves"})).lines
    assert any("is no regular file" in line for line in lines), lines
