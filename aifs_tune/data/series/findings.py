"""What a scientist should see before series are learnt from: copies, leaks, uneven lengths and times, and columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.columns import column_row
from aifs_tune.data.images.folder import shown
from aifs_tune.data.series.files import Collection
from aifs_tune.data.series.reader import Floats, Recording
from aifs_tune.data.split import Subsets, units_of

_SAME = 1e-3
"""Largest difference of the values of series that count as equal, as a share of the spread of each."""
_MOST_COMPARED = 200
"""Neighbours that a series is compared with."""
_MIN_SERIES = 30
_FAR = 5
"""Lengths that differ by more than this factor from the median are told."""
_OTHER_UNIT = 100
"""Median time steps that differ by more than this factor seem to be in another unit."""


def contents_of(recordings: Sequence[Recording]) -> list[str]:
    """What identifies each series; those that are equal to a thousandth of their spread have one text."""
    digests = [recording.digest for recording in recordings]
    by_length = defaultdict[int, list[int]](list)
    for i, recording in enumerate(recordings):
        by_length[len(recording.values)].append(i)
    links: list[tuple[int, int]] = []
    for rows in by_length.values():
        links += _equal_pairs([recordings[i] for i in rows], rows)
    return [str(unit) for unit in units_of(digests, _joined(len(digests), links))]


def _joined(n: int, links: Sequence[tuple[int, int]]) -> list[str]:
    """A text for each of n series that is the same for all that are linked, directly or not."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for one, other in links:
        parent[max(root(one), root(other))] = min(root(one), root(other))
    return [str(root(i)) for i in range(n)]


def _equal_pairs(recordings: Sequence[Recording], rows: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of series of one length that are equal to a share of their spread; compares neighbours in a projection."""
    if len(rows) < 2:
        return []
    n_steps, n_columns = recordings[0].values.shape
    weights = np.random.default_rng(0).normal(size=(n_steps, n_columns))
    filled = [np.nan_to_num(recording.values) for recording in recordings]
    spreads = np.array([np.nan_to_num(_spread(recording.values)) for recording in recordings])
    places = np.array([float((one * weights).sum()) for one in filled])
    reach = _SAME * (spreads * np.abs(weights).sum(axis=0)).sum(axis=1) + 1e-9 * np.abs(places)
    order = np.argsort(places, kind="stable")
    pairs = []
    for at, i in enumerate(order.tolist()):
        for j in order[at + 1 : at + 1 + _MOST_COMPARED].tolist():
            if places[j] - places[i] > max(reach[i], reach[j]):
                break
            limit = _SAME * np.minimum(spreads[i], spreads[j]) + 1e-9 * np.abs(filled[i]).max(axis=0)
            has_gaps_of = (np.isnan(recordings[i].values) == np.isnan(recordings[j].values)).all()
            is_equal = has_gaps_of and (np.abs(filled[i] - filled[j]) <= limit).all()
            if is_equal and _same_steps(recordings[i], recordings[j]):
                pairs.append((rows[i], rows[j]))
    return pairs


def _spread(values: Floats) -> Floats:
    """Standard deviation of each column; 0 where there is no value."""
    known = ~np.isnan(values)
    n = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, values, 0).sum(axis=0) / n
    return np.asarray(np.sqrt((np.where(known, values - means, 0) ** 2).sum(axis=0) / n))


def _same_steps(one: Recording, other: Recording) -> bool:
    if one.times is None or other.times is None:
        return one.times is other.times
    first, second = np.diff(one.times), np.diff(other.times)
    return bool(np.allclose(first, second, rtol=_SAME, atol=_SAME * first.mean()))


def copy_findings(found: Collection, contents: Sequence[str], subsets: Subsets) -> list[str]:
    """Equal series: in several sets, or with different classes."""
    texts = [text] if (text := crossing_text(found, contents, subsets)) is not None else []
    if found.labels:
        seen = defaultdict[str, dict[str, int]](dict)
        for i, (content, label) in enumerate(zip(contents, found.labels, strict=True)):
            seen[content].setdefault(label, i)
        contrary = [of_it for of_it in seen.values() if len(of_it) > 1]
        if contrary:
            n = sum(len(seen[content]) > 1 for content in contents)
            some = " and ".join(_named(found, i) for i in list(contrary[0].values())[:2])
            texts.append(f"{n} series have the same values as a series of another class, such as {some}")
    return texts


def crossing_text(found: Collection, contents: Sequence[str], subsets: Subsets) -> str | None:
    """How many series of the validation and test sets are in the training set too; None if none is."""
    train = {contents[row]: row for row in reversed(subsets["train"].tolist())}
    again = [row for part in ("val", "test") for row in subsets[part].tolist() if contents[row] in train]
    if not again:
        return None
    some = f"{_named(found, again[0])} and {_named(found, train[contents[again[0]]])}"
    return f"{len(again)} series of the validation and test sets have the values of a training series, such as {some}"


def _named(found: Collection, i: int) -> str:
    return shown(found.names[i]) if found.names else f"series {i + 1}"


def shape_findings(found: Collection) -> list[str]:
    """Lengths and time steps that differ a lot."""
    lengths = np.array([len(recording.values) for recording in found.recordings])
    median = float(np.median(lengths))
    texts = []
    is_far = (lengths > _FAR * median) | (lengths * _FAR < median)
    if is_far.any():
        i = int(np.flatnonzero(is_far)[0])
        texts.append(
            f"the lengths of {int(is_far.sum())} series are far from the median of {median:.0f} steps, such as "
            f"{_named(found, i)} with {lengths[i]}; all are padded to {lengths.max()}, or cut to data.series.length"
        )
    steps = median_steps(found.recordings)
    known = steps[steps > 0]
    if len(known):
        usual = float(np.median(known))
        other = np.flatnonzero((steps > _OTHER_UNIT * usual) | ((steps * _OTHER_UNIT < usual) & (steps > 0)))
        if len(other):
            i = int(other[0])
            texts.append(
                f"the times of {len(other)} series seem to be in another unit: the median step of {_named(found, i)} "
                f"is {steps[i]:.4g}, that of most series {usual:.4g}"
            )
    return texts


def median_steps(recordings: Sequence[Recording]) -> Floats:
    """The median time step of each series; 0 without times."""
    return np.array([0.0 if r.times is None else float(np.median(np.diff(r.times))) for r in recordings])


def leak_findings(found: Collection, *, has_steps: bool) -> list[str]:
    """Properties that are no measurements, and alone give the class of each series."""
    if len(found.labels) < _MIN_SERIES:
        return []
    codes = np.unique(np.asarray(found.labels), return_inverse=True)[1]
    what = {"the number of steps": np.array([float(len(r.values)) for r in found.recordings])}
    if has_steps:
        what["the median time step"] = median_steps(found.recordings)
    for index, name in enumerate(found.columns):
        ends = [_ends(recording.values[:, index]) for recording in found.recordings]
        if all(low == high for low, high in ends):
            what[f"column {shown(name)}, which has one value in each series,"] = np.array([low for low, _ in ends])
    return [
        f"{text} alone gives the class of every series; is that so in new data too?"
        for text, values in what.items()
        if _gives(values, codes)
    ]


def _ends(values: Floats) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _gives(values: Floats, codes: NDArray[Any]) -> bool:
    """Whether the classes are intervals of the values that do not overlap."""
    order = np.argsort(values, kind="stable")
    changes = np.flatnonzero(np.diff(codes[order]))
    in_order = values[order]
    return 0 < len(changes) <= codes.max() and bool((in_order[changes] < in_order[changes + 1]).all())


def columns_table(found: Collection, dropped: Mapping[str, str], *, has_steps: bool) -> list[dict[str, Any]]:
    """What each column of the series was taken for, its unit, range, missing entries, and why it is left out."""
    units = {} if found.reader is None else found.reader.units
    rows = []
    for index, name in enumerate(found.columns):
        columns = [recording.values[:, index] for recording in found.recordings]
        known = [ends for column in columns if (ends := _range(column)) is not None]
        ends = (min(low for low, _ in known), max(high for _, high in known)) if known else None
        missing = int(sum(np.isnan(column).sum() for column in columns))
        is_clock = found.reader is not None and name in found.reader.perhaps_clocks
        kind = "numbers, or times of day?" if is_clock else "numbers"
        row = column_row(name, kind, unit=units.get(name), ends=ends, missing=missing, left_out=dropped.get(name))
        rows.append(row)
    if found.reader is None:
        return rows
    times = [recording.times for recording in found.recordings if recording.times is not None]
    if found.reader.time is not None and times:
        taken_for = "times, their steps an input" if has_steps else "times, in even steps"
        ends = float(min(each[0] for each in times)), float(max(each[-1] for each in times))
        rows.insert(0, column_row(found.reader.time, taken_for, unit=units.get(found.reader.time), ends=ends))
    for name, why in found.reader.left_out.items():
        rows.append(column_row(name, why.taken_for, unit=units.get(name), left_out=why.reason))
    return rows


def _range(column: Floats) -> tuple[float, float] | None:
    known = column[~np.isnan(column)]
    return (float(known.min()), float(known.max())) if len(known) else None
