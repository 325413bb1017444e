"""Files of series from instruments and archives: FITS tables, .ts and .arff, miniSEED, NumPy, and what is not read."""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from aifs_tune.config.data import DataSpec, SeriesSpec
from aifs_tune.data import PreparedExamples, prepare_series
from aifs_tune.data.new_files import Preparation
from aifs_tune.errors import DataError, MissingPackageError

N, STEPS = 12, 20


def curves(n: int = N, steps: int = STEPS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, steps)).round(4)


def prepared(path: Path, *, strict: bool = False, **section: Any) -> PreparedExamples:
    return prepare_series(DataSpec(series={"path": path, **section}), strict=strict)


def measured(found: PreparedExamples, series: int = 0, channel: int = 0) -> np.ndarray:
    """A series in the units of its file."""
    fact = found.examples.facts["channels"][channel]
    n = found.examples.inputs[1][series]
    return found.examples.inputs[0][series, :n, channel] * fact["scale"] + fact["centre"]


def row_of(found: PreparedExamples, column: str) -> Any:
    return next(each for each in found.columns if each["column"] == column)


def told(found: PreparedExamples) -> str:
    return "\n".join(found.lines)


def kepler(file: Path, flux: np.ndarray, **changed: Any) -> None:
    """A light curve in the layout of Kepler's and TESS's files: big-endian, HDU 1 of three, flags and empty times."""
    n = len(flux)
    columns = {
        "TIME": ("D", "BJD - 2454833", np.arange(n) * 0.0204 + 131.5),
        "TIMECORR": ("E", "d", np.full(n, 1e-3)),
        "CADENCENO": ("J", None, np.arange(n) + 1105),
        "SAP_FLUX": ("E", "e-/s", flux * 2),
        "PDCSAP_FLUX": ("E", "e-/s", flux),
        "SAP_QUALITY": ("J", None, np.zeros(n, int)),
        "POS": ("2E", "pixel", np.zeros((n, 2))),
    } | changed
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, form, unit, array=array) for name, (form, unit, array) in columns.items()], name="LIGHTCURVE"
    )
    mask = fits.ImageHDU(np.ones((4, 4)), name="APERTURE")
    content = fits.HDUList([fits.PrimaryHDU(), table, mask])
    file.parent.mkdir(parents=True, exist_ok=True)
    content.writeto(file)


@pytest.fixture
def stars(tmp_path: Path) -> Path:
    for i, flux in enumerate(curves()):
        flags, times = np.zeros(STEPS, int), np.arange(STEPS) * 0.0204 + 131.5
        flags[3], flags[5], times[7], flux[9] = 128, 16, np.nan, np.nan
        changed = {"SAP_QUALITY": ("J", None, flags), "TIME": ("D", "d", times)}
        kepler(tmp_path / "stars" / ("eb", "rr")[i % 2] / f"kplr{i:03d}_llc.fits", flux, **changed)
    return tmp_path / "stars"


def test_a_light_curve_in_a_fits_table(stars: Path) -> None:
    found = prepared(stars)
    assert found.examples.inputs[1].tolist() == [STEPS - 3] * N
    kept = np.delete(curves()[0], [3, 5, 7])
    gap = 9 - 3  # of the rows before it, three are left out
    at = np.delete(np.arange(STEPS - 3), gap)
    np.testing.assert_allclose(measured(found)[at], kept[at], atol=1e-5)
    assert measured(found)[gap] == pytest.approx(kept[gap - 1], abs=1e-5)
    assert [fact["role"] for fact in found.examples.facts["channels"]] == ["value", "step", "measured"]
    text = told(found)
    assert "FITS: HDU 1 LIGHTCURVE is read (12 series" in text
    assert "left out: rows by their flags in SAP_QUALITY: 24 (12 series, such as eb/kplr000_llc.fits)" in text
    assert "left out: rows without TIME: 12 (12 series, such as eb/kplr000_llc.fits row 8)" in text
    flux = row_of(found, "PDCSAP_FLUX")
    assert (flux["unit"], flux["missing"], flux["left_out"]) == ("e-/s", N, None)
    assert row_of(found, "SAP_FLUX")["left_out"] == "PDCSAP_FLUX is read; data.series.columns names others"
    assert row_of(found, "POS")["left_out"] == "holds arrays or lists"
    assert row_of(found, "SAP_QUALITY")["taken_for"] == "quality flags"
    assert row_of(found, "CADENCENO")["left_out"].startswith("it counts the steps")


@pytest.mark.parametrize(
    ("quality", "n_rows"),
    [({"keep": "all"}, 19), ({"keep": [0, 16]}, 18), ({"bad_bits": 16}, 18), ({"bad_bits": 144}, 17)],
)
def test_quality_flags_that_are_kept(stars: Path, quality: dict[str, Any], n_rows: int) -> None:
    assert set(prepared(stars, quality=quality).examples.inputs[1]) == {n_rows}


def test_flags_in_a_table_of_text_have_to_be_named(tmp_path: Path) -> None:
    for i, flux in enumerate(curves()):
        file = tmp_path / "ab"[i % 2] / f"{i}.csv"
        file.parent.mkdir(exist_ok=True)
        frame = pd.DataFrame({"time": np.arange(STEPS), "flux": flux, "flag": (np.arange(STEPS) == i) * 1})
        frame.to_csv(file, index=False)
    assert set(prepared(tmp_path, quality="flag").examples.inputs[1]) == {STEPS - 1}
    with pytest.raises(DataError, match="no column 'mask' of quality flags; allowed: time, flux, flag"):
        prepared(tmp_path, quality="mask")


def test_other_fits_tables_packed_and_with_several_hdus(tmp_path: Path) -> None:
    for i, flux in enumerate(curves()):
        rate = fits.BinTableHDU.from_columns(
            [
                fits.Column("TIME", "D", "s", array=np.arange(STEPS) * 4.0),
                fits.Column(
                    "RATE", "J", "count/s", null=-1, array=np.where(np.arange(STEPS) == 2, -1, 100 + flux * 50)
                ),
                fits.Column("NOTE", "8A", array=["ok"] * STEPS),
            ],
            name="RATE",
        )
        gti = fits.BinTableHDU.from_columns([fits.Column("START", "D", array=[0.0, 1.0, 2.5])], name="GTI")
        file = tmp_path / "d" / "ab"[i % 2] / f"{i}.fits"
        file.parent.mkdir(parents=True, exist_ok=True)
        fits.HDUList([fits.PrimaryHDU(), gti, rate]).writeto(file)
        with gzip.open(f"{file}.gz", "wb") as packed:
            packed.write(file.read_bytes())
        file.unlink()
    found = prepared(tmp_path / "d")
    assert "FITS: HDU 2 RATE is read, one of the tables 1, 2; another: data.series.hdu" in told(found)
    np.testing.assert_allclose(measured(found)[3:], np.trunc(100 + curves()[0] * 50)[3:], atol=1e-2)
    assert (row_of(found, "RATE")["missing"], row_of(found, "RATE")["unit"]) == (N, "count/s")
    assert row_of(found, "TIME")["unit"] == "s"
    with pytest.raises(DataError, match="class a has 1 different rows"):
        prepared(tmp_path / "d", hdu="GTI")
    with pytest.raises(DataError, match=r"has no HDU with the table 'X'; found: 0 PRIMARY, 1 GTI, 2 RATE"):
        prepared(tmp_path / "d", hdu="X")


def test_a_time_in_another_unit_and_a_damaged_file_are_left_out(stars: Path) -> None:
    (stars / "eb" / "kplr000_llc.fits").write_bytes(b"SIMPLE  = T")
    (stars / "rr" / "kplr001_llc.fits").unlink()
    kepler(stars / "rr" / "kplr001_llc.fits", curves()[1], TIME=("D", "s", np.arange(STEPS) * 1762.0))
    found = prepared(stars)
    assert len(found.examples.y_true) == N - 2
    assert "left out: 1 of 12 series: TIME is in s, in the first file in d; allowed: one unit (rr/kplr001" in told(
        found
    )
    assert "left out: 1 of 12 series: cannot be read as FITS" in told(found)
    with pytest.raises(DataError, match=r"kplr000_llc.fits: cannot be read as FITS"):
        prepared(stars, strict=True)


def test_a_forecast_keeps_the_steps_of_flagged_rows(tmp_path: Path) -> None:
    flags = (np.arange(200) % 50 == 7) * 8
    kepler(tmp_path / "star.fits", np.sin(np.arange(200) / 5), SAP_QUALITY=("J", None, flags))
    forecast = {"target": "PDCSAP_FLUX", "history": 10, "horizon": 2}
    found = prepare_series(DataSpec(series={"path": tmp_path / "star.fits", "forecast": forecast}))
    assert "200 steps" in told(found)
    assert "left out: values by their flags in SAP_QUALITY: 4" in told(found)


def ts_file(file: Path, series: list[str], header: str = "@classLabel true a b", times: str = "false") -> Path:
    words = ["# made here", "@problemName Made", f"@timeStamps {times}", "@univariate false", header, "@data"]
    file.write_text("\n".join([*words, *series]) + "\n")
    return file


def text_of(values: np.ndarray) -> str:
    return ",".join("?" if np.isnan(value) else str(value) for value in values)


def test_a_ts_file_with_dimensions_missing_values_and_other_lengths(tmp_path: Path) -> None:
    x = curves(N * 2).reshape(N, 2, STEPS)
    x[2, 0, 4] = np.nan
    rows = [f"{text_of(one[0][: 15 + i % 5])}:{text_of(one[1][: 15 + i % 5])}:{'ab'[i % 2]}" for i, one in enumerate(x)]
    found = prepared(ts_file(tmp_path / "Made.ts", rows))
    assert found.examples.classes == ("a", "b")
    assert found.examples.inputs[1].tolist() == [15 + i % 5 for i in range(N)]
    np.testing.assert_allclose(measured(found, 3, 1), x[3, 1, :18], atol=1e-5)
    assert row_of(found, "value0")["missing"] == 1
    assert row_of(found, "value1")["missing"] == 0


def test_a_ts_file_with_times_and_one_with_numbers_to_predict(tmp_path: Path) -> None:
    x = curves()
    pairs = [",".join(f"(2024-01-0{1 + j // 10} 0{j % 10}:00:00,{v})" for j, v in enumerate(one)) for one in x]
    rows = [f"{text}:{'ab'[i % 2]}" for i, text in enumerate(pairs)]
    found = prepared(ts_file(tmp_path / "timed.ts", rows, times="true"))
    np.testing.assert_allclose(measured(found, 5), x[5], atol=1e-5)
    assert row_of(found, "time")["taken_for"] == "times, their steps an input"
    rows = [f"{text_of(one)}:{i * 0.5}" for i, one in enumerate(x)]
    file = ts_file(tmp_path / "numbers.ts", rows, header="@targetLabel true")
    with pytest.raises(DataError, match=r"has a number to predict for each series; allowed: data.series.targets"):
        prepared(file)
    examples = prepared(file, targets={"fat": "%"}).examples
    fat = examples.y_true[:, 0] * examples.targets[0].scale + examples.targets[0].centre
    np.testing.assert_allclose(fat, np.arange(N) / 2, atol=1e-5)


def test_the_train_and_test_files_of_an_archive_are_the_parts(tmp_path: Path) -> None:
    x = curves(30)
    rows = [f"{text_of(one)}:{'ab'[i % 2]}" for i, one in enumerate(x)]
    (tmp_path / "Made").mkdir()
    ts_file(tmp_path / "Made" / "Made_TRAIN.ts", rows[:20])
    ts_file(tmp_path / "Made" / "Made_TEST.ts", rows[20:])
    (tmp_path / "Made" / "README.md").write_text("about")
    found = prepared(tmp_path / "Made")
    examples = found.examples
    assert examples.test.tolist() == list(range(20, 30))
    assert sorted([*examples.train, *examples.val]) == list(range(20))
    assert len(examples.val) == 4
    alone = prepared(tmp_path / "Made" / "Made_TRAIN.ts")
    assert len(alone.examples.y_true) == 20
    assert "Made_TEST.ts beside it is not read; a folder as the path reads both" in alone.lines


ARFF = "@relation Made\n\n@attribute att0 numeric\n@attribute 'att 1' real\n@attribute att2 NUMERIC\n{more}@data\n"


def test_arff_files_flat_and_with_dimensions(tmp_path: Path) -> None:
    x = curves(N, 3)
    flat = ARFF.format(more="@attribute target {a,b}\n") + "\n".join(
        f"{text_of(one)},{'ab'[i % 2]}" for i, one in enumerate(x)
    )
    (tmp_path / "flat.arff").write_text(f"% notes\n{flat}\n")
    found = prepared(tmp_path / "flat.arff")
    assert found.examples.classes == ("a", "b")
    np.testing.assert_allclose(measured(found, 4), x[4], atol=1e-5)
    head = (
        "@relation 'Made'\n@attribute bag relational\n@attribute att0 numeric\n@end bag\n@attribute kind {a,b}\n@data\n"
    )
    rows = [f"'{text_of(one)}\\n{text_of(one + 1)}',{'ab'[i % 2]}" for i, one in enumerate(curves())]
    (tmp_path / "deep.arff").write_text(head + "\n".join(rows))
    deep = prepared(tmp_path / "deep.arff")
    np.testing.assert_allclose(measured(deep, 4, 1), curves()[4] + 1, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("@problemName x\n1,2\n", r"line 2 is '1,2'; allowed above @data: lines with @"),
        ("@problemName x\n@classLabel true a b\n", "has no line @data"),
        ("@classLabel true a b\n@data\n1,two:a\n", r"line 3: .*'two'; allowed: numbers and \?"),
        ("@classLabel false\n@data\n1,2\n1,3\n", "its series have no classes; allowed: a class for each series"),
    ],
)
def test_a_bad_ts_file_is_refused_by_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.ts").write_text(content)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "bad.ts")


def test_arrays_with_parts_and_arrays_in_files_of_their_own(tmp_path: Path) -> None:
    x, y = curves(30), np.arange(30) % 2
    np.savez(tmp_path / "parts.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    found = prepared(tmp_path / "parts.npz").examples
    assert found.test.tolist() == list(range(20, 30))
    folder = tmp_path / "npy"
    folder.mkdir()
    for part, of in (("train", slice(20)), ("test", slice(20, None))):
        np.save(folder / f"X_{part}.npy", x[of, :, None])
        np.save(folder / f"y_{part}.npy", y[of])
    again = prepared(folder).examples
    np.testing.assert_array_equal(again.inputs[0], found.inputs[0])
    assert again.test.tolist() == found.test.tolist()
    alone = prepared(folder / "X_train.npy")
    assert len(alone.examples.y_true) == 20
    (folder / "y_train.npy").unlink()
    with pytest.raises(DataError, match=r"its series have no classes; .* in a file y.npy beside it"):
        prepared(folder / "X_train.npy")


def test_a_file_of_one_array_for_each_series(tmp_path: Path) -> None:
    for i, one in enumerate(curves(N * 2).reshape(N, STEPS, 2)):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        np.save(tmp_path / "ab"[i % 2] / f"{i}.npy", one)
    found = prepared(tmp_path)
    assert [fact["name"] for fact in found.examples.facts["channels"]] == ["value0", "value1"]


def seismogram(
    file: Path, *, seed: int, stations: tuple[str, ...] = ("RJOB",), gap: bool = False, rate: float = 20
) -> None:
    obspy = pytest.importorskip("obspy")
    random = np.random.default_rng(seed)
    stream = obspy.Stream()
    for station in stations:
        for code in ("EHE", "EHN", "EHZ"):
            data = random.normal(size=60).astype(np.float32)
            header = {"network": "BW", "station": station, "channel": code, "sampling_rate": rate}
            trace = obspy.Trace(data, header)
            if gap:
                stream += obspy.Stream([trace.slice(endtime=trace.stats.starttime + 1)])
                stream += obspy.Stream([trace.slice(starttime=trace.stats.starttime + 2)])
            else:
                stream += obspy.Stream([trace])
    file.parent.mkdir(parents=True, exist_ok=True)
    stream.write(str(file), format="MSEED", encoding="FLOAT32")


def test_seismograms_in_miniseed(tmp_path: Path) -> None:
    for i in range(N):
        seismogram(tmp_path / ("quake", "blast")[i % 2] / f"{i}.mseed", seed=i, gap=i == 4)
    found = prepared(tmp_path)
    names = [fact.get("name") for fact in found.examples.facts["channels"] if fact["role"] == "value"]
    assert names == ["Z", "N", "E"]
    random = np.random.default_rng(1)
    east = random.normal(size=60).astype(np.float32)
    place = [i for i, name in enumerate(found.files.path) if name == "blast/1.mseed"]
    np.testing.assert_allclose(measured(found, place[0], 2), east, atol=1e-4)
    assert "gaps in the record, filled as missing values: 3 (1 series, such as quake/4.mseed)" in told(found)
    assert row_of(found, "time") | {"max": None} == {
        "column": "time", "taken_for": "times, in even steps", "unit": "s", "min": 0.0, "max": None, "missing": 0,
        "left_out": None,
    }  # fmt: skip
    assert row_of(found, "time")["max"] == pytest.approx(59 / 20)


def test_each_station_of_a_miniseed_file_is_a_series(tmp_path: Path) -> None:
    for i in range(6):
        seismogram(tmp_path / "ab"[i % 2] / f"{i}.mseed", seed=i, stations=("RJOB", "MANZ"))
    found = prepared(tmp_path)
    assert len(found.examples.y_true) == 12
    assert found.files.position[:2] == ["BW.MANZ", "BW.RJOB"]
    (tmp_path / "a" / "0.mseed").write_bytes(b"no seismogram")
    assert "left out: 1 of 6 series: cannot be read as miniSEED" in told(prepared(tmp_path))


def test_records_years_apart_are_not_joined(tmp_path: Path) -> None:
    obspy = pytest.importorskip("obspy")
    for i in range(N):
        seismogram(tmp_path / "ab"[i % 2] / f"{i}.mseed", seed=i)
    stream = obspy.read(str(tmp_path / "a" / "0.mseed"))
    later = stream.copy()
    for trace in later:
        trace.stats.starttime += 3e8
    (stream + later).write(str(tmp_path / "a" / "0.mseed"), format="MSEED")
    found = prepared(tmp_path)
    assert len(found.examples.y_true) == N - 1
    assert "steps with the gaps; allowed: at most 20,000,000; write a file for each record (a/0.mseed)" in told(found)


def test_miniseed_without_obspy_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(N):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[i % 2] / f"{i}.mseed").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "obspy", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'aifs-tune\[seismology\]'"):
        prepared(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "command"),
    [(".h5", "pandas.read_hdf"), (".sac", "obspy.read"), (".mat", "scipy.io.loadmat"), (".wav", "scipy.io.wavfile"),
     (".nc", "xarray"), (".tdms", "nptdms"), (".hea", "wfdb"), (".xlsx", "save it as CSV"),
     (".feather", "read_feather"), (".pkl", "if you trust the file")],
)  # fmt: skip
def test_a_file_that_is_not_read_names_the_command_that_converts_it(suffix: str, command: str, tmp_path: Path) -> None:
    for i, one in enumerate(curves()):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        np.save(tmp_path / "ab"[i % 2] / f"{i}.npy", one)
        (tmp_path / "ab"[i % 2] / f"{i}{suffix}").write_bytes(b"x")
    assert f"left out: 12 of {suffix}, such as a/0{suffix}; convert: " in told(prepared(tmp_path))
    assert command in told(prepared(tmp_path))
    for file in tmp_path.rglob("*.npy"):
        file.unlink()
    with pytest.raises(DataError, match=rf"no series in a; .*12 of \{suffix}.*convert: "):
        prepared(tmp_path)
    with pytest.raises(DataError, match=rf"\{suffix} is not read; convert it: .*{command.split('.')[0].split()[0]}"):
        prepared(tmp_path / "a" / f"0{suffix}")


def test_zarr_stores_count_as_files(tmp_path: Path) -> None:
    for i in range(N):
        (tmp_path / "ab"[i % 2] / f"{i}.zarr" / "flux").mkdir(parents=True)
        (tmp_path / "ab"[i % 2] / f"{i}.zarr" / "flux" / "0.csv").write_text("time,flux\n0,1\n1,2\n")
    with pytest.raises(
        DataError, match=r"no series in a; .*12 of \.zarr, such as a/0\.zarr; convert: .*zarr.open_group"
    ):
        prepared(tmp_path)


def test_new_files_are_prepared_as_those_that_a_model_learnt_from(stars: Path, tmp_path: Path) -> None:
    trained = prepared(stars)
    files = sorted(stars.rglob("*.fits"))
    new = Preparation("series", DataSpec(series=SeriesSpec(path=stars)), trained.examples.facts)
    (batch,) = new.batches(files)
    np.testing.assert_array_equal(batch.inputs[0], trained.examples.inputs[0])
    rows = [f"{text_of(one)}:{'ab'[i % 2]}" for i, one in enumerate(curves())]
    file = ts_file(tmp_path / "Made.ts", rows)
    trained = prepared(file)
    new = Preparation("series", DataSpec(series=SeriesSpec(path=file)), trained.examples.facts)
    unlabelled = ts_file(tmp_path / "New.ts", [text_of(one) for one in curves()], header="@classLabel false")
    (batch,) = new.batches([unlabelled])
    np.testing.assert_array_equal(batch.inputs[0], trained.examples.inputs[0])
    assert batch.names[1] == f"{unlabelled} series 2"


@pytest.mark.parametrize("form", ["long", "wide", "arrays"])
def test_many_new_series_in_one_file(form: str, tmp_path: Path) -> None:
    section: dict[str, Any] = {}
    labels = ["ab"[i % 2] for i in range(N)]
    wide = pd.DataFrame(curves(), columns=[f"t{i}" for i in range(STEPS)])
    if form == "wide":
        wide.assign(label=labels).to_csv(tmp_path / "data.csv", index=False)
        wide.to_csv(tmp_path / "new.csv", index=False)
    elif form == "long":
        section = {"id": "star"}
        long = (
            wide.assign(star=range(N))
            .melt("star", value_name="flux", var_name="step")
            .sort_values("star", kind="stable")
        )
        long.assign(label=np.repeat(labels, STEPS)).to_csv(tmp_path / "data.csv", index=False)
        long.to_csv(tmp_path / "new.csv", index=False)
    else:
        np.savez(tmp_path / "data.npz", X=curves(), y=np.arange(N) % 2)
        np.savez(tmp_path / "new.npz", X=curves())
    data, new = (next(tmp_path.glob(f"{name}.*")) for name in ("data", "new"))
    trained = prepared(data, **section)
    preparation = Preparation("series", DataSpec(series=SeriesSpec(path=data, **section)), trained.examples.facts)
    (batch,) = preparation.batches([new])
    np.testing.assert_array_equal(batch.inputs[0], trained.examples.inputs[0])
    assert len(set(batch.names)) == N


def test_parts_with_class_folders(tmp_path: Path) -> None:
    for part, n in (("Training", 12), ("Testing", 6)):
        for i in range(n):
            file = tmp_path / part / "ab"[i % 2] / f"{i}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            values = curves(1, seed=i + (100 if part == "Testing" else 0))[0]
            pd.DataFrame({"time": np.arange(STEPS), "flux": values}).to_csv(file, index=False)
    examples = prepared(tmp_path).examples
    assert [len(getattr(examples, part)) for part in ("train", "val", "test")] == [10, 2, 6]
    shutil.rmtree(tmp_path / "Training")
    with pytest.raises(DataError, match="has Testing and no train; allowed: train beside them"):
        prepared(tmp_path)
