"""Images of one folder whose classes stand in a table, as in many public competitions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from aifs_tune.config.data import LabelsSpec
from aifs_tune.data.class_names import alike_classes
from aifs_tune.data.digests import Progress
from aifs_tune.data.images.arrays import is_arrays, scan_arrays
from aifs_tune.data.images.folder import ImageFile, Scan, SkippedFile, files_below, scan_folder, shown
from aifs_tune.data.table_files import read_table
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


_NAMES = ("id", "image_id", "image", "image_name", "img", "file", "file_name", "filename", "path", "name", "fname")
_LABELS = ("label", "labels", "class", "class_name", "target", "category", "type", "diagnosis", "species", "breed")
_MOST_NAMED = 3


def scan_images(
    folder: Path, labels: LabelsSpec | None, progress: Progress | None = None, *, follow_links: bool = False
) -> Scan:
    """Scan a folder whose classes are those of ``labels``, or without them its sub-folders, or the arrays of a file.

    Raises
    ------
    DataError
        As of :func:`scan_listed`, :func:`~aifs_tune.data.images.arrays.scan_arrays` and
        :func:`~aifs_tune.data.images.folder.scan_folder`.
    StorageError
        If the images of a file cannot be unpacked.
    """
    if is_arrays(folder):
        if labels is not None:
            raise DataError(f"data file {shown(str(folder))}: has its own classes; allowed: no data.labels")
        return scan_arrays(folder, progress)
    if labels is None:
        return scan_folder(folder, follow_links=follow_links)
    return scan_listed(folder, labels, follow_links=follow_links)


def scan_listed(folder: Path, labels: LabelsSpec, *, follow_links: bool = False) -> Scan:
    """Scan the files below ``folder`` that a table gives a class to.

    An entry names a file by its path in the folder, or by its name, with or without suffix. Files that are not listed
    are left out, and so are entries without a file or with several classes; the notes say how many.

    Raises
    ------
    DataError
        If the table cannot be read, its columns cannot be told, or no entry names a file.
    """
    file = _table(folder, labels.file)
    where = f"labels {shown(str(file))}"
    frame = read_table(file, where).frame
    name, label = _columns(frame, labels, where)
    files, skipped = files_below(folder, follow_links=follow_links)
    found = _Index(files)
    classes, folders = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    missing, unclear, elsewhere, n_without = list[str](), list[str](), list[str](), 0
    for entry, value in zip(frame[name].tolist(), frame[label].tolist(), strict=True):
        if value is None or value != value or not str(value):
            n_without += 1
            continue
        text = _text(entry)
        matches = found.named(text)
        if len(matches) == 1:
            classes[matches[0].name].add(_text(value))
            folders[matches[0].name].add(_folder_in(text))
            elsewhere += [] if _agree(text, matches[0]) else [text]
        else:
            (unclear if matches else missing).append(text)
    problems = {
        each: f"is listed with {len(of_it)} classes"
        if len(of_it) > 1
        else f"could be the file of {len(folders[each])} entries with this name, in the folders {_some(folders[each])}"
        for each, of_it in classes.items()
        if len(of_it) > 1 or len(folders[each]) > 1
    }
    skipped += [SkippedFile(shown(each), problem) for each, problem in problems.items()]
    kept = {each: next(iter(of_it)) for each, of_it in classes.items() if each not in problems}
    if not kept:
        raise DataError(
            f"{where}: none of its {len(frame)} entries in {name!r} ({_some(missing)}) names a file below "
            f"{shown(str(folder))}; allowed: paths in the folder, or names with or without suffix"
        )
    listed = [_labelled(each, kept[each.name]) for each in files if each.name in kept]
    notes = [f"the classes are those of {shown(file.name)}: {label} by {name}"]
    if elsewhere:
        notes.append(
            f"{len(elsewhere)} entries name another folder, and are taken by the name alone ({_some(elsewhere)})"
        )
    notes += [*alike_classes(kept.values()), *_several_in_one(set(kept.values()))]
    if n_without:
        notes.append(f"left out: {n_without} entries of {shown(file.name)} without a class")
    if missing:
        notes.append(f"left out: {len(missing)} entries of {shown(file.name)} without a file ({_some(missing)})")
    if unclear:
        notes.append(f"left out: {len(unclear)} entries of {shown(file.name)} with several files ({_some(unclear)})")
    n_other = len(files) - len(classes) - any(each.name == file.name for each in files)
    if n_other > 0:
        notes.append(f"left out: {n_other} files that are not listed; aifs-tune predict can use them")
    skipped.sort(key=lambda one: one.name)
    return Scan(tuple(listed), tuple(skipped), tuple(sorted(set(kept.values()))), (), tuple(notes))


class _Index:
    """Files by path, by name and by name without suffix."""

    def __init__(self, files: Sequence[ImageFile]) -> None:
        self._by_path = {file.name: file for file in files}
        self._by_name = defaultdict[str, list[ImageFile]](list)
        self._by_stem = defaultdict[str, list[ImageFile]](list)
        for file in files:
            path = PurePosixPath(file.name)
            self._by_name[path.name].append(file)
            self._by_stem[path.stem].append(file)

    def named(self, entry: str) -> list[ImageFile]:
        """The files that an entry can mean; back slashes count as slashes."""
        path = PurePosixPath(entry.replace("\\", "/").lstrip("/"))
        if str(path) in self._by_path:
            return [self._by_path[str(path)]]
        return self._by_name.get(path.name) or self._by_stem.get(path.name) or []


def _table(folder: Path, file: Path) -> Path:
    """The table itself, or the file of its name in the folder of images or beside it, where data were moved."""
    places = (file, folder / file.name, folder.parent / file.name)
    return next((place for place in places if place.is_file()), file)


def _columns(frame: pandas.DataFrame, labels: LabelsSpec, where: str) -> tuple[str, str]:
    names = [str(name) for name in frame.columns]
    there = ", ".join(shown(name) for name in names[:12])
    for given in (labels.name, labels.label):
        if given is not None and given not in names:
            raise DataError(f"{where}: no column {given!r}; allowed: {there}")
    by_lower = {name.lower(): name for name in reversed(names)}
    name = labels.name or next((by_lower[known] for known in _NAMES if known in by_lower), None)
    label = labels.label or next((by_lower[known] for known in _LABELS if known in by_lower), None)
    others = [each for each in names if each not in (name, label)]
    if label is None and name is not None and len(others) == 1:
        label = others[0]
    if name is None and label is not None and len(others) == 1:
        name = others[0]
    if label is None and (classes := _one_hot(frame, others)):
        raise DataError(
            f"{where}: {_some(classes)} have 0 and 1, a column for each class; allowed: one column with the class of "
            "each image: data.labels.label"
        )
    if name is None or label is None:
        raise DataError(
            f"{where}: which columns hold the files and the classes is not clear; found: {there}; name them in "
            "data.labels: {file: ..., name: ..., label: ...}"
        )
    return name, label


def _folder_in(entry: str) -> str:
    return str(PurePosixPath(entry.replace("\\", "/").lstrip("/")).parent)


def _agree(entry: str, file: ImageFile) -> bool:
    """Whether the folders of an entry can be those of the file; data that were moved lack the first ones."""
    named, there = PurePosixPath(_folder_in(entry)).parts, PurePosixPath(file.name).parent.parts
    n = min(len(named), len(there))
    return ".." not in named and (n == 0 or named[-n:] == there[-n:])


def _several_in_one(classes: set[str]) -> list[str]:
    """Warn of classes that are several others in one entry, such as ``rust scab``."""
    found = []
    for name in sorted(classes):
        parts = [part for part in re.split(r"[\s,;|]+", name) if part]
        if len(parts) > 1 and all(part in classes for part in parts):
            found.append(name)
    if not found:
        return []
    return [f"{_some(found)} look like several classes of one image; each combination is taken for a class of its own"]


def _one_hot(frame: pandas.DataFrame, names: Sequence[str]) -> list[str]:
    """Columns of 0 and 1, one for each class."""
    found = [each for each in names if frame[each].dtype.kind in "biuf" and set(frame[each].unique()) <= {0, 1}]
    return found if len(found) > 1 else []


def _labelled(file: ImageFile, label: str) -> ImageFile:
    return ImageFile(file.name, file.path, label, None, file.size, file.mtime_ns, file.ctime_ns)


def _text(entry: object) -> str:
    return str(int(entry)) if isinstance(entry, float) and entry.is_integer() else str(entry)


def _some(found: Collection[str]) -> str:
    entries = sorted(found) if isinstance(found, set) else list(found)
    text = ", ".join(shown(entry) for entry in entries[:_MOST_NAMED])
    return f"{text}, ..." if len(entries) > _MOST_NAMED else text
