"""The process that decodes: ``python -m aifs_tune.data.decode_worker SETTINGS LOCK_FILE``.

Reads lines of JSON, each a list of [path, digest], and answers each file with a frame: two lengths, JSON,
pixels. An empty frame says that it is ready. Its parent may be any program: unlike the processes of
:mod:`multiprocessing` it does not import the parent's main module, shares no threads and unpickles nothing.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from dataclasses import asdict
from typing import BinaryIO

from aifs_tune.data.decode import ChangedFileError, DecodeSettings, decode_file

FRAME = struct.Struct(">II")
FILE_TIMEOUT_S = 60


def main() -> None:
    """Answer until standard input ends. A file that takes too long ends the process by SIGALRM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = DecodeSettings(**json.loads(sys.argv[1]))
    lock = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    # Libraries that print must not write between the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _answer(answers, {}, b"")
    for line in sys.stdin.buffer:
        for path, digest in json.loads(line):
            signal.alarm(FILE_TIMEOUT_S)
            try:
                decoded = decode_file(path, digest, settings, lock=lock)
            except ChangedFileError as error:
                _answer(answers, {"changed": str(error)}, b"")
                continue
            finally:
                signal.alarm(0)
            pixels = decoded.pixels
            shape = None if pixels is None else [pixels.dtype.name, *pixels.shape]
            header = {"facts": asdict(decoded.facts), "pixels": shape}
            _answer(answers, header, b"" if pixels is None else pixels.tobytes())


def _answer(answers: BinaryIO, header: object, payload: bytes) -> None:
    text = json.dumps(header).encode()
    answers.write(FRAME.pack(len(text), len(payload)) + text + payload)
    answers.flush()


if __name__ == "__main__":
    main()
