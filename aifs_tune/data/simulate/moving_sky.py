"""Simulated sky frames with a moving source: FITS files, and a manifest with its position and velocity."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import write_folder
from aifs_tune._util.cache import cache_root, storing
from aifs_tune._util.packages import missing_packages_named
from aifs_tune.config.data import MovingSky
from aifs_tune.data.simulate.profiles import Camera, moffat

MANIFEST = "positions.csv"
_COLUMNS = ("image", "x", "y", "vx", "vy", "magnitude", "field")
_VERSION = 1
_IMAGES_PER_FIELD = 10
_ZERO_POINT = 26.0  # a source of this magnitude gives one electron a frame
_MAGNITUDES = (16.0, 18.5)
_FAINTEST_STAR = 19.5
_DISPLACEMENT = (0.05, 0.2)  # per frame, as a share of the edge
_MARGIN = 0.1  # in the first frame, as a share of the edge
_FINER = 5  # samples per pixel edge
_SKY_E = (150.0, 300.0)
_SEEING_PX = (2.0, 3.0)
_DEAD = 0.001
_CAMERA = Camera()

Progress = Callable[[str, int, int], None]


def simulate_moving_sky(sky: MovingSky, progress: Progress | None = None) -> Path:
    """Draw frames with a moving source into the cache, unless they are there.

    Each image is a FITS file with an extension for each frame: FRAME1, FRAME2 and so on. Pixels are electrons without
    sky subtraction, and dead pixels are NaN. In the manifest, ``x`` and ``y`` are the column and row of the source in
    the first frame in px, 0 at the centre of the first pixel; ``vx`` and ``vy`` are its velocity in px/s. Each field
    has 10 images with the same seeing and sky.

    Parameters
    ----------
    sky : MovingSky
        Number and size of the images, frames per image, time between frames, stars and seed.
    progress : callable, optional
        Called with the name of the phase, the number of images done and the number of all images.

    Returns
    -------
    Path
        The manifest, a CSV file beside the folder of the FITS files.

    Raises
    ------
    StorageError
        If the cache cannot be written.

    Examples
    --------
    >>> from aifs_tune.config.data import MovingSky
    >>> from aifs_tune.data import simulate_moving_sky
    >>> manifest = simulate_moving_sky(MovingSky(images=30, size=16))
    >>> manifest.read_text().splitlines()[0]
    'image,x,y,vx,vy,magnitude,field'
    """
    key = f"{sky.images}-{sky.size}-{sky.frames}-{sky.interval_s!r}-{sky.stars!r}-{sky.seed}"
    folder = cache_root().absolute() / f"moving-sky-{_VERSION}-{key}"
    if not (folder / MANIFEST).exists():
        with storing(folder.parent):
            write_folder(folder, lambda partial: _draw(partial, sky, progress))
    return folder / MANIFEST


def _draw(folder: Path, sky: MovingSky, progress: Progress | None) -> None:
    (folder / "frames").mkdir()
    lines = [",".join(_COLUMNS)]
    for number in range(sky.images):
        path = f"frames/{number:06d}.fits"
        frames, truth = draw_field(sky, number)
        _write(folder / path, frames, sky)
        values = ",".join(f"{value:.6f}" for value in truth)
        lines.append(f"{path},{values},field{number // _IMAGES_PER_FIELD:04d}")
        if progress is not None and ((number + 1) % 100 == 0 or number + 1 == sky.images):
            progress("drawing a simulated sky", number + 1, sky.images)
    (folder / MANIFEST).write_text("\n".join(lines) + "\n")


def draw_field(sky: MovingSky, number: int) -> tuple[NDArray[np.float64], tuple[float, float, float, float, float]]:
    """Draw the frames (frames, size, size) of an image; return them with x, y, vx, vy and magnitude of its source."""
    night = np.random.default_rng([sky.seed, 1, number // _IMAGES_PER_FIELD])
    seeing, beta, sky_e = night.uniform(*_SEEING_PX), night.uniform(2.5, 4.5), night.uniform(*_SKY_E)
    random = np.random.default_rng([sky.seed, 2, number])
    edge = sky.size - 1
    start = random.uniform(_MARGIN, 1 - _MARGIN, 2) * edge
    step, angle = random.uniform(*_DISPLACEMENT) * sky.size, random.uniform(0, 2 * math.pi)
    velocity = np.array([math.cos(angle), math.sin(angle)]) * step / sky.interval_s
    magnitude = float(random.uniform(*_MAGNITUDES))
    stars = [
        (*random.uniform(0, edge, 2), _flux(random.uniform(_MAGNITUDES[0], _FAINTEST_STAR)))
        for _ in range(random.poisson(sky.stars))
    ]
    frames = []
    for i in range(sky.frames):
        x, y = start + velocity * sky.interval_s * i
        sources = [*stars, (x, y, _flux(magnitude))]
        light = sum(flux * star_image(sky.size, x, y, seeing=seeing, beta=beta) for x, y, flux in sources)
        adu = _CAMERA.expose(np.asarray(light)[np.newaxis], np.array([sky_e]), random)[0]
        frames.append((adu - _CAMERA.bias_adu) * _CAMERA.gain)
    seen = np.array(frames)
    seen[random.random(seen.shape) < _DEAD] = np.nan
    return seen, (float(start[0]), float(start[1]), float(velocity[0]), float(velocity[1]), magnitude)


def star_image(size: int, x: float, y: float, *, seeing: float, beta: float) -> NDArray[np.float64]:
    """Return (size, size) pixels with a source of flux 1 at column ``x`` and row ``y``, integrated over each pixel."""
    inside = (np.arange(size * _FINER) + 0.5) / _FINER - 0.5
    fine = moffat(np.hypot(inside[:, None] - y, inside[None, :] - x), fwhm=seeing, beta=beta)
    return np.asarray(fine.reshape(size, _FINER, size, _FINER).mean(axis=(1, 3)))


def _flux(magnitude: float) -> float:
    return float(10 ** (-0.4 * (magnitude - _ZERO_POINT)))


def _write(path: Path, frames: NDArray[np.float64], sky: MovingSky) -> None:
    with missing_packages_named():
        from astropy.io import fits

    hdus: list[fits.PrimaryHDU | fits.ImageHDU] = [fits.PrimaryHDU()]
    for i, frame in enumerate(frames):
        hdu = fits.ImageHDU(frame.astype(np.float32), name=f"FRAME{i + 1}")
        hdu.header["BUNIT"] = "electron"
        hdu.header["TSTART"] = (i * sky.interval_s, "s since the first frame")
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)
