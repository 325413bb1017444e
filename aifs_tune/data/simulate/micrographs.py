"""Simulated micrographs of polished and etched sections, with the grain size, pores and cracks of each image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage
from scipy.spatial import cKDTree

from aifs_tune._util.atomic_files import write_folder
from aifs_tune._util.cache import cache_root, storing
from aifs_tune.config.data import Simulate
from aifs_tune.data.digests import Progress

MANIFEST = "micrographs.csv"
SPECIMEN = ("sound",) * 6 + ("porous",) * 3 + ("cracked",) * 3
"""Classes of the micrographs of one specimen, which are drawn in random order."""
INTERCEPTS_PX = (4.0, 10.0)
"""Range of the mean intercept of a specimen in px."""
PORE_FRACTIONS = (0.01, 0.06)
"""Range of the expected area fraction of pores in a porous micrograph."""
PERSISTENCE_PX = 30.0
"""Distance along a crack in px at which its direction has a mean cosine of 1/e with that at the start."""
_COLUMNS = ("image", "label", "specimen", "intercept_px", "pore_fraction", "crack_px")
_VERSION = 1
_MARGIN = 3.0  # around the frame, in units of the mean distance of the grains
_GREY = (110.0, 210.0)  # of the grains, by their orientation
_GROOVE = (0.5, 0.4)  # half width in px and depth of an etched boundary
_PORE_RADII_PX = (1.0, 2.5)
_PIT_RADII_PX = (0.4, 0.9)
_PITS = 0.002  # per square px, in all classes
_CRACK_STEP_PX = 0.5
_CRACK_LENGTHS = (0.4, 1.2)  # in units of the edge
_CRACK_HALF_WIDTHS_PX = (0.4, 0.8)
_CRACK_ANGLE = 0.6  # to the normal of the edge where it begins, at most
_SCRATCHES = 0.7  # mean number in a micrograph, in all classes
_SCRATCH_HALF_WIDTH_PX = 0.4
_TILT = 0.1  # of the light from one side to the other
_BLUR_PX = 0.6
_NOISE = (4.0, 30.0)  # grey levels at difficulty 0 and 1
_DEPTH = (0.9, 0.4)  # of pores, cracks and pits at difficulty 0 and 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Micrograph:
    """A micrograph and what is true of it.

    ``pixels`` are grey levels, ``grains`` the number of the grain at each pixel, and ``is_pore`` says which pixels are
    in a pore, all of shape (size, size). ``mean_intercept_px`` is what the specimen has on average, ``intercept_px``
    what this micrograph has. ``crack_px`` is the length of the crack in the frame.
    """

    label: str
    pixels: NDArray[np.uint8]
    grains: NDArray[np.int64]
    is_pore: NDArray[np.bool_]
    mean_intercept_px: float
    crack_px: float

    @property
    def intercept_px(self) -> float:
        """Mean lineal intercept of the grains in px: the length of all rows and columns by the boundaries on them.

        It is 3 % too large on average, as intercepts below 1 px lie between two pixels.
        """
        crossed = sum(int((np.diff(self.grains, axis=axis) != 0).sum()) for axis in (0, 1))
        size = len(self.grains)
        return 2 * size * (size - 1) / max(1, crossed)

    @property
    def pore_fraction(self) -> float:
        """Area fraction of the pores."""
        return float(self.is_pore.mean())


def simulate_micrographs(asked: Simulate, progress: Progress | None = None) -> Path:
    """Draw micrographs of metal in three classes into the cache, unless they are there.

    The classes are sound (half of the images), porous and cracked (a quarter each), and a specimen has twelve images of
    equal mean grain size. An image depends on the seed and its number, not on how many there are.

    - Grains are the cells of a Poisson-Voronoi tessellation. The mean lineal intercept (ASTM E112) of a specimen is
      uniform from 4 to 10 px; it is pi / (4 sqrt(n)) for n grains per square px, as the boundaries have the length
      2 sqrt(n) per square px (Meijering 1953, Philips Res. Rep. 8, 270). Orientation gives each grain a uniform grey
      level; boundaries are etched dark.
    - Pores are a Boolean model: discs with radii uniform from 1 to 2.5 px at the places of a Poisson process, whose
      intensity -ln(1 - p) / E[pi r^2] gives the expected area fraction p (Chiu et al. 2013, Stochastic Geometry and
      its Applications, section 3.1), uniform from 0.01 to 0.06.
    - A crack is a random walk from an edge of the frame, 0.4 to 1.2 times as long as the edge, whose direction diffuses
      with a persistence length of 30 px (the chain of Kratky and Porod 1949).
    - All classes have etch pits, which are smaller than pores, and straight scratches, which are fainter than cracks;
      uneven light, blur and noise. ``difficulty`` adds noise and makes pores, cracks and pits fainter.

    Parameters
    ----------
    asked : Simulate
        Number and size of the images, seed and difficulty.
    progress : callable, optional
        Called with the name of the phase, the number of images done and the number of all images.

    Returns
    -------
    Path
        The manifest, a CSV file in the folder of the classes, with the columns image, label, specimen, intercept_px
        (the mean lineal intercept in this image, counted on its pixels), pore_fraction (the share of its pixels in
        pores) and crack_px (the length of its crack).

    Raises
    ------
    StorageError
        If the cache cannot be written.

    Examples
    --------
    >>> from aifs_tune.config.data import Simulate
    >>> from aifs_tune.data import simulate_micrographs
    >>> manifest = simulate_micrographs(Simulate(what="micrographs", images=12, size=32))
    >>> manifest.read_text().splitlines()[0]
    'image,label,specimen,intercept_px,pore_fraction,crack_px'
    """
    key = f"{asked.images}-{asked.size}-{asked.seed}-{asked.difficulty!r}"
    folder = cache_root().absolute() / f"micrographs-{_VERSION}-{key}"
    if not (folder / MANIFEST).exists():
        with storing(folder.parent):
            write_folder(folder, lambda partial: _draw(partial, asked, progress))
    return folder / MANIFEST


def _draw(folder: Path, asked: Simulate, progress: Progress | None) -> None:
    for label in set(SPECIMEN):
        (folder / label).mkdir()
    lines = [",".join(_COLUMNS)]
    for number in range(asked.images):
        drawn = draw_micrograph(asked, number)
        specimen = f"specimen{number // len(SPECIMEN):04d}"
        path = f"{drawn.label}/{specimen}_{number:06d}.png"
        Picture.fromarray(drawn.pixels).save(folder / path, format="PNG", compress_level=6)
        values = f"{drawn.intercept_px:.4f},{drawn.pore_fraction:.6f},{drawn.crack_px:.1f}"
        lines.append(f"{path},{drawn.label},{specimen},{values}")
        if progress is not None and ((number + 1) % 50 == 0 or number + 1 == asked.images):
            progress("drawing simulated micrographs", number + 1, asked.images)
    (folder / MANIFEST).write_text("\n".join(lines) + "\n")


def draw_micrograph(asked: Simulate, number: int) -> Micrograph:
    """Draw micrograph ``number`` of the data set, which is one of specimen ``number`` / 12."""
    which, place = divmod(number, len(SPECIMEN))
    specimen = np.random.default_rng([asked.seed, 1, which])
    mean_intercept = specimen.uniform(*INTERCEPTS_PX)
    label = str(specimen.permutation(SPECIMEN)[place])
    random = np.random.default_rng([asked.seed, 2, number])
    size, depth = asked.size, _between(_DEPTH, asked.difficulty)
    grains, grey, groove = _grains(size, mean_intercept, random)
    pits = _from_discs(size, _discs(size, _PITS, _PIT_RADII_PX, random))
    pores, path = np.full((size, size), np.inf), np.zeros((0, 2))
    if label == "porous":
        pores = _from_discs(size, _discs(size, _pore_density(random), _PORE_RADII_PX, random))
    crack = np.full((size, size), np.inf)
    if label == "cracked":
        path = crack_path(size, random)
        crack = _from_path(size, path) - random.uniform(*_CRACK_HALF_WIDTHS_PX)
    scratches = _scratches(size, random)
    dark = np.minimum(np.minimum(pits, pores), crack)
    grey *= (1 - _GROOVE[1] * groove) * (1 - depth / 2 * _covered(scratches)) * (1 - depth * _covered(dark))
    is_inside = ((path > -0.5) & (path < size - 0.5)).all(axis=1)
    return Micrograph(
        label,
        _photographed(grey, asked.difficulty, random),
        grains,
        pores < 0,
        float(mean_intercept),
        float(is_inside.sum() * _CRACK_STEP_PX),
    )


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def _centres(size: int) -> Floats:
    """Places (size * size, 2) of the pixels, x and y in px, row by row; 0 is the centre of the first pixel."""
    y, x = np.mgrid[:size, :size]
    return np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)


def _grains(size: int, mean_intercept: float, random: np.random.Generator) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Number, grey level and share in an etched boundary of each pixel, all (size, size).

    The distance to the boundary between the two nearest nuclei a and b is (d_b^2 - d_a^2) / (2 |a - b|).
    """
    density = (math.pi / 4 / mean_intercept) ** 2
    reach = 0.5 + _MARGIN / math.sqrt(density)
    n_grains = random.poisson(density * (size - 1 + 2 * reach) ** 2)
    nuclei = random.uniform(-reach, size - 1 + reach, (n_grains, 2))
    distance, nearest = cKDTree(nuclei).query(_centres(size), k=2)
    between = np.linalg.norm(nuclei[nearest[:, 0]] - nuclei[nearest[:, 1]], axis=1)
    from_boundary = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * between)
    grey = random.uniform(*_GREY, n_grains)[nearest[:, 0]]
    shape = size, size
    groove = _covered(from_boundary.reshape(shape) - _GROOVE[0])
    return nearest[:, 0].reshape(shape).astype(np.int64), grey.reshape(shape), groove


def _covered(distance: Floats) -> Floats:
    """Share of each pixel that is covered by what begins at this distance in px, which is negative inside."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def _pore_density(random: np.random.Generator) -> float:
    """Pores per square px that cover an area fraction, uniform in its range."""
    low, high = _PORE_RADII_PX
    mean_area = math.pi * (low**2 + low * high + high**2) / 3
    return -math.log1p(-random.uniform(*PORE_FRACTIONS)) / mean_area


def _discs(
    size: int, density: float, radii: tuple[float, float], random: np.random.Generator
) -> Iterable[tuple[float, float, float]]:
    """Draw x, y and radius in px of the discs that may reach into the frame, at the places of a Poisson process."""
    reach = 0.5 + radii[1]
    n_discs = random.poisson(density * (size - 1 + 2 * reach) ** 2)
    places = random.uniform(-reach, size - 1 + reach, (n_discs, 2))
    return [(float(x), float(y), float(r)) for (x, y), r in zip(places, random.uniform(*radii, n_discs), strict=True)]


def _from_discs(size: int, discs: Iterable[tuple[float, float, float]]) -> Floats:
    """Distance (size, size) in px of each pixel from the nearest disc, negative inside, infinite far from all."""
    distance = np.full((size, size), np.inf)
    for x, y, radius in discs:
        reach = radius + 1
        rows, columns = (
            slice(max(0, math.ceil(c - reach)), min(size, max(0, math.floor(c + reach) + 1))) for c in (y, x)
        )
        row, column = np.ogrid[rows, columns]
        distance[rows, columns] = np.minimum(distance[rows, columns], np.hypot(row - y, column - x) - radius)
    return distance


def crack_path(size: int, random: np.random.Generator) -> Floats:
    """Draw the points (n, 2) of a crack, x and y in px and half a px apart, that begins at an edge of the frame.

    Each step turns by a normal angle of variance 2 step / persistence length.
    """
    n_steps = round(random.uniform(*_CRACK_LENGTHS) * size / _CRACK_STEP_PX)
    side, along = random.integers(4), random.uniform(-0.5, size - 0.5)
    start = [(-0.5, along), (along, -0.5), (size - 0.5, along), (along, size - 0.5)][side]
    turns = random.normal(0.0, math.sqrt(2 * _CRACK_STEP_PX / PERSISTENCE_PX), n_steps)
    turns[0] = side * math.pi / 2 + random.uniform(-_CRACK_ANGLE, _CRACK_ANGLE)
    heading = np.cumsum(turns)
    steps = _CRACK_STEP_PX * np.column_stack([np.cos(heading), np.sin(heading)])
    return np.asarray(start + np.vstack([np.zeros((1, 2)), np.cumsum(steps, axis=0)]))


def _from_path(size: int, path: Floats) -> Floats:
    """Distance (size, size) in px of each pixel from the nearest point of a path."""
    return np.asarray(cKDTree(path).query(_centres(size))[0]).reshape(size, size)


def _scratches(size: int, random: np.random.Generator) -> Floats:
    """Distance (size, size) in px of each pixel from the nearest scratch, straight through the frame."""
    distance = np.full((size, size), np.inf)
    y, x = np.mgrid[:size, :size]
    for _ in range(random.poisson(_SCRATCHES)):
        (x0, y0), angle = random.uniform(-0.5, size - 0.5, 2), random.uniform(0, math.pi)
        across = np.abs((y - y0) * math.cos(angle) - (x - x0) * math.sin(angle))
        np.minimum(distance, across - _SCRATCH_HALF_WIDTH_PX, out=distance)
    return distance


def _photographed(grey: Floats, difficulty: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Grey levels of 8 bits under uneven light, with blur and noise."""
    size = len(grey)
    y, x = np.mgrid[:size, :size] / (size - 1) - 0.5
    angle = random.uniform(0, 2 * math.pi)
    light = 1 + _TILT * (x * math.cos(angle) + y * math.sin(angle))
    seen = ndimage.gaussian_filter(grey * light, _BLUR_PX, mode="nearest")
    seen = seen + random.normal(0.0, _between(_NOISE, difficulty), grey.shape)
    return np.asarray(np.rint(seen).clip(0, 255), np.uint8)
