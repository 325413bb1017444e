"""Preparation of a forecast: windows of one long series, each with a later value or event as its target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import Forecast, SeriesSpec, SimulateSeries, SplitSpec
from aifs_tune.data.examples import PreparedExamples, Target, open_examples, store_examples
from aifs_tune.data.file_table import file_table, sha256_of
from aifs_tune.data.images.folder import SUBSETS, shown
from aifs_tune.data.series.channels import MAX_NUMBERS, Channels, carried
from aifs_tune.data.series.files import Collection, check_simulated, columns_lines
from aifs_tune.data.series.findings import columns_table
from aifs_tune.data.series.formats import read_raw
from aifs_tune.data.series.reader import Floats, Recording, SeriesReader
from aifs_tune.data.series.tally import Tally
from aifs_tune.data.simulate.series import simulate_long
from aifs_tune.data.split import Subsets, forward_folds, scaled
from aifs_tune.errors import DataError

_MIN_WINDOWS = 2
EVENTS = ("no_event", "event")
"""Classes of windows: whether the target is above a value at one of the next steps."""


def prepare_windows(spec: SeriesSpec, asked: Forecast, split: SplitSpec) -> PreparedExamples:
    """Make windows of ``history`` steps, each with the target ``horizon`` steps after its last step.

    With ``above``, each has one of the classes :data:`EVENTS` instead: whether an event occurs at one of the
    ``horizon`` steps. The subsets follow each other in time with a gap of ``history + horizon`` steps, so no step is in
    two subsets.

    Raises
    ------
    DataError
        If the series cannot be used; the text names the file, what was found and what is allowed.
    StorageError
        If the cache cannot be written.
    """
    found, y_true = _load(spec, asked)
    where, names, lines = found.where, found.columns, list(found.lines)
    long = found.recordings[0]
    n_steps = len(long.values)
    starts = np.arange(0, n_steps - asked.history - asked.horizon + 1, asked.stride)
    if asked.above is None:
        starts = starts[~np.isnan(y_true[starts + asked.history - 1 + asked.horizon])]
        labels = ["all"] * len(starts)
    else:
        starts, labels, left_out = _with_events(y_true, starts, asked, asked.above)
        lines += left_out
    target_steps = starts + asked.history - 1 + asked.horizon
    subsets = _in_time(starts, labels, asked, split, n_steps, where)
    n_seen = int(target_steps[subsets["train"]].max()) + 1
    past = Recording(long.values[:n_seen], None if long.times is None else long.times[:n_seen])
    channels, dropped = Channels.fit(names, [past], [long], where)
    made = channels.apply(long)
    if len(starts) * asked.history * made.shape[1] > MAX_NUMBERS:
        raise DataError(
            f"{where}: {len(starts)} windows of {asked.history} steps and {made.shape[1]} channels; allowed: at most "
            f"{MAX_NUMBERS:,} values; increase data.series.forecast.stride"
        )
    windows = np.lib.stride_tricks.sliding_window_view(made, asked.history, axis=0)[starts].swapaxes(1, 2)
    lengths = np.full(len(starts), asked.history, np.int32)
    if asked.above is None:
        known = carried(y_true[:, None])[starts + asked.history - 1, 0]
        predicted = _of_values(y_true[target_steps], known, asked, subsets, where)
    else:
        predicted = _of_events(labels, asked, asked.above, subsets, where)
    facts = {
        "channels": channels.facts,
        "forecast": asked.model_dump(mode="json", exclude={"above"} if asked.above is None else None),
        "steps": asked.history,
    }
    location = store_examples(
        [windows, lengths],
        predicted.y_true,
        subsets,
        classes=predicted.classes,
        targets=predicted.targets,
        facts=facts,
    )
    counts = ", ".join(f"{subset} {len(subsets[subset])}" for subset in SUBSETS)
    lines += [
        *(f"left out: column {shown(name)}, {reason}" for name, reason in dropped.items()),
        f"{counts} windows of {asked.history} steps and {made.shape[1]} channels, {predicted.what}",
        *predicted.lines,
    ]
    name = where if spec.path is None else shown(spec.path.name)
    ends = zip(starts.tolist(), target_steps.tolist(), strict=True)
    origins = [([name], f"steps {start} to {start + asked.history - 1} for {step}") for start, step in ends]
    files = file_table(
        origins,
        {name: None if spec.path is None else sha256_of(spec.path)},
        subsets,
        labels=labels if predicted.classes else None,
    )
    columns = columns_table(found, dropped, has_steps=channels.steps is not None)
    return PreparedExamples(open_examples(location), location, lines, files, columns)


@dataclass(frozen=True)
class _Predicted:
    """What is learnt from windows: targets (n, 1) or labels (n,); ``what`` and ``lines`` describe it."""

    y_true: NDArray[Any]
    what: str
    lines: list[str]
    classes: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()


def _of_values(values: Floats, last_known: Floats, asked: Forecast, subsets: Subsets, where: str) -> _Predicted:
    """Scaled ``values`` (n,), with the loss of a forecast that repeats the ``last_known`` ones (n,)."""
    numbers, targets = scaled(values[:, None], subsets["train"], {asked.target: asked.unit}, where)
    unchanged = (last_known - targets[0].centre) / targets[0].scale
    repeated = float(np.nanmean((unchanged - numbers[:, 0])[subsets["val"]] ** 2))
    lines = [f"predicting the last known {asked.target} has a val_loss of {repeated:.4g}"]
    return _Predicted(numbers, f"{asked.target} {asked.horizon} ahead", lines, targets=targets)


def _of_events(labels: list[str], asked: Forecast, above: float, subsets: Subsets, where: str) -> _Predicted:
    """Indices of ``labels``, with the Brier score of a forecast of the share of events in the training part.

    Raises
    ------
    DataError
        If the windows of a part are all alike.
    """
    y_true = np.array([EVENTS.index(label) for label in labels], np.int32)
    unit = "" if asked.unit is None else f" {asked.unit}"
    what = f"an event is {asked.target} above {above:g}{unit} within {asked.horizon}"
    shares = {subset: float(y_true[subsets[subset]].mean()) for subset in SUBSETS if len(subsets[subset])}
    for subset, share in shares.items():
        if share in (0, 1):
            raise DataError(
                f"{where}: {'all' if share else 'none'} of the {len(subsets[subset])} windows for {subset} are "
                f"followed by an event, {asked.target} above {above:g}{unit}; allowed: some; change "
                "data.series.forecast.above or its horizon, or use a longer series"
            )
    counted = ", ".join(f"{subset} {y_true[subsets[subset]].sum()} ({share:.1%})" for subset, share in shares.items())
    score = float(np.mean((shares["train"] - y_true[subsets["val"]]) ** 2))
    lines = [
        f"windows followed by an event: {counted}",
        f"predicting the share of events in train has a val_signal_brier of {score:.4g}",
    ]
    return _Predicted(y_true, what, lines, classes=EVENTS)


def _with_events(
    y_true: Floats, starts: NDArray[np.int64], asked: Forecast, above: float
) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Starts of the windows that have a label, the labels, and lines on those left out.

    A window is left out if the last known target is above the value already, or if the target is missing at one of the
    next steps: keeping it where a known step has an event would make events more frequent than they are.
    """
    last = starts + asked.history - 1
    n_above, n_missing = (np.append(0, np.cumsum(marked)) for marked in (y_true > above, np.isnan(y_true)))
    occurs, is_missing = (n[last + 1 + asked.horizon] > n[last + 1] for n in (n_above, n_missing))
    is_above = carried(y_true[:, None])[last, 0] > above
    is_unknown = ~is_above & is_missing
    kept = ~is_above & ~is_unknown
    labels = [EVENTS[int(one)] for one in occurs[kept]]
    left_out = (
        (is_above, f"{asked.target} is above {above:g} already"),
        (is_unknown, f"{asked.target} is missing within {asked.horizon} steps"),
    )
    lines = [f"left out: {rows.sum()} windows, {reason}" for rows, reason in left_out if rows.any()]
    return starts[kept], labels, lines


def _load(spec: SeriesSpec, asked: Forecast) -> tuple[Collection, Floats]:
    """Load the series, a collection of one, and its target at each step."""
    if spec.path is None:
        simulated = spec.simulate or SimulateSeries()
        where = f"simulated {simulated.what.replace('_', ' ')} series"
        check_simulated(spec, where)
        names, long = simulate_long(simulated)
        if asked.target not in names:
            raise DataError(f"{where}: no column {asked.target!r}; allowed: {', '.join(names)}")
        found = Collection(where, names, [long], lines=[f"{where}: {len(long.values)} steps"])
        return found, long.values[:, names.index(asked.target)]
    where = f"series {shown(str(spec.path))}"
    if spec.path.is_dir():
        raise DataError(f"{where}: is a folder; allowed for a forecast: one CSV, Parquet, NPZ, FITS or miniSEED file")
    raw = read_raw(spec.path, where, header=spec.header, hdu=spec.hdu)
    if len(raw) > 1:
        names_of = ", ".join(shown(str(each.name)) for each in raw[:5])
        raise DataError(f"{where}: holds {len(raw)} series ({names_of}); allowed for a forecast: one")
    reader = SeriesReader.like(raw, spec, where, as_gaps=True)
    both = replace(reader, columns=tuple(dict.fromkeys([*reader.columns, asked.target])))
    whole, notes = both.read(raw[0], where)
    n = len(reader.columns)
    y_true = whole.values[:, reader.columns.index(asked.target) if asked.target in reader.columns else n]
    tally = Tally(1)
    tally.note("", notes)
    lines = [f"{where}: {len(y_true)} steps", *columns_lines(reader), *tally.lines()]
    if not np.isfinite(y_true).any():
        raise DataError(f"{where}: {asked.target} has no value; allowed: a column of numbers")
    long = Recording(whole.values[:, :n], whole.times)
    return Collection(where, reader.columns, [long], lines=lines, reader=reader), y_true


def _in_time(
    starts: NDArray[np.int64], labels: list[str], asked: Forecast, split: SplitSpec, n_steps: int, where: str
) -> Subsets:
    """Assign windows to subsets in order of their first step."""
    gap = asked.history + asked.horizon
    shares = [1 - split.val - split.test, split.val, split.test]
    n_subsets = 3 if split.test > 0 else 2
    usable = (n_steps - gap + 1) - (n_subsets - 1) * gap
    subsets: Subsets = {}
    begins = 0.0
    for i, subset in enumerate(SUBSETS):
        ends = begins + max(0, usable) * shares[i]
        subsets[subset] = np.flatnonzero((starts >= round(begins)) & (starts < round(ends))).astype(np.int32)
        begins = ends + gap
    for subset in SUBSETS[:n_subsets]:
        if len(subsets[subset]) < _MIN_WINDOWS:
            raise DataError(
                f"{where}: {n_steps} steps leave {len(subsets[subset])} windows for {subset}, with a history of "
                f"{asked.history}, a horizon of {asked.horizon} and a gap of both between subsets; allowed: a longer "
                "series, or smaller values of these"
            )
    return forward_folds(split.fold, subsets, starts.astype(np.float64), where, gap=gap - 1, labels=labels)
