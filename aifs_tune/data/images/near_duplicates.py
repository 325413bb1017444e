"""Images that show the same thing: stored twice, seen in two exposures, cut out of one picture with an overlap.

Such a pair with one image to train and the other to test makes a model look better than it is. Pairs are found by
perceptual hashes and kept if the reduced images themselves agree, moved against each other by up to a sixteenth of
their size: hashes alone take different objects of one kind for copies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import write_file
from aifs_tune.data.file_table import FileTable
from aifs_tune.data.images.perceptual_hash import (
    Grey,
    Hashes,
    Images,
    frequency_hash,
    gradient_hash,
    n_comparisons,
    near_pairs,
    reduced,
)
from aifs_tune.errors import RequestError

MAX_DISTANCE = 16
"""In bits; beyond it the bands that two hashes must share are so short that nearly all pairs are compared."""
MAX_COMPARISONS = 600_000_000
"""Of hashes; where more would be needed, only nearer ones are looked at, or a part of the images: about 15 s."""
MAX_CANDIDATES = 150_000
"""Of reduced images; where there are more, those with the nearest hashes are looked at: about 10 s."""
_OF_THE_OTHER = 3
_SIZE, _REACH = 32, 2
_CHUNK = 1024


@dataclass(frozen=True)
class NearDuplicate:
    """Two images by their indices; ``similarity`` is the correlation of their grey values where they agree best."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True)
class NearDuplicates:
    """The pairs, most alike first. ``n_flat`` images show nothing at all and were not compared.

    Of large sets not all is looked at: ``n_compared`` images were, by hashes that differ in at most ``distance`` bits,
    and ``n_passed_over`` candidates were left, some of them counted more than once, whose hashes are less near than
    those of the others.
    """

    pairs: tuple[NearDuplicate, ...]
    n_flat: int
    n_compared: int
    distance: int
    n_passed_over: int

    def to_frame(self) -> pd.DataFrame:
        """A row a pair."""
        columns = pd.Index(["first", "second", "similarity"])
        return pd.DataFrame([asdict(pair) for pair in self.pairs], columns=columns)


def near_duplicates(
    images: Images, *, parts: Sequence[str] | None = None, distance: int = 8, similarity: float = 0.95
) -> NearDuplicates:
    """Pairs of ``images`` (n, h, w, c) that show the same.

    They are read in pieces, so that a memory map will do. Images of eight bits and of sixteen are taken alike.

    Parameters
    ----------
    parts
        The part of each image (n,), such as ``train``: pairs within one part are left out. None has all pairs.
    distance
        One of the hashes must agree but for so many of its 64 bits, the other but for three times as many.
    similarity
        The least correlation of a pair that is kept. Noise counts: two exposures of a faint object have less.

    Raises
    ------
    RequestError
        If the images have another shape or type, the parts are not one for each, or a number is out of range.
    """
    _check(images, parts, distance, similarity)
    pieces = [images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)]
    shown = np.concatenate([_is_something(piece) for piece in pieces] or [np.empty(0, bool)])
    kept = np.flatnonzero(shown)
    numbers = np.arange(len(images)) if parts is None else np.unique(list(parts), return_inverse=True)[1]
    hashes = [
        np.concatenate([hashed(piece) for piece in pieces] or [np.empty(0, np.uint64)])
        for hashed in (gradient_hash, frequency_hash)
    ]
    compared, near = _affordable(hashes, kept, distance)
    candidates, n_passed_over = _candidates(hashes, compared, near, distance, numbers)
    alike = [_similarities(images, candidates[i : i + _CHUNK]) for i in range(0, len(candidates), _CHUNK)]
    measured = zip(candidates.tolist(), np.concatenate([*alike, np.empty(0)]).tolist(), strict=True)
    duplicates = [NearDuplicate(first, second, value) for (first, second), value in measured if value >= similarity]
    return NearDuplicates(
        tuple(sorted(duplicates, key=lambda pair: (-pair.similarity, pair.first, pair.second))),
        n_flat=len(images) - len(kept),
        n_compared=len(compared),
        distance=near,
        n_passed_over=n_passed_over,
    )


def _affordable(hashes: Sequence[Hashes], kept: NDArray[np.int64], distance: int) -> tuple[NDArray[np.int64], int]:
    """Which of the ``kept`` images, and at which distance up to ``distance``, take :data:`MAX_COMPARISONS`."""
    for near in range(distance, -1, -2):
        if sum(n_comparisons(each[kept], near) for each in hashes) <= MAX_COMPARISONS:
            return kept, near
    compared = kept
    while sum(n_comparisons(each[compared], near) for each in hashes) > MAX_COMPARISONS:
        compared = compared[::2]
    return compared, near


def _candidates(
    hashes: Sequence[Hashes], compared: NDArray[np.int64], near: int, distance: int, numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Pairs (m, 2) of the ``compared`` images with near hashes and different ``numbers``, at most
    :data:`MAX_CANDIDATES`, those with the nearest hashes; and how many were left."""
    n, n_left = len(numbers) + 1, 0
    keys, bits = np.empty(0, np.int64), np.empty(0, np.int64)
    for own, other in (hashes, hashes[::-1]):
        for found in near_pairs(own[compared], near):
            first, second = compared[found].T
            differing = np.bitwise_count(other[first] ^ other[second]).astype(np.int64)
            is_kept = (differing <= _OF_THE_OTHER * distance) & (numbers[first] != numbers[second])
            first, second, differing = first[is_kept], second[is_kept], differing[is_kept]
            keys = np.concatenate([keys, first * n + second])
            bits = np.concatenate([bits, differing + np.bitwise_count(own[first] ^ own[second])])
            if len(keys) > 8 * MAX_CANDIDATES:
                keys, bits, more = _nearest(keys, bits)
                n_left += more
    keys, _, more = _nearest(keys, bits)
    keys = np.sort(keys)
    return np.stack([keys // n, keys % n], axis=1), n_left + more


def _nearest(keys: NDArray[np.int64], bits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Each key once, the :data:`MAX_CANDIDATES` with the fewest bits; and how many were left."""
    once, places = np.unique(keys, return_index=True)
    order = np.argsort(bits[places], kind="stable")[:MAX_CANDIDATES]
    return once[order], bits[places][order], len(once) - len(order)


def _is_something(images: Images) -> NDArray[np.bool_]:
    """Whether the reduced image has any contrast, one of 255 steps at least."""
    grey = reduced(images, _SIZE, _SIZE).reshape(len(images), -1)
    return np.asarray(np.ptp(grey, axis=1) >= np.iinfo(images.dtype).max / 255)


def _similarities(images: Images, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """The largest correlation (m,) of each pair over all shifts of up to ``_REACH`` of ``_SIZE`` pixels."""
    needed, places = np.unique(pairs, return_inverse=True)
    grey = reduced(images[needed], _SIZE, _SIZE)
    first, second = grey[places.reshape(pairs.shape)].swapaxes(0, 1)
    inner = _SIZE - 2 * _REACH
    middle = _standard(first[:, _REACH:-_REACH, _REACH:-_REACH])
    best = np.full(len(pairs), -1.0)
    for down, right in product(range(2 * _REACH + 1), repeat=2):
        moved = _standard(second[:, down : down + inner, right : right + inner])
        best = np.maximum(best, np.einsum("ij,ij->i", middle, moved))
    return best


def _standard(grey: Grey) -> Grey:
    """Flat (m, pixels), with mean 0 and length 1; all 0 where there is no contrast."""
    flat = grey.reshape(len(grey), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.divide(flat, length, out=np.zeros_like(flat), where=length > 0))


def _check(images: Images, parts: Sequence[str] | None, distance: int, similarity: float) -> None:
    if images.ndim != 4 or images.dtype not in (np.uint8, np.uint16):
        came = f"shape {images.shape} of {images.dtype}"
        raise RequestError(f"images: {came}; allowed: (images, height, width, channels) of uint8 or uint16")
    if parts is not None and len(parts) != len(images):
        raise RequestError(f"parts: {len(parts)} of them; allowed: one for each of the {len(images)} images")
    if not 0 <= distance <= MAX_DISTANCE:
        raise RequestError(f"distance: {distance} is not allowed; allowed: 0 to {MAX_DISTANCE} bits")
    if not 0 < similarity <= 1:
        raise RequestError(f"similarity: {similarity} is not allowed; allowed: above 0 and up to 1")


_VERSION = 1
_NAMED, _KEPT = 3, 20
_SMALL_SHARE = 0.05
"""Of the images; where more are in pairs, most of them are of one kind rather than the same."""

Found = tuple[int, int, float]
"""Two examples and how alike they are."""


@dataclass(frozen=True)
class DuplicatePair:
    """Two files in different parts that look alike; ``similarity`` is a correlation, 1 for the same."""

    first: str
    first_part: str
    second: str
    second_part: str
    similarity: float

    def __str__(self) -> str:
        both = f"{self.first} ({self.first_part}) and {self.second} ({self.second_part})"
        return f"{both}, {self.similarity:.3f} alike"


@dataclass(frozen=True)
class CrossSubsetDuplicates:
    """``n_pairs`` pairs of images in different parts that look alike, of ``n_images`` images, and of these pairs the
    20 most alike; exact copies are not among them. ``n_all`` images were looked at, or of many a part, as
    ``limits`` says, which is else empty."""

    n_pairs: int
    n_images: int
    n_all: int
    worst: tuple[DuplicatePair, ...]
    limits: str

    @property
    def text(self) -> str:
        """In words; empty if there are none."""
        if not self.n_pairs:
            return f"near duplicates: {self.limits}" if self.limits else ""
        some = "; ".join(map(str, self.worst[:_NAMED])) + ("; ..." if self.n_pairs > _NAMED else "")
        many = (
            "; so many are, as a rule, images of one kind rather than the same: look at some"
            if self.n_images > _SMALL_SHARE * self.n_all
            else ""
        )
        n = f"{self.n_pairs:,} pair{'' if self.n_pairs == 1 else 's'} of images in different parts"
        limits = f" ({self.limits})" if self.limits else ""
        advice = "keep images of the same thing together with data.group_by, or in one part of the folder"
        return f"{n} look{'s' if self.n_pairs == 1 else ''} alike: {some}{limits}{many}; {advice}"

    def to_json(self) -> dict[str, Any]:
        """As a fact of a study."""
        return asdict(self)


def find_cross_subset_duplicates(images: NDArray[np.uint8], files: FileTable, kept_at: Path) -> CrossSubsetDuplicates:
    """Near duplicates among ``images`` (n, h, w, c), which ``files`` names one by one, between parts.

    What was found is noted in the file ``kept_at``, which is that of these images in these parts, and is read there
    the next time.
    """
    told = _noted(kept_at)
    if told is None:
        told = _found(images, files)
        write_file(kept_at, json.dumps({"version": _VERSION, **told}).encode())
    pairs = [pair for pair in told["pairs"] if files.sha256[pair[0]] != files.sha256[pair[1]]]
    worst = [
        DuplicatePair(files.path[i], str(files.part[i]), files.path[j], str(files.part[j]), round(similarity, 4))
        for i, j, similarity in pairs[:_KEPT]
    ]
    n_images = len({example for i, j, _ in pairs for example in (i, j)})
    return CrossSubsetDuplicates(len(pairs), n_images, len(files.path), tuple(worst), told["limits"])


def _found(images: NDArray[np.uint8], files: FileTable) -> dict[str, Any]:

    used = np.array([i for i, part in enumerate(files.part) if part is not None], np.int64)
    looked_at = images if len(used) == len(images) else images[used]
    found = near_duplicates(looked_at, parts=[str(files.part[i]) for i in used.tolist()])
    limits = []
    if found.n_compared < len(used) - found.n_flat:
        limits.append(f"of {len(used)} images {found.n_compared} were compared")
    if found.distance < 8:
        limits.append(f"by hashes that differ in at most {found.distance} of 64 bits")
    if found.n_passed_over:
        limits.append("of many candidates the nearest alone")
    pairs: Sequence[Found] = [(int(used[pair.first]), int(used[pair.second]), pair.similarity) for pair in found.pairs]
    return {"pairs": pairs, "limits": ", ".join(limits)}


def _noted(file: Path) -> Mapping[str, Any] | None:
    try:
        told = json.loads(file.read_bytes())
        return told if told["version"] == _VERSION and told["pairs"] is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
