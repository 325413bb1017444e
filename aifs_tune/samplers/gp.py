"""Gaussian process over configurations, for trials without epochs.

A value is the sum of a constant, a Matern-5/2 process with one length scale for each parameter, and noise. Marginal
likelihood, its gradient and the posterior are equations 2.23 to 2.30 and 5.9 of Rasmussen & Williams, Gaussian
Processes for Machine Learning (2006). The prior on the length scales grows with the square root of the number of
parameters: Hvarfner et al., Vanilla Bayesian Optimization Performs Great in High Dimensions, arXiv 2402.02229.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.linalg import lapack

from aifs_tune.samplers.multi_fidelity_gp import squared_distances

Array: TypeAlias = NDArray[np.float64]

JITTER = 1e-8
SCALE_PRIOR = (float(np.log(0.6)), 0.8)
"""Mean and standard deviation of the log length scale; half the log number of parameters is added to the mean."""
LEVEL_PRIOR = (0.0, 1.0)
NOISE_PRIOR = (float(np.log(1e-3)), 2.0)
"""Means and standard deviations of the log variances of the process and of the noise; values have variance 1."""
ITERATIONS = 60
BURN_IN, THINNING = 5, 3
"""Number of first steps of the Markov chain to discard, and number of steps from one sample to the next."""
OFFSETS = (0.1, 1.0, 1000.0)
"""Added to the distance before the logarithm, as fractions of the range: the first makes the transform logarithmic, the
last all but linear."""
MAX_EXPONENT = 500
"""Exponent of 2 up to which values are used as they are."""
MAX_COMPARED = 60
"""Maximum number of values by which transforms are compared; of more, the best half of these and a sample of the others
are used."""


@dataclass(frozen=True)
class SingleFidelityPrior:
    """Normal priors on the log parameters of the kernel."""

    mean: Array
    sd: Array

    @staticmethod
    def of(columns: NDArray[np.int64]) -> SingleFidelityPrior:
        """Return the prior for parameters with these columns of features."""
        n_params = int(columns.max()) + 1
        scales = [(SCALE_PRIOR[0] + 0.5 * np.log(n_params), SCALE_PRIOR[1])] * n_params
        mean, sd = np.array([*scales, LEVEL_PRIOR, NOISE_PRIOR], dtype=float).T
        return SingleFidelityPrior(mean, sd)


def _covariance(theta: Array, columns: NDArray[np.int64], x: Array) -> tuple[Array, Array, Array, Array]:
    """Compute the covariance (n, n) of the process, ``1 + r`` and ``exp(-r)`` of the distances ``r`` times sqrt(5), and
    ``x`` (n, c) in length scales."""
    d = len(theta) - 2
    scaled = x / np.exp(theta[:d])[columns]
    r = squared_distances(scaled, scaled)
    r *= 5.0
    np.sqrt(r, out=r)
    linear = 1.0 + r
    process = r * r
    process /= 3.0
    process += linear
    process *= np.exp(theta[d])
    decay = np.exp(np.negative(r, out=r), out=r)
    process *= decay
    return process, linear, decay, scaled


def loss_and_gradient(
    theta: Array, columns: NDArray[np.int64], x: Array, y: Array, prior: SingleFidelityPrior
) -> tuple[float, Array]:
    """Compute the negative log posterior of ``theta`` (d + 2,) up to a constant, and its gradient."""
    d, n = len(theta) - 2, len(y)
    level, noise = np.exp(theta[d]), np.exp(theta[d + 1])
    process, linear, decay, scaled = _covariance(theta, columns, x)
    cov = process + 1.0  # a constant of variance 1, that of the observed values
    cov[np.diag_indices(n)] += noise + JITTER
    factor, info = lapack.dpotrf(cov, lower=1)
    if info != 0:
        return 1e25, np.zeros_like(theta)
    alpha, _ = lapack.dpotrs(factor, y, lower=1)
    inverse, _ = lapack.dpotri(factor, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    w = 0.5 * (inverse - np.outer(alpha, alpha))  # d loss / d cov
    gradient = np.empty_like(theta)
    g = w * level
    g *= 5.0 / 3.0
    g *= linear
    g *= decay
    per_column = 2.0 * ((g.sum(1) @ (scaled * scaled)) - np.einsum("nc,nc->c", scaled, g @ scaled))
    gradient[:d] = np.bincount(columns, per_column, minlength=d)
    gradient[d] = float(np.sum(w * process))
    gradient[d + 1] = noise * float(np.trace(w))
    off = (theta - prior.mean) / prior.sd
    loss = 0.5 * float(y @ alpha) + float(np.log(np.diag(factor)).sum()) + 0.5 * float(off @ off)
    return loss, gradient + off / prior.sd


def fit(
    columns: NDArray[np.int64],
    x: Array,
    y: Array,
    prior: SingleFidelityPrior,
    *,
    iterations: int = ITERATIONS,
    n_starts: int = 2,
) -> Array:
    """Find the most probable ``theta`` within four standard deviations of the prior.

    L-BFGS-B starts from the mean of the prior, and from a point with much noise if ``n_starts`` is 2.
    """
    bounds = list(zip(prior.mean - 4 * prior.sd, prior.mean + 4 * prior.sd, strict=True))
    noisy = prior.mean + np.append(np.full(len(prior.mean) - 1, 0.5), 2.0) * prior.sd
    found = [
        scipy.optimize.minimize(
            loss_and_gradient,
            start,
            args=(columns, x, y, prior),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": iterations},
        )
        for start in (prior.mean, noisy)[:n_starts]
    ]
    return np.asarray(min(found, key=lambda each: float(each.fun)).x)


def sample_theta(
    columns: NDArray[np.int64],
    x: Array,
    y: Array,
    prior: SingleFidelityPrior,
    start: Array,
    n: int,
    rng: np.random.Generator,
) -> list[Array]:
    """Draw ``n`` samples of ``theta`` from its posterior, by a Markov chain that begins at ``start``.

    Elliptical slice sampling: Murray, Adams & MacKay, Elliptical Slice Sampling (2010), figure 2.
    """

    def log_likelihood(theta: Array) -> float:
        return -_loss(theta, columns, x, y)

    found, off = [], start - prior.mean
    level = log_likelihood(start)
    for step in range(BURN_IN + n * THINNING):
        ellipse = rng.standard_normal(len(off)) * prior.sd
        threshold = level + np.log(rng.random())
        angle = rng.uniform(0.0, 2.0 * np.pi)
        low, high = angle - 2.0 * np.pi, angle
        while True:
            moved = off * np.cos(angle) + ellipse * np.sin(angle)
            level = log_likelihood(prior.mean + moved)
            if level > threshold or high - low < 1e-6:
                break
            low, high = (angle, high) if angle < 0.0 else (low, angle)
            angle = rng.uniform(low, high)
        off = moved
        if step >= BURN_IN and (step - BURN_IN) % THINNING == THINNING - 1:
            found.append(prior.mean + off)
    return found


def _loss(theta: Array, columns: NDArray[np.int64], x: Array, y: Array) -> float:
    """Compute the negative log likelihood of ``theta`` up to a constant."""
    cov = _covariance(theta, columns, x)[0] + 1.0
    cov[np.diag_indices_from(cov)] += np.exp(theta[-1]) + JITTER
    factor, info = lapack.dpotrf(cov, lower=1)
    if info != 0:
        return 1e25
    alpha, _ = lapack.dpotrs(factor, y, lower=1)
    return 0.5 * float(y @ alpha) + float(np.log(np.diag(factor)).sum())


class SingleFidelityPosterior:
    """Posterior of the Gaussian process, given values ``y`` (n,) at ``x`` (n, c)."""

    def __init__(self, theta: Array, columns: NDArray[np.int64], x: Array, y: Array) -> None:
        d = len(theta) - 2
        self.theta, self._columns = theta, columns
        self.scales = np.exp(theta[:d])[columns]
        self.level, self.noise = float(np.exp(theta[d])), float(np.exp(theta[d + 1]))
        self._x = x
        cov = _covariance(theta, columns, x)[0] + 1.0
        cov[np.diag_indices_from(cov)] += self.noise + JITTER
        for _ in range(6):
            self._factor, info = lapack.dpotrf(cov, lower=1)
            if info == 0:
                break
            cov[np.diag_indices_from(cov)] += 1e-6
        self._alpha, _ = lapack.dpotrs(self._factor, y, lower=1)

    def matern(self, x: Array, other: Array) -> Array:
        """Compute the Matern-5/2 kernel (m, n) between configurations."""
        r = squared_distances(x / self.scales, other / self.scales)
        r *= 5.0
        np.sqrt(r, out=r)
        kernel = r * r
        kernel /= 3.0
        kernel += 1.0 + r
        kernel *= np.exp(np.negative(r, out=r), out=r)
        return kernel

    def condition_on_observations(self, x: Array, y: Array) -> SingleFidelityPosterior:
        """Return the posterior given these values: the observed ones and fantasised ones of running trials."""
        return SingleFidelityPosterior(self.theta, self._columns, x, y)

    def mean(self, x: Array) -> Array:
        """Compute the means of the true values (m,) at ``x`` (m, c)."""
        return np.asarray(self._cross(x) @ self._alpha)

    def mean_and_variance(self, x: Array) -> tuple[Array, Array]:
        """Compute means and variances of the true values (m,) at ``x`` (m, c), without noise."""
        cross = self._cross(x)
        half, _ = lapack.dtrtrs(self._factor, cross.T, lower=1)
        variance = self.level + 1.0 - np.einsum("nm,nm->m", half, half)
        return cross @ self._alpha, np.maximum(variance, 1e-12)

    def gain(self, x: Array, over: Array) -> tuple[Array, Array]:
        """Compute means and variances (m,) of the gain in true value of each ``x`` (m, c) over ``over`` (c,)."""
        cross = self._cross(np.vstack([x, over[None]]))
        mean = cross @ self._alpha
        half, _ = lapack.dtrtrs(self._factor, (cross[:-1] - cross[-1]).T, lower=1)
        prior = 2.0 * self.level * (1.0 - self.matern(x, over[None])[:, 0])
        return mean[:-1] - mean[-1], np.maximum(prior - np.einsum("nm,nm->m", half, half), 0.0)

    def _cross(self, x: Array) -> Array:
        return np.asarray(self.level * self.matern(x, self._x) + 1.0)


@dataclass(frozen=True)
class OutputWarp:
    """Increasing transform of values to mean 0 and variance 1, between a logarithm and a line.

    All values below ``low`` count as equally bad.
    """

    low: float
    offset: float
    mean: float
    sd: float
    unit: float = 1.0
    """Power of 2 by which values are divided first, where they are too large to be added."""

    @staticmethod
    def of(values: Array, relative_offset: float = OFFSETS[0]) -> OutputWarp:
        """Return the transform for ``values`` (n,), with an offset that is a fraction of their range.

        ``low`` is as far below the lower quartile as the maximum is above it, at least the minimum. So a few very bad
        values do not make all others look equal.
        """
        unit = 2.0 ** max(0, math.frexp(float(np.abs(values).max()))[1] - MAX_EXPONENT)
        values = values / unit
        quartile, high = float(np.quantile(values, 0.25)), float(values.max())
        low = max(float(values.min()), 2.0 * quartile - high)
        offset = relative_offset * (high - low) or 1.0
        bent = np.log(np.maximum(values - low, 0.0) + offset)
        return OutputWarp(low, offset, float(bent.mean()), float(bent.std()) or 1.0, unit)

    def __call__(self, values: Array) -> Array:
        """Transform values."""
        above = np.maximum(values / self.unit - self.low, 0.0)
        return np.asarray((np.log(above + self.offset) - self.mean) / self.sd)

    def log_slope(self, values: Array) -> Array:
        """Return the log of the derivative at ``values``, which are above ``low``."""
        return np.asarray(-np.log(values / self.unit - self.low + self.offset) - np.log(self.sd))

    def inverse(self, warped: Array | float) -> Array:
        """Return the values that transform to ``warped``, none below ``low``."""
        bent = np.minimum(np.asarray(warped, dtype=float) * self.sd + self.mean, 600.0)
        largest = sys.float_info.max / self.unit
        return self.unit * np.clip(np.maximum(np.exp(bent) - self.offset, 0.0) + self.low, -largest, largest)


def choose_warp(columns: NDArray[np.int64], x: Array, values: Array, prior: SingleFidelityPrior) -> OutputWarp:
    """Return the transform of ``values`` (n,) at ``x`` (n, c) under which each is predicted best from the others.

    Compared is the leave-one-out predictive density of the values themselves (equations 5.10 to 5.12 of Rasmussen &
    Williams, with the derivative of the transform).
    """
    kept = subset(values, MAX_COMPARED)
    x, seen = x[kept], values[kept]
    densities = [_predictive_density(columns, x, seen, OutputWarp.of(seen, o), prior) for o in OFFSETS]
    return OutputWarp.of(values, OFFSETS[int(np.argmax(densities))])


def subset(values: Array, n: int) -> NDArray[np.int64]:
    """Return the indices of at most ``n`` values, in order: half of them the largest, the others spread evenly."""
    if len(values) <= n:
        return np.arange(len(values))
    order = np.argsort(-values, kind="stable")
    others = np.linspace(n // 2, len(values) - 1, n - n // 2).astype(int)
    return np.sort(np.concatenate([order[: n // 2], order[others]]))


def _predictive_density(
    columns: NDArray[np.int64], x: Array, values: Array, warp: OutputWarp, prior: SingleFidelityPrior
) -> float:
    y = warp(values)
    theta = fit(columns, x, y, prior, iterations=20, n_starts=1)
    cov = _covariance(theta, columns, x)[0] + 1.0
    cov[np.diag_indices_from(cov)] += np.exp(theta[-1]) + JITTER
    inverse = np.linalg.inv(cov)
    variance = 1.0 / np.diag(inverse)
    off = (inverse @ y) * variance
    density = -0.5 * (off * off / variance + np.log(variance))
    counts = values / warp.unit > warp.low
    return float(np.sum(density[counts] + warp.log_slope(values[counts])))
