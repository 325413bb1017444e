"""Images as 64 bits that stay nearly the same when an image is stored again, made brighter or larger.

``gradient_hash`` (dHash) says of 8 x 8 places whether the image is brighter to the right; ``frequency_hash`` (pHash)
says of the 8 x 8 lowest frequencies whether they are above their median. Both look at grey values of a reduced image.
The number of bits in which two hashes differ is their Hamming distance; for images that have nothing to do with each
other it is about 32.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

Hashes: TypeAlias = NDArray[np.uint64]
Grey: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Images: TypeAlias = NDArray[np.unsignedinteger[Any]]

_BITS = 64
_APART = 27
"""Neighbouring places are often alike; so far apart in the hash, they are of different bands, which tell more."""
_MAX_PIECE = 1_000_000
"""Comparisons made at once, but for those of one hash."""


def reduced(images: Images, height: int, width: int) -> Grey:
    """Grey means (n, height, width) over the areas of ``images`` (n, h, w, c)."""
    grey = images[..., 0].astype(np.float32)
    for channel in range(1, images.shape[3]):  # NumPy is slow at means over so short an axis
        grey += images[..., channel]
    grey /= images.shape[3]
    rows, columns = _areas(height, grey.shape[1]), _areas(width, grey.shape[2])
    return np.asarray(rows @ grey @ columns.T, dtype=np.float32)


def gradient_hash(images: Images) -> Hashes:
    """dHash (n,) of ``images`` (n, h, w, c)."""
    grey = reduced(images, 8, 9)
    return _packed(grey[:, :, 1:] > grey[:, :, :-1])


def frequency_hash(images: Images) -> Hashes:
    """pHash (n,) of ``images`` (n, h, w, c)."""
    lowest = dctn(reduced(images, 32, 32), axes=(1, 2))[:, :8, :8].reshape(len(images), _BITS)
    return _packed(lowest > np.median(lowest[:, 1:], axis=1, keepdims=True))  # the first is the mean brightness


def near_pairs(hashes: Hashes, distance: int) -> Iterator[Ints]:
    """Pairs (m, 2) of indices, the lower first, whose hashes differ in at most ``distance`` bits; in pieces, some
    twice.

    Hashes that differ in at most d bits differ in at most one bit of one of d // 2 + 1 bands of their bits (multi-index
    hashing, Norouzi et al. 2012), so that only hashes with such a band are compared.
    """
    for order, asking, first, last in _asked(hashes, distance):
        yield from _near_among(hashes, order, distance, asking=asking, first=first, last=last)


def n_comparisons(hashes: Hashes, distance: int) -> int:
    """How many pairs of hashes :func:`near_pairs` looks at, which its time is proportional to."""
    return sum(int((last - first).sum()) for _, _, first, last in _asked(hashes, distance))


def _asked(hashes: Hashes, distance: int) -> Iterator[tuple[Ints, Ints, Ints, Ints]]:
    """For each band and each bit of it: an order of the hashes, which places in it ask, and from where to before where
    each is compared."""
    edges = np.linspace(0, _BITS, distance // 2 + 2).astype(int)
    for start, end in pairwise(edges.tolist()):
        band = (hashes >> np.uint64(start)) & np.uint64((1 << (end - start)) - 1)
        order = np.argsort(band, kind="stable")
        ordered = band[order]
        for flipped in (0, *(1 << bit for bit in range(end - start))):
            asking = np.flatnonzero((ordered & np.uint64(flipped)) == 0)
            wanted = ordered[asking] | np.uint64(flipped)
            first = np.searchsorted(ordered, wanted, "left") if flipped else asking + 1
            yield order, asking, first, np.searchsorted(ordered, wanted, "right")


def _near_among(hashes: Hashes, order: Ints, distance: int, *, asking: Ints, first: Ints, last: Ints) -> Iterator[Ints]:
    """Of each place in ``order`` that is asking with the places from first to before last: what is near."""
    counts = last - first
    ends = np.cumsum(counts)
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, _MAX_PIECE), "left")
    for low, high in pairwise([*cuts.tolist(), len(counts)]):
        of_each, total = counts[low:high], int(counts[low:high].sum())
        places = np.arange(total) + np.repeat(first[low:high] - (np.cumsum(of_each) - of_each), of_each)
        one, other = order[np.repeat(asking[low:high], of_each)], order[places]
        near = np.bitwise_count(hashes[one] ^ hashes[other]) <= distance
        if near.any():
            yield np.sort(np.stack([one[near], other[near]], axis=1), axis=1)


def _areas(n_out: int, n_in: int) -> Grey:
    """(n_out, n_in) the share of each of n_in pixels in each of n_out equal areas over them; rows sum to 1."""
    edges, pixels = np.linspace(0, n_in, n_out + 1), np.arange(n_in)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.clip(overlap, 0, None) * (n_out / n_in), dtype=np.float32)


def _packed(bits: NDArray[np.bool_]) -> Hashes:
    apart = np.ascontiguousarray(bits.reshape(len(bits), _BITS)[:, np.arange(_BITS) * _APART % _BITS])
    return np.packbits(apart, axis=1).view(np.uint64).ravel()
