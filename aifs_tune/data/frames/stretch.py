"""Stretch of pixel values to a range for training: about 0 for the sky and 1 for bright pixels.

``asinh`` is linear for faint and logarithmic for bright pixels (Lupton et al. 1999, AJ 118, 1406). ``zscale`` clips at
the display limits of IRAF. ``linear`` only shifts and scales. All images of a set get the same stretch per band, so
their brightness can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.image_files.arrays import Pixels, UnreadableError
from aifs_tune.errors import DataError

_BRIGHT = 0.999
_SIGMA = 1.4826  # standard deviation of a normal distribution in median absolute deviations
_SOFTEST = 0.1
_MAX_VALUE = 60000.0  # float16 ends at 65504

StretchKind = Literal["asinh", "zscale", "linear"]


@dataclass(frozen=True)
class Stretch:
    """Parameters of a stretch for each band.

    ``black`` becomes 0 and ``white`` 1. ``soft`` is the softening scale of asinh; ``low`` and ``high`` are the limits
    of zscale.
    """

    kind: StretchKind
    black: tuple[float, ...]
    white: tuple[float, ...]
    soft: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, as stored with the examples."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Stretch:
        """Make a stretch from the values of :meth:`to_json`."""
        return cls(stored["kind"], *(tuple(stored[name]) for name in ("black", "white", "soft", "low", "high")))

    @property
    def bends(self) -> NDArray[np.float64]:
        """Factor of each band: the sinh of a stretched value times it is proportional to the flux; 0 if linear."""
        if self.kind != "asinh":
            return np.zeros(len(self.black))
        return np.arcsinh((np.array(self.white) - self.black) / self.soft)

    def apply(self, pixels: Pixels) -> NDArray[np.float16]:
        """Stretch pixels to float16, whose 11 bits resolve the sky noise with half the memory of float32."""
        black, white = np.array(self.black, np.float32), np.array(self.white, np.float32)
        if self.kind == "asinh":
            values = np.arcsinh((pixels - black) / np.array(self.soft, np.float32)) / self.bends.astype(np.float32)
        else:
            if self.kind == "zscale":
                pixels = pixels.clip(np.array(self.low, np.float32), np.array(self.high, np.float32))
            values = (pixels - black) / (white - black)
        return np.asarray(values.clip(-_MAX_VALUE, _MAX_VALUE), np.float16)


def ranges_of(pixels: Pixels) -> NDArray[np.float64]:
    """Return the smallest and the largest finite value of each band, and how many are missing, shape (3, bands)."""
    found = np.zeros((3, pixels.shape[2]))
    for i, band in enumerate(np.moveaxis(pixels, -1, 0)):
        low, high = band.min(), band.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            known = band[np.isfinite(band)]
            low, high = (known.min(), known.max()) if len(known) else (np.nan, np.nan)
            found[2, i] = band.size - len(known)
        found[:2, i] = low, high
    return found


def filled(pixels: Pixels, background: Literal["keep", "subtract"], *, n_missing: int | None = None) -> Pixels:
    """Replace pixels that are not finite by the median of their band; ``n_missing`` is their number, if it is known.

    With the background ``subtract``, the median is also subtracted from the band.

    Raises
    ------
    UnreadableError
        If a band has no finite pixel.
    """
    if background == "keep" and n_missing == 0:
        return pixels
    is_known = np.isfinite(pixels)
    if not is_known.any(axis=(0, 1)).all():
        raise UnreadableError("has a band without a finite pixel")
    if background == "keep" and is_known.all():
        return pixels
    medians = np.nanmedian(np.where(is_known, pixels, np.nan), axis=(0, 1))
    whole = np.where(is_known, pixels, medians)
    return np.asarray(whole - medians if background == "subtract" else whole, np.float32)


def image_statistics(pixels: Pixels, kind: StretchKind) -> NDArray[np.float64]:
    """Return the statistics of an image that :func:`fit_stretch` needs, shape (6, bands).

    These are the median, the noise, the 99.9th percentile, the maximum and the two limits of zscale.
    """
    found = np.zeros((4, pixels.shape[2]))
    for i, band in enumerate(np.moveaxis(pixels, -1, 0)):
        values = band.flatten()
        median = np.median(values, overwrite_input=True)  # sorts in part, which the next ones gain from
        bright, brightest = np.quantile(values, _BRIGHT, overwrite_input=True), values.max()
        noise = _SIGMA * np.median(np.abs(values - median), overwrite_input=True)
        found[:, i] = median, noise, bright, brightest
    limits = np.zeros((2, pixels.shape[2]))
    if kind == "zscale":
        with missing_packages_named():
            from astropy.visualization import ZScaleInterval

        limits = np.array([ZScaleInterval().get_limits(band) for band in np.moveaxis(pixels, -1, 0)]).T
    return np.concatenate([found, limits])


def fit_stretch(kind: StretchKind, images: NDArray[np.float64], where: str) -> Stretch:
    """Fit a stretch to the statistics (n, 6, bands) of the training images, see :func:`image_statistics`.

    Raises
    ------
    DataError
        If no pixel is brighter than the median.
    """
    black, noise, bright, _, low, high = np.median(images, axis=0)
    bright = np.where(bright > black + noise, bright, images[:, 3].max(axis=0))
    white = high if kind == "zscale" else bright
    if not (white > black).all():
        raise DataError(f"{where}: no pixel of the training set is brighter than the median; allowed: images that vary")
    soft = np.where(noise > 0, noise, _SOFTEST * (white - black))
    return Stretch(kind, *(tuple(float(value) for value in values) for values in (black, white, soft, low, high)))
