"""Colour PNG files of 16 bits, of which Pillow gives the upper 8 bits, and the lower 8 when it is asked for them."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LOWER = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA"}
"""Raw mode of Pillow that gives the lower halves, by the raw mode of the file.

Pillow gives the upper byte of a number; of numbers whose lower byte is said to come first, that is the second byte.
The four bytes of grey and alpha are as those of RGBA with 8 bits, which has both halves.
"""


def is_deep_colour(image: Any) -> bool:
    """Whether an image that Pillow has opened and not loaded is a PNG file of 16 bits in each of several channels."""
    return image.format == "PNG" and bool(image.tile) and _raw_mode(image.tile[0]) in _LOWER


def read_deep_colour(image: Any, file: BinaryIO) -> NDArray[np.uint16]:
    """Read ``image``, of which :func:`is_deep_colour` is true, from its ``file``; black where it is transparent.

    The shape is (height, width, channels) with one or three channels.
    """
    raw = _raw_mode(image.tile[0])
    transparent = image.info.get("transparency")
    upper = np.asarray(image).astype(np.uint16) << 8 if raw != "LA;16B" else np.zeros(0, np.uint16)
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as again:
        again.tile = [tile._replace(args=_LOWER[raw]) for tile in again.tile]
        lower = np.asarray(again).astype(np.uint16)
    values = lower[..., ::2] << 8 | lower[..., 1::2] if raw == "LA;16B" else upper | lower
    if raw != "RGB;16B":
        return np.asarray(np.rint(values[..., :-1] * (values[..., -1:] / np.float64(65535))), np.uint16)
    if isinstance(transparent, tuple):
        values = np.where((values == transparent).all(axis=-1, keepdims=True), 0, values)
    return np.asarray(values, np.uint16)


def _raw_mode(tile: Any) -> str:
    return tile.args if isinstance(tile.args, str) else tile.args[0]
