"""Which configuration to try next, given what the model believes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.multi_fidelity_gp import squared_distances

Array: TypeAlias = NDArray[np.float64]

N_UNIFORM = 300
N_BEST = 6
"""Known configurations near which a better one is looked for."""
N_NEAR = 50
"""Perturbations of each of these."""
PENALTY = 1e6
"""Taken off a logarithm, it puts a candidate behind all others and keeps the order among its kind."""
MIN_SUCCESS_PROBABILITY = 0.4
"""Of success; below it a configuration is proposed only if there is no other: about two failures around it, nothing
else."""
MIN_DISTANCE = 0.03
"""From what is running, in the kernel's length scales, below which a configuration would teach nothing new."""
NEAR_STEP = (0.02, 0.3)
"""Smallest and largest standard deviation of a perturbation, in parts of a parameter's range."""


def log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)) without cancellation: equation 9 of Ament et al., Unexpected Improvements to Expected
    Improvement for Bayesian Optimization, arXiv 2310.20708."""
    z = np.asarray(z, dtype=float)
    out = np.empty_like(z)
    high = z > -1.0
    zh, zl = z[high], z[~high]
    out[high] = np.log(np.exp(-0.5 * zh * zh) / np.sqrt(2 * np.pi) + zh * ndtr(zh))
    log_phi = -0.5 * zl * zl - 0.5 * np.log(2 * np.pi)
    ratio = np.sqrt(np.pi / 2) * np.abs(zl) * erfcx(-zl / np.sqrt(2))
    far = zl < -1e4  # the ratio is 1 to the last digit there: its asymptote, 1 - 1 / z^2
    out[~high] = log_phi + np.where(far, -2.0 * np.log(np.abs(zl)), np.log1p(-np.where(far, 0.0, ratio)))
    return out


def log_expected_improvement(gain: Array, variance: Array) -> Array:
    """Log of E[max(0, g)] for normal gains g with these means and variances, (m,) each."""
    sd = np.sqrt(np.maximum(variance, 1e-12))
    return np.asarray(np.log(sd) + log_h(gain / sd))


def perturbed(unit_points: Array, n: int, rng: np.random.Generator) -> Array:
    """``n`` changes of each of ``unit_points`` (k, d): some parameters, at least one, moved by a normal step and
    reflected
    at the ends; (k * n, d). Where a parameter is inactive it gets a random place, in case the change activates it."""
    k, d = unit_points.shape
    start = np.repeat(unit_points, n, axis=0)
    start = np.where(np.isnan(start), rng.random(start.shape), start)
    low, high = np.log(NEAR_STEP)
    step = np.exp(rng.uniform(low, high, (k * n, 1)))
    moved = rng.random((k * n, d)) < rng.random((k * n, 1))
    moved[np.arange(k * n), rng.integers(d, size=k * n)] = True
    end = np.abs(start + moved * step * rng.standard_normal((k * n, d)))
    return np.clip(1.0 - np.abs(1.0 - end), 0.0, 1.0)


def with_other_choices(unit_points: Array, encoding: Encoding, rng: np.random.Generator) -> Array:
    """``unit_points`` (m, d), in each of which a choice is drawn anew with the chance of one in d: its neighbours
    have no
    meaning."""
    out = unit_points.copy()
    for j, axis in enumerate(encoding.axes):
        if axis.is_nominal:
            drawn = rng.random(len(out)) < 1.0 / len(encoding)
            out[drawn, j] = rng.random(int(drawn.sum()))
    return out


def candidates(encoding: Encoding, best: Array, rng: np.random.Generator) -> Array:
    """Configurations to choose from: uniform ones, and changes of the ``best`` (k, d) known; (m, d), allowed values,
    NaN where inactive."""
    near = with_other_choices(perturbed(best, N_NEAR, rng), encoding, rng)
    uniform = encoding.spread(rng.random((N_UNIFORM, len(encoding))))
    return np.concatenate([uniform, encoding.deactivated(near)])


def chance_of_success(x: Array, failed: Array, succeeded: Array, scales: Array) -> Array:
    """The chance (m,) that ``x`` (m, c) does not fail: the share of successes around it, one assumed where nothing is
    known.

    Around is as far as the third nearest trial, at most half of the length ``scales`` (c,): where many trials are,
    the border between success and failure is known closely.
    """
    everyone = np.concatenate([failed, succeeded]) / scales
    distance = np.sqrt(squared_distances(x / scales, everyone))
    nearest = np.sort(distance, axis=1)[:, : min(3, len(everyone))]
    width = np.clip(nearest[:, -1:], 1e-3, 0.5)
    weight = np.exp(-0.5 * (distance / width) ** 2)
    bad, good = weight[:, : len(failed)].sum(1), weight[:, len(failed) :].sum(1)
    return np.asarray((1.0 + good) / (1.0 + good + bad))


def without_failures(score: Array, chance: Array, *, min_probability: float = MIN_SUCCESS_PROBABILITY) -> Array:
    """``score`` (m,), a logarithm, with what probably fails behind all the rest: near a good trial hardly anything else
    promises an improvement, and a discount alone would not keep proposals out of where everything fails."""
    return np.where(chance < min_probability, score - PENALTY, score) + np.log(chance)


def without_duplicates(score: Array, x: Array, running: Array, scales: Array) -> Array:
    """``score`` (m,) with those ``x`` (m, c) behind all the rest that nearly are what is ``running`` (r, c): once
    little is left to gain, what is left of the uncertainty is no reason to run one configuration on many workers."""
    nearest = squared_distances(x / scales, running / scales).min(1)
    return np.where(nearest < MIN_DISTANCE**2, score - PENALTY, score)
