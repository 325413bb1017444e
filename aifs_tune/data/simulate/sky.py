"""Simulated sky survey: labelled cut-outs of stars, galaxies and artifacts with realistic camera noise.

It is a data set of any size with known classes, for demonstrations, tests and benchmarks. The light follows published
profiles (see :mod:`profiles` and :mod:`scenes`), is blurred by the atmosphere, detected by a CCD and stretched to
8 bits. A higher ``difficulty`` makes objects fainter, the seeing worse and the field more crowded.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from aifs_tune.data.simulate.artifacts import add_cosmic_ray, draw_artifact
from aifs_tune.data.simulate.profiles import Camera, Grid, Image, stretch
from aifs_tune.data.simulate.scenes import (
    BANDS,
    Canvas,
    add_neighbours,
    draw_edge_on,
    draw_elliptical,
    draw_merger,
    draw_spiral,
    draw_stars,
)
from aifs_tune.errors import ConflictError, RequestError, WorkError

SHARES: Mapping[str, float] = MappingProxyType(
    {"stars": 0.22, "spiral": 0.22, "elliptical": 0.18, "edge_on": 0.14, "merger": 0.12, "artifact": 0.12}
)
"""Share of each class in the survey."""
_RECIPES: Mapping[str, Callable[[Canvas, float], None]] = MappingProxyType(
    {
        "stars": draw_stars,
        "spiral": draw_spiral,
        "elliptical": draw_elliptical,
        "edge_on": draw_edge_on,
        "merger": draw_merger,
        "artifact": draw_artifact,
    }
)
Progress = Callable[[str, int, int], None]
"""Callback with the name of a phase, the number of images done and the number of all images."""

_RECORD = "survey.json"
VERSION = 2
"""Version of the drawing and of the class folders; a survey of another version is not reused."""
_ALLOWED_IMAGES = (12, 1_000_000)
_ALLOWED_SIZE = (16, 1024)
_ALLOWED_SEED = (0, 2**32 - 1)
_SHUFFLED_TOGETHER = 12
_IMAGES_PER_FIELD = 24
_IMAGES, _FIELDS, _ORDER = range(3)  # random streams of a seed
_REPORT_EVERY = 50
_ZERO_POINT = 30.0  # a source of this magnitude gives one electron a band
_MAGNITUDES = (14.4, 16.0)
_FAINTER = 3.2  # magnitudes between difficulty 0 and 1
_STRAY_RAYS = 0.15
_CAMERA = Camera()


@dataclass(frozen=True)
class SkySurvey:
    """A survey on disk: ``folder``/<class>/<field>_<number>.png, RGB, ``size`` x ``size`` pixels.

    A field is 24 consecutive images with the same seeing and sky; it does not depend on the class.
    ``group_by: field\\d+`` keeps a field in one subset. ``counts`` has the number of images of each class.
    ``is_reused`` is True if the folder already had this survey.
    """

    folder: Path
    images: int
    size: int
    seed: int
    difficulty: float
    counts: Mapping[str, int]
    is_reused: bool = False


@dataclass(frozen=True)
class Conditions:
    """Observing conditions of a field: seeing (FWHM in px of a 64 px cut-out), Moffat beta, sky electrons per band."""

    seeing: float
    beta: float
    sky_e: Image

    @classmethod
    def of_field(cls, seed: int, number: int, difficulty: float) -> Conditions:
        """Draw the conditions: seeing near 1.4 px at difficulty 0 and 2.8 px at 1, sky of 150 to 300 electrons."""
        rng = _stream(seed, _FIELDS, number)
        seeing = (1.4 + 1.4 * difficulty) * math.exp(float(rng.normal(0.0, 0.12)))
        return cls(seeing, float(rng.uniform(2.5, 4.5)), rng.uniform(150, 300) * rng.uniform(0.9, 1.1, BANDS))


def simulate_sky(
    folder: Path,
    *,
    images: int = 1000,
    size: int = 64,
    seed: int = 0,
    difficulty: float = 0.5,
    progress: Progress | None = None,
) -> SkySurvey:
    """Draw a survey into a new or empty folder; an identical survey in the folder is reused.

    An image depends on ``size``, ``seed``, ``difficulty`` and its number, but not on ``images``: a longer survey
    begins with the images of a shorter one. The folder is written completely or not at all.

    Parameters
    ----------
    folder : Path
        Folder of the survey, with a sub-folder for each class.
    images : int, default 1000
        Number of images, 12 to 1,000,000. Their classes follow :data:`SHARES` to within two images.
    size : int, default 64
        Edge of an image in pixels, 16 to 1024. All sizes show the same field with the same electrons per pixel.
    seed : int, default 0
        Seed of the random numbers, 0 to 2**32 - 1.
    difficulty : float, default 0.5
        From 0 (bright, sharp, sparse) to 1 (faint, blurred, crowded).
    progress : callable, optional
        Called with the name of the phase, the number of images done and the number of all images.

    Returns
    -------
    SkySurvey
        The survey and the number of images of each class.

    Raises
    ------
    RequestError
        If an argument is out of its range.
    ConflictError
        If ``folder`` holds something else.
    WorkError
        If ``folder`` cannot be read or written.
    """
    _check_whole("images", images, *_ALLOWED_IMAGES)
    _check_whole("size", size, *_ALLOWED_SIZE)
    _check_whole("seed", seed, *_ALLOWED_SEED)
    if isinstance(difficulty, bool) or not isinstance(difficulty, int | float) or not 0 <= difficulty <= 1:
        raise RequestError(f"simulated sky: difficulty is {difficulty!r}; allowed: a number from 0 to 1")
    classes = _class_of_each(images, seed)
    counts = {name: classes.count(name) for name in SHARES}
    survey = SkySurvey(Path(folder), images, size, seed, float(difficulty), MappingProxyType(counts))
    target = Path(os.path.realpath(survey.folder))
    try:
        if _is_taken(target):
            return _reuse(survey)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sky-", suffix=".partial", dir=target.parent) as scratch:
            drawn = Path(scratch) / "survey"
            _draw(drawn, survey, classes, progress)
            if _is_taken(target):  # another process was faster
                return _reuse(survey)
            drawn.rename(target)
    except OSError as error:
        raise WorkError(f"simulated sky: {survey.folder} cannot be read or written ({error.strerror})") from error
    return survey


def cut_out(
    name: str, number: int, *, grid: Grid, seed: int, difficulty: float, camera: Camera = _CAMERA
) -> NDArray[np.float64]:
    """Draw cut-out ``number`` of a survey, of class ``name``, in electrons above the sky, shape (bands, size, size).

    It is calibrated: bias and sky level are subtracted, noise and artifacts remain.
    """
    field = Conditions.of_field(seed, number // _IMAGES_PER_FIELD, difficulty)
    rng = _stream(seed, _IMAGES, number)
    canvas = Canvas(grid, rng)
    flux = 10 ** (-0.4 * (canvas.between(*_MAGNITUDES) + _FAINTER * difficulty - _ZERO_POINT))
    _RECIPES[name](canvas, flux)
    add_neighbours(canvas, flux, 0.2 + 2.8 * difficulty**2)
    if canvas.chance(_STRAY_RAYS):
        add_cosmic_ray(canvas, flux * canvas.between(0.002, 0.01), canvas.between(1.0, 4.0), canvas.anywhere())
    light = grid.observe(canvas.light, grid.psf(field.seeing, field.beta)) + canvas.hits
    return camera.calibrate(camera.expose(light, field.sky_e, rng))


def _draw(folder: Path, survey: SkySurvey, classes: list[str], progress: Progress | None) -> None:
    for name in SHARES:
        (folder / name).mkdir(parents=True)
    grid = Grid.for_picture(survey.size)
    for number, name in enumerate(classes):
        picture = stretch(cut_out(name, number, grid=grid, seed=survey.seed, difficulty=survey.difficulty))
        file = folder / name / f"field{number // _IMAGES_PER_FIELD:02d}_{number:06d}.png"
        Picture.fromarray(picture).save(file, format="PNG", compress_level=6)
        if progress and ((number + 1) % _REPORT_EVERY == 0 or number + 1 == survey.images):
            progress("drawing a simulated sky", number + 1, survey.images)
    (folder / _RECORD).write_text(json.dumps(_record(survey), indent=2) + "\n", encoding="utf-8")


def _class_of_each(images: int, seed: int) -> list[str]:
    """Return the class of each image, in proportion to the shares.

    Occurrence k (from 0) of a class of share p is due at (k + 1/2) / p. The order is shuffled within each 12 images,
    so the first 12 images have all classes.
    """
    n_chunks = math.ceil(images / _SHUFFLED_TOGETHER)
    n_whole = n_chunks * _SHUFFLED_TOGETHER
    due = [((k + 0.5) / share, name) for name, share in SHARES.items() for k in range(math.ceil(n_whole * share) + 1)]
    ordered = [name for _, name in sorted(due)[:n_whole]]
    shuffled: list[str] = []
    for chunk in range(n_chunks):
        order = _stream(seed, _ORDER, chunk).permutation(_SHUFFLED_TOGETHER)
        shuffled += [ordered[chunk * _SHUFFLED_TOGETHER + i] for i in order]
    return shuffled[:images]


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _record(survey: SkySurvey) -> dict[str, Any]:
    """Return the record that identifies a survey; surveys with the same record are identical."""
    return {
        "simulated_sky": VERSION,
        "images": survey.images,
        "size": survey.size,
        "seed": survey.seed,
        "difficulty": survey.difficulty,
        "counts": dict(survey.counts),
    }


def _is_taken(folder: Path) -> bool:
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def _reuse(survey: SkySurvey) -> SkySurvey:
    """Return ``survey`` if its folder has all of it; raise ConflictError otherwise."""
    where, wanted = f"simulated sky: {survey.folder}", _record(survey)
    try:
        found = json.loads((survey.folder / _RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ConflictError(f"{where} exists and is not a simulated sky; allowed: a new or empty folder") from None
    del wanted["counts"]  # derived from the other entries; the files are counted below
    had = {key: found.get(key) for key in wanted} if isinstance(found, dict) else {}
    if had != wanted:
        differing = [key for key in wanted if had.get(key) != wanted[key]]
        texts = (", ".join(f"{key} {one.get(key)!r}" for key in differing) for one in (had, wanted))
        raise ConflictError("{} holds another survey, with {} instead of {}; choose a new folder".format(where, *texts))
    for name, count in survey.counts.items():
        n_files = len(list((survey.folder / name).glob("*.png")))
        if n_files != count:
            raise ConflictError(f"{where}/{name} has {n_files} images of {count}; remove the folder to draw it again")
    return replace(survey, is_reused=True)


def _check_whole(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(f"simulated sky: {name} is {value!r}; allowed: a whole number from {low:,} to {high:,}")
