"""Collections of series: a file for each, with a folder for each class or a manifest."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aifs_tune.config.data import SeriesSpec
from aifs_tune.data.file_table import name_below
from aifs_tune.data.images.folder import shown, subset_in
from aifs_tune.data.links import ALLOWED, Links, absence_of, check_below, check_links
from aifs_tune.data.series.formats import SUFFIXES, RawSeries, conversion_of, kind_of, read_raw
from aifs_tune.data.series.reader import N_LOOKED_AT, Floats, Recording, SeriesReader
from aifs_tune.data.series.tally import Tally
from aifs_tune.data.table_files import read_table, suffix_of
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


MANIFEST = "manifest.csv"
_PATH = "path"
MANIFEST_COLUMNS = ("group", "part", "order")
"""Settings that name columns of a manifest, or of a table of series, that control the split."""
_NOT_DATA = ("__macosx", "@eadir", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Collection:
    """Series with their targets: ``labels``, or ``numbers`` (n, targets); the other one is empty.

    ``names`` tell the series apart in messages. ``manifest_columns`` has the columns of the manifest that control the
    split: ``group``, ``part`` and ``order``. ``parts`` (n,) are train, val and test where the files say so.
    ``files`` are the files of the series below ``folder``, and ``positions`` where a series stands in its file;
    ``manifest`` is None without a manifest. ``reader`` says which columns were read. ``layout`` is files, long, wide,
    arrays or archive.
    """

    where: str
    columns: tuple[str, ...]
    recordings: Sequence[Recording]
    labels: Sequence[str] = ()
    numbers: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    names: Sequence[str] = ()
    manifest_columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    parts: Sequence[str] = ()
    lines: Sequence[str] = ()
    files: Sequence[Path] = ()
    positions: Sequence[str | None] = ()
    folder: Path = Path()
    manifest: Path | None = None
    reader: SeriesReader | None = None
    layout: str = "files"

    def picked(self, rows: Sequence[int]) -> Collection:
        """The series at these positions."""

        def of(values: Sequence[Any]) -> list[Any]:
            return [values[row] for row in rows] if len(values) else []

        return replace(
            self,
            recordings=of(self.recordings),
            labels=of(self.labels),
            numbers=self.numbers[list(rows)] if len(self.numbers) else self.numbers,
            names=of(self.names),
            manifest_columns={name: of(entries) for name, entries in self.manifest_columns.items()},
            parts=of(self.parts),
            files=of(self.files),
            positions=of(self.positions),
        )


@dataclass(frozen=True)
class Source:
    """Where one series, or several, come from: ``name`` in tables, ``where`` in messages, and how to read them."""

    name: str
    where: str
    load: Callable[[], Sequence[RawSeries]]


@dataclass(frozen=True)
class ReadSeries:
    """Series that were read: for each the number of its source, its name in it, and the series."""

    reader: SeriesReader
    sources: Sequence[int]
    names: Sequence[str | None]
    recordings: Sequence[Recording]
    lines: Sequence[str]


def read_sources(sources: Sequence[Source], spec: SeriesSpec, *, strict: bool, aside: Sequence[str] = ()) -> ReadSeries:
    """Read all series that can be read; the others are counted by reason in the lines.

    Raises
    ------
    DataError
        If more than half of the sources cannot be read, or one with ``strict``; with the error of the first.
    """
    reader = _reader(sources, spec, aside)
    tally = Tally(len(sources))
    numbers, names, recordings = list[int](), list[str | None](), list[Recording]()
    for i, source in enumerate(sources):
        try:
            raw = source.load()
        except DataError as error:
            tally.problem(source.name, source.where, error)
            continue
        for each in raw:
            name = source.name if each.name is None else f"{source.name} {each.name}"
            where = source.where if each.name is None else f"{source.where}, {shown(each.name)}"
            try:
                recording, notes = reader.read(each, where)
            except DataError as error:
                tally.problem(name, where, error)
                continue
            tally.note(name, notes)
            numbers.append(i)
            names.append(each.name)
            recordings.append(recording)
    if tally.problems and (strict or len(tally.problems) > len(sources) / 2):
        errors = [error for _, _, error in tally.problems]
        raise errors[0] if strict else _of_all(errors, len(sources))
    return ReadSeries(reader, numbers, names, recordings, tally.lines())


def _of_all(errors: Sequence[DataError], n_sources: int) -> DataError:
    """The first error, with the number of series that cannot be read if there are several."""
    text = f"{errors[0]} ({len(errors)} of {n_sources} series cannot be read)"
    return errors[0] if len(errors) == 1 else DataError(text)


def _reader(sources: Sequence[Source], spec: SeriesSpec, aside: Sequence[str]) -> SeriesReader:
    """The reader for these series, by a few of them from all over; raises the first problem if none can be read."""
    step = max(1, len(sources) // N_LOOKED_AT)
    order = dict.fromkeys([*range(0, len(sources), step), *range(len(sources))])
    raw, problems, where = list[RawSeries](), list[DataError](), sources[0].where
    for i in order:
        try:
            found = [each for each in sources[i].load() if len(each.frame)]
        except DataError as error:
            problems.append(error)
            continue
        where = where if raw else sources[i].where
        raw += found
        if len(raw) >= N_LOOKED_AT:
            break
    if not raw:
        raise _of_all(problems, len(sources)) if problems else DataError(f"{where}: 0 step(s); allowed: at least 2")
    return SeriesReader.like(raw, spec, where, aside=aside)


def load_collection(path: Path, spec: SeriesSpec, *, strict: bool = False, follow_links: bool = False) -> Collection:
    """Read all series of a folder, a manifest or a file with many of them; ``follow_links`` is that of the data.

    Raises
    ------
    DataError
        If a file or an entry is not allowed; the text names the file and the column, what was found and what is
        allowed.
    """
    from aifs_tune.data.series.archives import archive_in
    from aifs_tune.data.series.tables import collection_in

    where = f"series {shown(str(path))}"
    if not path.exists():
        raise DataError(f"{where}: there is no such folder or file; allowed: a folder of series, or a manifest")
    if (hint := conversion_of(path)) is not None:
        raise DataError(f"{where}: {kind_of(path)} is not read; convert it: {hint}")
    if path.is_file():
        found = collection_in([(path, None)], spec, where, strict=strict)
        if found is None:
            return _of_manifest(path, spec, strict=strict, follow_links=follow_links)
        archive = [file for file, _ in archive_in(path.parent) or ()]
        others = [file for file in archive if file != path] if path in archive else []
        hint = f"{', '.join(shown(o.name) for o in others)} beside it is not read; a folder as the path reads both"
        return replace(found, lines=[*found.lines, *([hint] if others else [])])
    if (path / MANIFEST).is_file():
        return _of_manifest(path / MANIFEST, spec, strict=strict, follow_links=follow_links)
    if (parts := archive_in(path)) is not None:
        found = collection_in(parts, spec, where, strict=strict)
        if found is not None:
            return found
    return _of_folders(path, spec, where, strict=strict, follow_links=follow_links)


def _of_folders(folder: Path, spec: SeriesSpec, where: str, *, strict: bool, follow_links: bool) -> Collection:
    check_no_manifest(spec, where)
    parts = _part_folders(folder, where)
    places = [(part, sub) for part, inner in parts for sub in _folders_in(inner)]
    files, others = defaultdict[tuple[str | None, str], list[Path]](list), list[Path]()
    for part, sub in places:
        held, rest = _files_below(sub)
        files[part, sub.name] += held
        others += rest
    classes = sorted({name for _, name in files})
    hint = _others_lines(others, folder)
    empty = sorted({name for name in classes if not any(files[key] for key in files if key[1] == name)})
    if empty and (strict or len(classes) - len(empty) < 2):
        more = f"; {hint[0]}" if hint else ""
        raise DataError(f"{where}: no series in {shown(empty[0])}; allowed: files named {', '.join(SUFFIXES)}{more}")
    if len(classes) < 2:
        raise DataError(
            f"{where}: {len(classes)} class folder(s) and no {MANIFEST}; allowed: 2 class folders or more, or a "
            f"manifest{_beside(folder)}"
        )
    listed = [(file, part, name) for (part, name), found in files.items() for file in found]
    links = Links.of(folder, follow=follow_links)
    read = read_sources([_source(file, folder, spec, links) for file, _, _ in listed], spec, strict=strict)
    lines = [f"left out: the folder {shown(name)}, which holds no series" for name in empty]
    lines += [*columns_lines(read.reader), *read.lines, *hint]
    picked = [listed[i] for i in read.sources]
    named = [name_below(file, folder) for file, _, _ in picked]
    return Collection(
        where,
        read.reader.columns,
        read.recordings,
        [label for _, _, label in picked],
        names=[name if own is None else f"{name} {own}" for name, own in zip(named, read.names, strict=True)],
        parts=[part for _, part, _ in picked if part is not None],
        lines=lines,
        files=[file for file, _, _ in picked],
        positions=read.names,
        folder=folder,
        reader=read.reader,
    )


def _part_folders(folder: Path, where: str) -> list[tuple[str | None, Path]]:
    """The folders that hold class folders: those of parts, or the folder itself."""
    tops = _folders_in(folder)
    meant = {sub: subset_in(sub.name) for sub in tops}
    if not tops or not all(meant.values()):
        return [(None, folder)]
    if not all(_folders_in(sub) for sub in tops) or len(set(meant.values())) < len(tops):
        raise DataError(
            f"{where}: has folders named like subsets; allowed: in each of them a folder for each class, or a "
            f"{MANIFEST} with a column of subsets"
        )
    if "train" not in meant.values():
        raise DataError(f"{where}: has {', '.join(sub.name for sub in tops)} and no train; allowed: train beside them")
    if len(tops) == 1:
        return [(None, tops[0])]
    return [(part, sub) for sub, part in meant.items()]


def _folders_in(folder: Path) -> list[Path]:
    found = (sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))
    return sorted(sub for sub in found if sub.name.lower() not in _NOT_DATA and conversion_of(sub) is None)


def _files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files below a folder that can hold a series, and others; folders of a kind that is not read count as files."""
    held, others = list[Path](), list[Path]()
    for place, folders, names in os.walk(folder):
        units = [name for name in folders if conversion_of(Path(place, name)) is not None]
        folders[:] = sorted(
            n for n in folders if not n.startswith(".") and n not in units and n.lower() not in _NOT_DATA
        )
        for name in sorted([*names, *units]):
            if not name.startswith(".") and name.lower() not in _NOT_DATA:
                file = Path(place, name)
                (held if suffix_of(file) in SUFFIXES and name not in units else others).append(file)
    return sorted(held), others


def _others_lines(others: Sequence[Path], folder: Path) -> list[str]:
    """A line for each kind of file that is not read, with the command that converts it if one is known."""
    by_suffix = defaultdict[str, list[Path]](list)
    for file in others:
        by_suffix[kind_of(file)].append(file)
    lines, unknown = [], [file for suffix, found in by_suffix.items() for file in found if not conversion_of(found[0])]
    for suffix, found in by_suffix.items():
        if (command := conversion_of(found[0])) is not None:
            some = shown(name_below(found[0], folder))
            lines.append(f"left out: {len(found)} of {suffix}, such as {some}; convert: {command}")
    if unknown:
        lines.append(f"left out: {len(unknown)} files of other kinds, such as {shown(name_below(unknown[0], folder))}")
    return lines


def _beside(folder: Path) -> str:
    """What else is in a folder without class folders, and what to do with it."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    if not files:
        return ""
    tables = [file.name for file in files if suffix_of(file) in (".csv", ".tsv", ".parquet")]
    hint = (
        f"; if one lists the classes: data.series.path: {shown(str(folder / tables[0]))}" if 0 < len(tables) < 3 else ""
    )
    return f" (found {len(files)} files such as {shown(files[0].name)}){hint}"


def columns_lines(reader: SeriesReader) -> list[str]:
    """A line for the columns that are left out for each reason."""
    by_reason = Counter(why.reason for why in reader.left_out.values())
    lines = []
    for reason, n in by_reason.items():
        names = [shown(name) or "without a name" for name, why in reader.left_out.items() if why.reason == reason]
        more = f" and {n - 3} more" if n > 3 else ""
        lines.append(f"left out: column{'s' * (n > 1)} {', '.join(names[:3])}{more}, {reason}")
    return lines


def check_no_manifest(spec: SeriesSpec, where: str) -> None:
    """Raise DataError if ``spec`` names a column of a manifest, since there is none."""
    asked = {name: column for name in MANIFEST_COLUMNS if (column := getattr(spec, name)) is not None}
    if spec.targets:
        asked["targets"] = next(iter(spec.targets))
    for name, column in asked.items():
        raise DataError(f"{where}: {name} ({column}) is a column of a manifest; allowed: a {MANIFEST} in the folder")


def check_simulated(spec: SeriesSpec, where: str) -> None:
    """Raise DataError if ``spec`` names columns of files, since the series are simulated."""
    check_no_manifest(spec, where)
    for name, given in (("columns", spec.columns), ("time", spec.time)):
        if given:
            raise DataError(f"{where}: {name} is for files; allowed: absent, or with data.series.path")


def _source(file: Path, folder: Path, spec: SeriesSpec, links: Links) -> Source:
    where = f"series {shown(str(file))}"

    def load() -> Sequence[RawSeries]:
        if (real := links.outside(str(file))) is not None:
            raise DataError(f"{where}: is a link to {shown(real)!r}, outside the data folder; allowed: {ALLOWED}")
        if (absence := absence_of(file)) is not None:
            raise DataError(f"{where}: {absence}")
        return read_raw(file, where, header=spec.header, hdu=spec.hdu)

    return Source(name_below(file, folder), where, load)


def _of_manifest(file: Path, spec: SeriesSpec, *, strict: bool, follow_links: bool) -> Collection:
    where = f"manifest {shown(str(file))}"
    loaded = read_table(file, where)
    frame = loaded.frame
    manifest_columns = {name: column for name in MANIFEST_COLUMNS if (column := getattr(spec, name)) is not None}
    wanted = list(spec.targets) or [spec.label]
    for column in (_PATH, *wanted, *manifest_columns.values()):
        if column not in frame.columns:
            hint = "; if each row is a step of a series, name the column of the series: data.series.id"
            raise DataError(
                f"{where}: no column {column!r}; allowed: {', '.join(map(shown, frame.columns[:12]))}"
                f"{hint if column == _PATH else ''}"
            )
    is_known = frame[wanted].notna().all(axis=1)
    lines = list(loaded.notes)
    if not is_known.all():
        lines.append(f"left out: {int((~is_known).sum())} series without {' or '.join(wanted)}")
    frame = frame[is_known]
    if frame.empty:
        raise DataError(f"{where}: no row with {' and '.join(wanted)}; allowed: one for each series")
    for column in (_PATH, *manifest_columns.values()):
        if not frame[column].notna().all():
            row = int(frame.index[frame[column].isna()][0]) + 1
            raise DataError(f"{where}: {column} is empty in row {row}; allowed: an entry for each series")
    numbered = zip(frame.index.tolist(), frame[_PATH].tolist(), strict=True)
    links = Links.of(file.parent, follow=follow_links)
    frame = frame.assign(**{_PATH: [_path_below(file.parent, each, where, row + 1, links) for row, each in numbered]})
    frame, more = _listed_once(frame, wanted, where, strict=strict)
    files = [file.parent / path for path in frame[_PATH]]
    read = read_sources([_source(each, file.parent, spec, links) for each in files], spec, strict=strict)
    frame, files = frame.iloc[list(read.sources)].reset_index(drop=True), [files[i] for i in read.sources]
    names = [name_below(each, file.parent) for each in files]
    found = Collection(
        where,
        read.reader.columns,
        read.recordings,
        names=[name if own is None else f"{name} {own}" for name, own in zip(names, read.names, strict=True)],
        lines=[*lines, *more, *columns_lines(read.reader), *read.lines],
        files=files,
        positions=read.names,
        folder=file.parent,
        manifest=file,
        reader=read.reader,
        manifest_columns={name: frame[column].tolist() for name, column in manifest_columns.items()},
    )
    if spec.targets:
        return replace(
            found, numbers=np.stack([target_column(frame[column], where) for column in spec.targets], axis=1)
        )
    return replace(found, labels=label_texts(frame[spec.label].tolist()))


def _path_below(folder: Path, entry: object, where: str, row: int, links: Links) -> str:
    """The path of an entry if it is below the folder of the manifest; back slashes count as slashes."""
    path = os.path.normpath(str(entry).strip().replace("\\", "/"))
    check_below(path, f"{where}: row {row} has the path {shown(str(entry))!r}", "the folder of the manifest")
    check_links(folder / path, links, f"{where}: row {row} has the path {shown(str(entry))!r}")
    return path


def _listed_once(
    frame: pandas.DataFrame, wanted: list[str], where: str, *, strict: bool
) -> tuple[pandas.DataFrame, list[str]]:
    """The rows of a manifest without files that are listed twice: one of equal rows stays, of contrary ones none."""
    is_again = frame.duplicated(subset=[_PATH, *wanted])
    lines = [f"{int(is_again.sum())} rows list a file again; each is read once"] if is_again.any() else []
    frame = frame[~is_again]
    is_contrary = frame.duplicated(subset=[_PATH], keep=False)
    if is_contrary.any():
        first = frame[is_contrary].iloc[0][_PATH]
        entries = [str(entry) for entry in frame.loc[frame[_PATH] == first, wanted[0]]]
        text = f"{shown(str(first))} has several entries in {wanted[0]} ({', '.join(map(shown, entries[:3]))})"
        if strict:
            raise DataError(f"{where}: {text}; allowed: one for each file")
        n = int(frame.loc[is_contrary, _PATH].nunique())
        lines.append(f"left out: {n} series listed with different entries: {text}")
        frame = frame[~is_contrary]
    if frame.empty:
        raise DataError(f"{where}: each file has several entries in {wanted[0]}; allowed: one for each file")
    return frame.reset_index(drop=True), lines


def label_texts(entries: Sequence[Any]) -> list[str]:
    """Classes as text; whole numbers without a point."""
    return [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in entries]


def target_column(column: pandas.Series[Any], where: str) -> Floats:
    """A column of targets as numbers; DataError names the first row without one."""
    import pandas

    numbers = np.array(pandas.to_numeric(column, errors="coerce"), np.float64)
    strange = np.flatnonzero(~np.isfinite(numbers))
    if len(strange):
        entry = column.iloc[int(strange[0])]
        raise DataError(f"{where}: {column.name} is {entry!r} in row {strange[0] + 1}; allowed: finite numbers")
    return numbers
