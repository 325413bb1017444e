"""Fractions of two-level factorial designs: some factors are products of others.

A word is a set of factors whose product is the same in every run, as bits of a whole number. The resolution is the
length of the shortest word: at 3 main effects are apart from each other, at 4 from effects of two factors together
too, at 5 these are apart from each other. Box, Hunter & Hunter, Statistics for Experimenters (2005), chapter 6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError

MOST_FACTORS = 15
_FACTOR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Generator = tuple[int, int]
"""The factors whose product another one is, as bits, and its sign."""


def words_of(generators: Mapping[int, Generator]) -> set[int]:
    """All words of a fraction, by its generated factors."""
    words: set[int] = set()
    for factor, (bits, _) in generators.items():
        own = bits | 1 << factor
        words |= {own} | {word ^ own for word in words}
    return words


def resolution_of(generators: Mapping[int, Generator]) -> int | None:
    """The length of the shortest word; None for all runs of all factors, which has none."""
    return min((word.bit_count() for word in words_of(generators)), default=None)


def smallest(n_factors: int, resolution: int) -> dict[int, Generator]:
    """The generators of the fraction with the fewest runs that has at least this resolution: the first factors are
    free, the others products of as many of these as can be."""
    for n_free in range(1, n_factors):
        sizes = range(n_free, resolution - 2, -1)
        products = [sum(1 << i for i in chosen) for size in sizes for chosen in combinations(range(n_free), size)]
        found = _added({}, set(), list(range(n_free, n_factors)), products, resolution)
        if found is not None:
            return found
    return {}


def _added(
    generators: dict[int, Generator], words: set[int], missing: Sequence[int], products: Sequence[int], resolution: int
) -> dict[int, Generator] | None:
    if not missing:
        return generators
    for i, bits in enumerate(products):
        own = bits | 1 << missing[0]
        new = {own} | {word ^ own for word in words}
        if min(word.bit_count() for word in new) >= resolution:
            more = {**generators, missing[0]: (bits, 1)}
            found = _added(more, words | new, missing[1:], products[i + 1 :], resolution)
            if found is not None:
                return found
    return None


def read_generators(factors: Sequence[str], given: Mapping[str, str]) -> dict[int, Generator]:
    """Generators as a sweep file writes them, ``{"pressure": "temperature * hold_time"}``.

    Raises
    ------
    RequestError
        If one names what is no factor, or one that is a product itself.
    """
    free = [name for name in factors if name not in given]
    read: dict[int, Generator] = {}
    for name, text in given.items():
        where = f"search.initial.generators.{name}"
        if name not in factors:
            raise RequestError(f"{where}: no factor of this name; allowed: {', '.join(factors)}")
        sign, product = (-1, text.strip()[1:]) if text.strip().startswith("-") else (1, text)
        named = [part.strip() for part in product.split("*")]
        for part in named:
            if not _FACTOR.fullmatch(part) or part not in free or named.count(part) > 1:
                allowed = f"a product of different ones of {', '.join(free)}, such as {' * '.join(free[:2])}"
                raise RequestError(f"{where}: {part!r} in {text!r} is not a free factor; allowed: {allowed}")
        read[factors.index(name)] = sum(1 << factors.index(part) for part in named), sign
    return read


def runs_of(n_factors: int, generators: Mapping[int, Generator]) -> NDArray[np.int64]:
    """The runs (2 ** free factors, n_factors) of a fraction: -1 low, 1 high."""
    free = [factor for factor in range(n_factors) if factor not in generators]
    runs = np.ones((2 ** len(free), n_factors), dtype=np.int64)
    for i, factor in enumerate(free):
        runs[:, factor] = np.where(np.arange(len(runs)) >> i & 1, 1, -1)
    for factor, (bits, sign) in generators.items():
        chosen = [other for other in free if bits >> other & 1]
        runs[:, factor] = sign * runs[:, chosen].prod(axis=1)
    return runs
