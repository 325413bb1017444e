"""Random stars and galaxies of the simulated sky.

Colours are SDSS-like g - r and r - i in magnitudes. Galaxies with more young stars are bluer, with a scatter as large
as the differences (Strateva et al. 2001, AJ 122, 1861), and stars have all colours. Colour is therefore a hint at the
class, but does not determine it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from aifs_tune.data.simulate.profiles import (
    FIELD,
    Arms,
    Grid,
    Image,
    Position,
    Profile,
    edge_on_disc,
    sersic,
    spiral_disc,
)

BANDS = 3
"""i, r and g, shown as red, green and blue."""
_WHITE = (0.60, 0.30)
_JITTER = 2.5


@dataclass
class Canvas:
    """A cut-out being drawn.

    ``light`` is the light from the sky in electrons per square px, shape (bands, samples, samples). ``hits`` is the
    charge generated in the detector, which is not blurred, in electrons per pixel, shape (bands, size, size).
    """

    grid: Grid
    rng: np.random.Generator
    light: Image = field(init=False)
    hits: Image = field(init=False)

    def __post_init__(self) -> None:
        self.light = np.zeros((BANDS, len(self.grid.axis), len(self.grid.axis)))
        self.hits = np.zeros((BANDS, self.grid.size, self.grid.size))

    def shine(self, profile: Profile, at: Position, colour: Image) -> None:
        """Add an extended source; ``colour`` is the share of each band, mean 1."""
        self.light += colour[:, None, None] * self.grid.draw(profile, at)

    def sparkle(self, x: Image, y: Image, flux: Image, colour: Image) -> None:
        """Add point sources at the positions ``x``, ``y``."""
        for band, share in zip(self.light, colour, strict=True):
            self.grid.add_points(band, x, y, flux * share)

    def star(self, flux: float, at: Position, colour: Image) -> None:
        """Add a point source."""
        self.sparkle(np.array([at[0]]), np.array([at[1]]), np.array([flux]), colour)

    def between(self, low: float, high: float) -> float:
        """Return a uniform random number."""
        return float(self.rng.uniform(low, high))

    def angle(self) -> float:
        """Return a random angle in radians."""
        return self.between(0.0, 2 * math.pi)

    def chance(self, share: float) -> bool:
        """Return True with the probability ``share``."""
        return bool(self.rng.random() < share)

    def centre(self) -> Position:
        """Return a position near the centre of the cut-out, with the scatter of a catalogue."""
        x, y = self.rng.normal(0.0, _JITTER, 2).clip(-3 * _JITTER, 3 * _JITTER)
        return float(x), float(y)

    def anywhere(self) -> Position:
        """Return a random position in the cut-out."""
        return self.between(-FIELD / 2, FIELD / 2), self.between(-FIELD / 2, FIELD / 2)

    def colour(self, g_r: float, scatter: float = 0.12) -> Image:
        """Return the shares of the bands for a mean g - r; r - i is about half of it, on the galaxy locus."""
        g_r = float(self.rng.normal(g_r, scatter))
        return _shares(g_r, 0.5 * g_r + float(self.rng.normal(0.0, 0.05)))

    def star_colour(self) -> Image:
        """Return the shares of the bands for a random star from F to M (locus of Covey et al. 2007, AJ 134, 2398)."""
        g_r = self.between(0.2, 1.35)
        return _shares(g_r, 0.4 * g_r + 0.5 * max(0.0, g_r - 1.0))


def _shares(g_r: float, r_i: float) -> Image:
    relative = np.array([10 ** (0.4 * (r_i - _WHITE[1])), 1.0, 10 ** (-0.4 * (g_r - _WHITE[0]))])
    return np.asarray(relative / relative.mean())


def draw_stars(canvas: Canvas, flux: float) -> None:
    """Draw a star, or in a quarter of the cases two of similar brightness."""
    at = canvas.centre()
    canvas.star(flux, at, canvas.star_colour())
    if canvas.chance(0.25):
        distance, angle = canvas.between(5.0, 14.0), canvas.angle()
        second = at[0] + distance * math.cos(angle), at[1] + distance * math.sin(angle)
        canvas.star(flux * canvas.between(0.3, 1.0), second, canvas.star_colour())


def draw_spiral(canvas: Canvas, flux: float) -> None:
    """Draw a disc with 2 to 4 arms of pitch 12 to 30 deg, inclined up to 65 deg, a bulge and sometimes a bar."""
    at, scale = canvas.centre(), canvas.between(5.0, 9.0)
    _draw_spiral(canvas, flux, at, scale, inclination=math.acos(canvas.between(0.42, 1.0)))


def _draw_spiral(canvas: Canvas, flux: float, at: Position, scale: float, *, inclination: float) -> None:
    angle, bulge_share, knot_share = canvas.angle(), canvas.between(0.06, 0.3), canvas.between(0.04, 0.12)
    arms = Arms(
        number=int(canvas.rng.choice([2, 3, 4], p=[0.65, 0.15, 0.2])),
        pitch=math.radians(canvas.between(12.0, 30.0)) * (1 if canvas.chance(0.5) else -1),
        phase=canvas.angle(),
        contrast=canvas.between(0.7, 0.95),
        sharpness=canvas.between(1.5, 5.0),
    )
    old, young = canvas.colour(0.72), canvas.colour(0.50)
    disc = spiral_disc(flux * (1 - bulge_share - knot_share), arms, scale=scale, inclination=inclination, angle=angle)
    canvas.shine(disc, at, young)
    if canvas.chance(0.35):
        bar = sersic(flux * bulge_share / 2, n=0.6, half_light=0.8 * scale, axis_ratio=0.3, angle=canvas.angle())
        canvas.shine(bar, at, old)
        bulge_share /= 2
    bulge = sersic(flux * bulge_share, n=canvas.between(1.0, 3.0), half_light=0.25 * scale, axis_ratio=0.9)
    canvas.shine(bulge, at, old)
    n_knots = 24
    radius = scale * canvas.rng.uniform(0.8, 3.2, n_knots)
    x, y = arms.points(
        radius, canvas.rng.integers(0, arms.number, n_knots), inclination=inclination, angle=angle, scale=scale
    )
    brightness = canvas.rng.dirichlet(np.ones(n_knots)) * flux * knot_share
    canvas.sparkle(at[0] + x, at[1] + y, brightness, canvas.colour(0.2))


def draw_elliptical(canvas: Canvas, flux: float) -> None:
    """Draw a Sersic profile with n from 2.5 to 6, E0 to E6."""
    profile = sersic(
        flux,
        n=canvas.between(2.5, 6.0),
        half_light=math.exp(canvas.between(math.log(4.0), math.log(13.0))),
        axis_ratio=canvas.between(0.4, 1.0),
        angle=canvas.angle(),
    )
    canvas.shine(profile, canvas.centre(), canvas.colour(0.70))


def draw_edge_on(canvas: Canvas, flux: float) -> None:
    """Draw an edge-on disc with a bulge, and in 60 % of the cases a dust lane."""
    at, angle, scale = canvas.centre(), canvas.angle(), canvas.between(5.0, 10.0)
    height, bulge_share = scale * canvas.between(0.14, 0.28), canvas.between(0.02, 0.25)
    disc = edge_on_disc(
        flux * (1 - bulge_share),
        scale=scale,
        height=height,
        angle=angle,
        dust=canvas.between(0.8, 2.0) if canvas.chance(0.6) else 0.0,
        dust_height=height * canvas.between(0.2, 0.4),
    )
    canvas.shine(disc, at, canvas.colour(0.60))
    bulge = sersic(flux * bulge_share, n=canvas.between(1.0, 3.0), half_light=0.35 * scale, axis_ratio=0.7, angle=angle)
    canvas.shine(bulge, at, canvas.colour(0.72))


def draw_merger(canvas: Canvas, flux: float) -> None:
    """Draw two galaxies of mass ratio 1:1 to 1:3 with a common envelope and two tidal tails.

    See Toomre & Toomre 1972, ApJ 178, 623.
    """
    at, angle, distance = canvas.centre(), canvas.angle(), canvas.between(10.0, 22.0)
    share, tail_share, envelope_share = canvas.between(0.5, 0.75), canvas.between(0.2, 0.35), canvas.between(0.1, 0.2)
    bodies = flux * (1 - tail_share - envelope_share)
    turning = 1 if canvas.chance(0.5) else -1
    hue = canvas.between(0.42, 0.72)
    for body_share, side in ((share, 0.0), (1 - share, math.pi)):
        reach = distance * (1 - body_share)
        position = at[0] + reach * math.cos(angle + side), at[1] + reach * math.sin(angle + side)
        if canvas.chance(0.5):
            _draw_spiral(
                canvas, bodies * body_share, position, canvas.between(2.6, 4.2), inclination=canvas.between(0.0, 1.2)
            )
        else:
            body = sersic(
                bodies * body_share,
                n=canvas.between(1.0, 3.5),
                half_light=canvas.between(2.8, 5.5),
                axis_ratio=canvas.between(0.45, 1.0),
                angle=canvas.angle(),
            )
            canvas.shine(body, position, canvas.colour(hue))
        _draw_tail(canvas, flux * tail_share * body_share, position, angle + side, turning)
    envelope = sersic(
        flux * envelope_share, n=1.0, half_light=0.9 * distance, axis_ratio=canvas.between(0.5, 0.8), angle=angle
    )
    canvas.shine(envelope, at, canvas.colour(hue))


def _draw_tail(canvas: Canvas, flux: float, start: Position, outward: float, turning: int) -> None:
    """Draw a curved band of stars from ``start`` that widens and fades."""
    along = np.linspace(0.0, 1.0, 40)
    length, bend = canvas.between(18.0, 36.0), turning * canvas.between(1.2, 2.6)
    heading = outward + turning * canvas.between(-1.0, -0.2) + bend * along
    step = length / len(along)
    x, y = start[0] + step * np.cumsum(np.cos(heading)), start[1] + step * np.cumsum(np.sin(heading))
    fading = np.exp(-1.2 * along)
    blobs = canvas.grid.draw_blobs(x, y, 1.0 + 1.2 * along, flux * fading / fading.sum())
    canvas.light += canvas.colour(0.5)[:, None, None] * blobs


def add_neighbours(canvas: Canvas, flux: float, mean: float) -> None:
    """Draw stars and small galaxies of 2 to 30 % of ``flux`` at random positions, ``mean`` of them on average."""
    for _ in range(canvas.rng.poisson(mean)):
        brightness = flux * 0.02 * 15 ** canvas.between(0.0, 1.0)
        if canvas.chance(0.5):
            canvas.star(brightness, canvas.anywhere(), canvas.star_colour())
        else:
            galaxy = sersic(
                brightness,
                n=canvas.between(0.8, 3.0),
                half_light=canvas.between(1.0, 2.5),
                axis_ratio=canvas.between(0.4, 1.0),
                angle=canvas.angle(),
            )
            canvas.shine(galaxy, canvas.anywhere(), canvas.colour(0.65, 0.2))
