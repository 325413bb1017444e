"""Worker process that decodes images: ``python -m aifs_tune.data.images.decode_worker SETTINGS LOCK_FILE``.

A request is [path, digest].
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from aifs_tune.data.images.decode import ChangedFileError, DecodeSettings, decode_file
from aifs_tune.data.worker_loop import Response, open_lock, serve_requests


def main() -> None:
    """Answer requests until standard input ends."""
    settings = DecodeSettings(**json.loads(sys.argv[1]))
    lock = open_lock(sys.argv[2])

    def answer(request: tuple[str, str]) -> Response:
        try:
            decoded = decode_file(*request, settings, lock=lock)
        except ChangedFileError as error:
            return {"changed": str(error)}, b""
        pixels = decoded.pixels
        shape = None if pixels is None else [pixels.dtype.name, *pixels.shape]
        header = {"facts": asdict(decoded.facts), "pixels": shape}
        return header, b"" if pixels is None else pixels.tobytes()

    serve_requests(answer)


if __name__ == "__main__":
    main()
