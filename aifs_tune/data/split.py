"""Which images train, which validate, which are kept for the test.

What must stay together is one unit: images of one group, and exact copies of one image. Units of several
images are dealt greedily, in many seeded orders at once, each to the part whose class shares it brings
closest to the wish; the best deal is kept. Single images then fill, class by class, what is missing, so
that without groups the shares are exact up to one image. The deviation of a deal is, over parts p and
classes c with share s_p and n_c images,

    sum (n_pc - s_p n_c)^2 / (s_p n_c^2)  +  the number of pairs without an image,

scikit-learn's StratifiedGroupKFold is not used: it deals parts of equal size only, and neither it nor
StratifiedShuffleSplit promises a class to every part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import Fold, SplitSpec
from aifs_tune.data.examples import PARTS, Target
from aifs_tune.errors import DataError

_N_DRAWS = 64

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def units_of(contents: Sequence[str], groups: Sequence[str] | None) -> Ints:
    """Number of the unit of each image: images that share content or group, directly or by a chain of both."""
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
    """In how many units each class occurs."""
    pairs = np.unique(np.stack([labels, units]), axis=1)
    return np.bincount(pairs[0], minlength=n_classes)


def split(labels: Ints, units: Ints, shares: Sequence[float], seed: int) -> Ints:
    """Part of each image, an index into ``shares``, which sum to 1.

    ``labels`` are 0 to k - 1. The same ``seed`` and the same images in the same order give the same parts.
    Every part gets every class wherever the best deal found allows it; the caller checks.
    """
    random = np.random.default_rng(seed)
    n_classes = int(labels.max()) + 1
    sizes = np.bincount(units)
    counts = np.zeros((len(sizes), n_classes), np.int64)
    np.add.at(counts, (units, labels), 1)
    wished = np.outer(shares, counts.sum(axis=0))

    part_of_unit = np.full(len(sizes), -1, np.int64)
    several = np.flatnonzero(sizes > 1)
    part_of_unit[several] = _best_assignment(counts[several], wished, random)
    have = np.zeros_like(wished)
    np.add.at(have, part_of_unit[several], counts[several])
    for c in range(n_classes):
        singles = random.permutation(np.flatnonzero((sizes == 1) & (counts[:, c] == 1)))
        filled = _fill(len(singles), wished[:, c], have[:, c])
        part_of_unit[singles] = np.repeat(np.arange(len(shares)), filled)
    return part_of_unit[units]


def refolded(
    part_of: Ints, is_assigned: NDArray[np.bool_], labels: Ints, units: Ints, *, index: int, of: int, seed: int
) -> Ints:
    """``part_of`` (0 train, 1 val, 2 test) with what ``is_dealt`` (n,), none of the test part, in ``of`` folds of equal
    size. Where all that is not test is dealt, fold ``index`` validates and the others train. Else fold ``index`` is in
    the place of the test part, whose own examples are in none (-1)."""
    rest = np.flatnonzero(is_assigned)
    known = np.unique(labels[rest], return_inverse=True)[1].astype(np.int64)
    together = np.unique(units[rest], return_inverse=True)[1].astype(np.int64)
    folds = split(known, together, [1 / of] * of, seed)
    is_all = len(rest) == np.count_nonzero((part_of == 0) | (part_of == 1))
    out = part_of if is_all else np.where(part_of == 2, -1, part_of)
    out = out.copy()
    out[rest] = np.where(folds == index, 1 if is_all else 2, 0)
    return out


def _best_assignment(counts: Ints, wished: Floats, random: np.random.Generator) -> Ints:
    """Part of each unit in the best of many deals. ``counts`` is (units, classes), ``wished`` (parts, classes)."""
    sizes = counts.sum(axis=1)
    order = np.argsort(-sizes * random.random((_N_DRAWS, len(sizes))), axis=1)  # large ones early, as a rule
    have = np.zeros((_N_DRAWS, *wished.shape))
    deals = np.zeros(order.shape, np.int64)
    every = np.arange(_N_DRAWS)
    for units in order.T:
        more = have + counts[units][:, np.newaxis, :]
        parts = np.argmin(_deviation(more, wished) - _deviation(have, wished), axis=1)
        have[every, parts] = more[every, parts]
        deals[every, units] = parts
    best: Ints = deals[np.argmin(_deviation(have, wished).sum(axis=1))]
    return best


def _deviation(have: Floats, wished: Floats) -> Floats:
    """The formula above per deal and part: (deals, parts, classes) to (deals, parts)."""
    deviation: Floats = ((have - wished) ** 2 / (wished * wished.sum(axis=0)) + (have == 0)).sum(axis=2)
    return deviation


def _fill(n: int, wished: Floats, have: Floats) -> Ints:
    """How many of ``n`` single images of one class each part gets: what it lacks, by the largest remainder."""
    lack = np.clip(wished - have, 0, None)
    lack = lack if lack.sum() > 0 else wished
    exact = n * lack / lack.sum()
    filled: Ints = np.floor(exact).astype(np.int64)
    filled[np.argsort(filled - exact, kind="stable")[: n - filled.sum()]] += 1
    for part in np.flatnonzero(have + filled == 0):
        richest = int(np.argmax(np.where(filled > 0, have + filled, 0)))
        if filled[richest] > 0 and have[richest] + filled[richest] > 1:
            filled[richest] -= 1
            filled[part] += 1
    return filled


Subsets = dict[str, NDArray[np.int32]]
_GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it modulo 1 lie apart, however many there are."""


def assign_subsets(
    wished: SplitSpec, where: str, *, contents: Sequence[str], groups: Sequence[str] | None, labels: Sequence[str]
) -> Subsets:
    """Divide examples so that equal ``contents``, and equal ``groups``, stay together and every class of ``labels`` is
    in every part, in its share; ``labels`` are all one where numbers are predicted.

    Raises
    ------
    DataError
        If that is not possible; names ``where`` and the class that is too rare.
    """
    shares = [1 - wished.val - wished.test, wished.val, wished.test]
    used = [i for i, share in enumerate(shares) if share > 0]
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    units = units_of(contents, groups)
    what = "different rows" if groups is None else "groups"
    for name, n in zip(names, units_per_class(numbers, units, len(names)), strict=True):
        if n < len(used):
            raise DataError(f"{where}: class {name} has {n} {what}; allowed: at least {len(used)}, one for each part")
    dealt = np.array(used)[split(numbers.astype(np.int64), units, [shares[i] for i in used], wished.seed)]
    if len(np.unique(np.stack([dealt, numbers]), axis=1).T) < len(used) * len(names):
        raise DataError(
            f"{where}: {len(np.unique(units))} {what} cannot be divided so that each part has every class; "
            "allowed: more groups"
        )
    if wished.fold is not None:
        dealt = refold_subsets(
            wished.fold, dealt, numbers.astype(np.int64), units, where=where, names=names.tolist(), what=what
        )
    return {part: np.flatnonzero(dealt == i).astype(np.int32) for i, part in enumerate(PARTS)}


def refold_subsets(
    fold: Fold, part_of: Ints, labels: Ints, units: Ints, *, where: str, names: Sequence[str], what: str
) -> Ints:
    """As :func:`~aifs_tune.data.split.refolded`, with every class in every fold.

    Raises
    ------
    DataError
        If that is not possible; names ``where`` and the class, of ``names``, that is too rare.
    """
    is_train, is_val = part_of == PARTS.index("train"), part_of == PARTS.index("val")
    rest = is_train | is_val if fold.among == "all" else is_train
    for name, n in zip(names, units_per_class(labels[rest], units[rest], len(names)), strict=True):
        if n < fold.of:
            allowed = f"at least {fold.of}, one for each fold"
            raise DataError(f"{where}: class {name} has {n} {what} to be dealt; allowed: {allowed}")
    parts = refolded(part_of, rest, labels, units, index=fold.index, of=fold.of, seed=fold.seed)
    for part in ("train", "val" if fold.among == "all" else "test"):
        missing = set(labels[rest].tolist()) - set(labels[parts == PARTS.index(part)].tolist())
        if missing:
            found = f"class {names[min(missing)]} is not in the {part} part of fold {fold.index} of {fold.of}"
            raise DataError(f"{where}: {found}, dealt by {len(np.unique(units[rest]))} {what}; allowed: fewer folds")
    return parts


def fold_given_subsets(
    fold: Fold | None,
    parts: Subsets,
    n: int,
    where: str,
    *,
    contents: Sequence[str],
    groups: Sequence[str] | None,
    labels: Sequence[str],
) -> Subsets:
    """Named ``parts`` of ``n`` examples with the named training part dealt into folds, as :func:`in_folds` does; as
    they are without a fold.

    Raises
    ------
    DataError
        If a class is too rare for so many folds.
    """
    if fold is None:
        return parts
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    units, what = units_of(contents, groups), "different examples" if groups is None else "groups"
    dealt = refold_subsets(
        fold, _part_of(parts, n), numbers.astype(np.int64), units, where=where, names=names.tolist(), what=what
    )
    return {part: np.flatnonzero(dealt == i).astype(np.int32) for i, part in enumerate(PARTS)}


def forward_folds(
    fold: Fold | None,
    parts: Subsets,
    times: NDArray[np.float64],
    where: str,
    *,
    gap: float = 0.0,
    labels: Sequence[str],
) -> Subsets:
    """Parts that follow each other in time, with the training part in forward-chaining folds: each fold is a block of
    time, and what lies at least ``gap`` before its beginning trains. As they are without a fold.

    ``times`` (n,) only have to rise with time. Of K folds the last K blocks of K + 2 equal ones are tested on, moved
    back by a part of a block that the seed of the deal tells, so that each has two blocks or more before it but for
    that part. With folds among all, the validation part belongs to what is dealt, and the block validates.

    Raises
    ------
    DataError
        If a fold has nothing to train or to test on, or lacks a class.
    """
    if fold is None:
        return parts
    among = ["train", "val"] if fold.among == "all" else ["train"]
    dealt = np.sort(np.concatenate([parts[part] for part in among]))
    ordered = np.sort(times[dealt])
    block = len(ordered) / (fold.of + 2)
    ends = len(ordered) - (fold.of - 1 - fold.index + _GOLDEN * fold.seed % 1) * block
    begin, end = round(ends - block), round(ends)
    first, last = ordered[begin], np.inf if end >= len(ordered) else ordered[end]
    measured = dealt[(times[dealt] >= first) & (times[dealt] < last)]
    train = dealt[times[dealt] < first - gap]
    measuring = "val" if fold.among == "all" else "test"
    for part, rows in (("train", train), (measuring, measured)):
        missing = sorted(set(labels) - {labels[i] for i in rows})
        if len(rows) < 2 or missing:
            found = f"class {missing[0]} is not" if len(rows) >= 2 else f"{len(rows)} examples are"
            what = f"{found} in the {part} part of fold {fold.index} of {fold.of}, which follow each other in time"
            raise DataError(f"{where}: {what}; allowed: fewer folds, or more examples")
    untouched = {"val": parts["val"]} if fold.among == "train" else {"test": parts["test"]}
    return {"train": train.astype(np.int32), measuring: measured.astype(np.int32), **untouched}


def _part_of(parts: Subsets, n: int) -> Ints:
    part_of = np.full(n, -1, np.int64)
    for i, part in enumerate(PARTS):
        part_of[parts[part]] = i
    return part_of


def given_subsets(entries: Sequence[str], where: str) -> Subsets:
    """The parts that the data themselves name.

    Raises
    ------
    DataError
        If an entry is no part, or nothing is to train or to validate on.
    """
    column = np.asarray([str(entry).strip().lower() for entry in entries])
    strange = sorted(set(column.tolist()) - set(PARTS))
    if strange:
        raise DataError(f"{where}: {str(strange[0])!r} is no part; allowed: {', '.join(PARTS)}")
    parts = {part: np.flatnonzero(column == part).astype(np.int32) for part in PARTS}
    for part in ("train", "val"):
        if len(parts[part]) == 0:
            raise DataError(f"{where}: no row is {part}; allowed: rows for train and val")
    return parts


def scaled(
    values: NDArray[np.float64], train: NDArray[np.int32], named: Mapping[str, str | None], where: str
) -> tuple[NDArray[np.float32], tuple[Target, ...]]:
    """Values (n, targets) in units of their spread in the training part, and what says so.

    ``named`` are the names of the targets with their units.

    Raises
    ------
    DataError
        If a target is the same in all of the training part.
    """
    centres, scales = values[train].mean(axis=0), values[train].std(axis=0)
    for name, spread in zip(named, scales, strict=True):
        if not spread > 0:
            raise DataError(f"{where}: {name} is the same in all rows of the training part; allowed: what varies")
    targets = tuple(
        Target(name, unit, float(centre), float(scale))
        for (name, unit), centre, scale in zip(named.items(), centres, scales, strict=True)
    )
    return ((values - centres) / scales).astype(np.float32), targets
