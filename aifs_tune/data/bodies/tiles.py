"""Tiles of a frame: where they are, what they count, their pixels and their bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_OVERLAP = 4
"""Tiles overlap by this part of their edge: a quarter."""


def tiles_of(height: int, width: int, edge: int) -> NDArray[np.int32]:
    """Tiles of a frame, shape (n, 6): column and row of the first pixel, which may be outside of the frame; then first
    and last column (exclusive), first and last row (exclusive) that the tile counts.

    The counted areas cover the frame once. A frame that fits into one tile has one.

    Examples
    --------
    >>> tiles_of(32, 60, 32).tolist()
    [[-4, 0, 0, 24, 0, 32], [20, 0, 24, 48, 0, 32], [44, 0, 48, 60, 0, 32]]
    """
    columns, rows = _along(width, edge), _along(height, edge)
    return np.array([(x, y, x0, x1, y0, y1) for y, y0, y1 in rows for x, x0, x1 in columns], np.int32)


def _along(length: int, edge: int) -> list[tuple[int, int, int]]:
    """First pixel, and first and last counted pixel, of each tile along one axis."""
    if length <= edge:
        return [(0, 0, length)]
    margin = edge // _OVERLAP // 2
    step = edge - 2 * margin
    return [(first - margin, first, min(first + step, length)) for first in range(0, length, step)]


def cut(pixels: NDArray[Any], place: NDArray[np.int32], edge: int) -> NDArray[Any]:
    """Pixels (edge, edge, bands) of a tile of (height, width, bands); 0 outside of the frame."""
    left, top = int(place[0]), int(place[1])
    height, width = pixels.shape[:2]
    tile = np.zeros((edge, edge, pixels.shape[2]), pixels.dtype)
    x0, x1, y0, y1 = max(left, 0), min(left + edge, width), max(top, 0), min(top + edge, height)
    tile[y0 - top : y1 - top, x0 - left : x1 - left] = pixels[y0:y1, x0:x1]
    return tile


def placed(bodies: NDArray[np.float32], place: NDArray[np.int32], edge: int) -> NDArray[np.float32]:
    """Bodies of a frame that are in a tile, with places in px of the tile; only those that it counts are its own.

    ``bodies`` are rows of ``y_true``: columns 3 and 4 are x and y in px, and column 1 becomes 1 for its own.
    """
    left, top, x0, x1, y0, y1 = place.tolist()
    x, y = bodies[:, 3], bodies[:, 4]
    is_inside = (x >= left - 0.5) & (x < left + edge - 0.5) & (y >= top - 0.5) & (y < top + edge - 0.5)
    found: NDArray[np.float32] = bodies[is_inside].copy()
    found[:, 1] = is_counted(found[:, 3], found[:, 4], (x0, x1, y0, y1))
    found[:, 3] -= left
    found[:, 4] -= top
    return found


def is_counted(x: NDArray[Any], y: NDArray[Any], area: Any) -> NDArray[np.bool_]:
    """Whether places in px of the frame are in the area (first and last column and row) that a tile counts."""
    x0, x1, y0, y1 = area
    return np.asarray((x >= x0 - 0.5) & (x < x1 - 0.5) & (y >= y0 - 0.5) & (y < y1 - 0.5))
