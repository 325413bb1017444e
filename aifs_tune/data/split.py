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

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
