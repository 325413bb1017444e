"""Simulated frames of the sky with a source that moves: FITS files, and a manifest with its position and velocity."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import write_folder
from aifs_tune._util.cache import cache_root, storing
from aifs_tune.config.data import MovingSky
from aifs_tune.data.simulate.profiles import Camera, moffat

MANIFEST = "positions.csv"
_COLUMNS = ("image", "x", "y", "vx", "vy", "magnitude", "field")
_VERSION = 1
_IMAGES_PER_FIELD = 10
_ZERO_POINT = 26.0  # a source of this magnitude gives one electron a frame
_MAGNITUDES = (16.0, 18.5)
_FAINTEST_STAR = 19.5
_DISPLACEMENT = (0.05, 0.2)  # of the edge, from one frame to the next
_MARGIN = 0.1  # of the edge, at the first frame
_FINER = 5  # samples along a pixel
_SKY_E = (150.0, 300.0)
_SEEING_PX = (2.0, 3.0)
_DEAD = 0.001
_CAMERA = Camera()

Progress = Callable[[str, int, int], None]


def simulate_moving_sky(sky: MovingSky, progress: Progress | None = None) -> Path:
    """The manifest of the frames in the cache, drawn if they are not there yet.

    Each image is a FITS file with an extension for each frame, FRAME1 and so on: electrons, the sky not subtracted,
    dead pixels NaN. ``x`` and ``y`` are where the source is in the first frame, in px, column and row, 0 in the centre
    of the first pixel; ``vx`` and ``vy`` are px/s. Images of one field, of which there are 10, share seeing and sky.

    Raises
    ------
    StorageError
        If the cache cannot be written.
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
        told = ",".join(f"{value:.6f}" for value in truth)
        lines.append(f"{path},{told},field{number // _IMAGES_PER_FIELD:04d}")
        if progress is not None and ((number + 1) % 100 == 0 or number + 1 == sky.images):
            progress("drawing a simulated sky", number + 1, sky.images)
    (folder / MANIFEST).write_text("\n".join(lines) + "\n")


def draw_field(sky: MovingSky, number: int) -> tuple[NDArray[np.float64], tuple[float, float, float, float, float]]:
    """Frames (frames, size, size) of image ``number``, and x, y, vx, vy and magnitude of the source that moves."""
    night = np.random.default_rng([sky.seed, 1, number // _IMAGES_PER_FIELD])
    seeing, beta, sky_e = night.uniform(*_SEEING_PX), night.uniform(2.5, 4.5), night.uniform(*_SKY_E)
    random = np.random.default_rng([sky.seed, 2, number])
    edge = sky.size - 1
    place = random.uniform(_MARGIN, 1 - _MARGIN, 2) * edge
    step, angle = random.uniform(*_DISPLACEMENT) * sky.size, random.uniform(0, 2 * math.pi)
    velocity = np.array([math.cos(angle), math.sin(angle)]) * step / sky.interval_s
    magnitude = float(random.uniform(*_MAGNITUDES))
    stars = [
        (*random.uniform(0, edge, 2), _flux(random.uniform(_MAGNITUDES[0], _FAINTEST_STAR)))
        for _ in range(random.poisson(sky.stars))
    ]
    frames = []
    for i in range(sky.frames):
        x, y = place + velocity * sky.interval_s * i
        sources = [*stars, (x, y, _flux(magnitude))]
        light = sum(flux * star_image(sky.size, x, y, seeing=seeing, beta=beta) for x, y, flux in sources)
        adu = _CAMERA.expose(np.asarray(light)[np.newaxis], np.array([sky_e]), random)[0]
        frames.append((adu - _CAMERA.bias_adu) * _CAMERA.gain)
    seen = np.array(frames)
    seen[random.random(seen.shape) < _DEAD] = np.nan
    return seen, (float(place[0]), float(place[1]), float(velocity[0]), float(velocity[1]), magnitude)


def star_image(size: int, x: float, y: float, *, seeing: float, beta: float) -> NDArray[np.float64]:
    """A source of flux 1 at column ``x`` and row ``y``, as (size, size) pixels that collect light over their area."""
    inside = (np.arange(size * _FINER) + 0.5) / _FINER - 0.5
    fine = moffat(np.hypot(inside[:, None] - y, inside[None, :] - x), fwhm=seeing, beta=beta)
    return np.asarray(fine.reshape(size, _FINER, size, _FINER).mean(axis=(1, 3)))


def _flux(magnitude: float) -> float:
    return float(10 ** (-0.4 * (magnitude - _ZERO_POINT)))


def _write(path: Path, frames: NDArray[np.float64], sky: MovingSky) -> None:
    from astropy.io import fits

    hdus: list[fits.PrimaryHDU | fits.ImageHDU] = [fits.PrimaryHDU()]
    for i, frame in enumerate(frames):
        hdu = fits.ImageHDU(frame.astype(np.float32), name=f"FRAME{i + 1}")
        hdu.header["BUNIT"] = "electron"
        hdu.header["TSTART"] = (i * sky.interval_s, "s since the first frame")
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)
