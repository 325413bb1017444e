"""Worker process that reads images: ``python -m aifs_tune.data.frames.worker SETTINGS LOCK_FILE``.

A request is [files, index].
"""

from __future__ import annotations

import json
import sys
from dataclasses import astuple
from pathlib import Path

from aifs_tune.data.frames.formats import ImageReader
from aifs_tune.data.frames.read import FrameSettings, read_frame
from aifs_tune.data.image_files.arrays import UnreadableError
from aifs_tune.data.worker_loop import Response, open_lock, serve_requests


def main() -> None:
    """Answer requests until standard input ends."""
    settings = FrameSettings.from_json(json.loads(sys.argv[1]))
    lock, reader = open_lock(sys.argv[2]), ImageReader(settings.reading)

    def answer(request: tuple[list[str], int | None]) -> Response:
        files, index = request
        try:
            frame = read_frame([Path(file) for file in files], index, settings, reader, lock=lock)
        except UnreadableError as error:
            return {"problem": str(error)}, b""
        header = {
            "shape": frame.pixels.shape,
            "native": frame.native,
            "statistics": frame.statistics.tolist(),
            "ranges": frame.ranges.tolist(),
            "notes": frame.notes,
            "bands": [astuple(band) for band in frame.bands],
        }
        return header, frame.pixels.tobytes()

    serve_requests(answer)


if __name__ == "__main__":
    main()
