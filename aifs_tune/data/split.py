"""Stratified split of examples into training, validation and test sets, with groups and folds.

Examples that must stay together form a unit: those of one group, and exact copies. Units of several examples are
assigned greedily in many random orders, each to the subset whose class counts it brings closest to the requested
shares; the best assignment is used. Single examples then fill the gaps of each class, so without groups the shares
are exact to one example. The deviation of an assignment, over subsets p with share s_p and classes c with n_c
examples, is

    sum (n_pc - s_p n_c)^2 / (s_p n_c^2)  +  the number of pairs (p, c) without an example.

scikit-learn's StratifiedGroupKFold only makes subsets of equal size, and neither it nor StratifiedShuffleSplit
guarantees that every subset has every class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import Fold, SplitSpec
from aifs_tune.data.columns import scale_of
from aifs_tune.data.examples import Target
from aifs_tune.data.images.folder import SUBSETS
from aifs_tune.errors import DataError

_N_DRAWS = 64

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def units_of(contents: Sequence[str], groups: Sequence[str] | None) -> Ints:
    """Return the unit of each example; examples linked by equal contents or groups, directly or not, share a unit."""
    parent = list(range(len(contents)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for keys in (contents, groups or ()):
        first: dict[str, int] = {}
        for i, key in enumerate(keys):
            one, other = root(i), root(first.setdefault(key, i))
            parent[max(one, other)] = min(one, other)
    return np.unique([root(i) for i in range(len(contents))], return_inverse=True)[1].astype(np.int64)


def units_per_class(labels: Ints, units: Ints, n_classes: int) -> Ints:
    """Return the number of units in which each class occurs."""
    pairs = np.unique(np.stack([labels, units]), axis=1)
    return np.bincount(pairs[0], minlength=n_classes)


def split(labels: Ints, units: Ints, shares: Sequence[float], seed: int) -> Ints:
    """Return the subset of each example, an index into ``shares``, which sum to 1.

    ``labels`` are 0 to k - 1. The same ``seed`` and the same examples in the same order give the same subsets. The
    caller must check that every subset has every class.
    """
    random = np.random.default_rng(seed)
    n_classes = int(labels.max()) + 1
    sizes = np.bincount(units)
    counts = np.zeros((len(sizes), n_classes), np.int64)
    np.add.at(counts, (units, labels), 1)
    wished = np.outer(shares, counts.sum(axis=0))

    subset_of_unit = np.full(len(sizes), -1, np.int64)
    several = np.flatnonzero(sizes > 1)
    subset_of_unit[several] = _best_assignment(counts[several], wished, random)
    have = np.zeros_like(wished)
    np.add.at(have, subset_of_unit[several], counts[several])
    for c in range(n_classes):
        singles = random.permutation(np.flatnonzero((sizes == 1) & (counts[:, c] == 1)))
        filled = _fill(len(singles), wished[:, c], have[:, c])
        subset_of_unit[singles] = np.repeat(np.arange(len(shares)), filled)
    return subset_of_unit[units]


def refolded(
    subset_of: Ints, is_assigned: NDArray[np.bool_], labels: Ints, units: Ints, *, index: int, of: int, seed: int
) -> Ints:
    """Return ``subset_of`` (0 train, 1 val, 2 test) with the examples in ``is_assigned`` (n,) divided into folds.

    The ``of`` folds have equal size. If all training and validation examples are assigned, fold ``index`` validates
    and the others train. Otherwise fold ``index`` replaces the test set, whose own examples are then in no subset
    (-1).
    """
    rest = np.flatnonzero(is_assigned)
    known = np.unique(labels[rest], return_inverse=True)[1].astype(np.int64)
    together = np.unique(units[rest], return_inverse=True)[1].astype(np.int64)
    folds = split(known, together, [1 / of] * of, seed)
    is_all = len(rest) == np.count_nonzero((subset_of == 0) | (subset_of == 1))
    out = subset_of if is_all else np.where(subset_of == 2, -1, subset_of)
    out = out.copy()
    out[rest] = np.where(folds == index, 1 if is_all else 2, 0)
    return out


def _best_assignment(counts: Ints, wished: Floats, random: np.random.Generator) -> Ints:
    """Return the subset of each unit in the best of many random assignments.

    ``counts`` has the shape (units, classes), ``wished`` the shape (subsets, classes).
    """
    sizes = counts.sum(axis=1)
    order = np.argsort(-sizes * random.random((_N_DRAWS, len(sizes))), axis=1)  # large units tend to come first
    have = np.zeros((_N_DRAWS, *wished.shape))
    assignments = np.zeros(order.shape, np.int64)
    every = np.arange(_N_DRAWS)
    for units in order.T:
        more = have + counts[units][:, np.newaxis, :]
        subsets = np.argmin(_deviation(more, wished) - _deviation(have, wished), axis=1)
        have[every, subsets] = more[every, subsets]
        assignments[every, units] = subsets
    best: Ints = assignments[np.argmin(_deviation(have, wished).sum(axis=1))]
    return best


def _deviation(have: Floats, wished: Floats) -> Floats:
    """Return the deviation, shape (assignments, subsets), of counts of shape (assignments, subsets, classes)."""
    deviation: Floats = ((have - wished) ** 2 / (wished * wished.sum(axis=0)) + (have == 0)).sum(axis=2)
    return deviation


def _fill(n: int, wished: Floats, have: Floats) -> Ints:
    """Distribute ``n`` single examples of a class by what each subset lacks, with the largest remainder method."""
    lack = np.clip(wished - have, 0, None)
    lack = lack if lack.sum() > 0 else wished
    exact = n * lack / lack.sum()
    filled: Ints = np.floor(exact).astype(np.int64)
    filled[np.argsort(filled - exact, kind="stable")[: n - filled.sum()]] += 1
    for subset in np.flatnonzero(have + filled == 0):
        richest = int(np.argmax(np.where(filled > 0, have + filled, 0)))
        if filled[richest] > 0 and have[richest] + filled[richest] > 1:
            filled[richest] -= 1
            filled[subset] += 1
    return filled


Subsets = dict[str, NDArray[np.int32]]
_GOLDEN = (5**0.5 - 1) / 2
"""Golden ratio; its multiples modulo 1 are spread evenly for any number of them."""


def assign_subsets(
    wished: SplitSpec, where: str, *, contents: Sequence[str], groups: Sequence[str] | None, labels: Sequence[str]
) -> Subsets:
    """Split examples at random; equal ``contents`` and equal ``groups`` stay together.

    Every subset gets every class of ``labels`` in proportion. If numbers are predicted, all labels are equal.

    Raises
    ------
    DataError
        If no such split exists; the text names ``where`` and the class that is too rare.
    """
    shares = [1 - wished.val - wished.test, wished.val, wished.test]
    used = [i for i, share in enumerate(shares) if share > 0]
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    units = units_of(contents, groups)
    what = "different rows" if groups is None else "groups"
    for name, n in zip(names, units_per_class(numbers, units, len(names)), strict=True):
        if n < len(used):
            raise DataError(f"{where}: class {name} has {n} {what}; allowed: at least {len(used)}, one for each subset")
    assigned = np.array(used)[split(numbers.astype(np.int64), units, [shares[i] for i in used], wished.seed)]
    if len(np.unique(np.stack([assigned, numbers]), axis=1).T) < len(used) * len(names):
        raise DataError(
            f"{where}: {len(np.unique(units))} {what} cannot be split so that each subset has every class; "
            "allowed: more groups"
        )
    if wished.fold is not None:
        assigned = refold_subsets(
            wished.fold, assigned, numbers.astype(np.int64), units, where=where, names=names.tolist(), what=what
        )
    return {subset: np.flatnonzero(assigned == i).astype(np.int32) for i, subset in enumerate(SUBSETS)}


def refold_subsets(
    fold: Fold, subset_of: Ints, labels: Ints, units: Ints, *, where: str, names: Sequence[str], what: str
) -> Ints:
    """Apply :func:`refolded` and check that every fold has every class.

    Raises
    ------
    DataError
        If a class is too rare for the folds; the text names ``where`` and the class, one of ``names``.
    """
    is_train, is_val = subset_of == SUBSETS.index("train"), subset_of == SUBSETS.index("val")
    rest = is_train | is_val if fold.among == "all" else is_train
    for name, n in zip(names, units_per_class(labels[rest], units[rest], len(names)), strict=True):
        if n < fold.of:
            allowed = f"at least {fold.of}, one for each fold"
            raise DataError(f"{where}: class {name} has {n} {what} for the folds; allowed: {allowed}")
    subsets = refolded(subset_of, rest, labels, units, index=fold.index, of=fold.of, seed=fold.seed)
    for subset in ("train", "val" if fold.among == "all" else "test"):
        missing = set(labels[rest].tolist()) - set(labels[subsets == SUBSETS.index(subset)].tolist())
        if missing:
            found = f"class {names[min(missing)]} is not in the {subset} set of fold {fold.index} of {fold.of}"
            raise DataError(f"{where}: {found}, made of {len(np.unique(units[rest]))} {what}; allowed: fewer folds")
    return subsets


def fold_given_subsets(
    fold: Fold | None,
    subsets: Subsets,
    n: int,
    where: str,
    *,
    contents: Sequence[str],
    groups: Sequence[str] | None,
    labels: Sequence[str],
) -> Subsets:
    """Divide given ``subsets`` of ``n`` examples into folds with :func:`refold_subsets`; unchanged without a fold.

    Raises
    ------
    DataError
        If a class is too rare for so many folds.
    """
    if fold is None:
        return subsets
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    units, what = units_of(contents, groups), "different examples" if groups is None else "groups"
    assigned = refold_subsets(
        fold, _subset_of(subsets, n), numbers.astype(np.int64), units, where=where, names=names.tolist(), what=what
    )
    return {subset: np.flatnonzero(assigned == i).astype(np.int32) for i, subset in enumerate(SUBSETS)}


def forward_folds(
    fold: Fold | None,
    subsets: Subsets,
    times: NDArray[np.float64],
    where: str,
    *,
    gap: float = 0.0,
    labels: Sequence[str],
) -> Subsets:
    """Divide subsets that follow each other in time into forward-chaining folds; unchanged without a fold.

    Each fold is a block of time. Examples more than ``gap`` before the block train. ``times`` (n,) must only increase
    with time. For K folds, the examples are divided into K + 2 equal blocks, and the last K are the folds. All blocks
    are moved back by a fraction of a block that depends on the seed, so two blocks less this fraction precede the
    first fold. If ``fold.among`` is ``all``, the validation set is divided too, and the block validates; otherwise
    the block is the test set.

    Raises
    ------
    DataError
        If a fold has too few examples to train or to test, or lacks a class.
    """
    if fold is None:
        return subsets
    among = ["train", "val"] if fold.among == "all" else ["train"]
    assigned = np.sort(np.concatenate([subsets[subset] for subset in among]))
    ordered = np.sort(times[assigned])
    block = len(ordered) / (fold.of + 2)
    ends = len(ordered) - (fold.of - 1 - fold.index + _GOLDEN * fold.seed % 1) * block
    begin, end = round(ends - block), round(ends)
    first, last = ordered[begin], np.inf if end >= len(ordered) else ordered[end]
    measured = assigned[(times[assigned] >= first) & (times[assigned] < last)]
    train = assigned[times[assigned] < first - gap]
    measuring = "val" if fold.among == "all" else "test"
    for subset, rows in (("train", train), (measuring, measured)):
        missing = sorted(set(labels) - {labels[i] for i in rows})
        if len(rows) < 2 or missing:
            found = f"class {missing[0]} is not" if len(rows) >= 2 else f"{len(rows)} examples are"
            what = f"{found} in the {subset} set of fold {fold.index} of {fold.of}, which follow each other in time"
            raise DataError(f"{where}: {what}; allowed: fewer folds, or more examples")
    untouched = {"val": subsets["val"]} if fold.among == "train" else {"test": subsets["test"]}
    return {"train": train.astype(np.int32), measuring: measured.astype(np.int32), **untouched}


def _subset_of(subsets: Subsets, n: int) -> Ints:
    subset_of = np.full(n, -1, np.int64)
    for i, subset in enumerate(SUBSETS):
        subset_of[subsets[subset]] = i
    return subset_of


def given_subsets(entries: Sequence[str], where: str) -> Subsets:
    """Return the subsets that a column of the data names.

    Raises
    ------
    DataError
        If an entry is not train, val or test, or there are no examples to train or to validate.
    """
    column = np.asarray([str(entry).strip().lower() for entry in entries])
    strange = sorted(set(column.tolist()) - set(SUBSETS))
    if strange:
        raise DataError(f"{where}: {str(strange[0])!r} is not a subset; allowed: {', '.join(SUBSETS)}")
    subsets = {subset: np.flatnonzero(column == subset).astype(np.int32) for subset in SUBSETS}
    for subset in ("train", "val"):
        if len(subsets[subset]) == 0:
            raise DataError(f"{where}: no row for {subset}; allowed: rows for train and val")
    return subsets


def scaled(
    values: NDArray[np.float64], train: NDArray[np.int32], named: Mapping[str, str | None], where: str
) -> tuple[NDArray[np.float32], tuple[Target, ...]]:
    """Standardise values (n, targets) by the training set; return them with a Target for each column.

    Missing values are NaN and stay so.

    ``named`` maps the names of the targets to their units.

    Raises
    ------
    DataError
        If a target is constant in the training set.
    """
    found = [scale_of(column[~np.isnan(column)]) for column in values[train].T]
    for name, (_, _, problem) in zip(named, found, strict=True):
        if problem is not None:
            raise DataError(f"{where}: {name} is {problem}; allowed: values that vary")
    centres, scales = (np.array([each[i] for each in found]) for i in (0, 1))
    targets = tuple(
        Target(name, unit, float(centre), float(scale))
        for (name, unit), centre, scale in zip(named.items(), centres, scales, strict=True)
    )
    return ((values - centres) / scales).astype(np.float32), targets


def predicted_of(
    labels: Sequence[str] | None,
    values: NDArray[np.float64] | None,
    train: NDArray[np.int32],
    named: Mapping[str, str | None],
    where: str,
) -> tuple[NDArray[Any], tuple[str, ...], tuple[Target, ...]]:
    """``y_true``, ``classes`` and ``targets`` of an :class:`~aifs_tune.data.examples.ExampleSet`.

    ``labels`` are the classes of the examples, ``values`` (n, targets) their numbers, which :func:`scaled` scales; one
    of the two may be None.

    Raises
    ------
    DataError
        If a target is constant in the training set.
    """
    classes = () if labels is None else tuple(sorted(set(labels)))
    codes = np.array([classes.index(label) for label in labels or ()], np.int32)
    if values is None:
        return codes, classes, ()
    numbers, targets = scaled(values, train, named, where)
    if labels is None:
        return numbers, (), targets
    return np.concatenate([codes[:, None], numbers], axis=1, dtype=np.float32), classes, targets
