"""A CCD camera and the picture made of what it reads: counts with noise in, 8 bits a band out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.sky_profiles import Image


@dataclass(frozen=True)
class Camera:
    """A CCD read out three times, once a band; all bands alike."""

    gain: float = 2.0
    """Electrons per ADU."""
    read_noise_e: float = 6.0
    bias_adu: float = 1000.0
    full_scale_adu: int = 65535

    def expose(self, light: Image, sky_e: Image, rng: np.random.Generator) -> NDArray[np.int64]:
        """ADU that are read for ``light`` of shape (bands, h, w) and ``sky_e`` of shape (bands,), in electrons."""
        electrons = rng.poisson(light + sky_e[:, None, None]) + rng.normal(0.0, self.read_noise_e, light.shape)
        adu = np.rint(electrons / self.gain + self.bias_adu)
        return np.asarray(adu.clip(0, self.full_scale_adu), dtype=np.int64)

    def calibrate(self, adu: NDArray[np.int64]) -> Image:
        """Electrons above the sky, which is the median of each band."""
        electrons = (adu - self.bias_adu) * self.gain
        return np.asarray(electrons - np.median(electrons, axis=(1, 2), keepdims=True))


def stretch(electrons: Image, *, black: float = 10.0, soft: float = 30.0, white: float = 2500.0) -> NDArray[np.uint8]:
    """An RGB picture of shape (h, w, 3) from calibrated bands of shape (3, h, w), red first.

    The asinh stretch of Lupton et al. 2004 (PASP 116, 133): linear for the faint, logarithmic for the bright,
    from ``black`` to ``white`` electrons, the same for all pictures, so that brightness can be compared. Colour
    is that of the light: a pixel brighter than white is dimmed in all bands alike.
    """
    bands = np.maximum(electrons - black, 0.0)
    intensity = np.maximum(bands.mean(axis=0), 1.0)
    level = np.arcsinh(intensity / soft) / np.arcsinh((white - black) / soft)
    rgb = bands * level / intensity
    rgb /= np.maximum(rgb.max(axis=0), 1.0)
    return np.asarray(np.rint(255 * np.moveaxis(rgb, 0, -1)), dtype=np.uint8)
