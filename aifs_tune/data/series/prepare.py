"""Preparation of series with a class or numbers to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import DataSpec, SeriesSpec, SimulateSeries, SplitSpec
from aifs_tune.data.class_names import alike_classes, in_parentheses
from aifs_tune.data.examples import PreparedExamples, open_examples, store_examples
from aifs_tune.data.file_table import FileTable, file_table, name_below, sha256_of
from aifs_tune.data.images.folder import SUBSETS, shown
from aifs_tune.data.series.channels import MAX_NUMBERS, Channels, by_itself
from aifs_tune.data.series.files import Collection, check_simulated, load_collection
from aifs_tune.data.series.findings import (
    columns_table,
    contents_of,
    copy_findings,
    crossing_text,
    leak_findings,
    shape_findings,
)
from aifs_tune.data.series.reader import Recording
from aifs_tune.data.series.windows import prepare_windows
from aifs_tune.data.simulate.series import simulate_collection
from aifs_tune.data.split import Subsets, assign_subsets, fold_given_subsets, forward_folds, given_subsets, scaled
from aifs_tune.errors import DataError

_MIN_SERIES = 10
_MOST_NAMED = 5
_MOST_CHANNELS = 12


def prepare_series(data: DataSpec, *, strict: bool = False) -> PreparedExamples:
    """Read series, split them, fill and scale them, and pad them to one length.

    All values are scaled by the training set. With ``series.forecast``, the examples are windows of one long series,
    and the subsets follow each other in time.

    Parameters
    ----------
    data : DataSpec
        Section ``data`` of a sweep. Its ``series`` names a folder, a manifest, a file or a simulation; by default light
        curves are simulated.
    strict : bool, default False
        Raise if a file cannot be read, instead of leaving it out.

    Returns
    -------
    PreparedExamples
        The examples with two input arrays: the values, float32 of shape (n, steps, channels), with zeros after the
        end of a series; and the lengths, int32 of shape (n,).

    Raises
    ------
    DataError
        If the series cannot be used; the text names the file and the column, what was found and what is allowed.
    StorageError
        If the cache cannot be written.

    Examples
    --------
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import prepare_series
    >>> prepared = prepare_series(DataSpec(series={"simulate": {"series": 40, "steps": 32}}))
    >>> values, lengths = prepared.examples.inputs
    >>> values.shape, prepared.examples.classes
    ((40, 32, 4), ('constant', 'eclipsing', 'mira', 'rr_lyrae'))
    """
    spec = data.series or SeriesSpec()
    if spec.forecast is not None:
        return prepare_windows(spec, spec.forecast, data.split)
    if spec.path is not None:
        found = load_collection(spec.path, spec, strict=strict, follow_links=data.follow_links)
    else:
        found = simulate_collection(spec.simulate or SimulateSeries())
        check_simulated(spec, found.where)
    if len(found.recordings) < _MIN_SERIES:
        raise DataError(f"{found.where}: {len(found.recordings)} series; allowed: at least {_MIN_SERIES}")
    alike = alike_classes(found.labels)
    found, rare = _without_rare_classes(found, data.split, strict=strict)
    classes = tuple(sorted(set(found.labels)))
    if found.labels and len(classes) < 2:
        raise DataError(f"{found.where}: all series are of class {classes[0]}; allowed: at least 2 classes")
    contents = contents_of(found.recordings)
    subsets = _subsets(found, data.split, contents)
    if data.near_duplicates == "refuse" and (crossing := crossing_text(found, contents, subsets)) is not None:
        raise DataError(f"{found.where}: {crossing}; allowed with data.near_duplicates refuse: none")
    recordings = [by_itself(recording, spec.scaling) for recording in found.recordings]
    kept = [_cut(recording, spec) for recording in recordings]
    channels, dropped = Channels.fit(found.columns, [kept[i] for i in subsets["train"]], kept, found.where)
    values, lengths = _padded([channels.apply(recording) for recording in recordings], spec, found.where)
    facts = {"channels": channels.facts, "scaling": spec.scaling, "steps": values.shape[1], "keep": spec.keep}
    if found.layout != "files":
        facts["layout"] = found.layout
    if spec.scaling == "series" and dropped:  # they are in the spread that a series is divided by
        facts["columns"] = list(found.columns)
    if classes:
        y_true: NDArray[Any] = np.array([classes.index(label) for label in found.labels], np.int32)
        location = store_examples([values, lengths], y_true, subsets, classes=classes, facts=facts)
        about = "classes: " + ", ".join(f"{shown(c)} {list(found.labels).count(c)}" for c in classes)
    else:
        y_true, targets = scaled(found.numbers, subsets["train"], spec.targets, found.where)
        location = store_examples([values, lengths], y_true, subsets, targets=targets, facts=facts)
        about = "targets: " + ", ".join(map(shown, spec.targets))
    has_steps = channels.steps is not None
    span = f"{lengths.min()} to {lengths.max()}" if lengths.min() < lengths.max() else f"{lengths.max()}"
    lines = [f"{found.where}: {len(lengths)} series of {span} steps"]
    lines += [*found.lines, *rare]
    lines += [*(f"left out: column {shown(name)}, {reason}" for name, reason in dropped.items()), about]
    counts = ", ".join(f"{subset} {len(subsets[subset])}" for subset in SUBSETS)
    lines.append(f"{counts} series of {values.shape[2]} channels: {channels_text(channels)}")
    findings = [*copy_findings(found, contents, subsets), *shape_findings(replace(found, recordings=kept))]
    findings += [*leak_findings(found, has_steps=has_steps), *alike]
    lines += [f"warning: {text}" for text in findings]
    columns = columns_table(found, dropped, has_steps=has_steps)
    return PreparedExamples(open_examples(location), location, lines, _files(found, subsets), columns)


def _without_rare_classes(found: Collection, split: SplitSpec, *, strict: bool) -> tuple[Collection, list[str]]:
    """Leave out classes with too few series to be in every set; unchanged if fewer than two would stay."""
    if not found.labels:
        return found, []
    labels = np.asarray(found.labels)
    if "part" in found.manifest_columns or found.parts:
        entries = [str(e).strip().lower() for e in found.manifest_columns.get("part", found.parts)]
        needed = [part for part in ("train", "val") if part in entries or "part" in found.manifest_columns]
        by_class = {name: {entries[i] for i in np.flatnonzero(labels == name)} for name in set(found.labels)}
        rare = {name: f"none in {m[0]}" for name, of in by_class.items() if (m := [p for p in needed if p not in of])}
    else:
        n_sets = 3 if split.test > 0 else 2
        groups = found.manifest_columns.get("group")
        keys = [r.digest for r in found.recordings] if groups is None else [str(entry) for entry in groups]
        seen = {name: len({keys[i] for i in np.flatnonzero(labels == name)}) for name in set(found.labels)}
        what = "different series" if groups is None else "groups"
        rare = {name: f"{n} {what}" for name, n in seen.items() if n < n_sets and "order" not in found.manifest_columns}
    if not rare or len(set(found.labels)) - len(rare) < 2:
        return found, []
    some = ", ".join(f"{shown(name)} ({reason})" for name, reason in sorted(rare.items())[:_MOST_NAMED])
    more = f" and {len(rare) - _MOST_NAMED} more" if len(rare) > _MOST_NAMED else ""
    text = f"too few series to be in every set: {some}{more}"
    if strict:
        raise DataError(f"{found.where}: classes with {text}; allowed: more of each, or without --strict")
    return found.picked(np.flatnonzero(~np.isin(labels, list(rare))).tolist()), [
        f"warning: classes left out with {text}"
    ]


def _files(found: Collection, subsets: Subsets) -> FileTable:
    n = len(found.recordings)
    names = [name_below(file, found.folder) for file in found.files]
    positions = found.positions or [None] * len(names)
    origins: list[tuple[list[str], str | None]] = [([n], at) for n, at in zip(names, positions, strict=True)]
    lists = [] if found.manifest is None else [found.manifest]
    hashes = {name_below(file, found.folder): sha256_of(file) for file in {*found.files, *lists}}
    return file_table(
        origins or [([found.where], f"series {number}") for number in range(n)],
        hashes,
        subsets,
        labels=[shown(label) for label in found.labels] or None,
        groups=[shown(str(entry)) for entry in found.manifest_columns["group"]]
        if "group" in found.manifest_columns
        else None,
        lists=[shown(file.name) for file in lists],
    )


def channels_text(channels: Channels) -> str:
    """Return the channels as readable text, the first of many."""
    roles = {"value": "{name}", "step": "time step", "measured": "{name} measured"}
    names = [roles[fact["role"]].format(name=shown(str(fact.get("name")))) for fact in channels.facts]
    return ", ".join(names) if len(names) <= _MOST_CHANNELS else f"{', '.join(names[:_MOST_CHANNELS])}, ..."


def _subsets(found: Collection, split: SplitSpec, contents: Sequence[str]) -> Subsets:
    labels = list(found.labels) or ["all"] * len(found.recordings)
    if "part" in found.manifest_columns:
        subsets = given_subsets([str(entry) for entry in found.manifest_columns["part"]], f"{found.where}: part")
    elif found.parts:
        subsets = _of_files(found, split, contents, labels)
    elif "order" in found.manifest_columns:
        subsets = _in_order(found.manifest_columns["order"], split, found.where)
    else:
        groups = (
            [str(entry) for entry in found.manifest_columns["group"]] if "group" in found.manifest_columns else None
        )
        return assign_subsets(split, found.where, contents=contents, groups=groups, labels=labels)
    for subset in ("train", "val"):
        missing = sorted(set(labels) - {labels[i] for i in subsets[subset]})
        if missing:
            raise DataError(
                f"{found.where}: no {subset} series of class {missing[0]}{in_parentheses(labels)}; allowed: every "
                f"class in {subset}"
            )
    if "order" in found.manifest_columns:
        ranks = np.unique(np.asarray(found.manifest_columns["order"]), return_inverse=True)[1].astype(np.float64)
        return forward_folds(split.fold, subsets, ranks, found.where, labels=labels)
    return fold_given_subsets(
        split.fold, subsets, len(labels), found.where, contents=contents, groups=None, labels=labels
    )


def _of_files(found: Collection, split: SplitSpec, contents: Sequence[str], labels: Sequence[str]) -> Subsets:
    """The sets of train and test files; without one for validation, it is split off the training set."""
    parts = np.asarray(found.parts)
    if "val" in found.parts:
        return given_subsets(found.parts, found.where)
    train = np.flatnonzero(parts == "train")
    rows = train.tolist()
    inner = assign_subsets(
        SplitSpec(val=split.val, test=0, seed=split.seed),
        f"{found.where}, its training part",
        contents=[contents[i] for i in rows],
        groups=None,
        labels=[labels[i] for i in rows],
    )
    of_test = np.flatnonzero(parts == "test").astype(np.int32)
    return {**{part: train[inner[part]].astype(np.int32) for part in ("train", "val")}, "test": of_test}


def _in_order(order: Sequence[Any], split: SplitSpec, where: str) -> Subsets:
    """Split by order: the first series train, the next validate, the last test; equal entries stay together."""
    if len({isinstance(entry, str) for entry in order}) > 1:
        raise DataError(f"{where}: the column order has both numbers and text; allowed: one of the two")
    ranks = np.unique(np.asarray(order), return_inverse=True)[1]
    before = np.searchsorted(np.sort(ranks), ranks) / len(ranks)
    bounds = [1 - split.val - split.test, 1 - split.test]
    assigned = np.digitize(before, [bound - 1e-9 for bound in bounds])
    subsets = {subset: np.flatnonzero(assigned == i).astype(np.int32) for i, subset in enumerate(SUBSETS)}
    for subset in SUBSETS[: 3 if split.test > 0 else 2]:
        if len(subsets[subset]) == 0:
            raise DataError(f"{where}: too few distinct entries in the column order for a {subset} set; allowed: more")
    return subsets


def _window(n_steps: int, spec: SeriesSpec) -> slice:
    """Return the steps to keep of a series with ``n_steps``."""
    if spec.length is None or n_steps <= spec.length:
        return slice(None)
    return slice(-spec.length, None) if spec.keep == "last" else slice(spec.length)


def _cut(recording: Recording, spec: SeriesSpec) -> Recording:
    kept = _window(len(recording.values), spec)
    return Recording(recording.values[kept], None if recording.times is None else recording.times[kept])


def _padded(
    made: Sequence[NDArray[np.float32]], spec: SeriesSpec, where: str
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    kept = [one[_window(len(one), spec)] for one in made]
    lengths = np.array([len(one) for one in kept], np.int32)
    shape = (len(kept), int(lengths.max()), kept[0].shape[1])
    if np.prod(shape, dtype=np.int64) > MAX_NUMBERS:
        raise DataError(
            f"{where}: {shape[0]} series of {shape[1]} steps and {shape[2]} channels; allowed: at most "
            f"{MAX_NUMBERS:,} values; reduce data.series.length"
        )
    values = np.zeros(shape, np.float32)
    for row, one in zip(values, kept, strict=True):
        row[: len(one)] = one
    return values, lengths
