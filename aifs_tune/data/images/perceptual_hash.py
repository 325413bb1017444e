"""Perceptual hashes: 64 bits that hardly change when an image is recompressed, brightened or resized.

``gradient_hash`` (dHash) records at 8 x 8 points whether the image gets brighter to the right. ``frequency_hash``
(pHash) records for the 8 x 8 lowest frequencies whether they are above their median. Both use the grey values of a
reduced image. The Hamming distance of two hashes is the number of bits that differ; it is about 32 for unrelated
images.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import scipy  # its modules are imported when they are used
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]
Grey: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Images: TypeAlias = NDArray[np.unsignedinteger[Any]]

_BITS = 64
_STRIDE = 27
"""Distance in the hash between neighbouring points, which are often equal: it puts them into different bands."""
_MAX_PIECE = 1_000_000
"""Number of comparisons made at once; those of one hash are never divided."""


def reduced(images: Images, height: int, width: int) -> Grey:
    """Reduce ``images`` (n, h, w, c) to grey means over areas, shape (n, height, width)."""
    grey = images[..., 0].astype(np.float32)
    for channel in range(1, images.shape[3]):  # faster than a NumPy mean over such a short axis
        grey += images[..., channel]
    grey /= images.shape[3]
    rows, columns = _areas(height, grey.shape[1]), _areas(width, grey.shape[2])
    return np.asarray(rows @ grey @ columns.T, dtype=np.float32)


def gradient_hash(images: Images) -> Hashes:
    """Return the dHash (n,) of ``images`` (n, h, w, c)."""
    grey = reduced(images, 8, 9)
    return _packed(grey[:, :, 1:] > grey[:, :, :-1])


def frequency_hash(images: Images) -> Hashes:
    """Return the pHash (n,) of ``images`` (n, h, w, c)."""
    lowest = scipy.fft.dctn(reduced(images, 32, 32), axes=(1, 2))[:, :8, :8].reshape(len(images), _BITS)
    return _packed(lowest > np.median(lowest[:, 1:], axis=1, keepdims=True))  # without the first, the mean brightness


def near_pairs(hashes: Hashes, distance: int) -> Iterator[Ints]:
    """Yield pairs of indices (m, 2), the lower first, of hashes that differ in at most ``distance`` bits.

    A pair may occur twice. Two hashes that differ in at most d bits have, among d // 2 + 1 bands of their bits, one
    in which at most one bit differs (multi-index hashing, Norouzi et al. 2012). Only hashes with such a band are
    compared.
    """
    for order, asking, first, last in _asked(hashes, distance):
        yield from _near_among(hashes, order, distance, asking=asking, first=first, last=last)


def n_comparisons(hashes: Hashes, distance: int) -> int:
    """Return the number of pairs that :func:`near_pairs` compares; its time is proportional to it."""
    return sum(int((last - first).sum()) for _, _, first, last in _asked(hashes, distance))


def _asked(hashes: Hashes, distance: int) -> Iterator[tuple[Ints, Ints, Ints, Ints]]:
    """Yield, for each band and flipped bit, an order of the hashes and the comparisons to make in this order.

    Each position in ``asking`` is compared with the positions from ``first`` up to but not including ``last``.
    """
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
    """Compare each position in ``asking`` with those from ``first`` to ``last``, and yield the near pairs."""
    counts = last - first
    ends = np.cumsum(counts)
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, _MAX_PIECE), "left")
    for low, high in pairwise([*cuts.tolist(), len(counts)]):
        of_each, total = counts[low:high], int(counts[low:high].sum())
        positions = np.arange(total) + np.repeat(first[low:high] - (np.cumsum(of_each) - of_each), of_each)
        one, other = order[np.repeat(asking[low:high], of_each)], order[positions]
        near = np.bitwise_count(hashes[one] ^ hashes[other]) <= distance
        if near.any():
            yield np.sort(np.stack([one[near], other[near]], axis=1), axis=1)


def _areas(n_out: int, n_in: int) -> Grey:
    """Return the weight of each of n_in pixels in each of n_out equal areas, shape (n_out, n_in); rows sum to 1."""
    edges, pixels = np.linspace(0, n_in, n_out + 1), np.arange(n_in)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.clip(overlap, 0, None) * (n_out / n_in), dtype=np.float32)


def _packed(bits: NDArray[np.bool_]) -> Hashes:
    apart = np.ascontiguousarray(bits.reshape(len(bits), _BITS)[:, np.arange(_BITS) * _STRIDE % _BITS])
    return np.packbits(apart, axis=1).view(np.uint64).ravel()
