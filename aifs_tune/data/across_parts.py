"""Near-duplicate images in different parts: found once for a split, kept beside it in the cache, told in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.files import FileTable
from aifs_tune.durable import write_file

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
    from aifs_tune.analysis.near_duplicates import near_duplicates  # loads SciPy and pandas

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
