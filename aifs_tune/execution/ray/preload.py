"""Imported last by a worker that starts before there is work: says that it is ready.

Ray gives work only to workers that have finished their imports, and starts further ones if it is asked too early.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

FOLDER_VARIABLE = "AIFS_TUNE_PRELOADED"
"""Names the folder in which each ready worker leaves an empty file."""

_WAIT_S = 60.0


def wait_for(folder: Path, n: int) -> None:
    """Return when ``n`` workers are ready, or after a minute: then Ray starts others."""
    until = time.monotonic() + _WAIT_S
    while len(list(folder.iterdir())) < n and time.monotonic() < until:
        time.sleep(0.02)


if FOLDER_VARIABLE in os.environ and Path(os.environ[FOLDER_VARIABLE]).is_dir():
    Path(os.environ[FOLDER_VARIABLE], str(os.getpid())).touch()
