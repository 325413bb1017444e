"""Reading of the files of series: tables, NumPy arrays, FITS tables and miniSEED, as they stand there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.images.decode import MALFORMED
from aifs_tune.data.images.folder import is_zarr, shown
from aifs_tune.data.table_files import (
    PARQUET,
    TEXT,
    NamelessError,
    check_packed,
    check_regular,
    check_unpacked,
    read_table,
    suffix_of,
)
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


FITS = (".fits", ".fit", ".fts", ".lc")
MSEED = (".mseed", ".miniseed")
ARCHIVES = (".ts", ".arff")
"""Suffixes of files of the UCR and UEA archives, with many series each."""
SUFFIXES = (*TEXT, *PARQUET, ".npz", ".npy", *FITS, *MSEED)
"""Suffixes of files that can hold one series."""
_SEISMIC = "obspy.read(file).write('a.mseed', format='MSEED')"
_HDF = "pandas.read_hdf(file).to_parquet('a.parquet'), or numpy.savez('a.npz', **arrays) of what h5py reads"
_CONVERT = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), _HDF),
    ".zarr": "numpy.savez('a.npz', **dict(zarr.open_group(file).arrays())), or xarray.open_zarr(file).to_dataframe()",
    ".nc": "xarray.open_dataset(file).to_dataframe().reset_index().to_parquet('a.parquet')",
    ".mat": "numpy.savez('a.npz', **arrays) of what scipy.io.loadmat(file) reads",
    **dict.fromkeys((".pkl", ".pickle"), "pandas.read_pickle(file).to_parquet('a.parquet'), if you trust the file"),
    **dict.fromkeys((".sac", ".seed", ".gse2", ".sgy", ".segy"), _SEISMIC),
    **dict.fromkeys((".wav", ".flac"), "numpy.save('a.npy', scipy.io.wavfile.read(file)[1])"),
    **dict.fromkeys((".edf", ".bdf"), "mne.io.read_raw_edf(file).to_data_frame().to_parquet('a.parquet')"),
    ".root": "uproot.open(file)[tree].arrays(library='pd').to_parquet('a.parquet')",
    **dict.fromkeys((".feather", ".arrow"), "pandas.read_feather(file).to_parquet('a.parquet')"),
    **dict.fromkeys((".json", ".jsonl"), "pandas.read_json(file).to_parquet('a.parquet')"),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), "save it as CSV"),
    ".tdms": "nptdms.TdmsFile.read(file).as_dataframe().to_parquet('a.parquet')",
    ".hea": "wfdb.rdrecord(file without its suffix).to_dataframe().to_parquet('a.parquet')",
    ".asdf": "astropy.table.Table(asdf.open(file)[key]).write('a.fits')",
    **dict.fromkeys((".vot", ".xml", ".ecsv"), "astropy.table.Table.read(file).write('a.fits')"),
}
"""How to convert files that are not read."""
_MOST_STEPS = 20_000_000
"""Largest number of steps from the begin to the end of a seismogram: a day at 200 samples per second."""
_T = TypeVar("_T")
_MALFORMED = (*MALFORMED, BadZipFile, AttributeError, EOFError)


class Noted(NamedTuple):
    """How often something was noticed in a series, and the row, from 1, where first."""

    n: int = 1
    row: int | None = None


@dataclass(frozen=True)
class RawSeries:
    """A series as it stands in a file: ``frame`` has a row for each step, and ``units`` those of columns that have one.

    ``name`` tells it apart from others in the file. ``notes`` have what was noticed while it was read. ``is_fits``
    says that columns called ``QUALITY`` are flags.
    """

    frame: pandas.DataFrame
    name: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Noted] = field(default_factory=dict)
    is_fits: bool = False


def kind_of(file: Path) -> str:
    """Suffix that says what a file or folder holds; of a Zarr store ``.zarr``, also without it."""
    return ".zarr" if is_zarr(file) else suffix_of(file)


def conversion_of(file: Path) -> str | None:
    """The command that converts a file which is not read; None if its kind is not known."""
    return _CONVERT.get(kind_of(file))


def read_raw(file: Path, where: str, *, header: bool = True, hdu: int | str | None = None) -> list[RawSeries]:
    """Read the series in ``file``: one, or one for each station in miniSEED.

    Raises
    ------
    DataError
        If it cannot be read; the text begins with ``where``.
    MissingPackageError
        If a package that reads such files is not installed.
    """
    suffix = suffix_of(file)
    check_regular(file, where)
    if suffix in _CONVERT:
        raise DataError(f"{where}: {suffix} files are not read; convert it: {_CONVERT[suffix]}")
    if suffix in FITS:
        return [_guarded(lambda: _fits(file, where, hdu), where, "FITS")]
    if suffix in MSEED:
        return _guarded(lambda: _mseed(file, where), where, "miniSEED")
    if suffix == ".npz":
        return [_of_arrays(load_npz(file, where), where)]
    if suffix == ".npy":
        return [_of_arrays({"value": load_npy(file, where)}, where)]
    try:
        table = read_table(file, where, header=header)
    except NamelessError as error:
        hint = ", or data.series.header: false for columns called column1, column2, ..."
        raise DataError(f"{error}{hint}") from error
    return [RawSeries(table.frame, notes=dict.fromkeys(table.notes, Noted()))]


def _guarded(read: Callable[[], _T], where: str, form: str) -> _T:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except FileNotFoundError:
        raise DataError(f"{where}: there is no such file; allowed: {', '.join(SUFFIXES)}") from None
    except _MALFORMED as error:
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise DataError(f"{where}: cannot be read as {form} ({text})") from error


def load_npz(file: Path, where: str) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file; DataError, which begins with ``where``, if it cannot be read."""
    try:
        check_unpacked(file, where)
        with np.load(file, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{where}: there is no such file; allowed: a CSV, Parquet or NPZ file") from None
    except (OSError, ValueError, BadZipFile, EOFError, AttributeError, MemoryError) as error:
        raise DataError(f"{where}: cannot be read as NPZ ({error}); allowed: arrays of numbers") from error


def load_npy(file: Path, where: str) -> NDArray[Any]:
    """The array of an npy file; DataError, which begins with ``where``, if it cannot be read."""
    try:
        found = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{where}: there is no such file; allowed: a CSV, Parquet, NPZ or NPY file") from None
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise DataError(f"{where}: cannot be read as NPY ({error}); allowed: an array of numbers") from error
    if not isinstance(found, np.ndarray):
        raise DataError(f"{where}: holds several arrays; allowed: one array, or the suffix .npz")
    return found


def _of_arrays(arrays: Mapping[str, NDArray[Any]], where: str) -> RawSeries:
    """A column for each array; one with two axes gives ``NAME0``, ``NAME1``, ..."""
    import pandas

    columns: dict[str, NDArray[Any]] = {}
    alone = [name for name, array in arrays.items() if array.ndim == 0]
    for name, array in arrays.items():
        if array.ndim > 2:
            raise DataError(f"{where}: {name} has shape {array.shape}; allowed: (steps,) or (steps, columns)")
        if array.ndim == 2 and array.shape[1] == 1:
            columns[name] = array[:, 0]
        elif array.ndim > 0:
            columns |= {name: array} if array.ndim == 1 else {f"{name}{i}": column for i, column in enumerate(array.T)}
    lengths = {name: len(array) for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise DataError(f"{where}: arrays of different lengths ({text}); allowed: one length")
    notes = {f"left out: {shown(name)}, a single value and no series": Noted() for name in alone}
    return RawSeries(pandas.DataFrame(columns), notes=notes)


def _fits(file: Path, where: str, wanted: int | str | None) -> RawSeries:
    """A table of a FITS file; absent ``wanted``, the first one with a column of times, else the first one."""
    with missing_packages_named():
        from astropy.io import fits
    import pandas

    check_packed(file, where)
    with fits.open(file, memmap=False, lazy_load_hdus=False) as opened:
        tables = [(i, hdu) for i, hdu in enumerate(opened) if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        found = ", ".join(f"{i} {shown(hdu.name)}".strip() for i, hdu in enumerate(opened))
        tables = [(i, hdu) for i, hdu in tables if not isinstance(hdu, fits.CompImageHDU)]
        if wanted is not None:
            tables = [(i, hdu) for i, hdu in tables if wanted in (i, hdu.name)]
        if not tables:
            which = "a table" if wanted is None else f"the table {wanted!r}"
            raise DataError(f"{where}: has no HDU with {which}; found: {found}")
        from aifs_tune.data.series.reader import is_time

        number, hdu = next((t for t in tables if any(is_time(name) for name in t[1].columns.names)), tables[0])
        columns, units = dict[str, Any](), dict[str, str]()
        for column in hdu.columns:
            columns[column.name] = _column(
                hdu.data[column.name], column.null if column.format.strip("1")[:1] in "BIJK" else None
            )
            if column.unit:
                units[column.name] = shown(str(column.unit))
        title = f"HDU {number} {shown(hdu.name)}".strip()
    others = f", one of the tables {', '.join(str(i) for i, _ in tables)}; another: data.series.hdu"
    note = f"FITS: {title} is read{others if len(tables) > 1 else ''}"
    return RawSeries(pandas.DataFrame(columns), units=units, notes={note: Noted()}, is_fits=True)


def _column(values: Any, null: int | None) -> Any:
    """A column of a FITS table in the byte order of this machine; text without spaces, arrays as objects."""
    array = np.asarray(values)
    if array.ndim > 1 or array.dtype.kind == "O":
        return [np.asarray(each) for each in array]
    if array.dtype.kind in "SU":
        return [text.strip() or None for text in array.astype(str).tolist()]
    native = array.astype(array.dtype.newbyteorder("="))
    return native if null is None else np.where(native == null, np.nan, native)


def _mseed(file: Path, where: str) -> list[RawSeries]:
    """A series for each station, with its channels as columns and the time in seconds since the first sample."""
    with missing_packages_named():
        import obspy
        from obspy.core.util.obspy_types import ObsPyException

    with file.open("rb") as opened:
        try:
            stream = obspy.read(opened, format="MSEED")
        except ObsPyException as error:
            raise ValueError(error) from error
    stations: dict[str, list[Any]] = {}
    for trace in stream:
        key = ".".join(part for part in (trace.stats.network, trace.stats.station, trace.stats.location) if part)
        stations.setdefault(key, []).append(trace)
    return [_station(name, traces, where, len(stations) > 1) for name, traces in sorted(stations.items())]


def _station(name: str, traces: Sequence[Any], where: str, has_others: bool) -> RawSeries:
    import obspy
    import pandas

    where = f"{where}, {shown(name)}" if has_others else where
    rates = sorted({float(trace.stats.sampling_rate) for trace in traces})
    if len(rates) > 1 or rates[0] <= 0:
        text = " and ".join(f"{rate:g}" for rate in rates)
        raise DataError(f"{where}: its channels have {text} samples per second; allowed: one rate in a series")
    begins, ends = min(t.stats.starttime for t in traces), max(t.stats.endtime for t in traces)
    if (span := (ends - begins) * rates[0]) > _MOST_STEPS:
        raise DataError(
            f"{where}: lasts from {begins} to {ends}, {span:.3g} steps with the gaps; allowed: at most "
            f"{_MOST_STEPS:,}; write a file for each record"
        )
    merged = obspy.Stream(traces).copy()
    n_gaps = sum(gap[6] > 0 for gap in merged.get_gaps())
    for trace in merged:
        trace.data = np.asarray(trace.data, np.float64)
    merged.merge(method=0, fill_value=None)
    merged.trim(begins, ends, pad=True)
    codes = [str(trace.stats.channel) or "value" for trace in merged]
    directions = [code[-1:] for code in codes]
    names = directions if len(set(directions)) == len(codes) and "value" not in codes else codes
    n_steps = min(len(trace.data) for trace in merged)
    columns: dict[str, Any] = {"time": np.arange(n_steps) / rates[0]}
    for code, trace in sorted(zip(names, merged, strict=True), key=lambda pair: "ZNE".find(pair[0])):
        columns[code] = np.ma.filled(np.ma.asarray(trace.data, np.float64), np.nan)[:n_steps]
    notes = {f"miniSEED: channels {', '.join(sorted(codes))} of a station are the columns of a series": Noted()}
    if n_gaps:
        notes["gaps in the record, filled as missing values"] = Noted(n_gaps)
    return RawSeries(pandas.DataFrame(columns), name if has_others else None, {"time": "s"}, notes)
