"""A process that reads frames and that some files end: run by ``test_frames.py`` in place of the real one."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aifs_tune.data.frames import worker
from aifs_tune.data.frames.read import Frame, read_frame


def dying(files: Sequence[Path], *args: Any, **settings: Any) -> Frame:
    """Read, except that names with ``kill`` end the process."""
    if "kill" in files[0].name:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_frame(files, *args, **settings)


if __name__ == "__main__":
    worker.read_frame = dying
    worker.main()
