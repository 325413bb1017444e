"""Table of the bands of images that a manifest lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.columns import column_row
from aifs_tune.data.image_files.arrays import Band


def band_rows(
    described: Mapping[tuple[Band, ...], int], ranges: Sequence[NDArray[np.float64]], n_pixels: int
) -> list[dict[str, Any]]:
    """What each band was taken for, its unit, range and missing pixels, and what is left out beside them.

    Parameters
    ----------
    described : mapping
        Number of images with these bands.
    ranges : sequence of array
        Smallest and largest value and number of missing pixels in each band of an image, shape (3, bands).
    n_pixels : int
        Pixels of one band in all images.
    """
    if not ranges:
        return []
    together = np.stack(ranges)
    low, high, missing = together[:, 0].min(axis=0), together[:, 1].max(axis=0), together[:, 2].sum(axis=0)
    used, left_out = Counter[tuple[Band, ...]](), Counter[Band]()
    for bands, n in described.items():
        used[tuple(band for band in bands if band.left_out is None)] += n
        for band in dict.fromkeys(band for band in bands if band.left_out is not None):
            left_out[band] += n
    most = next((bands for bands, _ in used.most_common() if len(bands) == len(low)), ())
    known = most or [Band(f"band {i}", "band") for i in range(len(low))]
    rows = [
        column_row(
            band.name,
            _taken_for(i, band, used),
            unit=band.unit,
            ends=(float(low[i]), float(high[i])),
            missing=int(missing[i]),
            of=n_pixels,
        )
        for i, band in enumerate(known)
    ]
    n_images = len(ranges)
    for band, n in left_out.items():
        some = "" if n == n_images else f" (in {n} of {n_images} images)"
        rows.append(column_row(band.name, band.taken_for, unit=band.unit, left_out=f"{band.left_out}{some}"))
    return rows


def _taken_for(index: int, band: Band, used: Mapping[tuple[Band, ...], int]) -> str:
    """What a band was taken for, also in images whose band of this index is another."""
    others = Counter[str]()
    for bands, n in used.items():
        other = bands[index] if index < len(bands) else band
        if other != band:
            text = ", ".join(filter(None, (other.name if other.name != band.name else "", other.taken_for, other.unit)))
            others[text] += n
    first = [f"{text} in {n} images" for text, n in others.most_common(2)]
    return "; ".join([band.taken_for, *first, *(["and others"] if len(others) > 2 else [])])
