"""Files of a trainer: arrays as npz without pickle, and JSON that holds their SHA-256."""

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
from aifs_tune._util.npz import read_plain_npz
from aifs_tune.errors import TrainerError

VERSION = 2
"""Version of checkpoints, weights and predictions; a file of any other version is refused."""
WEIGHTS_NAME = "weights"
"""Name of the files of a trial's best epoch: ``weights.npz`` and ``weights.json``."""


def write_state(folder: Path, name: str, arrays: Mapping[str, NDArray[np.float32]], facts: Mapping[str, Any]) -> Path:
    """Write ``name.npz`` and then ``name.json`` into ``folder``; return the path of ``name.npz``.

    Each file appears complete or not at all. The JSON file holds the SHA-256 of the arrays, so that
    :func:`read_state` notices a crash between the two.
    """
    path = folder / f"{name}.npz"
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    content = buffer.getbuffer()
    write_file(path, content)
    described = {"version": VERSION, "sha256": hashlib.sha256(content).hexdigest(), **facts}
    write_file(folder / f"{name}.json", json.dumps(described, indent=1, allow_nan=False).encode())
    return path


def read_state(folder: Path, name: str) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Read the arrays and facts of :func:`write_state`; nothing in the files is executed.

    Raises
    ------
    TrainerError
        If a file is missing or damaged, the two do not belong together, or another version wrote them.
    """
    try:
        facts = json.loads((folder / f"{name}.json").read_bytes())
        content = (folder / f"{name}.npz").read_bytes()
        version, digest = facts["version"], facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainerError(f"{folder}: {name}.json and {name}.npz cannot be read ({error})") from error
    if version != VERSION:
        raise TrainerError(f"{folder}/{name}.json: version {version!r} is not allowed; allowed: {VERSION}")
    if digest != hashlib.sha256(content).hexdigest():
        raise TrainerError(f"{folder}/{name}.npz is not the file that {name}.json describes")
    try:
        return read_plain_npz(content), facts
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise TrainerError(f"{folder}/{name}.npz holds more than plain arrays ({error})") from error
