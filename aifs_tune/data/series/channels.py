"""From what was measured to what a network sees of a series: filled, scaled, and with what was missing told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.series.files import Floats, Recording
from aifs_tune.errors import DataError

MAX_NUMBERS = 2**30
"""Of all series or windows together, padded to one length: 4 GiB."""
_UNEVEN = 0.01
"""Steps that differ from the median one by more than this share of it make the time a channel."""


@dataclass(frozen=True)
class Column:
    """A column that is learnt from, the ``place``-th that was read: ``(value - centre) / scale``; ``has_gaps``: a
    channel of its own says where it was measured."""

    name: str
    place: int
    centre: float
    scale: float
    has_gaps: bool


@dataclass(frozen=True)
class TimeStepScale:
    """Of the time: ``(log1p(step / median) - centre) / scale``."""

    median: float
    centre: float
    scale: float


@dataclass(frozen=True)
class Channels:
    """What all series of a set are turned into: the columns, the time since the last point, what was measured."""

    columns: tuple[Column, ...]
    steps: TimeStepScale | None

    @classmethod
    def fit(
        cls, names: Sequence[str], train: Sequence[Recording], everything: Sequence[Recording], where: str
    ) -> tuple[Channels, list[str]]:
        """Scaled by the series of the training set, and why columns were left out.

        Raises
        ------
        DataError
            If no column varies in the training set.
        """
        seen = np.concatenate([recording.values for recording in train])
        columns, dropped = list[Column](), list[str]()
        for place, name in enumerate(names):
            known = seen[~np.isnan(seen[:, place]), place]
            centre, spread = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
            if not spread > 1e-12 * max(1.0, abs(centre)):
                dropped.append(f"column {name}, {'the same' if len(known) else 'nothing'} in all of the training set")
                continue
            has_gaps = any(np.isnan(recording.values[:, place]).any() for recording in everything)
            columns.append(Column(name, place, centre, spread, has_gaps))
        if not columns:
            raise DataError(f"{where}: no column to learn from ({'; '.join(dropped)}); allowed: one that varies")
        return cls(tuple(columns), _steps(train, everything)), dropped

    def apply(self, recording: Recording) -> NDArray[np.float32]:
        """Shape (steps, channels). A gap holds the value before it, else the mean of the training set."""
        places = [column.place for column in self.columns]
        values = recording.values[:, places]
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
        """What each channel is, in their order; ``role`` is value, step or measured."""
        values = [{"role": "value", **asdict(column)} for column in self.columns]
        steps = [] if self.steps is None else [{"role": "step", **asdict(self.steps)}]
        measured = [{"role": "measured", "name": column.name} for column in self.columns if column.has_gaps]
        return [*values, *steps, *measured]


def carried(values: Floats) -> Floats:
    """Shape (steps, columns), each gap filled with the value before it; NaN where there is none."""
    rows = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    return np.asarray(np.take_along_axis(values, last, axis=0))


def by_itself(recording: Recording, how: Literal["set", "centred", "series"]) -> Recording:
    """Without the mean of each column (``centred``), and in units of its spread over all columns (``series``)."""
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
    """Time since the point before; ``first`` for the first."""
    return np.concatenate([[first], np.diff(times)])


def _steps(train: Sequence[Recording], everything: Sequence[Recording]) -> TimeStepScale | None:
    """None where time goes evenly, or is not told."""
    seen = [np.diff(recording.times) for recording in everything if recording.times is not None]
    if not seen:
        return None
    median = float(np.median(np.concatenate(seen)))
    if median == 0 or all((np.abs(steps - median) <= _UNEVEN * median).all() for steps in seen):
        return None
    logs = np.concatenate([np.log1p(np.diff(r.times) / median) for r in train if r.times is not None])
    spread = float(logs.std())
    return TimeStepScale(median, float(logs.mean()), spread if spread > 0 else 1.0)
