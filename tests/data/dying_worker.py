"""A decoder process that some files end: run by ``test_image_decoding.py`` in place of the real one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from aifs_tune.data.images import decode_worker
from aifs_tune.data.images.decode import Decoded, decode_file


def dying(path: str, *args: Any, **settings: Any) -> Decoded:
    """Decode, except that names with ``kill`` and ``exit`` end the process, ``once`` only the first time."""
    name, mark = Path(path).name, Path(path + ".seen")
    if "kill" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "alarm" in name:
        os.kill(os.getpid(), signal.SIGALRM)
    if "exit" in name or ("once" in name and not mark.exists()):
        mark.touch()
        os._exit(3)
    sys.stdout.write("a library that prints\n")
    sys.stdout.flush()
    return decode_file(path, *args, **settings)


if __name__ == "__main__":
    decode_worker.decode_file = dying
    decode_worker.main()
