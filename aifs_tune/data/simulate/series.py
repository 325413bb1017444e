"""Simulated series with known classes: variable stars, seismograms, and long series to forecast."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from aifs_tune.config.data import SimulateSeries
from aifs_tune.data.series.files import Collection
from aifs_tune.data.series.reader import Floats, Recording

_LIGHT_CURVE = ("magnitude", "error")
_SEISMOGRAM = ("vertical", "north", "east")
_SPAN_D = 90.0
_CLOUDED = 0.03
_RATE_HZ = 20.0

Random = np.random.Generator


def simulate_collection(asked: SimulateSeries) -> Collection:
    """Draw series of a few classes of equal size; the same arguments give the same series.

    A series depends on the seed and its number, not on how many there are.
    """
    recipes, columns, draw = _KINDS[asked.what]
    names = list(recipes)
    labels = [names[i % len(names)] for i in range(asked.series)]
    drawn = []
    for number, label in enumerate(labels):
        random = np.random.default_rng([asked.seed, number, 11])
        drawn.append(draw(recipes[label], asked, random))
    return Collection(f"simulated {asked.what.replace('_', ' ')}", columns, drawn, labels)


def simulate_long(asked: SimulateSeries) -> tuple[tuple[str, ...], Recording]:
    """Draw one long series with time steps of 1; return the names of its columns and the series."""
    columns, draw = _LONG[asked.what]
    return columns, Recording(draw(asked), np.arange(asked.steps, dtype=np.float64))


def _quasi_periodic(asked: SimulateSeries) -> Floats:
    """Draw two noisy oscillations with periods near 40 and 11 steps and drifting phases and amplitudes.

    A second column leads the slow oscillation. The best forecast is nearly linear.
    """
    random, n = np.random.default_rng([asked.seed, 13]), asked.steps
    phases = []
    for period, wander in ((40.0, 0.05), (11.0, 0.03)):
        turns = 2 * math.pi / period + wander * random.normal(size=n)
        phases.append(random.uniform(0, 2 * math.pi) + np.cumsum(turns))
    strengths = [np.exp(0.3 * _red(random, n, 0.99)) for _ in phases]
    slow, quick = (strength * np.sin(phase) for strength, phase in zip(strengths, phases, strict=True))
    noise = 0.5 * asked.difficulty
    value = slow + 0.5 * quick + noise * _red(random, n, 0.6)
    driver = strengths[0] * np.cos(phases[0] + 0.6) + noise * random.normal(size=n)
    return np.stack([value, driver], axis=1)


def _mackey_glass(asked: SimulateSeries) -> Floats:
    """Draw the Mackey-Glass series with measurement errors (Mackey and Glass 1977).

    It is low-dimensional chaos with a pseudo-period of about 17 steps, which no linear model predicts well:

    dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x, with Euler's method; a step of the series is 3 units of t.
    """
    random = np.random.default_rng([asked.seed, 17])
    per_unit = 4
    delay, between, settling = 17 * per_unit, 3 * per_unit, 500 * per_unit
    history = random.uniform(0.8, 1.2, size=delay + 1).tolist()
    for _ in range(settling + asked.steps * between):
        past, now = history[-1 - delay], history[-1]
        history.append(now + (0.2 * past / (1 + past**10) - 0.1 * now) / per_unit)
    values = np.array(history[-asked.steps * between :: between])
    errors = 0.2 * asked.difficulty * values.std() * random.normal(size=asked.steps)
    return np.asarray((values + errors)[:, None])


_LONG: Mapping[str, tuple[tuple[str, ...], Callable[[SimulateSeries], Floats]]] = MappingProxyType(
    {"quasi_periodic": (("value", "driver"), _quasi_periodic), "mackey_glass": (("value",), _mackey_glass)}
)


def _red(random: Random, n: int, memory: float) -> Floats:
    """Draw red noise (AR(1)) of standard deviation 1 with the autocorrelation ``memory``."""
    shocks = random.normal(size=n) * math.sqrt(1 - memory**2)
    shocks[0] = random.normal()
    values = np.empty(n)
    last = 0.0
    for i, shock in enumerate(shocks):
        values[i] = last = memory * last + shock
    return values


def _nights(n: int, random: Random) -> Floats:
    """Draw ``n`` times in days within 90 days: several per night on some nights, none around full moon."""
    nights = np.arange(_SPAN_D)
    dark = nights[(nights % 29.5) > random.uniform(3, 7)]
    used = random.choice(dark, size=max(1, min(len(dark), n // 3)), replace=False)
    return np.asarray(np.sort(random.choice(used, size=n) + random.uniform(0, 0.35, size=n)))


def _light_curve(star: Callable[[Floats, Random], Floats], asked: SimulateSeries, random: Random) -> Recording:
    """Draw magnitudes with errors; some are missing because of clouds."""
    n = int(random.integers(asked.steps // 2, asked.steps + 1))
    times = _nights(n, random)
    errors = (0.01 + 0.4 * asked.difficulty * random.uniform(0.3, 1.0)) * random.lognormal(0, 0.3, size=n)
    magnitudes = random.uniform(14, 18) + star(times, random) + errors * random.normal(size=n)
    magnitudes[random.random(n) < _CLOUDED] = np.nan
    return Recording(np.stack([magnitudes, errors], axis=1), times)


def _rr_lyrae(times: Floats, random: Random) -> Floats:
    """Draw a sawtooth with a period of 0.4 to 0.8 days that brightens within a seventh of the period."""
    phase = (times / random.uniform(0.4, 0.8) + random.random()) % 1
    saw = np.where(phase < 0.15, 1 - phase / 0.15, (phase - 0.15) / 0.85)
    return np.asarray(random.uniform(0.5, 1.2) * (saw - 0.5))


def _eclipsing(times: Floats, random: Random) -> Floats:
    """Draw two eclipses of different depth in a period of 0.5 to 6 days, constant in between."""
    phase = (times / random.uniform(0.5, 6.0) + random.random()) % 1
    width, deep = random.uniform(0.03, 0.08), random.uniform(0.5, 1.5)
    second = deep * random.uniform(0.2, 0.9)
    first = np.exp(-0.5 * ((phase - 0.25) / width) ** 2)
    return np.asarray(deep * first + second * np.exp(-0.5 * ((phase - 0.75) / width) ** 2))


def _mira(times: Floats, random: Random) -> Floats:
    """Draw a slow variation of large amplitude with a period of 150 to 400 days."""
    turn = 2 * math.pi * (times / random.uniform(150, 400) + random.random())
    return np.asarray(random.uniform(0.6, 2.0) * (np.sin(turn) + 0.2 * np.sin(2 * turn)))


def _constant(times: Floats, random: Random) -> Floats:
    """Draw a slight linear drift."""
    return np.asarray(random.normal(0, 0.1) * (times / _SPAN_D - 0.5))


def _seismogram(event: Callable[[Floats, Random], Floats], asked: SimulateSeries, random: Random) -> Recording:
    """Draw ground motion in three directions at 20 Hz, on red noise, with a random overall scale."""
    times = np.arange(asked.steps) / _RATE_HZ
    ground = np.stack([_red(random, asked.steps, 0.9) for _ in _SEISMOGRAM], axis=1)
    loudness = random.lognormal(math.log(6 - 5 * asked.difficulty), 0.5)
    motion = loudness * event(times / times[-1], random) + ground
    return Recording(motion * random.lognormal(0, 1.5), times)


def _burst(at: Floats, begins: float, decay: float, hertz: float, random: Random) -> Floats:
    """Draw noise around a frequency, in cycles per series, that starts abruptly and decays."""
    since = at - begins
    strength = np.where(since > 0, np.exp(-np.clip(since, 0, None) / decay), 0.0)
    turns = 2 * math.pi * (hertz * at + np.cumsum(random.normal(0, 0.05, len(at))))
    return np.asarray(strength * np.sin(turns + random.uniform(0, 2 * math.pi)))


def _earthquake(at: Floats, random: Random) -> Floats:
    """Draw a mostly vertical P wave, then a stronger, slower, mostly horizontal S wave with a long coda."""
    begins = random.uniform(0.05, 0.4)
    later = begins + random.uniform(0.1, 0.35)
    p_wave = [_burst(at, begins, 0.08, random.uniform(35, 60), random) * share for share in (1.0, 0.4, 0.4)]
    s_wave = [_burst(at, later, 0.15, random.uniform(12, 30), random) * share for share in (0.5, 1.3, 1.3)]
    return np.stack(p_wave, axis=1) + np.stack(s_wave, axis=1)


def _explosion(at: Floats, random: Random) -> Floats:
    """Draw a strong, abrupt P wave without an S wave, and a short coda with surface waves."""
    begins = random.uniform(0.05, 0.5)
    later = begins + random.uniform(0.1, 0.3)
    p_wave = [_burst(at, begins, 0.1, random.uniform(35, 60), random) * share for share in (1.3, 0.7, 0.7)]
    surface = [_burst(at, later, 0.12, random.uniform(6, 14), random) * share for share in (0.6, 0.4, 0.4)]
    return np.stack(p_wave, axis=1) + np.stack(surface, axis=1)


def _noise_bursts(at: Floats, random: Random) -> Floats:
    """Draw independent bursts, as of traffic and footsteps."""
    motion = np.zeros((len(at), len(_SEISMOGRAM)))
    for _ in range(int(random.integers(1, 4))):
        begins, decay = random.uniform(0, 0.8), random.uniform(0.02, 0.2)
        hertz, shares = random.uniform(6, 60), random.uniform(0.2, 1.2, len(_SEISMOGRAM))
        motion += np.stack([_burst(at, begins, decay, hertz, random) * share for share in shares], axis=1)
    return motion


_STARS: Mapping[str, Callable[[Floats, Random], Floats]] = MappingProxyType(
    {"rr_lyrae": _rr_lyrae, "eclipsing": _eclipsing, "mira": _mira, "constant": _constant}
)
_EVENTS: Mapping[str, Callable[[Floats, Random], Floats]] = MappingProxyType(
    {"earthquake": _earthquake, "explosion": _explosion, "noise": _noise_bursts}
)
_KINDS = {
    "light_curves": (_STARS, _LIGHT_CURVE, _light_curve),
    "seismograms": (_EVENTS, _SEISMOGRAM, _seismogram),
}
