"""Acquisition functions: how promising a candidate configuration is under the model."""

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
"""Number of known configurations whose neighbourhood is searched for a better one."""
N_NEAR = 50
"""Number of perturbations of each of them."""
PENALTY = 1e6
"""Subtracted from a log score, it ranks a candidate behind all others and keeps the order of the penalised ones."""
MIN_SUCCESS_PROBABILITY = 0.4
"""Probability of success below which a configuration is proposed only if there is no other.

About two failed trials nearby, and no successful one, bring the probability below it.
"""
MIN_DISTANCE = 0.03
"""Distance from a running configuration, in length scales, below which a candidate counts as its duplicate."""
NEAR_STEP = (0.02, 0.3)
"""Smallest and largest standard deviation of a perturbation, as a fraction of a parameter's range."""


def log_h(z: Array) -> Array:
    """Compute log(phi(z) + z Phi(z)) without cancellation.

    Equation 9 of Ament et al., Unexpected Improvements to Expected Improvement for Bayesian Optimization,
    arXiv 2310.20708.
    """
    z = np.asarray(z, dtype=float)
    out = np.empty_like(z)
    high = z > -1.0
    zh, zl = z[high], z[~high]
    out[high] = np.log(np.exp(-0.5 * zh * zh) / np.sqrt(2 * np.pi) + zh * ndtr(zh))
    log_phi = -0.5 * zl * zl - 0.5 * np.log(2 * np.pi)
    ratio = np.sqrt(np.pi / 2) * np.abs(zl) * erfcx(-zl / np.sqrt(2))
    far = zl < -1e4  # the ratio rounds to 1 there; use its asymptote, 1 - 1 / z^2
    out[~high] = log_phi + np.where(far, -2.0 * np.log(np.abs(zl)), np.log1p(-np.where(far, 0.0, ratio)))
    return out


def log_expected_improvement(gain: Array, variance: Array) -> Array:
    """Compute log E[max(0, g)] for normal gains g with these means and variances, (m,) each."""
    sd = np.sqrt(np.maximum(variance, 1e-12))
    return np.asarray(np.log(sd) + log_h(gain / sd))


def perturbed(unit_points: Array, n: int, rng: np.random.Generator) -> Array:
    """Return ``n`` random changes of each of ``unit_points`` (k, d), as an array (k * n, d).

    A change moves at least one parameter by a normal step and reflects it at the ends of the range. An inactive
    parameter gets a random value, in case the change activates it.
    """
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
    """Redraw each unordered choice of ``unit_points`` (m, d) with probability 1 / d.

    The neighbours of an unordered choice have no meaning, so small steps do not explore it.
    """
    out = unit_points.copy()
    for j, axis in enumerate(encoding.axes):
        if axis.is_nominal:
            drawn = rng.random(len(out)) < 1.0 / len(encoding)
            out[drawn, j] = rng.random(int(drawn.sum()))
    return out


def candidates(encoding: Encoding, best: Array, rng: np.random.Generator) -> Array:
    """Return candidate unit points (m, d): uniform ones, and changes of the ``best`` (k, d) known ones.

    Values are snapped to allowed ones. Inactive parameters are NaN.
    """
    near = with_other_choices(perturbed(best, N_NEAR, rng), encoding, rng)
    uniform = encoding.spread(rng.random((N_UNIFORM, len(encoding))))
    return np.concatenate([uniform, encoding.deactivated(near)])


def chance_of_success(x: Array, failed: Array, succeeded: Array, scales: Array) -> Array:
    """Estimate the probability (m,) that ``x`` (m, c) does not fail, from the share of successes nearby.

    One success is added to those observed, so that the probability is 1 far from all trials. Trials are weighted by
    a Gaussian kernel as wide as the distance of the third nearest one, at most half of the length ``scales`` (c,):
    where trials are dense, the boundary between success and failure is known precisely.
    """
    everyone = np.concatenate([failed, succeeded]) / scales
    distance = np.sqrt(squared_distances(x / scales, everyone))
    nearest = np.sort(distance, axis=1)[:, : min(3, len(everyone))]
    width = np.clip(nearest[:, -1:], 1e-3, 0.5)
    weight = np.exp(-0.5 * (distance / width) ** 2)
    bad, good = weight[:, : len(failed)].sum(1), weight[:, len(failed) :].sum(1)
    return np.asarray((1.0 + good) / (1.0 + good + bad))


def without_failures(score: Array, chance: Array, *, min_probability: float = MIN_SUCCESS_PROBABILITY) -> Array:
    """Rank candidates that probably fail behind all others, and discount the log ``score`` (m,) of the rest.

    A discount alone is not enough: near a good trial, a region in which every trial fails may have the largest
    expected improvement.
    """
    return np.where(chance < min_probability, score - PENALTY, score) + np.log(chance)


def without_duplicates(
    score: Array, x: Array, running: Array, scales: Array, min_distance: float = MIN_DISTANCE
) -> Array:
    """Rank candidates ``x`` (m, c) that are too near to a ``running`` configuration (r, c) behind all others.

    Without it, many workers would run one configuration once little improvement is left, only for its uncertainty.
    """
    nearest = squared_distances(x / scales, running / scales).min(1)
    return np.where(nearest < min_distance**2, score - PENALTY, score)
