"""Worker process that decodes images: ``python -m aifs_tune.data.images.decode_worker SETTINGS LOCK_FILE``.

A request is [path, digest, known], the arguments of :func:`~aifs_tune.data.images.decode.decode_file`.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from aifs_tune.data.images.decode import ChangedFileError, DecodeSettings, ImageFileDigest, decode_file
from aifs_tune.data.worker_loop import Response, open_lock, serve_requests


def main() -> None:
    """Answer requests until standard input ends."""
    settings = DecodeSettings(**json.loads(sys.argv[1]))
    lock = open_lock(sys.argv[2])

    def answer(request: ImageFileDigest) -> Response:
        path, digest, known = request
        try:
            decoded = decode_file(path, digest, settings, known=known, lock=lock)
        except ChangedFileError as error:
            return {"changed": str(error)}, b""
        pixels = decoded.pixels
        shape = None if pixels is None else [pixels.dtype.name, *pixels.shape]
        header = {"facts": vars(decoded.facts), "pixels": shape}
        return header, b"" if pixels is None else np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data

    serve_requests(answer)


if __name__ == "__main__":
    main()
