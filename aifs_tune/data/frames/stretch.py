"""Pixel values of instruments as numbers that a network can learn from: about 0 for the sky, 1 for what is bright.

``asinh`` is linear for the faint and logarithmic for the bright (Lupton et al. 1999, AJ 118, 1406); ``zscale`` cuts at
the limits of IRAF's display; ``linear`` changes only zero point and unit. All images of a set and band are stretched
alike, so that brightness can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.frames.formats import Pixels, UnreadableError
from aifs_tune.errors import DataError

_BRIGHT = 0.999
_SIGMA = 1.4826  # of a normal distribution, in median absolute deviations
_SOFTEST = 0.1
_MAX_VALUE = 60000.0  # float16 ends at 65504

StretchKind = Literal["asinh", "zscale", "linear"]


@dataclass(frozen=True)
class Stretch:
    """How each band is stretched: ``black`` becomes 0 and ``white`` 1; ``soft`` is where asinh turns, ``low`` and
    ``high`` are where zscale cuts."""

    kind: StretchKind
    black: tuple[float, ...]
    white: tuple[float, ...]
    soft: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """As stored with the examples."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Stretch:
        """What :meth:`to_json` gave."""
        return cls(told["kind"], *(tuple(told[name]) for name in ("black", "white", "soft", "low", "high")))

    @property
    def bends(self) -> NDArray[np.float64]:
        """Of each band: ``sinh`` of a stretched value times this is proportional to the light; 0: it is already."""
        if self.kind != "asinh":
            return np.zeros(len(self.black))
        return np.arcsinh((np.array(self.white) - self.black) / self.soft)

    def apply(self, pixels: Pixels) -> NDArray[np.float16]:
        """Stretched; float16 has eleven bits, finer than the noise of the sky, at half of the memory of float32."""
        black, white = np.array(self.black, np.float32), np.array(self.white, np.float32)
        if self.kind == "asinh":
            values = np.arcsinh((pixels - black) / np.array(self.soft, np.float32)) / self.bends.astype(np.float32)
        else:
            if self.kind == "zscale":
                pixels = pixels.clip(np.array(self.low, np.float32), np.array(self.high, np.float32))
            values = (pixels - black) / (white - black)
        return np.asarray(values.clip(-_MAX_VALUE, _MAX_VALUE), np.float16)


def filled(pixels: Pixels, background: Literal["keep", "subtract"]) -> tuple[Pixels, int]:
    """``pixels`` with the median of their band where they are no finite number, and how many were not.

    ``subtract`` takes that median away from the band.

    Raises
    ------
    UnreadableError
        If a band has no finite pixel.
    """
    is_known = np.isfinite(pixels)
    n_missing = int((~is_known).sum())
    if not is_known.any(axis=(0, 1)).all():
        raise UnreadableError("has a band without a finite pixel")
    if n_missing == 0 and background == "keep":
        return pixels, 0
    medians = np.nanmedian(np.where(is_known, pixels, np.nan), axis=(0, 1))
    whole = np.where(is_known, pixels, medians)
    return np.asarray(whole - medians if background == "subtract" else whole, np.float32), n_missing


def described(pixels: Pixels, kind: StretchKind) -> NDArray[np.float64]:
    """What :func:`measured` needs of one image, shape (6, bands): median, noise, the brightest pixel in a thousand,
    the brightest of all, and the limits of zscale."""
    median = np.median(pixels, axis=(0, 1))
    noise = _SIGMA * np.median(np.abs(pixels - median), axis=(0, 1))
    bright, brightest = np.quantile(pixels, _BRIGHT, axis=(0, 1)), pixels.max(axis=(0, 1))
    limits = np.zeros((2, pixels.shape[2]))
    if kind == "zscale":
        from astropy.visualization import ZScaleInterval

        limits = np.array([ZScaleInterval().get_limits(band) for band in np.moveaxis(pixels, -1, 0)]).T
    return np.array([median, noise, bright, brightest, *limits], np.float64)


def measured(kind: StretchKind, images: NDArray[np.float64], where: str) -> Stretch:
    """The stretch for images that :func:`described` describes, shape (n, 6, bands): those of the training part.

    Raises
    ------
    DataError
        If nothing in them is brighter than their median.
    """
    black, noise, bright, _, low, high = np.median(images, axis=0)
    bright = np.where(bright > black + noise, bright, images[:, 3].max(axis=0))
    white = high if kind == "zscale" else bright
    if not (white > black).all():
        raise DataError(f"{where}: no pixel to train on is brighter than the median; allowed: images that vary")
    soft = np.where(noise > 0, noise, _SOFTEST * (white - black))
    told = (tuple(float(value) for value in values) for values in (black, white, soft, low, high))
    return Stretch(kind, *told)
