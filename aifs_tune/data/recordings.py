"""One series as it was measured, and reading it from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.reading import digest_of
from aifs_tune.data.tables import read_frame
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas

SUFFIXES = (".csv", ".tsv", ".txt", ".npz", ".parquet", ".pq")
"""What names a file that holds a series."""
FEWEST_STEPS = 2
_TIME = "time"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """``values`` (steps, columns), NaN where nothing was measured; ``times`` (steps,), never falling, or None."""

    values: Floats
    times: Floats | None

    @property
    def digest(self) -> str:
        """What two recordings share only if they are the same."""
        times = b"" if self.times is None else self.times.tobytes()
        return digest_of(self.values.tobytes() + b"|" + times)


@dataclass(frozen=True)
class SeriesReader:
    """Reads series that all have the same columns.

    ``time`` None: a column called ``time`` if there is one. No ``columns`` named: all that hold numbers.
    """

    columns: tuple[str, ...]
    time: str | None

    @classmethod
    def like(
        cls, file: Path, where: str, *, columns: Sequence[str], time: str | None
    ) -> tuple[SeriesReader, list[str]]:
        """One that reads what ``file`` has, and the columns of text that are left out.

        Raises
        ------
        DataError
            If the file cannot be read, lacks a column, or has no column of numbers.
        """
        frame = _read_steps(file, where)
        times = time if time is not None else (_TIME if _TIME in frame.columns and _TIME not in columns else None)
        if columns:
            return cls(tuple(columns), times), []
        others = [str(name) for name in frame.columns if name != times]
        found = [name for name in others if frame[name].dtype.kind in "biuf"]
        if not found:
            text = ", ".join(others) or "none"
            raise DataError(f"{where}: no column of numbers (columns beside the time: {text}); allowed: at least one")
        return cls(tuple(found), times), [name for name in others if name not in found]

    def read(self, file: Path, where: str) -> Recording:
        """The series in ``file``.

        Raises
        ------
        DataError
            Beginning with ``where``: if it cannot be read, is too short, or a column is absent or holds text or times
            that fall.
        """
        frame = _read_steps(file, where)
        for name in (*self.columns, *filter(None, (self.time,))):
            if name not in frame.columns:
                there = ", ".join(map(str, frame.columns[:12]))
                raise DataError(f"{where}: no column {name!r}; allowed: {there}")
        values = np.stack([_numbers(frame[name], where) for name in self.columns], axis=1)
        return Recording(values, None if self.time is None else _times(frame[self.time], where))


def read_columns(file: Path, where: str) -> pandas.DataFrame:
    """The columns of a CSV, Parquet or NPZ file; a two-dimensional array of NPZ gives ``NAME0``, ``NAME1``, ...

    Raises
    ------
    DataError
        If it cannot be read; begins with ``where``.
    """
    if file.suffix.lower() != ".npz":
        return read_frame(file, where)
    import pandas

    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{where}: there is no such file; allowed: a CSV, Parquet or NPZ file") from None
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise DataError(f"{where}: cannot be read as NPZ ({error}); allowed: arrays of numbers") from error
    columns: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if array.ndim not in (1, 2):
            raise DataError(f"{where}: {name} has shape {array.shape}; allowed: (steps,) or (steps, columns)")
        columns |= {name: array} if array.ndim == 1 else {f"{name}{i}": column for i, column in enumerate(array.T)}
    lengths = {name: len(array) for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise DataError(f"{where}: arrays of different lengths ({told}); allowed: one length")
    return pandas.DataFrame(columns)


def _read_steps(file: Path, where: str) -> pandas.DataFrame:
    frame = read_columns(file, where)
    if len(frame) < FEWEST_STEPS:
        raise DataError(f"{where}: {len(frame)} step(s); allowed: at least {FEWEST_STEPS}")
    return frame


def _numbers(column: pandas.Series[Any], where: str) -> Floats:
    """NaN where an entry is absent or infinite."""
    import pandas

    values = np.array(pandas.to_numeric(column, errors="coerce"), np.float64)
    strange = np.flatnonzero(np.isnan(values) & np.asarray(column.notna()))
    if len(strange):
        entry = column.iloc[int(strange[0])]
        raise DataError(f"{where}: {column.name} is {entry!r} in row {strange[0] + 1}; allowed: numbers, or nothing")
    values[~np.isfinite(values)] = np.nan
    return values


def _times(column: pandas.Series[Any], where: str) -> Floats:
    """As they are where they are numbers, in seconds where they are dates."""
    import pandas

    if column.dtype.kind in "biuf":
        times = np.array(column, np.float64)
    else:
        dates = pandas.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
        since = (dates - pandas.Timestamp(0, tz="UTC")) / pandas.Timedelta(seconds=1)
        times = np.array(since, np.float64)
    strange = np.flatnonzero(~np.isfinite(times))
    if len(strange):
        entry = column.iloc[int(strange[0])]
        raise DataError(f"{where}: {column.name} is {entry!r} in row {strange[0] + 1}; allowed: numbers or dates")
    falls = np.flatnonzero(np.diff(times) < 0)
    if len(falls):
        row = int(falls[0]) + 2
        raise DataError(f"{where}: {column.name} falls in row {row}; allowed: times that never fall")
    return times
