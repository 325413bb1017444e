"""Camera artifacts of the simulated sky, scaled by the flux of the objects around them."""

from __future__ import annotations

import math

import numpy as np

from aifs_tune.data.simulate.profiles import FIELD, Image, Position
from aifs_tune.data.simulate.scenes import BANDS, Canvas


def draw_artifact(canvas: Canvas, flux: float) -> None:
    """Draw one or two of: cosmic rays, a satellite trail, hot columns, a bleeding star, a ghost."""
    kinds = (_cosmic_rays, _satellite_trail, _hot_columns, _bleeding_star, _ghost)
    for kind in canvas.rng.choice(
        len(kinds), size=1 + canvas.chance(0.25), replace=False, p=[0.25, 0.25, 0.15, 0.15, 0.2]
    ):
        kinds[kind](canvas, flux)


def _tint(canvas: Canvas) -> Image:
    """Return the strength in each band; bands are exposed one after another, so an artifact differs between them."""
    shares = canvas.rng.dirichlet(np.ones(BANDS))
    evenness = canvas.between(0.4, 1.0)
    return np.asarray(evenness + (1 - evenness) * BANDS * shares)


def _cosmic_rays(canvas: Canvas, flux: float) -> None:
    """Draw tracks of 2 to 22 px through the silicon, which the seeing does not blur."""
    for _ in range(canvas.rng.integers(2, 6)):
        add_cosmic_ray(canvas, flux * canvas.between(0.01, 0.06), canvas.between(2.0, 22.0), canvas.centre())


def add_cosmic_ray(canvas: Canvas, charge: float, length: float, at: Position) -> None:
    """Draw a straight track of ``length`` px near ``at`` with ``charge`` electrons."""
    grid, angle = canvas.grid, canvas.angle()
    shift = canvas.rng.normal(0.0, 6.0, 2)
    along = np.linspace(-0.5, 0.5, max(2, math.ceil(2 * length / (grid.step * grid.oversample)))) * length
    x, y = at[0] + shift[0] + along * math.cos(angle), at[1] + shift[1] + along * math.sin(angle)
    column, row = (np.floor((c / FIELD + 0.5) * grid.size).astype(int) for c in (x, y))
    inside = (column >= 0) & (column < grid.size) & (row >= 0) & (row < grid.size)
    for hits, share in zip(canvas.hits, _tint(canvas), strict=True):
        np.add.at(hits, (row[inside], column[inside]), share * charge / (2 * length))


def _satellite_trail(canvas: Canvas, flux: float) -> None:
    """Draw a line from edge to edge, about as wide as the seeing, with the flashes of a tumbling satellite."""
    at, angle = canvas.centre(), canvas.angle()
    width, tumbling, phase = canvas.between(0.4, 1.0), canvas.between(0.0, 0.6), canvas.angle()
    peak = flux * canvas.between(0.25, 0.9) / (FIELD * width * math.sqrt(2 * math.pi))
    period = canvas.between(10.0, 40.0)

    def trail(x: Image, y: Image) -> Image:
        across = y * math.cos(angle) - x * math.sin(angle)
        flashes = 1 + tumbling * np.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period + phase)
        return np.asarray(peak * flashes * np.exp(-((across / width) ** 2) / 2))

    canvas.shine(trail, at, _tint(canvas))


def _hot_columns(canvas: Canvas, flux: float) -> None:
    """Draw one to three columns that leak charge, some of them from a random row on."""
    size = canvas.grid.size
    for _ in range(canvas.rng.integers(1, 4)):
        column = int(np.clip(size / 2 + canvas.rng.normal(0.0, size / 8), 0, size - 1))
        start = int(canvas.rng.integers(0, size // 2)) if canvas.chance(0.5) else 0
        canvas.hits[:, start:, column] += (_tint(canvas) * flux * canvas.between(0.002, 0.006))[:, None]


def _bleeding_star(canvas: Canvas, flux: float) -> None:
    """Draw a saturated star whose charge runs along its column."""
    at = canvas.centre()
    canvas.star(6 * flux, at, canvas.star_colour())
    size = canvas.grid.size
    column, row = (int((c / FIELD + 0.5) * size) for c in at)
    reach = size * canvas.between(0.2, 0.6)
    rows = np.arange(size)
    charge = flux * canvas.between(0.01, 0.04) * (np.abs(rows - row) < reach * (1 - 0.3 * (rows > row)))
    canvas.hits[:, :, column : column + max(1, size // 32)] += charge[:, None]


def _ghost(canvas: Canvas, flux: float) -> None:
    """Draw a pale ring: the defocused pupil, lit by a bright star outside the image."""
    at, outer = canvas.centre(), canvas.between(9.0, 20.0)
    inner, sharpness = outer * canvas.between(0.3, 0.5), 0.7
    peak = flux * canvas.between(0.5, 1.2) / (math.pi * (outer**2 - inner**2))

    def ring(x: Image, y: Image) -> Image:
        radius = np.hypot(x, y)
        edge, hole = (np.tanh((radius - r) / sharpness) for r in (outer, inner))
        return np.asarray(peak * (hole - edge) / 2)

    canvas.shine(ring, at, _tint(canvas))
