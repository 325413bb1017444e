"""Preparation of a folder of images: decoding into the cache, splitting and reporting."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import write_file
from aifs_tune._util.cache import cache_root, storing
from aifs_tune.config.data import DataSpec, Fold, SplitSpec
from aifs_tune.data.cache import open_images, write_split
from aifs_tune.data.digests import DigestIndex, Progress
from aifs_tune.data.file_table import FileTable, file_table
from aifs_tune.data.image_files.unread import unread_advice
from aifs_tune.data.images.decode import UNKNOWN, ImageSet
from aifs_tune.data.images.decoder import Decoder, Entry, ImageSource
from aifs_tune.data.images.folder import SUBSETS, Scan, SkippedFile, shown
from aifs_tune.data.images.inspect import ImageRow, Preflight, inspect, listed
from aifs_tune.data.images.listed import scan_images
from aifs_tune.data.images.near_duplicates import CrossSubsetDuplicates, find_cross_subset_duplicates
from aifs_tune.data.split import Ints, refold_subsets, split, units_of, units_per_class
from aifs_tune.errors import DataError


@dataclass(frozen=True)
class PreparedImages:
    """Images that are ready to train on.

    Attributes
    ----------
    images : ImageSet
        The images, memory-mapped from the cache.
    preflight : Preflight
        Report on the folder: counts, skipped files, warnings. ``preflight.lines()`` is the readable text.
    location : Path
        File of the cache that :func:`~aifs_tune.data.open_images` opens in another process.
    files : FileTable
        File of each image.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import prepare_images
    >>> rng = np.random.default_rng(0)
    >>> for label in ("galaxy", "star"):
    ...     Path("survey", label).mkdir(parents=True)
    ...     for i in range(5):
    ...         Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(f"survey/{label}/{i}.png")
    >>> prepared = prepare_images(DataSpec(folder=Path("survey"), image_size=8))
    >>> print(prepared.preflight.lines()[0])
    survey: 10 images in 2 classes
    >>> prepared.files.path[0]
    'galaxy/...png'
    """

    images: ImageSet
    preflight: Preflight
    location: Path
    files: FileTable


def prepare_images(
    data: DataSpec,
    *,
    strict: bool = False,
    cache: Path | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> PreparedImages:
    """Decode the images of a folder into the cache and split them.

    Unusable files and classes with too few images are left out. The report names them, and names images in
    different subsets that look alike.

    Parameters
    ----------
    data : DataSpec
        Section ``data`` of a sweep, with a ``folder``.
    strict : bool, default False
        Raise if a file or class is unusable, instead of leaving it out.
    cache : Path, optional
        Folder of the cache; by default ``$AIFS_TUNE_CACHE``, else ``aifs_tune`` in ``$XDG_CACHE_HOME`` or
        ``~/.cache``.
    processes : int, optional
        Number of processes that decode; 0 decodes in this process. By default one per CPU, at most 8, and 0 for
        fewer than 200 files.
    progress : callable, optional
        Called with ``"unpacking"``, ``"reading"`` or ``"decoding"``, the number of files done and the number of all
        files.
    tell : callable, optional
        Called with a forecast, after the first images, of the disk space and the time if they are much.

    Returns
    -------
    PreparedImages
        The images, the report, the location in the cache and the file of each image.

    Raises
    ------
    DataError
        If fewer than two usable classes remain, no split has every class in each subset, ``strict`` is violated, or
        there are near duplicates and ``data.near_duplicates`` is ``refuse``.
    StorageError
        If the cache cannot be written, or the images need more space than is free.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import prepare_images
    >>> rng = np.random.default_rng(0)
    >>> for label in ("galaxy", "star"):
    ...     Path("survey", label).mkdir(parents=True)
    ...     for i in range(10):
    ...         Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(f"survey/{label}/{i}.png")
    >>> prepared = prepare_images(DataSpec(folder=Path("survey"), image_size=8))
    >>> images = prepared.images
    >>> images.images.shape, images.classes
    ((20, 8, 8, 1), ('galaxy', 'star'))
    >>> len(images.train), len(images.val), len(images.test)
    (12, 4, 4)
    """
    if data.folder is None:
        raise DataError("data.folder: no value given; allowed: a folder with a sub-folder for each class")
    root = (cache or cache_root()).absolute()
    scan = scan_images(data.folder, data.labels, progress, follow_links=data.follow_links)
    with storing(root):
        decoder = Decoder(data, root, processes, progress, tell)
        usable = _usable(scan, data, decoder, _sources(scan, data, root, progress))
        _check(usable, data.folder, strict=strict)
        subset_of = _divide(usable.sources, scan, data)
        rows = {subset: np.flatnonzero(subset_of == i).astype(np.int32) for i, subset in enumerate(SUBSETS)}
        usable = replace(usable, entry=decoder.scaled(usable.entry, usable.sources, rows["train"].tolist()))
        location = write_split(usable.entry.folder, usable.entry.meta, rows)
        images, files = open_images(location), _files(usable.sources, rows)
        near_duplicates = _near_duplicates(images, files, location, data)
    report = replace(
        _report(data.folder, usable, subset_of, scan),
        near_duplicates=near_duplicates,
        given=scan.subsets,
        grouped_by=data.group_by or ("the folds" if any(source.group for source in usable.sources) else None),
    )
    return PreparedImages(images, report, location, files)


@dataclass(frozen=True)
class _Sources:
    """Readable files sorted by class and content, an order that does not depend on names or folders."""

    found: Sequence[ImageSource]
    skipped_files: Sequence[SkippedFile]


@dataclass(frozen=True)
class _Usable:
    """Usable ``sources`` of ``classes``, the rows of ``entry``, and the skipped files and dropped classes."""

    entry: Entry
    sources: Sequence[ImageSource]
    classes: Sequence[str]
    skipped_files: Sequence[SkippedFile]
    dropped: Sequence[SkippedFile]


def _sources(scan: Scan, data: DataSpec, root: Path, progress: Progress | None) -> _Sources:
    assert data.folder is not None
    index = DigestIndex(root, data.folder)
    digests, unread = index.read(scan.files, progress)
    write_file(index.path, index.content())
    skipped_files = [*scan.skipped_files, *unread]
    found = []
    for file in scan.files:
        group = file.group if data.group_by is None else _group(file.name, data.group_by)
        if file.name in digests and (data.group_by is None or group is not None):
            found.append(ImageSource(file, digests[file.name].cached, digests[file.name].sha256, group))
        elif file.name in digests:
            skipped_files.append(SkippedFile(shown(file.name), f"its name does not match group_by {data.group_by!r}"))
    return _Sources(sorted(found, key=lambda one: (one.file.label, one.content, one.file.name)), skipped_files)


def _group(name: str, pattern: str | None) -> str | None:
    """Return the first capture group of the match in the file name, or the whole match; None without a match."""
    match = None if pattern is None else re.search(pattern, os.path.basename(name))
    if match is None:
        return None
    return match[1] if match.re.groups else match[0]


def _usable(scan: Scan, data: DataSpec, decoder: Decoder, sources: _Sources) -> _Usable:
    """Decode the images; decode again without the classes that have too few usable images."""
    skipped_files, dropped = [*sources.skipped_files], list[SkippedFile]()
    found, classes = sources.found, scan.classes
    while True:
        entry = decoder.entry(found)
        problems = {source.file.name: entry.facts[source.content].problem for source in found}
        skipped_files += [SkippedFile(shown(name), _advised(name, why)) for name, why in problems.items() if why]
        found = [source for source in found if not problems[source.file.name]]
        lacking = _lacking(classes, found, scan, data)
        dropped += [SkippedFile(f"class {shown(label)}", reason) for label, reason in lacking.items()]
        classes = tuple(label for label in classes if label not in lacking)
        if len(classes) < 2 or classes == entry.meta.classes:
            return _Usable(entry, found, classes, sorted(skipped_files, key=lambda one: one.name), dropped)
        found = [source for source in found if source.file.label in classes]


def _advised(name: str, problem: str) -> str:
    """A problem with the command that makes a file of this suffix readable, if its content is not known."""
    advice = unread_advice(name) if problem == UNKNOWN else None
    return problem if advice is None else f"{problem}; {advice}"


def _check(usable: _Usable, folder: Path, *, strict: bool) -> None:
    problems = "".join(f"\n  {one}" for one in [*usable.dropped, *listed(usable.skipped_files)])
    where = f"data folder {shown(str(folder))}:"
    if len(usable.classes) < 2:
        found = ", ".join(map(shown, usable.classes)) or "none"
        raise DataError(f"{where} usable classes: {found}; allowed: at least 2; left out:{problems}")
    if strict and problems:
        n = len(usable.dropped) + len(usable.skipped_files)
        raise DataError(f"{where} {n} files or classes cannot be used; allowed when strict: none{problems}")


def _shares(scan: Scan, wished: SplitSpec) -> tuple[float, ...]:
    """Return the shares of train, val and test among the images to be split; empty if the folder has a val folder."""
    if not scan.subsets:
        return 1 - wished.val - wished.test, wished.val, wished.test
    return () if "val" in scan.subsets else (1 - wished.val, wished.val, 0.0)


def _is_assigned(source: ImageSource, shares: Sequence[float]) -> bool:
    return bool(shares) and source.file.subset in (None, "train")


def _units(sources: Sequence[ImageSource]) -> Ints:
    groups = [source.group for source in sources if source.group is not None]
    return units_of([source.content for source in sources], groups or None)


def _what(sources: Sequence[ImageSource]) -> str:
    return "different images" if all(source.group is None for source in sources) else "groups"


def _lacking(classes: Sequence[str], sources: Sequence[ImageSource], scan: Scan, data: DataSpec) -> dict[str, str]:
    """Return the classes that cannot be in every subset, with the reason."""
    shares = _shares(scan, data.split)
    assigned = [source for source in sources if _is_assigned(source, shares)]
    fixed = {(source.file.subset, source.file.label) for source in sources if not _is_assigned(source, shares)}
    labels = np.array([classes.index(source.file.label) for source in assigned], np.int64)
    counts = np.bincount(labels, minlength=len(classes))
    n_units = units_per_class(labels, _units(assigned), len(classes))
    n_subsets = sum(share > 0 for share in shares)
    what = _what(sources)
    lacking = {}
    for label, n_images, n in zip(classes, counts, n_units, strict=True):
        given = [subset for subset in scan.subsets if subset != "train" or not shares]
        missing = [subset for subset in given if (subset, label) not in fixed]
        if missing:
            lacking[label] = f"has no usable image in {', '.join(missing)}"
        elif n < n_subsets:
            allowed = f"at least {n_subsets}, one for each subset"
            lacking[label] = f"has {n_images} usable images, {n} {what}; allowed: {allowed}"
    return lacking


def _divide(sources: Sequence[ImageSource], scan: Scan, data: DataSpec) -> Ints:
    """Return the subset of each source, an index into SUBSETS."""
    shares = _shares(scan, data.split)
    subset_of = np.array([SUBSETS.index(source.file.subset or "train") for source in sources], np.int64)
    assigned = np.array([_is_assigned(source, shares) for source in sources])
    if assigned.any():
        chosen = [source for source in sources if _is_assigned(source, shares)]
        names, labels = np.unique([source.file.label for source in chosen], return_inverse=True)
        used = [i for i, share in enumerate(shares) if share > 0]
        units = _units(chosen)
        subsets = np.array(used)[split(labels, units, [shares[i] for i in used], data.split.seed)]
        if len(np.unique(np.stack([subsets, labels]), axis=1).T) < len(used) * len(names):
            n = len(np.unique(units))
            named = "the folds" if data.group_by is None else f"data.group_by {data.group_by!r}"
            raise DataError(
                f"{named}: {n} groups (copies of an image count as one) cannot be split so that "
                f"{', '.join(SUBSETS[i] for i in used)} each have every class; allowed: more groups"
                + ("" if data.group_by is None else ", by another pattern")
            )
        subset_of[assigned] = subsets
    return subset_of if data.split.fold is None else _folded(data.split.fold, sources, subset_of, data)


def _folded(fold: Fold, sources: Sequence[ImageSource], subset_of: Ints, data: DataSpec) -> Ints:
    names, labels = np.unique([source.file.label for source in sources], return_inverse=True)
    what = _what(sources)
    units, where = _units(sources), f"data folder {shown(str(data.folder))}"
    return refold_subsets(fold, subset_of, labels.astype(np.int64), units, where=where, names=names.tolist(), what=what)


def _files(sources: Sequence[ImageSource], rows: Mapping[str, NDArray[np.int32]]) -> FileTable:
    """Return the table of files under their current names; the cache entry knows contents only."""
    names = [shown(source.file.name) for source in sources]
    return file_table(
        [([name], None) for name in names],
        {name: source.sha256 for name, source in zip(names, sources, strict=True)},
        rows,
        labels=[shown(source.file.label) for source in sources],
        groups=[None if source.group is None else shown(source.group) for source in sources],
    )


def _near_duplicates(
    images: ImageSet, files: FileTable, location: Path, data: DataSpec
) -> CrossSubsetDuplicates | None:
    """Find near duplicates in different subsets; None for a fold, since the whole split was searched."""
    if data.near_duplicates == "ignore" or data.split.fold is not None:
        return None
    found = find_cross_subset_duplicates(images.images, files, location.with_name(f"near-{location.name}"))
    if found.n_pairs and data.near_duplicates == "refuse":
        raise DataError(
            f"data folder {shown(str(data.folder))}: {found.text}; allowed with data.near_duplicates refuse: none"
        )
    return found


def _report(folder: Path, usable: _Usable, subset_of: Ints, scan: Scan) -> Preflight:
    rows = [
        ImageRow(source.file.name, source.file.label, SUBSETS[subset], source.content, source.group)
        for source, subset in zip(usable.sources, subset_of.tolist(), strict=True)
        if subset >= 0
    ]
    return inspect(
        str(folder),
        rows,
        usable.entry.facts,
        subsets=SUBSETS,
        channels=usable.entry.meta.shape[3],
        range16=usable.entry.meta.range16,
        skipped_files=usable.skipped_files,
        beside=scan.beside,
        warnings=[*scan.notes, *(f"{one} (left out)" for one in usable.dropped)],
    )
