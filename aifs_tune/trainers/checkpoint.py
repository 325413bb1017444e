"""Arrays and facts of a trainer on disk: an npz file without pickle, and JSON that carries its digest."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import write_file
from aifs_tune.errors import TrainerError

_VERSION = 1
WEIGHTS_NAME = "weights"
"""The best epoch of a trial: ``weights.npz`` and ``weights.json``."""


def write_state(folder: Path, name: str, arrays: Mapping[str, NDArray[np.float32]], facts: Mapping[str, Any]) -> Path:
    """Write ``name.npz`` and then ``name.json`` into ``folder``; the path of the first.

    Each file appears whole or not at all. The second names the digest of the first, so that a crash
    between the two is noticed by :func:`read_state`.
    """
    path = folder / f"{name}.npz"
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    content = buffer.getbuffer()
    write_file(path, content)
    described = {"version": _VERSION, "sha256": hashlib.sha256(content).hexdigest(), **facts}
    write_file(folder / f"{name}.json", json.dumps(described, indent=1, allow_nan=False).encode())
    return path


def read_state(folder: Path, name: str) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """What :func:`write_state` wrote; nothing in the files is executed.

    Raises
    ------
    TrainerError
        If a file is missing or damaged, the two do not belong together, or a later version wrote them.
    """
    try:
        facts = json.loads((folder / f"{name}.json").read_bytes())
        content = (folder / f"{name}.npz").read_bytes()
        version, digest = facts["version"], facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainerError(f"{folder}: {name}.json and {name}.npz cannot be read ({error})") from error
    if version != _VERSION:
        raise TrainerError(f"{folder}/{name}.json: version {version!r} is unknown; allowed: {_VERSION}")
    if digest != hashlib.sha256(content).hexdigest():
        raise TrainerError(f"{folder}/{name}.npz: is not the file that {name}.json describes")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}, facts
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise TrainerError(f"{folder}/{name}.npz: holds something else than plain arrays ({error})") from error
