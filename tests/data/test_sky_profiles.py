"""Light profiles hold their flux and their stated widths, on a coarse grid as on a fine one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import gammainc

from aifs_tune.data.simulate.profiles import Arms, Grid, edge_on_disc, moffat, sersic, sersic_b, spiral_disc

GRID = Grid.for_picture(64)
FINE = Grid.for_picture(640)
CENTRE = (0.3, -0.7)


def flux_of(image: NDArray[np.float64], grid: Grid) -> float:
    return float(image.sum() * grid.step**2)


def width_at_half(profile: NDArray[np.float64]) -> float:
    """Samples between the two places where a single peak falls to half, interpolated."""
    half, above = profile.max() / 2, np.flatnonzero(profile > profile.max() / 2)
    first, last = above[0], above[-1]
    left = (profile[first] - half) / (profile[first] - profile[first - 1])
    right = (profile[last] - half) / (profile[last] - profile[last + 1])
    return float(last - first + left + right)


@pytest.mark.parametrize("n", [0.5, 1.0, 2.5, 4.0, 6.0])
def test_b_n_halves_the_light(n: float) -> None:
    assert gammainc(2 * n, sersic_b(n)) == pytest.approx(0.5, abs=2e-4)


@settings(deadline=None, max_examples=15)
@given(
    n=st.floats(0.6, 4.0),
    half_light=st.floats(2.5, 4.0),
    axis_ratio=st.floats(0.4, 1.0),
    angle=st.floats(0.0, math.pi),
)
def test_sersic_holds_its_flux_and_half_of_it_within_the_half_light_ellipse(
    n: float, half_light: float, axis_ratio: float, angle: float
) -> None:
    image = FINE.draw(sersic(500.0, n=n, half_light=half_light, axis_ratio=axis_ratio, angle=angle), CENTRE)
    x, y = FINE.axis[None, :] - CENTRE[0], FINE.axis[:, None] - CENTRE[1]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    inside = np.hypot(along, across / axis_ratio) < half_light

    assert flux_of(image, FINE) == pytest.approx(500.0, rel=0.03)
    assert flux_of(image[inside], FINE) == pytest.approx(250.0, rel=0.02)


def test_cusp_needs_no_finer_grid() -> None:
    de_vaucouleurs = sersic(1.0, n=4.0, half_light=1.5)

    assert flux_of(GRID.draw(de_vaucouleurs, CENTRE), GRID) == pytest.approx(1.0, abs=0.015)


@given(
    number=st.integers(2, 4),
    pitch_deg=st.floats(12, 30),
    contrast=st.floats(0, 1),
    sharpness=st.floats(1.5, 5),
    sense=st.sampled_from([-1, 1]),
)
def test_arms_move_light_around_without_adding_any(
    number: int, pitch_deg: float, contrast: float, sharpness: float, sense: int
) -> None:
    arms = Arms(number, sense * math.radians(pitch_deg), 0.4, contrast, sharpness)
    theta = np.linspace(0, 2 * math.pi, 720, endpoint=False)

    for radius in (0.1, 3.0, 12.0):
        assert arms.modulation(np.full(720, radius), theta, 4.0).mean() == pytest.approx(1.0, rel=1e-6)


def test_spiral_disc_holds_its_flux_and_knots_lie_on_its_arms() -> None:
    arms = Arms(2, math.radians(20), 1.0, 0.9, 4.0)
    disc = spiral_disc(300.0, arms, scale=3.0, inclination=0.9, angle=0.5)
    x, y = arms.points(np.full(40, 6.0), np.arange(40) % 2, inclination=0.9, angle=0.5, scale=3.0)
    axis_ratio, turn = 0.65, np.linspace(0, 2 * math.pi, 400)
    u, v = 6.0 * np.cos(turn), 6.0 * np.sin(turn) * axis_ratio
    ring = disc(u * math.cos(0.5) - v * math.sin(0.5), v * math.cos(0.5) + u * math.sin(0.5))

    assert flux_of(GRID.draw(disc, CENTRE), GRID) == pytest.approx(300.0, rel=0.01)
    assert disc(x, y).min() > 0.9 * ring.max()


def test_edge_on_disc_holds_its_flux_less_the_dust() -> None:
    clear = GRID.draw(edge_on_disc(100.0, scale=3.0, height=1.2, angle=0.7), CENTRE)
    dusty = GRID.draw(edge_on_disc(100.0, scale=3.0, height=1.2, angle=0.7, dust=1.5, dust_height=0.4), CENTRE)

    assert flux_of(clear, GRID) == pytest.approx(100.0, rel=0.01)
    assert (dusty <= clear + 1e-12).all()
    assert 60 < flux_of(dusty, GRID) < 95


def test_blobs_hold_their_flux() -> None:
    blobs = GRID.draw_blobs(np.array([0.0, 5.0]), np.array([3.0, -8.0]), np.array([1.0, 2.0]), np.array([10.0, 30.0]))

    assert flux_of(blobs, GRID) == pytest.approx(40.0, rel=1e-3)


@settings(deadline=None, max_examples=10)
@given(fwhm=st.floats(1.4, 4.0), beta=st.floats(2.5, 4.5), x=st.floats(-3, 3), y=st.floats(-3, 3))
def test_star_has_the_width_of_the_seeing_and_keeps_its_flux_and_position(
    fwhm: float, beta: float, x: float, y: float
) -> None:
    light = np.zeros((1, len(FINE.axis), len(FINE.axis)))
    FINE.add_points(light[0], np.array([x]), np.array([y]), np.array([1000.0]))
    star = FINE.observe(light, FINE.psf(fwhm, beta))[0]
    pixel = 64 / 640
    row, column = np.unravel_index(star.argmax(), star.shape)

    assert width_at_half(star[row]) * pixel == pytest.approx(fwhm, rel=0.03)
    assert width_at_half(star[:, column]) * pixel == pytest.approx(fwhm, rel=0.03)
    assert star.sum() * pixel**2 == pytest.approx(1000.0, rel=0.03)
    assert (column + 0.5) * pixel - 32 == pytest.approx(x, abs=pixel)
    assert (row + 0.5) * pixel - 32 == pytest.approx(y, abs=pixel)


def test_moffat_has_a_flux_of_one() -> None:
    radius = np.linspace(0, 400, 400_001)

    assert np.trapezoid(2 * math.pi * radius * moffat(radius, fwhm=2.0, beta=3.0), radius) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("size", [16, 64, 100])
def test_every_size_shows_the_same_sky(size: int) -> None:
    grid = Grid.for_picture(size)
    light = grid.draw(sersic(1e4, n=1.0, half_light=5.0), CENTRE)[None]
    seen = grid.observe(light, grid.psf(2.0, 3.0))

    assert seen.shape == (1, size, size)
    assert seen.sum() * (64 / size) ** 2 == pytest.approx(1e4, rel=0.02)
    assert grid.step <= 0.5
