"""Search for near duplicates: images stored twice, two exposures of one scene, or overlapping cut-outs of one picture.

A near duplicate of a training image in the test set makes a model look better than it is. Candidate pairs have
similar perceptual hashes. A pair is kept if the reduced images themselves agree after a shift of up to a sixteenth of
their size; hashes alone would also match different objects of the same kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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

if TYPE_CHECKING:
    import pandas

MAX_DISTANCE = 16
"""Largest distance in bits; beyond it, the bands of two hashes are so short that nearly all pairs are compared."""
MAX_COMPARISONS = 600_000_000
"""Largest number of hash comparisons, about 15 s; beyond it the distance or the number of images is reduced."""
MAX_CANDIDATES = 150_000
"""Largest number of pairs whose images are compared, about 10 s; pairs with the nearest hashes come first."""
_OTHER_FACTOR = 3
_SIZE, _REACH = 32, 2
_CHUNK = 1024


@dataclass(frozen=True)
class NearDuplicate:
    """Two images by index; ``similarity`` is the correlation of their grey values at the best shift."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of near duplicates, most similar first.

    ``n_flat`` images have no contrast and were not compared. In large sets, only ``n_compared`` images were compared,
    with hashes that differ in at most ``distance`` bits. ``n_passed_over`` candidate pairs with less similar hashes
    were not checked; a pair may be counted twice.
    """

    pairs: tuple[NearDuplicate, ...]
    n_flat: int
    n_compared: int
    distance: int
    n_passed_over: int

    def to_frame(self) -> pandas.DataFrame:
        """Return a DataFrame with a row for each pair."""
        import pandas

        columns = pandas.Index(["first", "second", "similarity"])
        return pandas.DataFrame([asdict(pair) for pair in self.pairs], columns=columns)


def near_duplicates(
    images: Images, *, subsets: Sequence[str] | None = None, distance: int = 8, similarity: float = 0.95
) -> NearDuplicates:
    """Find pairs of images that show the same thing.

    Parameters
    ----------
    images : array of uint8 or uint16
        Images of shape (n, height, width, channels). They are read in chunks, so a memory-mapped array is fine.
    subsets : sequence of str, optional
        Subset of each image, such as ``"train"``; only pairs in different subsets are returned. By default all
        pairs are.
    distance : int, default 8
        Largest Hamming distance in bits, 0 to 16. A candidate pair has one hash of 64 bits within this distance and
        the other within three times this distance.
    similarity : float, default 0.95
        Smallest correlation of a pair that is returned, above 0 and up to 1. Noise lowers the correlation of two
        exposures of a faint object.

    Returns
    -------
    NearDuplicates
        The pairs, most similar first, and how much of a large set was compared.

    Raises
    ------
    RequestError
        If the images have another shape or type, ``subsets`` has another length, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from aifs_tune.data import near_duplicates
    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 256, (10, 16, 16, 1)).astype(np.uint8)
    >>> images[7] = images[2]
    >>> found = near_duplicates(images)
    >>> [(pair.first, pair.second, round(pair.similarity, 2)) for pair in found.pairs]
    [(2, 7, 1.0)]
    """
    _check(images, subsets, distance, similarity)
    pieces = [images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)]
    shown = np.concatenate([_has_contrast(piece) for piece in pieces] or [np.empty(0, bool)])
    kept = np.flatnonzero(shown)
    numbers = np.arange(len(images)) if subsets is None else np.unique(list(subsets), return_inverse=True)[1]
    hashes = [
        np.concatenate([hashed(piece) for piece in pieces] or [np.empty(0, np.uint64)])
        for hashed in (gradient_hash, frequency_hash)
    ]
    compared, near = _affordable(hashes, kept, distance)
    candidates, n_passed_over = _candidates(hashes, compared, near, distance, numbers)
    similarities = [_similarities(images, candidates[i : i + _CHUNK]) for i in range(0, len(candidates), _CHUNK)]
    measured = zip(candidates.tolist(), np.concatenate([*similarities, np.empty(0)]).tolist(), strict=True)
    duplicates = [NearDuplicate(first, second, value) for (first, second), value in measured if value >= similarity]
    return NearDuplicates(
        tuple(sorted(duplicates, key=lambda pair: (-pair.similarity, pair.first, pair.second))),
        n_flat=len(images) - len(kept),
        n_compared=len(compared),
        distance=near,
        n_passed_over=n_passed_over,
    )


def _affordable(hashes: Sequence[Hashes], kept: NDArray[np.int64], distance: int) -> tuple[NDArray[np.int64], int]:
    """Choose images and a distance, at most ``distance``, that need no more than :data:`MAX_COMPARISONS`."""
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
    """Return pairs (m, 2) of ``compared`` images with near hashes and different ``numbers``, and the number omitted.

    At most :data:`MAX_CANDIDATES` pairs are returned, those with the nearest hashes.
    """
    n, n_left = len(numbers) + 1, 0
    keys, bits = np.empty(0, np.int64), np.empty(0, np.int64)
    for own, other in (hashes, hashes[::-1]):
        for found in near_pairs(own[compared], near):
            first, second = compared[found].T
            differing = np.bitwise_count(other[first] ^ other[second]).astype(np.int64)
            is_kept = (differing <= _OTHER_FACTOR * distance) & (numbers[first] != numbers[second])
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
    """Return the :data:`MAX_CANDIDATES` distinct keys with the fewest bits, their bits, and the number omitted."""
    once, positions = np.unique(keys, return_index=True)
    order = np.argsort(bits[positions], kind="stable")[:MAX_CANDIDATES]
    return once[order], bits[positions][order], len(once) - len(order)


def _has_contrast(images: Images) -> NDArray[np.bool_]:
    """Whether each image has contrast when reduced."""
    return _differs(reduced(images, _SIZE, _SIZE), np.iinfo(images.dtype).max)


def _differs(grey: Grey, most: int) -> NDArray[np.bool_]:
    """Whether each reduced image has contrast: at least 1/255 of the range up to ``most``."""
    return np.asarray(np.ptp(grey.reshape(len(grey), -1), axis=1) >= most / 255)


def _similarities(images: Images, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the largest correlation (m,) of each pair over all shifts of up to ``_REACH`` of ``_SIZE`` pixels."""
    needed, positions = np.unique(pairs, return_inverse=True)
    return _similarities_of(reduced(images[needed], _SIZE, _SIZE), positions.reshape(pairs.shape))


def _similarities_of(grey: Grey, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the largest correlation (m,) of each pair of reduced images."""
    first, second = grey[pairs].swapaxes(0, 1)
    inner = _SIZE - 2 * _REACH
    middle = _standard(first[:, _REACH:-_REACH, _REACH:-_REACH])
    best = np.full(len(pairs), -1.0)
    for down, right in product(range(2 * _REACH + 1), repeat=2):
        moved = _standard(second[:, down : down + inner, right : right + inner])
        best = np.maximum(best, np.einsum("ij,ij->i", middle, moved))
    return best


def _standard(grey: Grey) -> Grey:
    """Flatten to (m, pixels) with mean 0 and norm 1; all 0 without contrast."""
    flat = grey.reshape(len(grey), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.divide(flat, length, out=np.zeros_like(flat), where=length > 0))


def _check(images: Images, subsets: Sequence[str] | None, distance: int, similarity: float) -> None:
    if images.ndim != 4 or images.dtype not in (np.uint8, np.uint16):
        came = f"shape {images.shape} of {images.dtype}"
        raise RequestError(f"images: {came}; allowed: (images, height, width, channels) of uint8 or uint16")
    if subsets is not None and len(subsets) != len(images):
        raise RequestError(f"subsets: {len(subsets)} entries; allowed: one for each of the {len(images)} images")
    if not 0 <= distance <= MAX_DISTANCE:
        raise RequestError(f"distance: {distance} is not allowed; allowed: 0 to {MAX_DISTANCE} bits")
    if not 0 < similarity <= 1:
        raise RequestError(f"similarity: {similarity} is not allowed; allowed: above 0 and up to 1")


_VERSION = 3
_NAMED, _KEPT = 3, 20
_SMALL_SHARE = 0.05
"""Share of the images; if more of them are in pairs, most pairs show objects of one kind, not the same object."""

_LOOKED_AT, _SAMPLED = 2000, 10_000
"""Numbers of random images, and of random pairs among them, from which is judged what likeness tells."""
_ALIKE, _NEARLY = 0.95, 0.9
_CHANCE_OTHERS, _CHANCE_SAME = 0.0005, 0.05
"""Shares of random pairs of different classes, and of one class, that are alike where likeness tells nothing."""
_FEW, _MANY = 5, 100
"""Number of alike pairs in the sample, and expected in all images, below which all are searched and listed."""

Found = tuple[int, int, float]
"""Two examples and their similarity."""


@dataclass(frozen=True)
class DuplicatePair:
    """Two files in different subsets that look alike; ``similarity`` is a correlation, 1 for identical images."""

    first: str
    first_subset: str
    second: str
    second_subset: str
    similarity: float

    def __str__(self) -> str:
        both = f"{self.first} ({self.first_subset}) and {self.second} ({self.second_subset})"
        return f"{both}, similarity {self.similarity:.3f}"


@dataclass(frozen=True)
class CrossSubsetDuplicates:
    """Near duplicates in different subsets, without exact copies.

    There are ``n_pairs`` pairs among ``n_images`` images, out of ``n_all``; ``worst`` has the 20 most similar pairs.
    ``limits`` says what was not compared in a large set, or that likeness tells nothing; it is empty if all was
    compared.
    """

    n_pairs: int
    n_images: int
    n_all: int
    worst: tuple[DuplicatePair, ...]
    limits: str

    @property
    def text(self) -> str:
        """Readable text; empty without pairs and limits."""
        if not self.n_pairs:
            return f"near duplicates: {self.limits}" if self.limits else ""
        some = "; ".join(map(str, self.worst[:_NAMED])) + ("; ..." if self.n_pairs > _NAMED else "")
        many = (
            "; with so many pairs, most show objects of one kind, not the same object: check a few"
            if self.n_images > _SMALL_SHARE * self.n_all
            else ""
        )
        n = f"{self.n_pairs:,} pair{'' if self.n_pairs == 1 else 's'} of images in different subsets"
        limits = f" ({self.limits})" if self.limits else ""
        advice = "keep images of the same object in one subset: use data.group_by or move the files"
        return f"{n} look{'s' if self.n_pairs == 1 else ''} alike: {some}{limits}{many}; {advice}"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, as stored with a study."""
        return asdict(self)


def find_cross_subset_duplicates(images: NDArray[np.uint8], files: FileTable, kept_at: Path) -> CrossSubsetDuplicates:
    """Find near duplicates in different subsets among ``images`` (n, h, w, c), whose files are ``files``.

    The result is stored in the file ``kept_at``, which belongs to these images in this split, and is read from there
    the next time.
    """
    stored = _load(kept_at)
    if stored is None:
        stored = _search(images, files)
        write_file(kept_at, json.dumps({"version": _VERSION, **stored}).encode())
    pairs = [pair for pair in stored["pairs"] if files.sha256[pair[0]] != files.sha256[pair[1]]]
    worst = [
        DuplicatePair(files.path[i], str(files.part[i]), files.path[j], str(files.part[j]), round(similarity, 4))
        for i, j, similarity in pairs[:_KEPT]
    ]
    n_images = len({example for i, j, _ in pairs for example in (i, j)})
    return CrossSubsetDuplicates(len(pairs), n_images, len(files.path), tuple(worst), stored["limits"])


def _search(images: NDArray[np.uint8], files: FileTable) -> dict[str, Any]:
    used = np.array([i for i, subset in enumerate(files.part) if subset is not None], np.int64)
    told = _alike_by_chance(images, files, used)
    if told:
        return {"pairs": [], "limits": told}
    looked_at = images if len(used) == len(images) else images[used]
    found = near_duplicates(looked_at, subsets=[str(files.part[i]) for i in used.tolist()])
    limits = []
    if found.n_compared < len(used) - found.n_flat:
        limits.append(f"{found.n_compared} of {len(used)} images were compared")
    if found.distance < 8:
        limits.append(f"only hashes that differ in at most {found.distance} of 64 bits were compared")
    if found.n_passed_over:
        limits.append("only the nearest of many candidate pairs were checked")
    pairs: Sequence[Found] = [(int(used[pair.first]), int(used[pair.second]), pair.similarity) for pair in found.pairs]
    return {"pairs": pairs, "limits": ", ".join(limits)}


def _alike_by_chance(images: NDArray[np.uint8], files: FileTable, used: NDArray[np.int64]) -> str:
    """Return text if likeness tells nothing in these images; empty if it tells copies from others.

    Copies have one class, so pairs of different classes that are as alike as copies are so by chance. Images of one
    class are by chance if many of them are alike, and as many again nearly so; copies of a few have nothing between.
    """
    random = np.random.default_rng(0)
    looked_at = np.sort(random.permutation(used)[:_LOOKED_AT])
    grey = np.concatenate(
        [reduced(images[looked_at[i : i + _CHUNK]], _SIZE, _SIZE) for i in range(0, len(looked_at), _CHUNK)]
        or [np.empty((0, _SIZE, _SIZE), np.float32)]
    )
    shown = np.flatnonzero(_differs(grey, 255))
    if not len(shown):
        return ""
    pairs = random.choice(shown, (_SAMPLED, 2))
    parts, labels, content = (
        np.unique([str(each) for each in column], return_inverse=True)[1]
        for column in (files.part, files.label, files.sha256)
    )
    first, second = looked_at[pairs].T
    pairs = pairs[(parts[first] != parts[second]) & (content[first] != content[second])]
    if not len(pairs):
        return ""
    similarity = np.concatenate([_similarities_of(grey, pairs[i : i + _CHUNK]) for i in range(0, len(pairs), _CHUNK)])
    alike, nearly = similarity >= _ALIKE, (similarity >= _NEARLY) & (similarity < _ALIKE)
    counts = np.bincount(parts[used])
    n_pairs = (counts.sum() ** 2 - (counts**2).sum()) / 2
    first, second = looked_at[pairs].T
    is_other = labels[first] != labels[second]
    for which, share, what in (
        (is_other, _CHANCE_OTHERS, "of different classes"),
        (~is_other, _CHANCE_SAME, "of one class"),
    ):
        n, n_alike, n_nearly = which.sum(), int(alike[which].sum()), int(nearly[which].sum())
        is_many = n_alike >= max(_FEW, share * n) and n_alike / len(pairs) * n_pairs >= _MANY
        if is_many and n_nearly >= n_alike / 2:
            return (
                f"{n_alike / n:.2g} of random pairs {what} look as alike as copies do (correlation {_ALIKE}), so "
                "likeness tells nothing of copies in these images, and no pairs are listed; equal files are found all "
                "the same"
            )
    return ""


def _load(file: Path) -> Mapping[str, Any] | None:
    try:
        stored = json.loads(file.read_bytes())
        return stored if stored["version"] == _VERSION and stored["pairs"] is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
