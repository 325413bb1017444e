"""Light profiles of stars and galaxies, sampled on a grid finer than the pixels of the picture.

Lengths are in px of a cut-out of 64 px. A picture of another size shows the same field with another sampling. Images
are surface brightness in electrons per square px. Angles are in radians, anticlockwise from the x axis. Positions are
(x, y) from the centre of the cut-out. Profiles take offsets from the centre of an object; the integral of each over an
infinite plane is its ``flux`` in electrons.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

Image = NDArray[np.float64]
Profile = Callable[[Image, Image], Image]
Position = tuple[float, float]

FIELD = 64.0
"""Edge of a cut-out in px."""
_MARGIN = 8.0
_MAX_STEP = 0.5
_CUSP_REACH = 2.0
_CUSP_SAMPLES = 10
_DISC_THICKNESS = 0.2
_MIN_RADIUS = 1e-9


@dataclass(frozen=True)
class Grid:
    """Sample points of a picture of ``size`` x ``size`` pixels with ``oversample`` samples per pixel edge.

    A margin of 8 px around the picture lets light of objects just outside come in and keeps the Fourier convolution
    from wrapping around. ``axis`` has the coordinates along either axis.
    """

    size: int
    oversample: int
    margin: int
    step: float
    axis: Image

    @classmethod
    def for_picture(cls, size: int) -> Grid:
        """Make the coarsest grid with at least two samples per px, which resolves a seeing of 1.5 px."""
        pixel = FIELD / size
        oversample = math.ceil(pixel / _MAX_STEP)
        margin, step = math.ceil(_MARGIN / pixel), pixel / oversample
        n_samples = (size + 2 * margin) * oversample
        return cls(
            size,
            oversample,
            margin,
            step,
            np.asarray((np.arange(n_samples) - (n_samples - 1) / 2) * step, dtype=np.float64),
        )

    def draw(self, profile: Profile, at: Position) -> Image:
        """Sample ``profile`` centred on ``at``, with finer sampling around its centre, where it may have a cusp."""
        x, y = self.axis - at[0], self.axis - at[1]
        image = profile(x[None, :], y[:, None])
        columns, rows = np.flatnonzero(np.abs(x) < _CUSP_REACH), np.flatnonzero(np.abs(y) < _CUSP_REACH)
        if len(columns) and len(rows):
            inside = ((np.arange(_CUSP_SAMPLES) + 0.5) / _CUSP_SAMPLES - 0.5) * self.step
            fine_x, fine_y = (x[columns, None] + inside).ravel(), (y[rows, None] + inside).ravel()
            fine = profile(fine_x[None, :], fine_y[:, None])
            shape = (len(rows), _CUSP_SAMPLES, len(columns), _CUSP_SAMPLES)
            image[np.ix_(rows, columns)] = fine.reshape(shape).mean(axis=(1, 3))
        return image

    def draw_blobs(self, x: Image, y: Image, sigma: Image, flux: Image) -> Image:
        """Draw round Gaussians, one per entry of the four arrays (k,), as products of one-dimensional profiles."""
        across, along = ((self.axis - c[:, None]) / sigma[:, None] for c in (x, y))
        peak = flux / (2 * math.pi * sigma**2)
        return np.asarray(
            np.einsum("k,ky,kx->yx", peak, np.exp(-(along**2) / 2), np.exp(-(across**2) / 2), optimize=True)
        )

    def add_points(self, image: Image, x: Image, y: Image, flux: Image) -> None:
        """Add point sources to ``image``, each spread over the four nearest samples; sources outside are ignored."""
        column, row = ((c - self.axis[0]) / self.step for c in (x, y))
        left, low = np.floor(column).astype(int), np.floor(row).astype(int)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            share = np.abs(1 - i - (row - low)) * np.abs(1 - j - (column - left))
            inside = (low + i >= 0) & (low + i < len(self.axis)) & (left + j >= 0) & (left + j < len(self.axis))
            np.add.at(image, (low[inside] + i, left[inside] + j), (flux * share)[inside] / self.step**2)

    def psf(self, fwhm: float, beta: float) -> NDArray[np.complex128]:
        """Return the Fourier transform of a Moffat function with the integral 1, for :meth:`observe`."""
        n_samples = len(self.axis)
        distance = np.minimum(np.arange(n_samples), n_samples - np.arange(n_samples)) * self.step
        kernel = moffat(np.hypot(distance[:, None], distance[None, :]), fwhm=fwhm, beta=beta)
        return np.asarray(fft.rfft2(kernel / kernel.sum()))

    def observe(self, light: Image, psf: NDArray[np.complex128]) -> Image:
        """Convolve ``light`` (bands, samples, samples) with the PSF and bin it to (bands, size, size) pixels."""
        seen = fft.irfft2(fft.rfft2(light) * psf, s=light.shape[-2:])
        n_pixels = self.size + 2 * self.margin
        binned = seen.reshape(len(light), n_pixels, self.oversample, n_pixels, self.oversample).mean(axis=(2, 4))
        inside = slice(self.margin, self.margin + self.size)
        return np.asarray(np.maximum(binned[:, inside, inside], 0.0))  # the transform leaves tiny negative values


def moffat(radius: Image, *, fwhm: float, beta: float) -> Image:
    """Return a star of flux 1 blurred by the atmosphere (Moffat 1969, A&A 3, 455); ``beta`` is above 1."""
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    return np.asarray((beta - 1) / (math.pi * alpha**2) * (1 + (radius / alpha) ** 2) ** -beta)


def sersic_b(n: float) -> float:
    """Return b_n, for which r_e holds half the light (Ciotti & Bertin 1999, A&A 352, 447, eq. 18); ``n`` >= 0.5."""
    return 2 * n - 1 / 3 + 4 / (405 * n) + 46 / (25515 * n**2) + 131 / (1148175 * n**3) - 2194697 / (30690717750 * n**4)


def sersic(flux: float, *, n: float, half_light: float, axis_ratio: float = 1.0, angle: float = 0.0) -> Profile:
    """Return a Sersic profile (Sersic 1963, BAAA 6, 41; Graham & Driver 2005, eq. 2).

    The index ``n`` is 4 for an elliptical galaxy and 1 for a thin disc.

    ``half_light`` is the semi-major axis of the ellipse that holds half the light.
    """
    b = sersic_b(n)
    total = 2 * math.pi * n * half_light**2 * axis_ratio * b ** (-2 * n) * math.exp(math.lgamma(2 * n))

    def profile(x: Image, y: Image) -> Image:
        along, across = _turned(x, y, angle)
        radius = np.hypot(along, across / axis_ratio) / half_light
        return np.asarray(flux / total * np.exp(-b * radius ** (1 / n)))

    return profile


def disc_axis_ratio(inclination: float) -> float:
    """Return the apparent axis ratio of a disc with an intrinsic axis ratio of 0.2 (Hubble 1926, ApJ 64, 321)."""
    return math.sqrt((1 - _DISC_THICKNESS**2) * math.cos(inclination) ** 2 + _DISC_THICKNESS**2)


@dataclass(frozen=True)
class Arms:
    """Logarithmic spiral arms r = exp(theta tan(pitch)); negative ``pitch`` turns them the other way.

    ``contrast`` from 0 (a smooth disc) to 1 (nothing between the arms) is reached outside the bulge;
    ``sharpness`` is the concentration of a von Mises profile across an arm.
    """

    number: int
    pitch: float
    phase: float
    contrast: float
    sharpness: float

    def modulation(self, radius: Image, theta: Image, scale: float) -> Image:
        """Return the brightness relative to a smooth disc of scale length ``scale``; its mean over ``theta`` is 1."""
        winding = np.log(np.maximum(radius, _MIN_RADIUS) / scale) / math.tan(self.pitch)
        wave = np.cos(self.number * (theta - winding) - self.phase)
        arm = np.exp(self.sharpness * (wave - 1)) / special.ive(0, self.sharpness)
        contrast = self.contrast * -np.expm1(-((radius / scale) ** 2))
        return np.asarray(1 + contrast * (arm - 1))

    def points(
        self, radius: Image, arm: NDArray[np.int64], *, inclination: float, angle: float, scale: float
    ) -> tuple[Image, Image]:
        """Return the projected offsets x, y of points at ``radius`` on the ridges of the arms with numbers ``arm``."""
        winding = np.log(np.maximum(radius, _MIN_RADIUS) / scale) / math.tan(self.pitch)
        theta = winding + (self.phase + 2 * math.pi * arm) / self.number
        along, across = radius * np.cos(theta), radius * np.sin(theta) * disc_axis_ratio(inclination)
        return _turned(along, across, -angle)


def spiral_disc(flux: float, arms: Arms, *, scale: float, inclination: float, angle: float) -> Profile:
    """Return an inclined exponential disc (Freeman 1970, ApJ 160, 811) of scale length ``scale`` with ``arms``."""
    axis_ratio = disc_axis_ratio(inclination)
    peak = flux / (2 * math.pi * scale**2 * axis_ratio)

    def profile(x: Image, y: Image) -> Image:
        along, across = _turned(x, y, angle)
        across = across / axis_ratio
        radius = np.hypot(along, across)
        return peak * np.exp(-radius / scale) * arms.modulation(radius, np.arctan2(across, along), scale)

    return profile


def edge_on_disc(
    flux: float, *, scale: float, height: float, angle: float, dust: float = 0.0, dust_height: float = 1.0
) -> Profile:
    """Return a disc seen edge-on (van der Kruit & Searle 1981, A&A 95, 105).

    ``height`` is z0 of the sech^2 law. ``dust`` is the optical depth of a lane in the mid-plane, Gaussian with
    standard deviation ``dust_height``; it absorbs some of the flux.
    """
    peak = flux / (2 * math.pi * scale * height)

    def profile(x: Image, y: Image) -> Image:
        along, across = _turned(x, y, angle)
        radius = np.maximum(np.abs(along) / scale, _MIN_RADIUS)
        vertical = 1 / np.cosh(np.minimum(np.abs(across) / height, 50.0)) ** 2
        lane = dust * np.exp(-((across / dust_height) ** 2) / 2 - radius / 2)
        return np.asarray(peak * radius * special.k1(radius) * vertical * np.exp(-lane))

    return profile


def _turned(x: Image, y: Image, angle: float) -> tuple[Image, Image]:
    """Return the coordinates along and across an axis at ``angle``."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x * cos + y * sin, y * cos - x * sin


@dataclass(frozen=True)
class Camera:
    """A CCD that is read out once per band, with the same properties in all bands."""

    gain: float = 2.0
    """Electrons per ADU."""
    read_noise_e: float = 6.0
    bias_adu: float = 1000.0
    full_scale_adu: int = 65535

    def expose(self, light: Image, sky_e: Image, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the ADU for ``light`` (bands, h, w) and ``sky_e`` (bands,) in electrons."""
        electrons = rng.poisson(light + sky_e[:, None, None]) + rng.normal(0.0, self.read_noise_e, light.shape)
        adu = np.rint(electrons / self.gain + self.bias_adu)
        return np.asarray(adu.clip(0, self.full_scale_adu), dtype=np.int64)

    def calibrate(self, adu: NDArray[np.int64]) -> Image:
        """Return the electrons above the sky, which is the median of each band."""
        electrons = (adu - self.bias_adu) * self.gain
        return np.asarray(electrons - np.median(electrons, axis=(1, 2), keepdims=True))


def stretch(electrons: Image, *, black: float = 10.0, soft: float = 30.0, white: float = 2500.0) -> NDArray[np.uint8]:
    """Return an RGB picture (h, w, 3) of calibrated bands (3, h, w), red first.

    The asinh stretch of Lupton et al. 2004 (PASP 116, 133) is linear for faint and logarithmic for bright pixels, from
    ``black`` to ``white`` electrons. It is the same for all pictures, so their brightness can be compared. Pixels
    brighter than white keep their colour: all bands are dimmed by the same factor.
    """
    bands = np.maximum(electrons - black, 0.0)
    intensity = np.maximum(bands.mean(axis=0), 1.0)
    level = np.arcsinh(intensity / soft) / np.arcsinh((white - black) / soft)
    rgb = bands * level / intensity
    rgb /= np.maximum(rgb.max(axis=0), 1.0)
    return np.asarray(np.rint(255 * np.moveaxis(rgb, 0, -1)), dtype=np.uint8)
