"""Channels of a series for a network: filled and scaled values, time steps and gap indicators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.columns import scale_of
from aifs_tune.data.series.reader import Floats, Recording
from aifs_tune.errors import DataError

MAX_NUMBERS = 2**30
"""Largest number of values of all series or windows, padded to one length: 4 GiB."""
_UNEVEN = 0.01
"""If a time step differs from the median step by more than this share, the time step becomes a channel."""


@dataclass(frozen=True)
class Column:
    """A column that becomes a channel: ``(value - centre) / scale``.

    ``index`` is its position among the columns that were read. With ``has_gaps``, another channel says where it was
    measured.
    """

    name: str
    index: int
    centre: float
    scale: float
    has_gaps: bool


@dataclass(frozen=True)
class TimeStepScale:
    """Scaling of time steps: ``(log1p(step / median) - centre) / scale``."""

    median: float
    centre: float
    scale: float


@dataclass(frozen=True)
class Channels:
    """Channels of all series of a set: the columns, the time since the previous point, and gap indicators."""

    columns: tuple[Column, ...]
    steps: TimeStepScale | None

    @classmethod
    def fit(
        cls, names: Sequence[str], train: Sequence[Recording], everything: Sequence[Recording], where: str
    ) -> tuple[Channels, dict[str, str]]:
        """Fit the scaling to the training series; return it with the reason why each other column is left out.

        Raises
        ------
        DataError
            If all columns are constant in the training set.
        """
        seen = np.concatenate([recording.values for recording in train])
        columns, dropped = list[Column](), dict[str, str]()
        for index, name in enumerate(names):
            known = seen[~np.isnan(seen[:, index]), index]
            centre, spread, problem = scale_of(known)
            if problem is not None:
                dropped[name] = problem
                continue
            has_gaps = any(np.isnan(recording.values[:, index]).any() for recording in everything)
            columns.append(Column(name, index, centre, spread, has_gaps))
        if not columns:
            reasons = "; ".join(f"column {name}, {reason}" for name, reason in dropped.items())
            raise DataError(f"{where}: no column to learn from ({reasons}); allowed: one that varies")
        return cls(tuple(columns), _steps(train, everything)), dropped

    def apply(self, recording: Recording) -> NDArray[np.float32]:
        """Return the channels, shape (steps, channels).

        A gap is filled with the value before it, or with the mean of the training set if there is none.
        """
        values = recording.values[:, [column.index for column in self.columns]]
        centres, scales = (np.array([getattr(c, name) for c in self.columns]) for name in ("centre", "scale"))
        made = [np.nan_to_num((carried(values) - centres) / scales)]
        if self.steps is not None and recording.times is not None:
            since = np.log1p(_since(recording.times, self.steps.median) / self.steps.median)
            made.append(((since - self.steps.centre) / self.steps.scale)[:, None])
        gaps = [i for i, column in enumerate(self.columns) if column.has_gaps]
        made.append((~np.isnan(values[:, gaps])).astype(np.float64))
        return np.concatenate(made, axis=1).astype(np.float32)

    @property
    def facts(self) -> list[dict[str, Any]]:
        """Description of each channel in order; ``role`` is value, step or measured."""
        values = [{"role": "value", **asdict(column)} for column in self.columns]
        steps = [] if self.steps is None else [{"role": "step", **asdict(self.steps)}]
        measured = [{"role": "measured", "name": column.name} for column in self.columns if column.has_gaps]
        return [*values, *steps, *measured]


def carried(values: Floats) -> Floats:
    """Fill each gap of (steps, columns) with the value before it; NaN if there is none."""
    rows = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    return np.asarray(np.take_along_axis(values, last, axis=0))


def by_itself(recording: Recording, how: Literal["set", "centred", "series"]) -> Recording:
    """Subtract the mean of each column (``centred``), and also divide by the spread over all columns (``series``)."""
    if how == "set":
        return recording
    known = ~np.isnan(recording.values)
    means = np.where(known, recording.values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    values = recording.values - means
    if how == "series":
        spread = float(np.sqrt((values[known] ** 2).mean())) if known.any() else 0.0
        values = values / (spread or 1.0)
    return Recording(values, recording.times)


def _since(times: Floats, first: float) -> Floats:
    """Return the time since the previous point; ``first`` for the first point."""
    return np.concatenate([[first], np.diff(times)])


def _steps(train: Sequence[Recording], everything: Sequence[Recording]) -> TimeStepScale | None:
    """Return the scaling of time steps; None if the steps are even or there are no times."""
    seen = [np.diff(recording.times) for recording in everything if recording.times is not None]
    if not seen:
        return None
    median = float(np.median(np.concatenate(seen)))
    if median == 0 or all((np.abs(steps - median) <= _UNEVEN * median).all() for steps in seen):
        return None
    logs = np.concatenate([np.log1p(np.diff(r.times) / median) for r in train if r.times is not None])
    spread = float(logs.std())
    return TimeStepScale(median, float(logs.mean()), spread if spread > 0 else 1.0)
