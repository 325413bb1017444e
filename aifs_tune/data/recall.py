"""What was prepared of a manifest before, as long as neither it nor its files changed: then nothing is read again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from aifs_tune.data.examples import PreparedExamples, open_examples
from aifs_tune.data.files import FileTable
from aifs_tune.data.manifest import Manifest
from aifs_tune.data.reading import digest_of
from aifs_tune.durable import write_file
from aifs_tune.errors import NotFoundError

_VERSION = 2
_SETTLED_NS = 2_000_000_000


def find_prepared(root: Path, asked: Any, manifest: Manifest) -> PreparedExamples | None:
    """What :func:`remember` noted for what is ``asked`` of these files; None if there is none, or it was deleted."""
    try:
        told = json.loads(_note(root, asked, manifest).read_bytes())
        location = Path(told["location"])
        return PreparedExamples(open_examples(location), location, told["lines"], FileTable(**told["files"]))
    except (OSError, ValueError, KeyError, TypeError, NotFoundError):
        return None


def save_prepared(root: Path, asked: Any, manifest: Manifest, prepared: PreparedExamples) -> None:
    """Note it; not where a file is so new that it can change again within one tick of the file system's clock."""
    if max((times[2] for times in _statuses(manifest)), default=0) < time.time_ns() - _SETTLED_NS:
        told = {"location": str(prepared.location), "lines": list(prepared.lines), "files": prepared.files.to_json()}
        write_file(_note(root, asked, manifest), json.dumps(told).encode())


def _note(root: Path, asked: Any, manifest: Manifest) -> Path:
    files = [str(file) for file in _files(manifest)]
    key = json.dumps([_VERSION, asked, files, _statuses(manifest)], sort_keys=True)
    return root / "index" / f"frames-{digest_of(key.encode())}.json"


def _files(manifest: Manifest) -> list[Path]:
    return [manifest.source, *sorted({file for files in manifest.files for file in files})]


def _statuses(manifest: Manifest) -> list[list[int]]:
    return [_status(file) for file in _files(manifest)]


def _status(file: Path) -> list[int]:
    try:
        status = os.stat(file)
    except OSError:
        return [-1, -1, -1]
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
