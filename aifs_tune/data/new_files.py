"""New examples for a trained model: files are read and prepared as those were that it learnt from."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import DataSpec, FramesSpec, SeriesSpec, TableSpec
from aifs_tune.data.bodies.read import BodySettings, read_body_frame, tiles_of_frame
from aifs_tune.data.columns import EntrySettings, as_numbers
from aifs_tune.data.digests import open_regular
from aifs_tune.data.frames.formats import ImageReader
from aifs_tune.data.frames.manifest import folder_of, with_suffix
from aifs_tune.data.frames.read import Frame, FrameSettings, read_frame
from aifs_tune.data.frames.stretch import Stretch
from aifs_tune.data.image_files.arrays import Reading, UnreadableError
from aifs_tune.data.images.arrays import images_in
from aifs_tune.data.images.decode import DecodeSettings, Pixels, decode
from aifs_tune.data.images.decode_all import scaled
from aifs_tune.data.images.folder import SkippedFile, shown
from aifs_tune.data.links import Links, check_below, check_links
from aifs_tune.data.series.channels import Channels, Column, TimeStepScale, by_itself
from aifs_tune.data.series.formats import RawSeries
from aifs_tune.data.series.reader import SeriesReader
from aifs_tune.data.series.tables import new_series
from aifs_tune.data.table_columns import entry_settings
from aifs_tune.data.table_files import PARQUET, TableFile, read_table, suffix_of
from aifs_tune.data.table_rows import rows_that_sum_up
from aifs_tune.data.tables import load_table
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


_FAR = 10
_BATCH = 256
"""Files that are read before the model predicts them."""
_BATCH_OF_BODIES = 16
_MOST_NAMED = 3


@dataclass(frozen=True)
class NewExamples:
    """Prepared examples.

    ``inputs`` are the arrays that the model takes, ``names`` has the file, or file and row, of each example, and
    ``skipped`` the files that could not be read. ``remarks`` say what in the files differs from the training data.
    """

    inputs: tuple[NDArray[Any], ...]
    names: Sequence[str]
    skipped: Sequence[SkippedFile] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Preparation:
    """How a model's training examples were prepared.

    ``kind`` is that of its data, ``data`` the section of its sweep file, ``facts`` what was measured on the training
    set, and ``image`` the height, width and channels of an image of the kind ``images``. ``range16`` are the pixel
    values of images with more than 8 bits that became 0 and 255.
    """

    kind: str
    data: DataSpec
    facts: Mapping[str, Any]
    image: tuple[int, int, int] | None = None
    range16: tuple[float, float] | None = None

    def batches(self, files: Sequence[Path]) -> Iterator[NewExamples]:
        """Read files, some at a time; a batch may be empty if none of its files can be read.

        A table has many examples, and so has a manifest of frames; any other file is one example.

        Raises
        ------
        DataError
            If a table lacks a column that the model learnt from.
        """
        if self.kind == "table":
            yield from (self._rows(file) for file in files)
            return
        read = {"images": self._images, "frames": self._frames, "series": self._series, "bodies": self._bodies}[
            self.kind
        ]
        size = _BATCH_OF_BODIES if self.kind == "bodies" else _BATCH
        for start in range(0, len(files), size):
            yield read(files[start : start + size])

    def _bodies(self, files: Sequence[Path]) -> NewExamples:
        """Tiles of frames with many bodies, their masks and places; the name of a tile is that of its file."""
        edge, stretch = int(self.facts["tile"]), Stretch.from_json(self.facts["stretch"])
        settings = BodySettings.from_json(self.facts["settings"])
        n_bands = len(stretch.black)
        arrays, names, skipped = [], list[str](), list[SkippedFile]()
        with ImageReader(settings.reading) as reader:
            for number, file in enumerate(files):
                try:
                    frame = read_body_frame((file,), settings, reader)
                    if frame.pixels.shape[2] != n_bands:
                        raise UnreadableError(f"has {frame.pixels.shape[2]} bands; allowed: {n_bands}, as in training")
                except UnreadableError as error:
                    skipped.append(SkippedFile(shown(str(file)), str(error)))
                    continue
                arrays.append(tiles_of_frame(stretch.apply(frame.pixels), frame.usable, number, edge))
                names += [str(file)] * len(arrays[-1][0])
        if not arrays:
            return NewExamples((), (), skipped)
        tiles, masks, places = (np.concatenate([each[i] for each in arrays]) for i in range(3))
        return NewExamples((tiles, masks, places), names, skipped)

    def _images(self, files: Sequence[Path]) -> NewExamples:
        assert self.image is not None
        size, _, channels = self.image
        settings = DecodeSettings(size, "rgb" if channels == 3 else "auto", self.data.fit)
        arrays, names, skipped, coloured = [], list[str](), list[SkippedFile](), list[str]()
        for name, file, image in images_in(files):
            pixels = _decoded(file, image, settings)
            if isinstance(pixels, str):
                skipped.append(SkippedFile(shown(name), pixels))
                continue
            if channels == 1 and pixels.shape[2] == 3:
                coloured.append(shown(name))
                grey = _decoded(file, image, DecodeSettings(size, "grey", self.data.fit))
                assert not isinstance(grey, str)
                pixels = grey
            if pixels.dtype != np.uint8:
                if self.range16 is None:
                    bits = "16" if pixels.dtype == np.uint16 else "more than 8"
                    reason = f"has {bits} bits a pixel, and the model learnt from images with 8"
                    skipped.append(SkippedFile(shown(name), reason))
                    continue
                pixels = scaled(pixels, self.range16)
            arrays.append(np.broadcast_to(pixels, self.image))
            names.append(name)
        remarks = [f"made grey, as the training images were: {_some(coloured)}"] if coloured else []
        images = np.stack(arrays) if arrays else np.zeros((0, *self.image), np.uint8)
        return NewExamples((np.asarray(images, np.uint8),), names, skipped, remarks)

    def _rows(self, file: Path) -> NewExamples:
        where = f"table {shown(str(file))}"
        spec = self.data.table or TableSpec()
        columns = self.facts["columns"]
        wanted = list(dict.fromkeys(each["name"] for each in columns))
        table, remarks = self._table(file, spec, wanted, where)
        frame = table.frame
        missing = [name for name in wanted if name not in frame.columns]
        if missing:
            there = _some([str(name) for name in frame.columns])
            raise DataError(f"{where}: lacks {_some(missing)}, from which the model learnt; found: {there}")
        arrays = []
        levels: dict[str, set[str]] = {}
        for each in columns:
            if "level" in each:
                levels.setdefault(each["name"], set()).add(each["level"])
        for each in columns:
            name = each["name"]
            if "level" in each:
                entries = frame[name].astype(str)
                arrays.append(np.asarray(entries == each["level"], np.float64) - 0.5)
                n_new = int((frame[name].notna() & ~entries.isin(levels[name])).sum())
                text = f"column {shown(name)}: entries that the training rows do not have"
            else:
                values, n_new = _numbers(frame[name], _settings(spec, each, table))
                filled = np.where(np.isnan(values), each["median"], values)
                arrays.append((filled - each["centre"]) / each["scale"])
                n_missing = int(np.isnan(values).sum()) - n_new
                if n_missing > 0 and not each["missing"]:
                    remarks[f"column {shown(name)}: missing entries, of which the training rows have none"] = n_missing
                if n_far := int((np.abs(arrays[-1]) > _FAR).sum()):
                    text = f"entries more than {_FAR} standard deviations from the mean of the training rows"
                    remarks[f"column {shown(name)}: {text}"] = n_far
                text = f"column {shown(name)}: entries that are no numbers, replaced by the median of the training rows"
            if n_new:
                remarks[text] = n_new
        rows = np.stack(arrays, axis=1).astype(np.float32)
        names = [f"{file} row {number}" for number in range(1, len(frame) + 1)]
        return NewExamples((rows,), names, remarks=[f"{text} ({n})" for text, n in remarks.items()])

    def _table(
        self, file: Path, spec: TableSpec, wanted: Sequence[str], where: str
    ) -> tuple[TableFile, dict[str, int]]:
        """The table in a file, with the ``wanted`` columns of its matrix, and remarks."""
        own = {"file": file, "labels": None, "counts": self.facts.get("counts", "raw")}
        table, remarks = load_table(spec.model_copy(update=own)), dict[str, int]()
        _, words = rows_that_sum_up(table.frame)
        if words:
            remarks[f"rows at the end that sum up others ({', '.join(words)}), which are predicted too"] = len(words)
        if table.matrix is None:
            return table, remarks
        import pandas

        position = {name: i for i, name in enumerate(table.matrix.names)}
        found = [name for name in wanted if name in position]
        dense = pandas.DataFrame(table.matrix.dense([position[name] for name in found], where), columns=found)
        beside = table.frame[[name for name in table.frame.columns if name not in position]]
        return replace(table, frame=pandas.concat([beside, dense], axis=1), matrix=None), remarks

    def _series(self, files: Sequence[Path]) -> NewExamples:
        spec = self.data.series or SeriesSpec()
        steps = int(self.facts["steps"])
        values, lengths, names, skipped = [], [], list[str](), list[SkippedFile]()
        for file in files:
            where = f"series {shown(str(file))}"
            try:
                found = new_series(file, spec, str(self.facts.get("layout", "files")), where)
            except DataError as error:
                skipped.append(SkippedFile(shown(str(file)), str(error).removeprefix(f"{where}: ")))
                continue
            for each in found:
                name = str(file) if each.name is None else f"{file} {each.name}"
                try:
                    made = self._channels_of(each, where, spec)
                except DataError as error:
                    skipped.append(SkippedFile(shown(name), str(error).removeprefix(f"{where}: ")))
                    continue
                kept = made[:steps] if self.facts.get("keep") == "first" else made[-steps:]
                if "forecast" in self.facts and len(kept) < steps:
                    reason = f"has {len(kept)} steps; allowed: at least {steps}, the history that the model looks at"
                    skipped.append(SkippedFile(shown(name), reason))
                    continue
                row = np.zeros((steps, made.shape[1]), np.float32)
                row[: len(kept)] = kept
                values.append(row)
                lengths.append(len(kept))
                names.append(name)
        n_channels = len(self.facts["channels"])
        stacked = np.stack(values) if values else np.zeros((0, steps, n_channels), np.float32)
        return NewExamples((stacked, np.array(lengths, np.int32)), names, skipped)

    def _channels_of(self, raw: RawSeries, where: str, spec: SeriesSpec) -> NDArray[np.float32]:
        """Channels of a series, shape (steps, channels)."""
        facts = self.facts["channels"]
        wanted = [fact for fact in facts if fact["role"] == "value"]
        missing = [fact["name"] for fact in wanted if fact["name"] not in raw.frame.columns]
        if missing:
            raise DataError(f"{where}: lacks {_some(missing)}; found: {_some([str(n) for n in raw.frame.columns])}")
        read = tuple(self.facts.get("columns") or [fact["name"] for fact in wanted])
        known = {field.name for field in fields(Column)}
        columns = tuple(
            Column(**{k: v for k, v in fact.items() if k in known} | {"index": read.index(fact["name"])})
            for fact in wanted
        )
        step = next((fact for fact in facts if fact["role"] == "step"), None)
        steps = None if step is None else TimeStepScale(step["median"], step["centre"], step["scale"])
        chosen = SeriesReader.like([raw], spec, where, as_gaps="forecast" in self.facts)
        if steps is not None and chosen.time is None:
            found = _some([str(name) for name in raw.frame.columns])
            raise DataError(f"{where}: has no column of times, which the model needs; found: {found}")
        recording, _ = replace(chosen, columns=read).read(raw, where)
        return Channels(columns, steps).apply(by_itself(recording, self.facts.get("scaling", "set")))

    def _frames(self, files: Sequence[Path]) -> NewExamples:
        spec = self.data.frames or FramesSpec()
        height, width, bands = (int(size) for size in self.facts["shape"])
        stretch = Stretch.from_json(self.facts["stretch"])
        reading = Reading.from_json(self.facts["reading"])
        settings = FrameSettings(reading, self.facts["background"], stretch.kind, spec.image_size)
        has_positions = bool({"x", "y", "vx", "vy", "length"} & set(self.facts["roles"]))
        native = tuple(self.facts["native"])
        arrays, names, skipped = [], list[str](), list[SkippedFile]()
        for name, frame in _read_frames(_images_of(files, spec, follow_links=self.data.follow_links), settings):
            if isinstance(frame, str):
                skipped.append(SkippedFile(shown(name), frame))
                continue
            reason = None
            if frame.pixels.shape != (height, width, bands):
                found = " x ".join(map(str, frame.pixels.shape))
                reason = f"has {found} pixels and bands; allowed: {height} x {width} x {bands}, as in training"
            elif has_positions and frame.native != native:
                reason = (
                    f"has {frame.native[0]} x {frame.native[1]} px; allowed where positions are predicted: "
                    f"{native[0]} x {native[1]} px, as in training"
                )
            if reason is not None:
                skipped.append(SkippedFile(shown(name), reason))
                continue
            arrays.append(stretch.apply(frame.pixels))
            names.append(name)
        stacked = np.stack(arrays) if arrays else np.zeros((0, height, width, bands), np.float16)
        return NewExamples((stacked,), names, skipped)


def _read_frames(
    images: Iterator[tuple[str, tuple[Path, ...], int | None]], settings: FrameSettings
) -> Iterator[tuple[str, Frame | str]]:
    """Name of each image and the image, or why it cannot be used."""
    with ImageReader(settings.reading) as reader:
        for name, files, index in images:
            try:
                yield name, read_frame(files, index, settings, reader)
            except UnreadableError as error:
                yield name, str(error)


def _images_of(
    files: Sequence[Path], spec: FramesSpec, *, follow_links: bool
) -> Iterator[tuple[str, tuple[Path, ...], int | None]]:
    """Name, files and index of each image: a file, or a row of a manifest with the columns ``path`` and ``index``."""
    for file in files:
        if suffix_of(file) not in (".csv", ".tsv", *PARQUET):
            yield str(file), (file,), None
            continue
        where = f"manifest {shown(str(file))}"
        frame = read_table(file, where).frame
        for column in (*spec.path, *filter(None, (spec.index,))):
            if column not in frame.columns:
                raise DataError(f"{where}: no column {column!r}; found: {_some([str(n) for n in frame.columns])}")
        indices = [None] * len(frame) if spec.index is None else frame[spec.index].tolist()
        folder = folder_of(spec, file)
        links = Links.of(folder, follow=follow_links)
        for entries, index in zip(frame[list(spec.path)].astype(str).to_numpy().tolist(), indices, strict=True):
            own = "" if index is None else f" [{int(index)}]"
            paths = [with_suffix(entry, spec) for entry in entries]
            for path in paths:
                check_below(path, f"{where}: has the path {shown(path)!r}", "the folder of its files")
                check_links(folder / path, links, f"{where}: has the path {shown(path)!r}")
            yield " + ".join(paths) + own, tuple(folder / path for path in paths), index


def files_in(paths: Sequence[str | Path]) -> list[Path]:
    """Return the files of ``paths``: a folder stands for all files below it, sorted; hidden files are left out.

    Of the files of a 10x matrix, which belong together, the matrix stands for all.

    Raises
    ------
    DataError
        If a path does not exist, or there is no file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                names = [name for name in names if name.endswith(("matrix.mtx", "matrix.mtx.gz"))] or names
                found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{shown(str(path))}: there is no such file or folder")
    if not found:
        raise DataError(f"{_some([str(path) for path in paths])}: no file; allowed: files, or folders of files")
    return found


def _decoded(file: Path, image: NDArray[Any] | None, settings: DecodeSettings) -> Pixels | str:
    """Pixels of an image in a file, or of the image itself if it is there; or why it cannot be used."""
    if image is not None:
        stored = io.BytesIO()
        np.save(stored, image, allow_pickle=False)
        stored.seek(0)
        of_array = decode(stored, settings)
        return of_array.facts.problem if of_array.pixels is None else of_array.pixels
    try:
        opened = open_regular(str(file))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    with opened:
        found = decode(opened, settings)
    return found.facts.problem if found.pixels is None else found.pixels


def _settings(spec: TableSpec, column: Mapping[str, Any], table: TableFile) -> EntrySettings:
    """Settings for a column, with the decimal sign and the form of dates that it had in training."""
    found = replace(entry_settings(spec, column["name"], table), reads_packed=False)
    if "time_format" in column:
        found = replace(found, time_format=column["time_format"], is_time=True)
    if found.decimal != "auto" or "decimal" not in column:
        return found
    return replace(found, decimal=column["decimal"])


def _numbers(column: pandas.Series[Any], settings: EntrySettings) -> tuple[NDArray[np.float64], int]:
    """The column as numbers, NaN where there is none, and how many entries are neither numbers nor missing."""
    found = as_numbers(column, settings, mostly=0.0)
    if found is None:
        return np.full(len(column), np.nan), int(column.notna().sum())
    n_below = len(found.below) if settings.below_limit in ("refuse", "missing") else 0
    return found.values, len(found.strange) + n_below


def _some(names: Sequence[str]) -> str:
    text = ", ".join(shown(str(name)) for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{text} and {more} more" if more > 0 else text
