"""Preparation of a forecast: windows of one long series, each with a later value as its target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import Forecast, SeriesSpec, SimulateSeries, SplitSpec
from aifs_tune.data.examples import PreparedExamples, open_examples, store_examples
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


def prepare_windows(spec: SeriesSpec, asked: Forecast, split: SplitSpec) -> PreparedExamples:
    """Make windows of ``history`` steps, each with the target ``horizon`` steps after its last step.

    The subsets follow each other in time with a gap of ``history + horizon`` steps, so no step is in two subsets.

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
    starts = starts[~np.isnan(y_true[starts + asked.history - 1 + asked.horizon])]
    target_steps = starts + asked.history - 1 + asked.horizon
    subsets = _in_time(starts, asked, split, n_steps, where)
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
    numbers, targets = scaled(y_true[target_steps][:, None], subsets["train"], {asked.target: asked.unit}, where)
    facts = {"channels": channels.facts, "forecast": asked.model_dump(mode="json"), "steps": asked.history}
    location = store_examples([windows, lengths], numbers, subsets, targets=targets, facts=facts)
    unchanged = (carried(y_true[:, None])[starts + asked.history - 1, 0] - targets[0].centre) / targets[0].scale
    repeated = float(np.nanmean((unchanged - numbers[:, 0])[subsets["val"]] ** 2))
    counts = ", ".join(f"{subset} {len(subsets[subset])}" for subset in SUBSETS)
    lines += [
        *(f"left out: column {shown(name)}, {reason}" for name, reason in dropped.items()),
        f"{counts} windows of {asked.history} steps and {made.shape[1]} channels, {asked.target} {asked.horizon} ahead",
        f"predicting the last known {asked.target} has a val_loss of {repeated:.4g}",
    ]
    name = where if spec.path is None else shown(spec.path.name)
    ends = zip(starts.tolist(), target_steps.tolist(), strict=True)
    origins = [([name], f"steps {start} to {start + asked.history - 1} for {step}") for start, step in ends]
    files = file_table(origins, {name: None if spec.path is None else sha256_of(spec.path)}, subsets)
    columns = columns_table(found, dropped, has_steps=channels.steps is not None)
    return PreparedExamples(open_examples(location), location, lines, files, columns)


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


def _in_time(starts: NDArray[np.int64], asked: Forecast, split: SplitSpec, n_steps: int, where: str) -> Subsets:
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
    times, labels = starts.astype(np.float64), ["all"] * len(starts)
    return forward_folds(split.fold, subsets, times, where, gap=gap - 1, labels=labels)
