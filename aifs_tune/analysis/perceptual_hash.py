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
Images: TypeAlias = NDArray[np.unsignedinteger[Any]]

_BITS = 64
_LARGEST_BLOCK = 2048
"""Hashes of a side that are compared at once: 32 MB."""


def reduced(images: Images, height: int, width: int) -> Grey:
    """Grey means (n, height, width) over the areas of ``images`` (n, h, w, c)."""
    grey = images.mean(axis=3, dtype=np.float32)
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


def near_pairs(hashes: Hashes, distance: int) -> Iterator[NDArray[np.int64]]:
    """Pairs (m, 2) of indices, the lower first, whose hashes differ in at most ``distance`` bits; in pieces, some
    twice.

    Hashes that differ in at most d bits agree wholly in one of d + 1 bands of their bits, so that only those that
    share a band are compared.
    """
    edges = np.linspace(0, _BITS, distance + 2).astype(int)
    for start, end in pairwise(edges.tolist()):
        band = (hashes >> np.uint64(start)) & np.uint64((1 << (end - start)) - 1)
        order = np.argsort(band, kind="stable")
        for same in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
            yield from _near_within(hashes, same, distance)


def _near_within(hashes: Hashes, indices: NDArray[np.int64], distance: int) -> Iterator[NDArray[np.int64]]:
    blocks = [indices[i : i + _LARGEST_BLOCK] for i in range(0, len(indices), _LARGEST_BLOCK)]
    for i, one in enumerate(blocks):
        for other in blocks[i:]:
            is_near = np.bitwise_count(hashes[one][:, None] ^ hashes[other]) <= distance
            is_near &= one[:, None] < other  # indices rise: the sort is stable
            rows, columns = np.nonzero(is_near)
            if len(rows):
                yield np.stack([one[rows], other[columns]], axis=1)


def _areas(n_out: int, n_in: int) -> Grey:
    """(n_out, n_in) the share of each of n_in pixels in each of n_out equal areas over them; rows sum to 1."""
    edges, pixels = np.linspace(0, n_in, n_out + 1), np.arange(n_in)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.clip(overlap, 0, None) * (n_out / n_in), dtype=np.float32)


def _packed(bits: NDArray[np.bool_]) -> Hashes:
    return np.packbits(bits.reshape(len(bits), _BITS), axis=1).view(np.uint64).ravel()
