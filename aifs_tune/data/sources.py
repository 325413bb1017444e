"""Preparation of the ``data`` section of a sweep file, for each kind of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aifs_tune._util.scalars import brief, did_you_mean
from aifs_tune.config.data import BodiesSpec, DataSpec, FramesSpec, SeriesSpec, Simulate, TableSpec
from aifs_tune.data.digests import Progress
from aifs_tune.data.division import division_of
from aifs_tune.data.examples import PreparedExamples
from aifs_tune.data.file_table import FileTable
from aifs_tune.data.images.folder import shown
from aifs_tune.data.images.near_duplicates import CrossSubsetDuplicates
from aifs_tune.errors import DataError


def locate(data: DataSpec, kind: str, asked_by: str) -> DataSpec:
    """Return ``data`` with absolute paths, after a check that it has data of this kind.

    A URL is not contacted here, but when the data are prepared.

    Raises
    ------
    DataError
        If there are no data of this kind; the text names ``asked_by``, which needs them.
    """
    if data.url is not None:
        return data
    if kind == "table":
        table = data.table or TableSpec()
        if not any((table.file, table.bundled, table.simulate, table.showers)):
            raise DataError(f"{asked_by} needs a table; give --data FILE or data.table")
        if table.labels is not None:
            labels = table.labels.model_copy(update={"file": table.labels.file.absolute()})
            data = data.model_copy(update={"table": table.model_copy(update={"labels": labels})})
        return data if table.file is None else data.at(table.file.absolute(), kind)
    if kind == "series":
        series = data.series or SeriesSpec()
        if series.path is None and series.simulate is None:
            raise DataError(f"{asked_by} needs series; give --data PATH or data.series")
        return data if series.path is None else data.at(series.path.absolute(), kind)
    if kind in ("frames", "bodies"):
        return _with_list(data, kind, asked_by)
    if data.folder is None and data.simulate is None:
        raise DataError(f"{asked_by} needs images; give --data FOLDER or data.folder")
    if data.folder is None:
        return data
    folder = data.folder.absolute()
    _check_images(folder, data)
    found = data.at(folder, kind)
    if data.labels is None:
        return found
    return found.model_copy(update={"labels": data.labels.model_copy(update={"file": data.labels.file.absolute()})})


def _with_list(data: DataSpec, kind: str, asked_by: str) -> DataSpec:
    """``data`` with the absolute path of its manifest or catalogue."""
    if kind == "frames":
        frames = data.frames or FramesSpec()
        what, listing, is_given = "a manifest of images", frames.manifest, frames.simulate is not None
    else:
        bodies = data.bodies or BodiesSpec()
        what, listing, is_given = "a catalogue of bodies", bodies.catalogue, bodies.simulate is not None
    if listing is None and not is_given:
        raise DataError(f"{asked_by} needs {what}; give --data FILE or data.{kind}")
    return data if listing is None else data.at(listing.absolute(), kind)


def _check_images(folder: Path, data: DataSpec) -> None:
    """Check the layout of a folder or file of images, which is quick."""
    from aifs_tune.data.images.arrays import check_arrays, is_arrays
    from aifs_tune.data.images.listed import scan_images

    if is_arrays(folder):
        check_arrays(folder)
    else:
        scan_images(folder, data.labels, follow_links=data.follow_links)


@dataclass(frozen=True)
class Prepared:
    """Prepared data of any kind.

    ``location`` is the argument of ``open_images`` or ``open_examples``, ``lines`` is a readable summary.
    ``near_duplicates`` is None if they were not searched. ``division`` is that of
    :func:`~aifs_tune.data.division.division_of`, and ``columns`` are those of
    :class:`~aifs_tune.data.examples.PreparedExamples`.
    """

    location: Path
    fingerprint: str
    files: FileTable
    lines: Sequence[str]
    near_duplicates: CrossSubsetDuplicates | None = None
    division: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[Mapping[str, Any]] = ()


def prepare(
    data: DataSpec,
    kind: str,
    *,
    strict: bool,
    tell: Callable[[str], None],
    progress: Progress,
    tell_early: Callable[[str], None] | None = None,
) -> Prepared:
    """Prepare ``data`` for training; ``tell`` gets readable lines.

    ``tell_early`` gets what should be known before the data are ready, such as a forecast of much disk space; by
    default it is ``tell``.

    Raises
    ------
    DataError
        If the data cannot be used.
    StorageError
        If the cache cannot be written.
    WorkError
        If an object store does not answer.
    """
    if data.url is not None:
        from aifs_tune.data.fetch import fetch

        data = data.at(fetch(data.url, with_folder=_has_manifest(data, kind), tell=tell, progress=progress), kind)
    if _is_simulated(data, kind):
        tell(f"no data were given, so simulated {_simulated_kind(data, kind)} are used; give yours with --data")
    if kind != "images":
        prepared = _prepared_examples(data, kind, strict, tell, tell_early or tell, progress)
        for line in prepared.lines:
            tell(line)
        has_classes = bool(prepared.examples.classes) and kind != "bodies"
        _check_signal(data, prepared.examples.classes if has_classes else ())
        division = division_of(data, kind, has_classes=has_classes)
        fingerprint = prepared.examples.fingerprint
        return Prepared(
            prepared.location,
            fingerprint,
            prepared.files,
            prepared.lines,
            division=division,
            columns=prepared.columns,
        )
    from aifs_tune.data.images.prepare import prepare_images

    if data.folder is None:
        data = data.at(_simulated(data.simulate or Simulate(), tell, progress), kind)
        data = data.model_copy(update={"near_duplicates": "ignore"})  # each image is drawn independently
    tell(f"reading {data.folder}")
    images = prepare_images(data, strict=strict, progress=progress, tell=tell_early or tell)
    report = images.preflight
    for line in report.lines():
        tell(line)
    _check_signal(data, images.images.classes)
    fingerprint = images.images.fingerprint
    division = division_of(data, kind, has_classes=True, given=report.given, groups=report.grouped_by)
    return Prepared(
        images.location, fingerprint, images.files, report.lines(), report.near_duplicates, division, report.columns
    )


def _check_signal(data: DataSpec, classes: Sequence[str]) -> None:
    """Check that ``data.signal`` is one of the classes."""
    if data.signal is None or data.signal in classes:
        return
    if not classes:
        raise DataError(f"data.signal: {brief(data.signal)}, but numbers are predicted; allowed: leave it out")
    raise DataError(
        f"data.signal: {brief(data.signal)} is not one of the classes{did_you_mean(data.signal, list(classes))}; "
        f"allowed: {', '.join(map(shown, classes))}"
    )


_SIMULATED = {
    "images": "images of a sky",
    "table": "tables",
    "series": "series",
    "frames": "frames of a sky",
    "bodies": "fields",
}


def _simulated_kind(data: DataSpec, kind: str) -> str:
    """What the simulated data of this kind show."""
    if kind == "images" and data.simulate is not None and data.simulate.what == "micrographs":
        return "micrographs"
    return _SIMULATED[kind]


def _is_simulated(data: DataSpec, kind: str) -> bool:
    if kind == "table":
        return data.table is not None and (data.table.file, data.table.bundled) == (None, None)
    if kind == "series":
        return data.series is not None and data.series.path is None
    if kind == "frames":
        return data.frames is not None and data.frames.manifest is None
    if kind == "bodies":
        return data.bodies is not None and data.bodies.catalogue is None
    return data.folder is None


def sizes_of(location: Path, kind: str) -> dict[str, int]:
    """Return the number of examples of prepared data in each subset."""
    from aifs_tune.data.cache import open_images
    from aifs_tune.data.examples import open_examples

    opened = open_images(location) if kind == "images" else open_examples(location)
    return {"train": len(opened.train), "val": len(opened.val), "test": len(opened.test)}


def facts_of(location: Path, kind: str) -> dict[str, Any]:
    """Return properties of prepared data as JSON values.

    These are the kind, the number of classes (0 if numbers are predicted), the channels and the longer side of an
    image in pixels (0 without images), and the number of examples in each subset.
    """
    from aifs_tune.data.cache import open_images
    from aifs_tune.data.examples import open_examples

    if kind == "images":
        images = open_images(location)
        classes, shape = len(images.classes), tuple(images.images.shape[1:])
    else:
        examples = open_examples(location)
        classes, shape = len(examples.classes), tuple(examples.inputs[0].shape[1:])
    height, width, channels = shape if len(shape) == 3 else (0, 0, 0)
    return {
        "kind": kind,
        "classes": classes,
        "channels": int(channels),
        "side_px": max(int(height), int(width)),
        **sizes_of(location, kind),
    }


def _has_manifest(data: DataSpec, kind: str) -> bool:
    """Whether a file of this kind can be a manifest, which names other files."""
    return kind in ("frames", "bodies") or (kind == "series" and (data.series is None or data.series.forecast is None))


def _prepared_examples(
    data: DataSpec,
    kind: str,
    strict: bool,
    tell: Callable[[str], None],
    tell_early: Callable[[str], None],
    progress: Progress,
) -> PreparedExamples:
    if kind == "table":
        from aifs_tune.data.tables import prepare_table

        return prepare_table(data, strict=strict)
    if kind == "series":
        from aifs_tune.data.series.prepare import prepare_series

        return prepare_series(data, strict=strict)
    if kind == "bodies":
        return _prepared_bodies(data, strict, tell, progress)
    from aifs_tune.data.frames.prepare import prepare_frames

    if data.frames is not None and data.frames.manifest is None and data.frames.simulate is not None:
        from aifs_tune.data.simulate.moving_sky import simulate_moving_sky

        sky = data.frames.simulate
        tell(f"simulated sky: {sky.images} fields, {sky.frames} frames of {sky.size} px each")
        data = data.at(simulate_moving_sky(sky, progress), kind)
    return prepare_frames(data, strict=strict, progress=progress, tell=tell_early)


def _prepared_bodies(data: DataSpec, strict: bool, tell: Callable[[str], None], progress: Progress) -> PreparedExamples:
    from aifs_tune.data.bodies.prepare import prepare_bodies

    if data.bodies is not None and data.bodies.catalogue is None and data.bodies.simulate is not None:
        from aifs_tune.data.simulate.sky_fields import simulate_sky_fields

        sky = data.bodies.simulate
        tell(f"simulated sky: {sky.fields} fields of {sky.size} px, {sky.bodies:g} bodies each on average")
        data = data.at(simulate_sky_fields(sky, progress), "bodies")
    return prepare_bodies(data, strict=strict, progress=progress)


def _simulated(asked: Simulate, tell: Callable[[str], None], progress: Progress) -> Path:
    if asked.what == "micrographs":
        from aifs_tune.data.simulate.micrographs import simulate_micrographs

        tell(f"simulated micrographs: {asked.images} images of {asked.size} px")
        return simulate_micrographs(asked, progress).parent
    return _simulated_sky(asked, tell, progress)


def _simulated_sky(sky: Simulate, tell: Callable[[str], None], progress: Progress) -> Path:
    from aifs_tune._util.cache import cache_root
    from aifs_tune.data.simulate.sky import VERSION, simulate_sky

    folder = cache_root() / f"sky-{VERSION}-{sky.images}-{sky.size}-{sky.seed}-{sky.difficulty!r}"
    if not folder.exists():
        tell(f"drawing a simulated sky survey of {sky.images} images of {sky.size} px")
    folder.parent.mkdir(parents=True, exist_ok=True)
    drawn = simulate_sky(
        folder,
        images=sky.images,
        size=sky.size,
        seed=sky.seed,
        difficulty=sky.difficulty,
        progress=progress,
    )
    return drawn.folder
