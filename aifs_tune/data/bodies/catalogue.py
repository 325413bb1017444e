"""Catalogues of bodies: tables (CSV, Parquet, FITS), COCO JSON files and folders of Pascal VOC XML files."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.config.data import BodiesSpec
from aifs_tune.data.frames.formats import SUFFIXES, format_of
from aifs_tune.data.frames.manifest import MIN_IMAGES, Manifest
from aifs_tune.data.images.folder import SUBSETS, shown
from aifs_tune.data.links import Links, check_below, check_links
from aifs_tune.data.table_files import read_table
from aifs_tune.data.tables import listed_names, target_numbers
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas

ONE_CLASS = "body"
"""Class of all bodies of a catalogue without classes."""
_FITS = (".fits", ".fit", ".fts", ".fits.gz")
_MAX_CLASSES = 200
_MAX_XML_BYTES = 10_000_000


@dataclass
class FrameBodies:
    """Bodies of one frame.

    ``values`` has a row for each: x and y in px from the centre of the first pixel, size in px, then the numbers.
    ``is_difficult`` marks bodies that are neither learnt nor scored.
    """

    labels: list[str] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)
    is_difficult: list[bool] = field(default_factory=list)

    def add(self, label: str, values: list[float], *, is_difficult: bool = False) -> None:
        """Add a body."""
        self.labels.append(label)
        self.values.append(values)
        self.is_difficult.append(is_difficult)


@dataclass(frozen=True)
class Catalogue:
    """Content of a catalogue.

    ``manifest`` lists the frames, ``bodies`` those of each frame in the same order, and ``sources`` all files that
    were read.
    """

    manifest: Manifest
    bodies: Sequence[FrameBodies]
    classes: tuple[str, ...]
    sources: Sequence[Path]


@dataclass
class _Read:
    """Frames by name, with their bodies, group and part."""

    where: str
    frames: dict[str, FrameBodies] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    sources: list[Path] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def load_catalogue(spec: BodiesSpec, *, follow_links: bool = False) -> Catalogue:
    """Read and check the catalogue of ``spec``, without opening frames.

    Raises
    ------
    DataError
        If an entry is not allowed; the text names the catalogue, the row or file, what was found and what is allowed.
    """
    file = spec.catalogue
    if file is None:
        raise DataError(
            "data.bodies.catalogue: no value given; allowed: a CSV or Parquet file, a FITS table, a COCO JSON file, or "
            "a folder of Pascal VOC XML files"
        )
    where = f"catalogue {shown(str(file))}"
    if not file.exists():
        raise DataError(f"{where}: there is no such file; allowed: a table, a COCO JSON file or a folder of XML files")
    if file.is_dir():
        read = _voc(file, spec, where)
    elif file.suffix.lower() == ".json":
        read = _coco(file, spec, where)
    else:
        read = _table(file, spec, where)
    if spec.sets is not None:
        _read_sets(read, spec, file)
    if len(read.frames) < MIN_IMAGES:
        raise DataError(f"{where}: names {len(read.frames)} frames; allowed: at least {MIN_IMAGES}")
    names = list(read.frames)
    folder = (file if file.is_dir() else file.parent) / (spec.images or "")
    links = Links.of(folder, follow=follow_links)
    for name in names:
        _check_name(name, folder, links, where)
    classes = sorted({label for one in read.frames.values() for label in one.labels})
    if not classes:
        raise DataError(f"{where}: has no bodies; allowed: at least one")
    if len(classes) > _MAX_CLASSES:
        raise DataError(f"{where}: {len(classes)} classes; allowed: at most {_MAX_CLASSES}")
    missing = sorted(set(names) - read.parts.keys()) if read.parts else []
    if missing:
        raise DataError(f"{where}: frame {shown(missing[0])} is in no part; allowed: one of {', '.join(SUBSETS)}")
    manifest = Manifest(
        source=file,
        where=where,
        files=[(folder / name,) for name in names],
        names=[shown(name) for name in names],
        indices=[None] * len(names),
        values=np.zeros((len(names), 0)),
        labels=None,
        groups=[read.groups[name] for name in names] if read.groups else None,
        subsets=[read.parts[name] for name in names] if read.parts else None,
        lines=read.lines,
    )
    return Catalogue(manifest, [read.frames[name] for name in names], tuple(classes), read.sources)


def _check_name(name: str, folder: Path, links: Links, where: str) -> None:
    begin = f"{where}: frame {shown(name)!r}"
    check_below(name, begin, "the folder of the frames")
    check_links(folder / name, links, begin)
    if format_of(name) is None:
        raise DataError(f"{begin} has an unknown suffix; allowed: {', '.join(SUFFIXES)}")


def _table(file: Path, spec: BodiesSpec, where: str) -> _Read:
    if file.name.lower().endswith(_FITS):
        frame, lines = _fits_table(file, where), []
    else:
        loaded = read_table(file, where)
        frame, lines = loaded.frame, list(loaded.notes)
    read = _Read(where, sources=[file], lines=lines)
    label, size = (_column(frame, given, usual) for given, usual in ((spec.label, "label"), (spec.size, "size")))
    wanted = [spec.image, spec.x, spec.y, *spec.numbers, *filter(None, (label, size, spec.group, spec.part))]
    for column in wanted:
        if column not in frame.columns:
            raise DataError(f"{where}: no column {column!r}; allowed: {listed_names(frame.columns)}")
    if label is None:
        lines.append(f"no column of classes (data.bodies.label): every body is a {ONE_CLASS}")
    if size is None:
        lines.append(f"no column of sizes (data.bodies.size): every body counts as {2 * spec.radius_px:g} px wide")
    for per_frame, entries in ((spec.group, read.groups), (spec.part, read.parts)):
        if per_frame is not None:
            entries.update(_per_frame(frame, spec.image, per_frame, where))
    for name in frame[spec.image]:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{where}: {spec.image} is {name!r}; allowed: the file of a frame")
        read.frames.setdefault(name, FrameBodies())
    is_body = frame[[spec.x, spec.y]].notna().any(axis=1)
    bodies = frame[is_body]
    columns = [target_numbers(bodies[name], where) for name in (spec.x, spec.y, *filter(None, (size,)), *spec.numbers)]
    values = np.stack(columns, axis=1)
    values[:, :2] -= spec.first_pixel
    if size is None:
        values = np.insert(values, 2, 2 * spec.radius_px, axis=1)
    _check_sizes(values[:, 2], where)
    labels = [ONE_CLASS] * len(bodies) if label is None else [_class_of(entry) for entry in bodies[label]]
    for name, one, row in zip(bodies[spec.image], labels, values.tolist(), strict=True):
        read.frames[name].add(one, row)
    return read


def _class_of(entry: Any) -> str:
    return str(int(entry)) if isinstance(entry, float) and entry.is_integer() else str(entry)


def _column(frame: pandas.DataFrame, given: str | None, usual: str) -> str | None:
    return given if given is not None else usual if usual in frame.columns else None


def _per_frame(frame: pandas.DataFrame, image: str, column: str, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, entry in zip(frame[image], frame[column], strict=True):
        if found.setdefault(name, str(entry)) != str(entry):
            raise DataError(
                f"{where}: {column} is {found[name]!r} and {str(entry)!r} for the frame {shown(str(name))}; allowed: "
                "one entry for all bodies of a frame"
            )
    return found


def _check_sizes(sizes: NDArray[np.float64], where: str) -> None:
    wrong = np.flatnonzero(~(sizes > 0))
    if len(wrong):
        raise DataError(f"{where}: the size of body {wrong[0] + 1} is {sizes[wrong[0]]:g} px; allowed: above 0")


def _fits_table(file: Path, where: str) -> pandas.DataFrame:
    with missing_packages_named():
        from astropy.table import Table
    try:
        table = Table.read(file)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where}: cannot be read as a FITS table ({reason}); allowed: a FITS file with a table") from (
            error
        )
    several = [name for name in table.colnames if table[name].ndim > 1]
    table.remove_columns(several)
    frame: pandas.DataFrame = table.to_pandas()
    for name in frame.columns:
        if frame[name].dtype == object:
            frame[name] = [
                entry.decode("utf-8").strip() if isinstance(entry, bytes) else entry for entry in frame[name]
            ]
    return frame


def _coco(file: Path, spec: BodiesSpec, where: str) -> _Read:
    """A file of the COCO format (Lin et al. 2014); boxes are x, y of the corner, width and height in px."""
    _refuse_columns(spec, where, "a COCO file")
    try:
        stored = json.loads(file.read_bytes())
        names = {one["id"]: str(one["file_name"]) for one in stored["images"]}
        classes = {one["id"]: str(one["name"]) for one in stored["categories"]}
        annotations = [
            (names[one["image_id"]], classes[one["category_id"]], [float(each) for each in one["bbox"]], one)
            for one in stored["annotations"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where}: is not a COCO file ({type(error).__name__}: {error}); allowed: images with id and file_name, "
            "categories with id and name, annotations with image_id, category_id and bbox"
        ) from error
    read = _Read(where, {name: FrameBodies() for name in names.values()}, sources=[file])
    for number, (name, label, box, annotation) in enumerate(annotations, start=1):
        if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
            raise DataError(
                f"{where}: bbox of annotation {number} is {box}; allowed: x, y, width and height in px, the last two "
                "above 0"
            )
        left, top, width, height = box
        values = [left + width / 2 - 0.5, top + height / 2 - 0.5, math.sqrt(width * height)]
        read.frames[name].add(label, values, is_difficult=bool(annotation.get("iscrowd", 0)))
    return read


def _voc(folder: Path, spec: BodiesSpec, where: str) -> _Read:
    """A folder of files of Pascal VOC (Everingham et al. 2010); boxes have corner pixels, counted from 1."""
    _refuse_columns(spec, where, "Pascal VOC files")
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise DataError(f"{where}: the folder has no XML file; allowed: a folder of Pascal VOC XML files")
    read = _Read(where, sources=files)
    n_empty = 0
    for file in files:
        root = _xml(file)
        name = _text(root, "filename", file)
        bodies = FrameBodies()
        for one in root.iter("object"):
            box = one.find("bndbox")
            if box is None:
                raise DataError(f"{shown(file.name)}: an object has no bndbox; allowed: a bndbox for each object")
            left, top, right, bottom = (_number(box, key, file) for key in ("xmin", "ymin", "xmax", "ymax"))
            if right <= left or bottom <= top:
                n_empty += 1
                continue
            size = math.sqrt((right - left + 1) * (bottom - top + 1))
            values = [(left + right) / 2 - 1, (top + bottom) / 2 - 1, size]
            bodies.add(_text(one, "name", file), values, is_difficult=(one.findtext("difficult") or "0").strip() == "1")
        if read.frames.setdefault(name, bodies) is not bodies:
            raise DataError(f"{shown(file.name)}: filename {shown(name)} is in another file too; allowed: one for each")
    if n_empty:
        read.lines.append(f"left out: {n_empty} boxes without an area")
    return read


def _refuse_columns(spec: BodiesSpec, where: str, what: str) -> None:
    """Refuse keys that name columns of a table."""
    given = [name for name in ("numbers", "group", "part", "label", "size") if getattr(spec, name)]
    if given:
        raise DataError(f"data.bodies.{given[0]}: names a column, but {where} has {what}; allowed: with a table only")


def _xml(file: Path) -> ElementTree.Element:
    content = file.read_bytes()[: _MAX_XML_BYTES + 1]
    if len(content) > _MAX_XML_BYTES or b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        raise DataError(f"{shown(file.name)}: is larger than 10 MB or declares a document type; allowed: plain XML")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"{shown(file.name)}: is not XML ({error}); allowed: a Pascal VOC file") from error


def _text(element: ElementTree.Element, key: str, file: Path) -> str:
    text = (element.findtext(key) or "").strip()
    if not text:
        raise DataError(f"{shown(file.name)}: no {key} in {element.tag}; allowed: the tags of Pascal VOC")
    return text


def _number(element: ElementTree.Element, key: str, file: Path) -> float:
    text = _text(element, key, file)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{shown(file.name)}: {key} is {shown(text)!r}; allowed: a number of px")
    return number


def _read_sets(read: _Read, spec: BodiesSpec, file: Path) -> None:
    """Take parts from lists of names, with or without suffix; frames in no list are left out."""
    folder = (file if file.is_dir() else file.parent) / (spec.sets or "")
    entries: dict[str, str] = {}
    for name in read.frames:
        entries |= {name: name, Path(name).stem: name}
    for part in SUBSETS:
        listed = folder / f"{part}.txt"
        if not listed.is_file():
            if part == "test":
                continue
            raise DataError(f"data.bodies.sets: {shown(str(folder))} has no {part}.txt; allowed: train.txt and val.txt")
        read.sources.append(listed)
        _add_part(read, entries, part, listed)
    without = read.frames.keys() - read.parts.keys()
    for name in without:
        del read.frames[name]
    if without:
        read.lines.append(f"left out: {len(without)} frames in no list of {shown(str(folder))}")


def _add_part(read: _Read, entries: Mapping[str, str], part: str, listed: Path) -> None:
    unknown = 0
    for entry in _entries(listed.read_text(encoding="utf-8").splitlines()):
        if entry not in entries:
            unknown += 1
        elif read.parts.setdefault(entries[entry], part) != part:
            other = read.parts[entries[entry]]
            raise DataError(f"data.bodies.sets: {shown(entry)} is in {other}.txt and {part}.txt; allowed: in one list")
    if unknown:
        read.lines.append(f"left out: {unknown} names of {listed.name} that the catalogue does not have")


def _entries(lines: Iterable[str]) -> Iterable[str]:
    return (line.split()[0] for line in lines if line.strip())
