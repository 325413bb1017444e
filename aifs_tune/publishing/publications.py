"""Reports and bundles that are kept among the artifacts of their study.

``publications/ID`` has the record of each, ``publication-files/ID`` its file. The record is written last, so that what
is listed is complete.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from zipfile import ZIP_DEFLATED, ZipFile

from pydantic import Field, ValidationError

from aifs_tune._util.cache import cache_root
from aifs_tune._util.hashing import check_hashes
from aifs_tune._util.models import StrictModel, Text
from aifs_tune.artifacts.stores import store_at
from aifs_tune.errors import DamagedError, NotFoundError
from aifs_tune.storage.projects import split_name
from aifs_tune.study.record import StudyRecord

PublicationFormat: TypeAlias = Literal["html", "pdf", "zip"]
"""``html`` and ``pdf`` are reports, ``zip`` is a bundle."""
ID_PATTERN = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$"
_ID = re.compile(ID_PATTERN[1:-1])
_RECORDS, _FILES = "publications", "publication-files"
_RECORD = "publication.json"


class Publication(StrictModel):
    """Report or bundle of a study.

    Attributes
    ----------
    id
        The time at which it was begun, and a random part.
    format
        Format of the file: a report as ``html`` or ``pdf``, or a bundle as ``zip``.
    made_at
        Time at which it was complete, in ISO 8601 with time zone.
    trial
        Number of the trial that was the best when it was begun.
    file, n_bytes, sha256
        Name of the file, its size in bytes and its hash.
    """

    id: Annotated[str, Field(pattern=ID_PATTERN)]
    format: PublicationFormat
    made_at: str
    trial: Annotated[int, Field(ge=0)]
    file: Text
    n_bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def new_id(now: datetime) -> str:
    """Return the id of a publication that is begun at ``now``."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def make_publication(
    study: StudyRecord, wanted: PublicationFormat, publication_id: str, *, tell: Callable[[str], None]
) -> Publication:
    """Make a report or a bundle, and keep it among the artifacts of ``study``.

    Parameters
    ----------
    study
        The study.
    wanted
        Format: ``html`` or ``pdf`` for a report, ``zip`` for a bundle.
    publication_id
        Its id, see :func:`new_id`.
    tell
        Called with a line of text at each step.

    Raises
    ------
    NotFoundError
        If no trial is complete.
    RequestError
        If the study evaluates configurations of another study, or a package is not installed.
    StorageError
        If it cannot be written.
    """
    trial = study.best.number
    with tempfile.TemporaryDirectory(prefix="aifs_tune_") as scratch:
        file = _written(study, wanted, Path(scratch), tell)
        tell("storing the file")
        return keep_publication(study, file, wanted, publication_id=publication_id, trial=trial)


def keep_publication(
    study: StudyRecord, file: Path, wanted: PublicationFormat, *, publication_id: str, trial: int
) -> Publication:
    """Keep a copy of ``file``, a report or a bundle, among the artifacts of ``study``; see :class:`Publication`.

    Raises
    ------
    StorageError
        If an object store does not answer.
    """
    store = store_at(study.artifacts)
    hashes = store.put(f"{_FILES}/{publication_id}", lambda folder: shutil.copyfile(file, folder / file.name))
    made = Publication(
        id=publication_id,
        format=wanted,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        trial=trial,
        file=file.name,
        n_bytes=file.stat().st_size,
        sha256=hashes[file.name],
    )
    record = made.model_dump_json().encode()
    store.put(f"{_RECORDS}/{publication_id}", lambda folder: (folder / _RECORD).write_bytes(record))
    return made


def publications_of(study: StudyRecord) -> list[Publication]:
    """List the reports and bundles that were made of ``study``, the newest first.

    Raises
    ------
    DamagedError
        If a record cannot be read.
    StorageError
        If an object store does not answer.
    """
    ids = [name.partition("/")[2] for name in store_at(study.artifacts).names(_RECORDS)]
    return [find_publication(study, each) for each in sorted(filter(_ID.fullmatch, ids), reverse=True)]


def find_publication(study: StudyRecord, publication_id: str) -> Publication:
    """Return the report or bundle of ``study`` with this id.

    Raises
    ------
    NotFoundError
        If the study has none with this id.
    DamagedError
        If its record cannot be read.
    StorageError
        If an object store does not answer.
    """
    folder = _fetched(study, _RECORDS, publication_id)
    try:
        return Publication.model_validate_json((folder / _RECORD).read_bytes())
    except (OSError, ValidationError):
        raise DamagedError(f"the record of publication {publication_id} cannot be read; make a new one") from None


def publication_file(study: StudyRecord, publication: Publication) -> Path:
    """Return the file of a report or bundle, checked against its hash; do not change it.

    Raises
    ------
    NotFoundError
        If the file was removed.
    DamagedError
        If the file was changed.
    StorageError
        If an object store does not answer.
    """
    folder = _fetched(study, _FILES, publication.id)
    try:
        check_hashes(folder, {publication.file: publication.sha256})
    except DamagedError:
        raise DamagedError(f"the file of publication {publication.id} was changed; make a new one") from None
    return folder / publication.file


def _fetched(study: StudyRecord, below: str, publication_id: str) -> Path:
    missing = NotFoundError(f"this study has no publication {publication_id}")
    if not _ID.fullmatch(publication_id):
        raise missing
    try:
        return store_at(study.artifacts).fetch(f"{below}/{publication_id}", cache_root().absolute())
    except NotFoundError:
        raise missing from None


def _written(study: StudyRecord, wanted: PublicationFormat, folder: Path, tell: Callable[[str], None]) -> Path:
    """Write the report, or the bundle as a ZIP archive, into ``folder``."""
    _, short = split_name(study.name)
    if wanted == "zip":
        from aifs_tune.publishing.bundle.export import export

        tell("exporting the study")
        bundle = folder / f"{short}-bundle"
        export(study.name, bundle, storage=study.storage.url)
        tell("packing the bundle")
        return _packed(bundle)
    from aifs_tune.publishing.report.write import write_report

    return write_report(study, folder / f"{short}-report.{wanted}", format=wanted, tell=tell)[0]


def _packed(folder: Path) -> Path:
    """Write a ZIP archive of ``folder`` next to it."""
    archive = folder.with_name(f"{folder.name}.zip")
    with ZipFile(archive, "w", ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent))
    return archive
