"""The preflight: what a data folder holds, what is left out and why, what a person should look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

from aifs_tune.data.images.decode import Facts
from aifs_tune.data.images.folder import SkippedFile, shown
from aifs_tune.data.images.near_duplicates import CrossSubsetDuplicates

_NAMED = 3
_LISTED = 20


class ImageRow(NamedTuple):
    """One image in use. ``content`` is the digest of the file; ``part`` one of train, val, test."""

    name: str
    label: str
    part: str
    content: str
    group: str | None


@dataclass(frozen=True)
class Spread:
    """Of one number over all images."""

    min: int
    median: float
    max: int

    def __str__(self) -> str:
        return f"{self.min}" if self.min == self.max else f"{self.min} to {self.max}, median {self.median:g}"


@dataclass(frozen=True)
class Duplicates:
    """Contents that occur more than once: ``within`` in one class of one part, in several parts, in several classes."""

    within: int
    across_parts: int
    across_classes: int


@dataclass(frozen=True)
class Preflight:
    """What was found. ``counts`` is images by part and class; ``modes`` (Pillow's words) and ``bits`` count images.

    ``n_groups`` is None without ``group_by``; ``range16`` the pixel values of 16-bit images that became 0
    and 255, None if there are no such images; ``near_duplicates`` None if they were not looked for. Names in it are
    printable.
    """

    folder: str
    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    width: Spread
    height: Spread
    modes: Mapping[str, int]
    bits: Mapping[int, int]
    channels: int
    range16: tuple[int, int] | None
    duplicates: Duplicates
    n_groups: int | None
    skipped_files: tuple[SkippedFile, ...]
    warnings: tuple[str, ...]
    near_duplicates: CrossSubsetDuplicates | None = None

    @property
    def n_images(self) -> int:
        """Images in use."""
        return sum(sum(by_class.values()) for by_class in self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"bits": {str(bits): count for bits, count in self.bits.items()}}

    def lines(self) -> list[str]:
        """Readable text, one fact a line; the first 20 files left out are named."""
        lines = [f"{self.folder}: {self.n_images} images in {len(self.classes)} classes"]
        for part, by_class in self.counts.items():
            total = sum(by_class.values())
            shares = ", ".join(f"{name} {n} ({n / total:.0%})" for name, n in by_class.items()) if total else "none"
            lines.append(f"{part}: {total}: {shares}")
        lines.append(f"width {self.width}; height {self.height}; {self._pixels()}")
        if self.n_groups is not None:
            lines.append(f"{self.n_groups} groups")
        copies = self.duplicates.within
        if copies:
            lines.append(f"{copies} {_plural(copies, 'image')} more than once in a class, each kept in one part")
        lines += [f"warning: {warning}" for warning in self.warnings]
        if self.near_duplicates is not None and self.near_duplicates.text:
            lines.append(f"warning: {self.near_duplicates.text}")
        if self.skipped_files:
            lines += [f"left out: {text}" for text in listed(self.skipped_files)]
        return lines

    def _pixels(self) -> str:
        kinds = ", ".join(f"{n} {mode}" for mode, n in self.modes.items())
        bits = ", ".join(f"{n} of {bits} bit" for bits, n in self.bits.items())
        scaling = f"; 16-bit values {self.range16[0]} to {self.range16[1]} become 0 to 255" if self.range16 else ""
        return f"kinds: {kinds}; {bits}; used as {'grey' if self.channels == 1 else 'RGB'}{scaling}"


def listed(skipped_files: Sequence[SkippedFile]) -> list[str]:
    """The first 20, and how many more."""
    more = len(skipped_files) - _LISTED
    return [*map(str, skipped_files[:_LISTED]), *([f"and {more} more"] if more > 0 else [])]


def inspect(
    folder: str,
    rows: Sequence[ImageRow],
    facts: Mapping[str, Facts],
    *,
    parts: Sequence[str],
    channels: int,
    range16: tuple[int, int] | None,
    skipped_files: Sequence[SkippedFile],
    warnings: Sequence[str],
) -> Preflight:
    """The preflight of the images in use, at least one."""
    classes = sorted({row.label for row in rows})
    counted = Counter((row.part, row.label) for row in rows)
    known = [facts[row.content] for row in rows]
    duplicates, repeated = _duplicates(rows)
    groups = {row.group for row in rows if row.group is not None}
    return Preflight(
        folder=shown(folder),
        classes=tuple(map(shown, classes)),
        counts={part: {shown(label): counted[part, label] for label in classes} for part in parts},
        width=_spread([one.width for one in known]),
        height=_spread([one.height for one in known]),
        modes=dict(sorted(Counter(one.mode for one in known).items())),
        bits=dict(sorted(Counter(one.bits for one in known).items())),
        channels=channels,
        range16=range16,
        duplicates=duplicates,
        n_groups=len(groups) if groups else None,
        skipped_files=tuple(skipped_files),
        warnings=(*warnings, *repeated, *_straddling(rows), *_depths(known)),
    )


def _spread(values: Sequence[int]) -> Spread:
    return Spread(min(values), float(median(values)), max(values))


def _plural(n: int, noun: str) -> str:
    return noun if n == 1 else noun + "s"


def _duplicates(rows: Sequence[ImageRow]) -> tuple[Duplicates, list[str]]:
    """Counts, and warnings about the two kinds that spoil a measurement."""
    by_content: dict[str, list[ImageRow]] = defaultdict(list)
    for row in rows:
        by_content[row.content].append(row)
    repeated = [same for same in by_content.values() if len(same) > 1]
    within = [same for same in repeated if len({(row.part, row.label) for row in same}) < len(same)]
    parts = [same for same in repeated if len({row.part for row in same}) > 1]
    labels = [same for same in repeated if len({row.label for row in same}) > 1]
    warnings = [
        f"{len(found)} {_plural(len(found), 'image')} in more than one {what}: "
        + "; ".join(" = ".join(shown(row.name) for row in same[:_NAMED]) for same in found[:_NAMED])
        + ("; ..." if len(found) > _NAMED else "")
        for what, found in (("class", labels), ("part", parts))
        if found
    ]
    return Duplicates(len(within), len(parts), len(labels)), warnings


def _straddling(rows: Sequence[ImageRow]) -> list[str]:
    parts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.group is not None:
            parts[row.group].add(row.part)
    found = sorted(shown(group) for group, its in parts.items() if len(its) > 1)
    if not found:
        return []
    named = ", ".join(found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
    return [f"{len(found)} {_plural(len(found), 'group')} in more than one part: {named}"]


def _depths(known: Sequence[Facts]) -> list[str]:
    n_colour16 = sum(one.bits == 16 and not one.mode.startswith("I") for one in known)
    n_grey16 = sum(one.mode.startswith("I") for one in known)
    warnings = []
    if n_colour16:
        warnings.append(f"{n_colour16} 16-bit {_plural(n_colour16, 'image')} with colour or alpha: upper 8 bits used")
    if 0 < n_grey16 < len(known):
        warnings.append(f"{n_grey16} 16-bit {_plural(n_grey16, 'image')} beside 8-bit ones: brightness may differ")
    return warnings
