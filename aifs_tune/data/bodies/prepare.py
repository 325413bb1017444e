"""Preparation of frames with many bodies: read, stretched and cut into tiles, each with its bodies and mask."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import PARTIAL
from aifs_tune._util.cache import cache_root, storing
from aifs_tune.config.data import BodiesSpec, DataSpec
from aifs_tune.data.bodies.catalogue import Catalogue, FrameBodies, load_catalogue
from aifs_tune.data.bodies.read import BodySettings, read_body_frame, tiles_of_frame
from aifs_tune.data.bodies.tiles import placed
from aifs_tune.data.digests import Progress, digest_of_array
from aifs_tune.data.examples import PreparedExamples, Target, open_examples, store_examples
from aifs_tune.data.file_table import FileTable, file_table, name_below, sha256_of
from aifs_tune.data.frames.bands import band_rows
from aifs_tune.data.frames.files import find_prepared, save_prepared
from aifs_tune.data.frames.formats import ImageReader
from aifs_tune.data.frames.manifest import MIN_IMAGES
from aifs_tune.data.frames.stretch import Stretch, fit_stretch, image_statistics
from aifs_tune.data.image_files.arrays import Band, UnreadableError
from aifs_tune.data.images.folder import SUBSETS, SkippedFile, shown
from aifs_tune.data.images.inspect import listed
from aifs_tune.data.split import Subsets, assign_subsets, fold_given_subsets, given_subsets
from aifs_tune.errors import DataError

STATE, IS_OWN, CLASS, X, Y, SIZE, N_FIXED = range(7)
"""Columns of a body in ``y_true``: 1 for a body and 0 for an empty row, 1 if its tile is the one that counts it, class,
place and size in px of the tile; after these the numbers, standardised."""


@dataclass(frozen=True)
class _Frame:
    """A readable frame: row of the manifest, its file in the scratch folder, and what stays in memory."""

    row: int
    file: Path
    content: str
    native: tuple[int, int]
    statistics: NDArray[np.float64]
    ranges: NDArray[np.float64]


def prepare_bodies(data: DataSpec, *, strict: bool = False, progress: Progress | None = None) -> PreparedExamples:
    """Read the frames of a catalogue, split them into parts, stretch them and cut them into tiles.

    All tiles of a frame are in the same part. Tiles overlap by a quarter of their width, so that each body is seen
    whole in the tile that counts it. Pixels that are missing, within ``radius_px`` of a saturated one, or near an edge
    (``data.bodies.edge``) are masked; bodies on such pixels are left out.

    Parameters
    ----------
    data : DataSpec
        Section ``data`` of a sweep, with ``bodies.catalogue``.
    strict : bool, default False
        Raise if a frame is unusable. Otherwise up to half of the frames may be.
    progress : callable, optional
        Called with ``"reading"``, the number of frames done and the number of all frames.

    Returns
    -------
    PreparedExamples
        The tiles: float16 pixels (n, tile, tile, bands), masks (n, tile, tile) with 1 where a pixel counts, and int32
        places (n, 7): number of the frame, column and row of the first pixel, and first and last column and row that
        the tile counts. ``y_true`` has shape (n, most bodies in a tile, 6 + numbers).

    Raises
    ------
    DataError
        If the catalogue or too many frames cannot be used; the text names the catalogue, row or file, what was found
        and what is allowed.
    StorageError
        If the cache cannot be written.

    Examples
    --------
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.config.data import SkyFields
    >>> from aifs_tune.data import prepare_bodies, simulate_sky_fields
    >>> catalogue = simulate_sky_fields(SkyFields(fields=12, size=32, bodies=3))
    >>> prepared = prepare_bodies(DataSpec(bodies={"catalogue": catalogue, "tile": 32}))
    >>> prepared.examples.inputs[0].shape, prepared.examples.classes
    ((12, 32, 32, 1), ('galaxy', 'star'))
    """
    spec = data.bodies or BodiesSpec()
    catalogue = load_catalogue(spec, follow_links=data.follow_links)
    root = cache_root().absolute()
    key = [_VERSION, spec.model_dump(mode="json"), data.split.model_dump(mode="json"), strict]
    key.append([sha256_of(file) for file in catalogue.sources])
    known = find_prepared(root, key, catalogue.manifest)
    if known is not None:
        return known
    with storing(root), tempfile.TemporaryDirectory(prefix=PARTIAL, dir=root) as scratch:
        prepared = _Preparation(catalogue, data, Path(scratch)).prepared(strict=strict, progress=progress)
        save_prepared(root, key, catalogue.manifest, prepared)
    return prepared


_VERSION = 1


class _Preparation:
    """Work on one catalogue; ``scratch`` is a folder for frames between reading and stretching."""

    def __init__(self, catalogue: Catalogue, data: DataSpec, scratch: Path) -> None:
        self._catalogue, self._data, self._scratch = catalogue, data, scratch
        self._spec = data.bodies or BodiesSpec()
        self._settings = BodySettings.of(self._spec)
        self._notes, self._described = Counter[str](), Counter[tuple[Band, ...]]()
        self._left_out = Counter[str]()

    def prepared(self, *, strict: bool, progress: Progress | None) -> PreparedExamples:
        """Read, stretch, cut and store."""
        where = self._catalogue.manifest.where
        frames, skipped = self._read(progress)
        _check_skipped(frames, skipped, where, strict=strict)
        subsets = self._subsets(frames)
        training = np.array([frames[i].statistics for i in subsets["train"]])
        stretch = fit_stretch(self._spec.stretch, training, where)
        targets = self._targets([frames[i] for i in subsets["train"]])
        tiles = [self._tiles(number, frame, stretch, targets) for number, frame in enumerate(frames)]
        of_frame = np.repeat(np.arange(len(frames)), [len(each[0]) for each in tiles])
        pixels, masks, places = (np.concatenate([each[i] for each in tiles]) for i in range(3))
        y_true = _stacked([one for each in tiles for one in each[3]], len(self._spec.numbers))
        parts = {name: np.flatnonzero(np.isin(of_frame, rows)).astype(np.int32) for name, rows in subsets.items()}
        if not y_true[parts["train"], :, STATE].any():
            raise DataError(f"{where}: no body in the training part that counts; allowed: at least one")
        location = store_examples(
            [pixels, masks, places],
            y_true,
            parts,
            classes=self._catalogue.classes,
            targets=targets,
            facts=self._facts(stretch, y_true[parts["train"]]),
        )
        lines = self._lines(frames, skipped, subsets, y_true, masks)
        files = self._files(frames, of_frame, parts)
        columns = band_rows(
            self._described, [one.ranges for one in frames], sum(one.native[0] * one.native[1] for one in frames)
        )
        return PreparedExamples(open_examples(location), location, lines, files, columns)

    def _read(self, progress: Progress | None) -> tuple[list[_Frame], list[SkippedFile]]:
        manifest, frames, skipped = self._catalogue.manifest, list[_Frame](), list[SkippedFile]()
        with ImageReader(self._settings.reading) as reader:
            for row, files in enumerate(manifest.files):
                try:
                    frames.append(self._frame(row, files, reader))
                except UnreadableError as error:
                    skipped.append(SkippedFile(manifest.names[row], str(error)))
                if progress is not None:
                    progress("reading", row + 1, len(manifest))
        bands = {frame.ranges.shape[1] for frame in frames}
        if len(bands) > 1:
            first = frames[0]
            other = next(frame for frame in frames if frame.ranges.shape[1] != first.ranges.shape[1])
            raise DataError(
                f"{manifest.where}: {manifest.names[first.row]} has {first.ranges.shape[1]} bands and "
                f"{manifest.names[other.row]} has {other.ranges.shape[1]}; allowed: the same number in all frames"
            )
        return frames, skipped

    def _frame(self, row: int, files: tuple[Path, ...], reader: ImageReader) -> _Frame:
        notes: dict[str, None] = {}
        bands: list[Band] = []
        read = read_body_frame(files, self._settings, reader, note=notes.setdefault, band=bands.append)
        file = self._scratch / f"{row}.npz"
        np.savez(file, pixels=read.pixels, usable=read.usable)
        self._notes.update(notes)
        self._described[tuple(bands)] += 1
        statistics = image_statistics(read.pixels, self._spec.stretch)
        return _Frame(row, file, digest_of_array(read.pixels), read.native, statistics, read.ranges)

    def _subsets(self, frames: Sequence[_Frame]) -> Subsets:
        manifest = self._catalogue.manifest
        contents, strata = [frame.content for frame in frames], ["all"] * len(frames)
        groups = None if manifest.groups is None else [manifest.groups[frame.row] for frame in frames]
        if manifest.subsets is None:
            return assign_subsets(self._data.split, manifest.where, contents=contents, groups=groups, labels=strata)
        subsets = given_subsets([manifest.subsets[frame.row] for frame in frames], manifest.where)
        fold = self._data.split.fold
        return fold_given_subsets(
            fold, subsets, len(frames), manifest.where, contents=contents, groups=groups, labels=strata
        )

    def _targets(self, training: Sequence[_Frame]) -> tuple[Target, ...]:
        """Centre and scale of each number in the training frames."""
        rows = [values[3:] for frame in training for values in self._catalogue.bodies[frame.row].values]
        values = np.array(rows).reshape(len(rows), len(self._spec.numbers))
        found = []
        for (name, target), column in zip(self._spec.numbers.items(), values.T, strict=True):
            if len(column) == 0 or not column.std() > 0:
                where = self._catalogue.manifest.where
                raise DataError(f"{where}: {name} is constant in the training part; allowed: values that vary")
            found.append(Target(name, target.unit, float(column.mean()), float(column.std())))
        return tuple(found)

    def _tiles(
        self, number: int, frame: _Frame, stretch: Stretch, targets: Sequence[Target]
    ) -> tuple[NDArray[np.float16], NDArray[np.uint8], NDArray[np.int32], list[NDArray[np.float32]]]:
        with np.load(frame.file) as stored:
            pixels, usable = stretch.apply(stored["pixels"]), stored["usable"]
        frame.file.unlink()
        bodies = self._bodies(frame, usable, targets)
        cuts, masks, places = tiles_of_frame(pixels, usable, number, self._spec.tile)
        return cuts, masks, places, [placed(bodies, place[1:], self._spec.tile) for place in places]

    def _bodies(self, frame: _Frame, usable: NDArray[np.bool_], targets: Sequence[Target]) -> NDArray[np.float32]:
        """Bodies of a frame that count, as rows of ``y_true`` with places in px of the frame; masks difficult ones."""
        listed_bodies: FrameBodies = self._catalogue.bodies[frame.row]
        n = N_FIXED + len(targets)
        rows, binning, classes = list[list[float]](), self._spec.binning, self._catalogue.classes
        height, width = usable.shape
        for label, (x, y, size, *numbers), is_difficult in zip(
            listed_bodies.labels, listed_bodies.values, listed_bodies.is_difficult, strict=True
        ):
            column, row = ((each + 0.5) / binning - 0.5 for each in (x, y))
            if not (-0.5 <= column < width - 0.5 and -0.5 <= row < height - 0.5):
                self._left_out["outside of their frame"] += 1
                continue
            if is_difficult:
                self._left_out["marked as difficult (their pixels are masked)"] += 1
                _hide(usable, column, row, size / binning)
                continue
            scaled = [(each - t.centre) / t.scale for each, t in zip(numbers, targets, strict=True)]
            rows.append([1.0, 1.0, classes.index(label), column, row, size / binning, *scaled])
        found = np.array(rows, np.float32).reshape(len(rows), n)
        seen = usable[np.rint(found[:, Y]).astype(int), np.rint(found[:, X]).astype(int)]
        self._left_out["on masked pixels"] += int((~seen).sum())
        return np.asarray(found[seen])

    def _facts(self, stretch: Stretch, training: NDArray[np.float32]) -> dict[str, Any]:
        spec, bodies = self._spec, training[training[..., STATE] > 0]
        own = bodies[bodies[:, IS_OWN] > 0]
        n_most = int(training[..., STATE].sum(axis=1).max())
        facts: dict[str, Any] = {
            "tile": spec.tile,
            "binning": spec.binning,
            "radius_px": spec.radius_px,
            "usual_size_px": max(1, round(float(np.median(bodies[:, SIZE])))),
            "mean_bodies": float(max(1.0, training[..., STATE].sum(axis=1).mean())),
            "most_detections": int(min(spec.tile**2 // 16, max(32, 2 * n_most))),
            "roles": list(spec.roles.values()),
            "settings": self._settings.to_json(),
            "stretch": stretch.to_json(),
            "bends": stretch.bends.tolist(),
        }
        if spec.brightness is not None:
            column = list(spec.numbers).index(spec.brightness)
            values = own[:, N_FIXED + column] * (-1 if spec.roles[spec.brightness] == "magnitude" else 1)
            limits = [float(each) for each in np.quantile(values, [1 / 3, 2 / 3])]
            is_magnitude = spec.roles[spec.brightness] == "magnitude"
            facts["brightness"] = {"column": column, "sign": -1 if is_magnitude else 1, "limits": limits}
        return facts

    def _lines(
        self,
        frames: Sequence[_Frame],
        skipped: Sequence[SkippedFile],
        subsets: Mapping[str, NDArray[np.int32]],
        y_true: NDArray[np.float32],
        masks: NDArray[np.uint8],
    ) -> list[str]:
        manifest, classes = self._catalogue.manifest, self._catalogue.classes
        own = y_true[(y_true[..., STATE] > 0) & (y_true[..., IS_OWN] > 0)]
        counts = [f"{name} {int((own[:, CLASS] == i).sum())}" for i, name in enumerate(classes)]
        sizes = sorted({frame.native for frame in frames})
        size = f"{sizes[0][0]} x {sizes[0][1]}" + (f" to {sizes[-1][0]} x {sizes[-1][1]}" if len(sizes) > 1 else "")
        lines = [
            f"{manifest.where}: {len(manifest)} frames of {size} px, {len(own)} bodies that count: {', '.join(counts)}",
            f"{len(y_true)} tiles of {self._spec.tile} px"
            + (f" after binning {self._spec.binning} x {self._spec.binning} px" if self._spec.binning > 1 else ""),
        ]
        lines += [*manifest.lines, *(f"{n} frames: {note}" for note, n in sorted(self._notes.items()))]
        lines += [f"left out: {n} bodies {why}" for why, n in sorted(self._left_out.items()) if n]
        lines += [f"left out: {one}" for one in listed(skipped)]
        parts = ", ".join(f"{subset} {len(subsets[subset])}" for subset in SUBSETS)
        return [*lines, f"{parts} frames; {100 * (1 - float(masks.mean())):.2g} % of the pixels of tiles are masked"]

    def _files(
        self, frames: Sequence[_Frame], of_frame: NDArray[np.int64], parts: Mapping[str, NDArray[np.int32]]
    ) -> FileTable:
        manifest = self._catalogue.manifest
        folder = manifest.source if manifest.source.is_dir() else manifest.source.parent
        frame_files = [manifest.files[frame.row][0] for frame in frames]
        lists = {name_below(file, folder): sha256_of(file) for file in self._catalogue.sources}
        names = [name_below(file, folder) for file in frame_files]
        first = np.searchsorted(of_frame, np.arange(len(frames)))
        return file_table(
            [([names[i]], f"tile {n - first[i] + 1}") for n, i in enumerate(of_frame)],
            lists | {name: sha256_of(file) for name, file in zip(names, frame_files, strict=True)},
            parts,
            groups=None if manifest.groups is None else [shown(manifest.groups[frames[i].row]) for i in of_frame],
            lists=list(lists),
        )


def _hide(usable: NDArray[np.bool_], x: float, y: float, size: float) -> None:
    """Mask the pixels of a body."""
    rows, columns = np.ogrid[: usable.shape[0], : usable.shape[1]]
    usable &= (columns - x) ** 2 + (rows - y) ** 2 > (size / 2) ** 2


def _stacked(tiles: Sequence[NDArray[np.float32]], n_numbers: int) -> NDArray[np.float32]:
    """Bodies of all tiles in one array (n, most, columns), filled up with zeros."""
    most = max(1, *(len(one) for one in tiles)) if tiles else 1
    stacked = np.zeros((len(tiles), most, N_FIXED + n_numbers), np.float32)
    for i, one in enumerate(tiles):
        stacked[i, : len(one)] = one
    return stacked


def _check_skipped(frames: Sequence[_Frame], skipped: Sequence[SkippedFile], where: str, *, strict: bool) -> None:
    reasons = "".join(f"\n  {one}" for one in listed(skipped))
    n_all, n_bad = len(frames) + len(skipped), len(skipped)
    if strict and n_bad:
        raise DataError(f"{where}: {n_bad} frames cannot be used; allowed when strict: none{reasons}")
    if n_bad > n_all / 2:
        raise DataError(f"{where}: {n_bad} of {n_all} frames cannot be used; allowed: at most half{reasons}")
    if len(frames) < MIN_IMAGES:
        raise DataError(f"{where}: {len(frames)} frames can be used; allowed: at least {MIN_IMAGES}{reasons}")
