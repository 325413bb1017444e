"""Images that the tests draw."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (20, 16), *, colour: bool = True) -> Image.Image:
    """An image of width and height ``size`` unlike that of any other seed."""
    random = np.random.default_rng(seed)
    shape = (size[1], size[0], 3) if colour else (size[1], size[0])
    return Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))


def deep_png(values: NDArray[np.uint16], colour_type: int, *, says: int | None = None) -> bytes:
    """A PNG file of 16 bits in each channel of ``values`` (height, width, channels); its header may say other sizes."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", says or width, says or height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
