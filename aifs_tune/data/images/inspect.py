"""Report on a data folder before training: counts, skipped files with reasons, and warnings."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

from aifs_tune.data.columns import column_row
from aifs_tune.data.images.decode import Facts
from aifs_tune.data.images.folder import Beside, SkippedFile, shown
from aifs_tune.data.images.near_duplicates import CrossSubsetDuplicates

_NAMED = 3
_LISTED = 10
_TOGETHER = 3


class ImageRow(NamedTuple):
    """An image in use; ``content`` is the digest of its file, ``subset`` one of train, val and test."""

    name: str
    label: str
    subset: str
    content: str
    group: str | None


@dataclass(frozen=True)
class Spread:
    """Minimum, median and maximum of a number over all images."""

    min: int
    median: float
    max: int

    def __str__(self) -> str:
        return f"{self.min}" if self.min == self.max else f"{self.min} to {self.max}, median {self.median:g}"


@dataclass(frozen=True)
class Duplicates:
    """Number of images that occur more than once.

    ``within`` counts those with copies in the same class and subset, the others those in several subsets or classes.
    """

    within: int
    across_subsets: int
    across_classes: int


@dataclass(frozen=True)
class Preflight:
    """Report on a data folder before training; all names are printable.

    ``counts`` has the number of images by subset and class; ``modes`` (of Pillow) and ``bits`` count images.
    ``n_groups`` is None without ``group_by``. ``range16`` are the values of images with more than 8 bits that became 0
    and 255; None without such images. ``near_duplicates`` is None if they were not searched. ``columns`` are the rows
    of the table of channels, ``given`` the parts that the folder has, and ``grouped_by`` says what groups were made of.
    """

    folder: str
    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    width: Spread
    height: Spread
    modes: Mapping[str, int]
    bits: Mapping[int, int]
    channels: int
    range16: tuple[float, float] | None
    duplicates: Duplicates
    n_groups: int | None
    skipped_files: tuple[SkippedFile, ...]
    warnings: tuple[str, ...]
    near_duplicates: CrossSubsetDuplicates | None = None
    columns: tuple[Mapping[str, Any], ...] = ()
    given: tuple[str, ...] = ()
    grouped_by: str | None = None

    @property
    def n_images(self) -> int:
        """Number of images in use."""
        return sum(sum(by_class.values()) for by_class in self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self) | {"bits": {str(bits): count for bits, count in self.bits.items()}}

    def lines(self) -> list[str]:
        """Return the report as readable lines, which name the skipped files by reason."""
        lines = [f"{self.folder}: {self.n_images} images in {len(self.classes)} classes"]
        for subset, by_class in self.counts.items():
            total = sum(by_class.values())
            shares = ", ".join(f"{name} {n} ({n / total:.0%})" for name, n in by_class.items()) if total else "none"
            lines.append(f"{subset}: {total}: {shares}")
        lines.append(f"width {self.width}; height {self.height}; {self._pixels()}")
        if self.n_groups is not None:
            lines.append(f"{self.n_groups} groups")
        copies = self.duplicates.within
        if copies:
            same = f"{copies} {_plural(copies, 'image')} with copies in the same class"
            lines.append(f"{same}; copies stay in one subset")
        lines += [f"warning: {warning}" for warning in self.warnings]
        if self.near_duplicates is not None and self.near_duplicates.text:
            lines.append(f"warning: {self.near_duplicates.text}")
        if self.skipped_files:
            lines += [f"left out: {text}" for text in listed(self.skipped_files)]
        return lines

    def _pixels(self) -> str:
        kinds = ", ".join(f"{n} {mode}" for mode, n in self.modes.items())
        bits = ", ".join(f"{n} with {bits} bits" for bits, n in self.bits.items())
        scaling = ""
        if self.range16 is not None:
            kind = "16-bit values" if max(self.bits) == 16 else "values"
            scaling = f"; {kind} {self.range16[0]:.6g} to {self.range16[1]:.6g} become 0 to 255"
        return f"modes: {kinds}; {bits}; used as {'grey' if self.channels == 1 else 'RGB'}{scaling}"


def listed(skipped_files: Sequence[SkippedFile]) -> list[str]:
    """Return the files as text, three and more with the same reason together, and the number of those not named.

    Reasons that differ in numbers alone are the same; the first one is given.
    """
    together: dict[str, list[SkippedFile]] = {}
    for one in skipped_files:
        together.setdefault(re.sub(r"\d[\d,]*", "0", one.reason), []).append(one)
    many = sorted((each for each in together.values() if len(each) >= _TOGETHER), key=len, reverse=True)
    few = [one for each in together.values() if len(each) < _TOGETHER for one in each]
    said = [(f"{len(each)} such as {each[0].name} and {each[1].name}: {each[0].reason}", len(each)) for each in many]
    said += [(str(one), 1) for one in few]
    more = sum(n for _, n in said[_LISTED:])
    return [*(text for text, _ in said[:_LISTED]), *([f"and {more} more"] if more else [])]


def inspect(
    folder: str,
    rows: Sequence[ImageRow],
    facts: Mapping[str, Facts],
    *,
    subsets: Sequence[str],
    channels: int,
    range16: tuple[float, float] | None,
    skipped_files: Sequence[SkippedFile],
    beside: Sequence[Beside] = (),
    warnings: Sequence[str],
) -> Preflight:
    """Make the report for the images in use, of which there is at least one."""
    classes = sorted({row.label for row in rows})
    counted = Counter((row.subset, row.label) for row in rows)
    known = [facts[row.content] for row in rows]
    duplicates, repeated = _duplicates(rows)
    groups = {row.group for row in rows if row.group is not None}
    return Preflight(
        folder=shown(folder),
        classes=tuple(map(shown, classes)),
        counts={subset: {shown(label): counted[subset, label] for label in classes} for subset in subsets},
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
        columns=(
            *_channel_rows(known, channels),
            *(column_row(one.name, one.taken_for, left_out=one.reason) for one in beside),
        ),
    )


def _channel_rows(known: Sequence[Facts], channels: int) -> list[dict[str, Any]]:
    """What each channel was taken for, its range and missing pixels, and what is left out beside them."""
    kinds = sorted({"floating-point numbers" if one.mode.endswith("F") else f"{one.bits} bits" for one in known})
    n_grey, n_pixels = sum(len(one.ends) == 1 for one in known), sum(one.width * one.height for one in known)
    what = "grey" if channels == 1 else "colour"
    some = f"; {n_grey} grey images, the same in each" if channels == 3 and n_grey else ""
    rows = []
    for i, name in enumerate(("grey",) if channels == 1 else ("R", "G", "B")):
        ends = [one.ends[i if len(one.ends) > 1 else 0] for one in known]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        missing = sum(one.n_missing for one in known)
        taken_for = f"{what}, {' and '.join(kinds)}{some}"
        rows.append(column_row(name, taken_for, ends=(low, high), missing=missing, of=n_pixels))
    n_alpha = sum(one.has_alpha for one in known)
    if n_alpha:
        images = f"{n_alpha} {_plural(n_alpha, 'image')}"
        rows.append(column_row("alpha", f"transparency of {images}", left_out="such an image gets a black background"))
    return rows


def _spread(values: Sequence[int]) -> Spread:
    return Spread(min(values), float(median(values)), max(values))


def _plural(n: int, noun: str) -> str:
    return noun if n == 1 else noun + "s"


def _duplicates(rows: Sequence[ImageRow]) -> tuple[Duplicates, list[str]]:
    """Count copies, and warn of copies in several classes or subsets, which bias a measurement."""
    by_content: dict[str, list[ImageRow]] = defaultdict(list)
    for row in rows:
        by_content[row.content].append(row)
    repeated = [same for same in by_content.values() if len(same) > 1]
    within = [same for same in repeated if len({(row.subset, row.label) for row in same}) < len(same)]
    subsets = [same for same in repeated if len({row.subset for row in same}) > 1]
    labels = [same for same in repeated if len({row.label for row in same}) > 1]
    warnings = [
        f"{len(found)} {_plural(len(found), 'image')} in more than one {what}: "
        + "; ".join(" = ".join(shown(row.name) for row in same[:_NAMED]) for same in found[:_NAMED])
        + ("; ..." if len(found) > _NAMED else "")
        for what, found in (("class", labels), ("subset", subsets))
        if found
    ]
    return Duplicates(len(within), len(subsets), len(labels)), warnings


def _straddling(rows: Sequence[ImageRow]) -> list[str]:
    subsets: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.group is not None:
            subsets[row.group].add(row.subset)
    found = sorted(shown(group) for group, its in subsets.items() if len(its) > 1)
    if not found:
        return []
    named = ", ".join(found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
    return [f"{len(found)} {_plural(len(found), 'group')} in more than one subset: {named}"]


def _depths(known: Sequence[Facts]) -> list[str]:
    deep = Counter("floating-point" if one.mode.endswith("F") else f"{one.bits}-bit" for one in known if one.is_deep)
    warnings = []
    n_shallow = len(known) - sum(deep.values())
    kinds = [f"{n} {kind} {_plural(n, 'image')}" for kind, n in sorted(deep.items())]
    kinds += ["8-bit images"] if n_shallow else []
    if deep and len(kinds) > 1:
        warnings.append(f"{' mixed with '.join(kinds)}: brightness may differ")
    notes = Counter(one.note for one in known if one.note)
    return warnings + [f"{n} {_plural(n, 'image')}: {note}" for note, n in sorted(notes.items())]
