"""Simulated fields of stars and galaxies: FITS files, and a catalogue with the truth about each body."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from aifs_tune._util.atomic_files import write_folder
from aifs_tune._util.cache import cache_root, storing
from aifs_tune._util.packages import missing_packages_named
from aifs_tune.config.data import SkyFields
from aifs_tune.data.digests import Progress
from aifs_tune.data.simulate.profiles import Camera, disc_axis_ratio, moffat, sersic

CATALOGUE = "bodies.csv"
SATURATION_E = 60_000.0
"""Full well of a pixel in electrons."""
_VERSION = 1
_FRAMES_PER_NIGHT = 10
_ZERO_POINT = 26.0  # a body of this magnitude gives one electron
_MAGNITUDES = (11.5, 20.0)
_SLOPE = 0.3  # of log10 of the number of bodies per magnitude
_SKY_E = (150.0, 300.0)
_SEEING_PX = (2.0, 3.5)
_HALF_LIGHT_PX = (1.5, 4.0)
_BLEND_PX = (2.5, 6.0)
_RAY_E = (300.0, 5000.0)  # electrons that a cosmic ray leaves in each pixel of its track
_RAY_LENGTH_PX = (1.0, 12.0)
_DEAD = 0.0005
_REACH_PX = 24
_FINER = 3  # samples per pixel edge
_CAMERA = Camera()


@dataclass(frozen=True)
class Body:
    """A body of a field: class, place in px, size (full width at half maximum of its image, in px) and magnitude."""

    label: str
    x: float
    y: float
    size: float
    magnitude: float


def simulate_sky_fields(sky: SkyFields, progress: Progress | None = None) -> Path:
    """Draw fields of stars and galaxies into the cache, unless they are there.

    Each frame is a FITS file in electrons without sky subtraction. The number of bodies has a Poisson distribution;
    the counts per magnitude rise as 10^(0.3 m), from 11.5 to 20 mag, where the faintest ones are lost in the noise. A
    share of the bodies lies 2.5 to 6 px from another one (blends). Stars are Moffat functions (Moffat 1969) of the
    night's seeing, 2 to 3.5 px wide, integrated over each pixel; galaxies are inclined exponential discs (Sersic index
    1) convolved with the same function. The sky adds 150 to 300 electrons a pixel; photons have Poisson noise, and the
    camera has read noise, 16 bits and a full well of 60,000 electrons, above which pixels are cut off. Cosmic rays are
    straight tracks of 1 to 12 px that the seeing does not blur. Dead pixels are NaN. Ten frames have one night.

    Parameters
    ----------
    sky : SkyFields
        Number and size of the frames, bodies, blends and cosmic rays, and the seed.
    progress : callable, optional
        Called with the name of the phase, the number of frames done and the number of all frames.

    Returns
    -------
    Path
        The catalogue: a CSV file with the columns image, x, y, label, size, magnitude and night.

    Raises
    ------
    StorageError
        If the cache cannot be written.

    Examples
    --------
    >>> from aifs_tune.config.data import SkyFields
    >>> from aifs_tune.data import simulate_sky_fields
    >>> simulate_sky_fields(SkyFields(fields=12, size=32, bodies=3)).read_text().splitlines()[0]
    'image,x,y,label,size,magnitude,night'
    """
    key = f"{sky.fields}-{sky.size}-{sky.bodies!r}-{sky.galaxies!r}-{sky.blends!r}-{sky.cosmic_rays!r}-{sky.seed}"
    folder = cache_root().absolute() / f"sky-fields-{_VERSION}-{key}"
    if not (folder / CATALOGUE).exists():
        with storing(folder.parent):
            write_folder(folder, lambda partial: _draw(partial, sky, progress))
    return folder / CATALOGUE


def _draw(folder: Path, sky: SkyFields, progress: Progress | None) -> None:
    with missing_packages_named():
        from astropy.io import fits
    (folder / "frames").mkdir()
    lines = ["image,x,y,label,size,magnitude,night"]
    for number in range(sky.fields):
        path, night = f"frames/{number:06d}.fits", f"night{number // _FRAMES_PER_NIGHT:04d}"
        pixels, bodies = draw_field(sky, number)
        hdu = fits.PrimaryHDU(pixels.astype(np.float32))
        hdu.header["BUNIT"] = "electron"
        hdu.writeto(folder / path)
        lines += [
            f"{path},{one.x:.4f},{one.y:.4f},{one.label},{one.size:.4f},{one.magnitude:.4f},{night}" for one in bodies
        ] or [f"{path},,,,,,{night}"]
        if progress is not None and ((number + 1) % 20 == 0 or number + 1 == sky.fields):
            progress("drawing a simulated sky", number + 1, sky.fields)
    (folder / CATALOGUE).write_text("\n".join(lines) + "\n")


def draw_field(sky: SkyFields, number: int) -> tuple[NDArray[np.float64], list[Body]]:
    """Draw frame ``number``: pixels (size, size) in electrons, and the bodies in it."""
    night = np.random.default_rng([sky.seed, 1, number // _FRAMES_PER_NIGHT])
    seeing, beta, sky_e = night.uniform(*_SEEING_PX), night.uniform(2.5, 4.5), night.uniform(*_SKY_E)
    random = np.random.default_rng([sky.seed, 2, number])
    light = np.zeros((sky.size, sky.size))
    bodies: list[Body] = []
    for _ in range(random.poisson(sky.bodies)):
        x, y = _position(sky, bodies, random)
        magnitude = _magnitude(random)
        stamp, corner, size = (
            _galaxy(x, y, seeing, beta, random)
            if random.random() < sky.galaxies
            else (*_star(x, y, seeing, beta), seeing)
        )
        label = "star" if size == seeing else "galaxy"
        _add(light, stamp * 10 ** (-0.4 * (magnitude - _ZERO_POINT)), corner)
        bodies.append(Body(label, x, y, size, magnitude))
    adu = _CAMERA.expose((light + _cosmic_rays(sky, random))[np.newaxis], np.array([sky_e]), random)[0]
    seen = np.minimum((adu - _CAMERA.bias_adu) * _CAMERA.gain, SATURATION_E)
    seen[random.random(seen.shape) < _DEAD] = np.nan
    return seen, bodies


def _position(sky: SkyFields, bodies: list[Body], random: np.random.Generator) -> tuple[float, float]:
    """A place in the frame: anywhere, or for a share of the bodies near another one."""
    x, y = random.uniform(-0.5, sky.size - 0.5, 2)
    if bodies and random.random() < sky.blends:
        beside = bodies[random.integers(len(bodies))]
        distance, angle = random.uniform(*_BLEND_PX), random.uniform(0, 2 * math.pi)
        near = beside.x + distance * math.cos(angle), beside.y + distance * math.sin(angle)
        if all(-0.5 < each < sky.size - 0.5 for each in near):
            x, y = near
    return float(x), float(y)


def _magnitude(random: np.random.Generator) -> float:
    """A magnitude of counts that rise as 10^(slope m), by inversion of their cumulative distribution."""
    first, last = (10 ** (_SLOPE * each) for each in _MAGNITUDES)
    return float(math.log10(random.uniform(first, last)) / _SLOPE)


def _offsets(x: float, y: float) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int]]:
    """Fine offsets along x and y of the pixels around a place, and the column and row of the first of them."""
    left, top = round(x) - _REACH_PX, round(y) - _REACH_PX
    fine = (np.arange((2 * _REACH_PX + 1) * _FINER) + 0.5) / _FINER - 0.5
    return fine + left - x, fine + top - y, (left, top)


def _binned(fine: NDArray[np.float64]) -> NDArray[np.float64]:
    n = len(fine) // _FINER
    return np.asarray(fine.reshape(n, _FINER, n, _FINER).mean(axis=(1, 3)))


def _star(x: float, y: float, seeing: float, beta: float) -> tuple[NDArray[np.float64], tuple[int, int]]:
    across, down, corner = _offsets(x, y)
    return _binned(moffat(np.hypot(down[:, None], across[None, :]), fwhm=seeing, beta=beta)), corner


def _galaxy(
    x: float, y: float, seeing: float, beta: float, random: np.random.Generator
) -> tuple[NDArray[np.float64], tuple[int, int], float]:
    """An exponential disc seen through the seeing, its corner, and the root of the sum of both squared widths."""
    half_light, angle = random.uniform(*_HALF_LIGHT_PX), random.uniform(0, math.pi)
    ratio = disc_axis_ratio(math.acos(random.uniform(0, 1)))
    across, down, corner = _offsets(x, y)
    disc = sersic(1.0, n=1.0, half_light=half_light, axis_ratio=ratio, angle=angle)(across[None, :], down[:, None])
    centred = (np.arange(len(across)) - len(across) // 2) / _FINER
    blur = moffat(np.hypot(centred[:, None], centred[None, :]), fwhm=seeing, beta=beta)
    blurred = signal.fftconvolve(disc, blur / blur.sum(), mode="same")
    width = 2 * half_light * math.sqrt(ratio)
    return _binned(np.maximum(blurred, 0)), corner, math.hypot(seeing, width)


def _add(light: NDArray[np.float64], stamp: NDArray[np.float64], corner: tuple[int, int]) -> None:
    """Add a stamp to the light; what lies outside of the frame is cut off."""
    left, top = corner
    height, width = light.shape
    first_x, first_y = max(0, left), max(0, top)
    last_x, last_y = min(width, left + stamp.shape[1]), min(height, top + stamp.shape[0])
    light[first_y:last_y, first_x:last_x] += stamp[first_y - top : last_y - top, first_x - left : last_x - left]


def _cosmic_rays(sky: SkyFields, random: np.random.Generator) -> NDArray[np.float64]:
    """Electrons of straight tracks, at most one pixel wide."""
    light = np.zeros((sky.size, sky.size))
    for _ in range(random.poisson(sky.cosmic_rays)):
        x, y = random.uniform(0, sky.size - 1, 2)
        length, angle = random.uniform(*_RAY_LENGTH_PX), random.uniform(0, math.pi)
        along = np.arange(0, length, 0.5)
        columns = np.rint(x + along * math.cos(angle)).astype(int)
        rows = np.rint(y + along * math.sin(angle)).astype(int)
        inside = (columns >= 0) & (columns < sky.size) & (rows >= 0) & (rows < sky.size)
        light[rows[inside], columns[inside]] = random.uniform(*_RAY_E)
    return light
