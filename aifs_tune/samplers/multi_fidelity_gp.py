"""Gaussian process over configurations and epochs, with NumPy and SciPy alone.

The covariance of the values of configuration x at epoch e and of x' at e', with u = log e, is

    M(x, x') (s_level + s_shape k(u, u')) + s_common k(u, u') + [same trial] s_trial + [same point] (s_noise + s_early
    / e^2)

M is a Matern-5/2 kernel with one length scale for each parameter, and k is squared-exponential. Configurations differ
in their level and in the shape of their learning curve. All curves share a common trend. Each trial has an offset of
its own: its random seed, and what the kernel cannot resolve. Freeze-thaw Bayesian optimization (Swersky, Snoek & Adams,
arXiv 1406.3896) uses a model of this kind with another kernel over epochs. Marginal likelihood, its gradient and the
posterior are equations 2.23 to 2.30 and 5.9 of Rasmussen & Williams, Gaussian Processes for Machine Learning (2006);
Matern-5/2 is their equation 4.17.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.linalg import lapack, solve_triangular

Array: TypeAlias = NDArray[np.float64]

JITTER = 1e-8


@dataclass(frozen=True)
class Points:
    """Observed values ``y`` (n,) at features ``x`` (n, c) and log epochs ``u`` (n,), with ``trial`` numbers (n,).

    Features are from 0 to 1, and ``y`` is scaled to mean 0 and variance about 1.
    """

    x: Array
    u: Array
    trial: NDArray[np.int64]
    y: Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Prior:
    """Normal priors on the log parameters of the kernel, in the order of the ``theta`` of :class:`Kernel`."""

    mean: Array
    sd: Array

    @staticmethod
    def of(n_params: int) -> Prior:
        """Return the prior for ``n_params`` parameters."""
        scales = np.log(0.7 * np.sqrt(max(1, n_params))), 0.8
        rows = [*[scales] * n_params, (np.log(1.5), 0.5), (np.log(0.5), 0.8), (np.log(0.2), 0.8), (np.log(0.5), 1.0)]
        rows += [(np.log(0.02), 1.0), (np.log(0.003), 1.0), (np.log(0.1), 1.5)]
        mean, sd = np.array(rows, dtype=float).T
        return Prior(mean, sd)


class Kernel:
    """Covariance function for one set of kernel parameters.

    ``theta`` (d + 7,) holds the logarithms of the length scale of each parameter, of the length scale of u, and of
    s_level, s_shape, s_common, s_trial, s_noise and s_early. ``columns`` (c,) maps each column of x to its parameter;
    a categorical parameter has several columns.
    """

    def __init__(self, theta: Array, columns: NDArray[np.int64]) -> None:
        self.theta, self.columns = theta, columns
        d = len(theta) - 7
        self.scales, self.scale_u = np.exp(theta[:d])[columns], float(np.exp(theta[d]))
        self.level, self.shape, self.common, self.offset, self.noise, self.early = np.exp(theta[d + 1 :]).tolist()

    def matern(self, x: Array, other: Array) -> Array:
        """Compute M (m, n) between configurations."""
        r = squared_distances(x / self.scales, other / self.scales)
        r *= 5.0
        np.sqrt(r, out=r)
        out = r / 3.0
        out += 1.0
        out *= r
        out += 1.0
        out *= np.exp(np.negative(r, out=r), out=r)
        return out

    def epoch_kernel(self, u: Array, other: Array) -> Array:
        """Compute k (m, n) between log epochs."""
        return np.asarray(np.exp(-0.5 * ((u[:, None] - other[None, :]) / self.scale_u) ** 2))

    def between(self, x: Array, u: float, other: Points) -> Array:
        """Compute covariances (m, n) of new trials of ``x`` (m, c), at log epoch ``u``, with observed points."""
        k = self.epoch_kernel(np.array([u]), other.u)[0]
        cov = self.matern(x, other.x)
        cov *= self.level + self.shape * k
        cov += self.common * k
        return cov

    def within(self, points: Points) -> Array:
        """Compute covariances (n, n) of observed values."""
        k = self.epoch_kernel(points.u, points.u)
        cov = self.matern(points.x, points.x) * (self.level + self.shape * k) + self.common * k
        cov += self.offset * (points.trial[:, None] == points.trial[None, :])
        cov[np.diag_indices_from(cov)] += self.noise + self.early * np.exp(-2.0 * points.u) + JITTER
        return np.asarray(cov)


def squared_distances(a: Array, b: Array) -> Array:
    """Compute squared distances (n, m) between rows."""
    squares = (a * a).sum(1)
    out: Array = (-2.0 * a) @ b.T
    out += squares[:, None]
    out += squares if a is b else (b * b).sum(1)
    return np.maximum(out, 0.0, out=out)


def loss_and_gradient(theta: Array, columns: NDArray[np.int64], points: Points, prior: Prior) -> tuple[float, Array]:
    """Compute the negative log posterior of ``theta`` up to a constant, and its gradient (d + 7,)."""
    kernel = Kernel(theta, columns)
    d, n = len(theta) - 7, len(points)
    scaled = points.x / kernel.scales
    m, slope = _matern_and_slope(scaled)
    gap = np.subtract.outer(points.u, points.u)
    gap *= gap
    gap /= kernel.scale_u**2
    k = np.exp(-0.5 * gap)
    mixed = kernel.level + kernel.shape * k
    same = np.equal.outer(points.trial, points.trial).astype(float)
    cov = m * mixed
    cov += kernel.common * k
    cov += kernel.offset * same
    early = kernel.early * np.exp(-2.0 * points.u)
    cov[np.diag_indices(n)] += kernel.noise + early + JITTER
    # LAPACK stores by columns: transposed, it overwrites cov, and its lower triangle is the upper one here.
    factor, info = lapack.dpotrf(cov.T, lower=1, overwrite_a=1)
    if info != 0:
        return 1e25, np.zeros_like(theta)
    alpha, _ = lapack.dpotrs(factor, points.y, lower=1)
    log_det = 2.0 * np.log(np.diag(factor)).sum()
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    w = 0.5 * (_symmetric(inverse) - np.outer(alpha, alpha))  # d loss / d cov
    gradient = np.empty_like(theta)
    slope *= w
    slope *= mixed
    per_column = 2.0 * ((slope.sum(1) @ (scaled * scaled)) - np.einsum("nc,nc->c", scaled, slope @ scaled))
    gradient[:d] = np.bincount(columns, per_column, minlength=d)
    wm, k_gap = w * m, k * gap
    gradient[d] = kernel.shape * np.vdot(wm, k_gap) + kernel.common * np.vdot(w, k_gap)
    gradient[d + 1] = kernel.level * wm.sum()
    gradient[d + 2] = kernel.shape * np.vdot(wm, k)
    gradient[d + 3] = kernel.common * np.vdot(w, k)
    gradient[d + 4] = kernel.offset * np.vdot(w, same)
    gradient[d + 5] = kernel.noise * np.trace(w)
    gradient[d + 6] = np.diag(w) @ early
    off = (theta - prior.mean) / prior.sd
    loss = 0.5 * float(points.y @ alpha) + 0.5 * log_det + 0.5 * float(off @ off)
    return loss, gradient + off / prior.sd


def _matern_and_slope(scaled: Array) -> tuple[Array, Array]:
    """Compute M (n, n) between the rows of ``scaled`` (n, c), in length scales, and its slope (n, n).

    The derivative of M with respect to log scale_j is the slope times the squared distance in column j.
    """
    r = squared_distances(scaled, scaled)
    r *= 5.0
    np.sqrt(r, out=r)
    decay = np.exp(-r)
    slope = r + 1.0
    slope *= decay
    r *= r
    r *= decay
    r /= 3.0
    r += slope
    slope *= 5.0 / 3.0
    return r, slope


def _symmetric(lower: Array) -> Array:
    """Return the symmetric matrix with the lower triangle of ``lower`` (n, n)."""
    out = np.tril(lower)
    out += np.tril(lower, -1).T
    return out


def fit(points: Points, columns: NDArray[np.int64], prior: Prior, start: Array, *, iterations: int = 40) -> Array:
    """Find the most probable ``theta`` near ``start``, by L-BFGS-B within four standard deviations of the prior."""
    bounds = list(zip(prior.mean - 4 * prior.sd, prior.mean + 4 * prior.sd, strict=True))
    found = scipy.optimize.minimize(
        loss_and_gradient,
        np.clip(start, *np.array(bounds).T),
        args=(columns, points, prior),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": iterations},
    )
    return np.asarray(found.x)


class Posterior:
    """Posterior of the Gaussian process, given observed points."""

    def __init__(self, kernel: Kernel, points: Points) -> None:
        self.kernel, self.points = kernel, points
        cov = kernel.within(points)
        for _ in range(6):
            self._factor, info = lapack.dpotrf(cov, lower=1)
            if info == 0:
                break
            cov[np.diag_indices_from(cov)] += 1e-6
        self._alpha, _ = lapack.dpotrs(self._factor, points.y, lower=1)

    def condition_on_observations(self, points: Points) -> Posterior:
        """Return the posterior given ``points``: the observed ones and fantasised ones of running trials."""
        return Posterior(self.kernel, points)

    def mean(self, x: Array, u: float, trial: NDArray[np.int64]) -> Array:
        """Compute means (m,) of ``x`` (m, c) at log epoch ``u``, for ``trial`` numbers (m,), -1 for new trials."""
        return np.asarray(self._cross(x, u, trial) @ self._alpha)

    def gain(self, x: Array, u: float, trial: NDArray[np.int64], over: Array, over_trial: int) -> tuple[Array, Array]:
        """Compute means and variances (m,) of the gain of each ``x`` (m, c) over ``over`` (c,) at log epoch ``u``.

        The trend that all configurations share cancels. A trial that was observed keeps its own offset; a new one has
        none.
        """
        kernel, other = self.kernel, np.array([over_trial])
        cross = self._cross(np.vstack([x, over[None]]), u, np.append(trial, other))
        mean = cross @ self._alpha
        half = solve_triangular(self._factor, (cross[:-1] - cross[-1]).T, lower=True, check_finite=False)
        prior = 2.0 * (kernel.level + kernel.shape) * (1.0 - kernel.matern(x, over[None])[:, 0])
        is_other = (trial == over_trial) & (trial >= 0)
        prior = prior + kernel.offset * np.where(is_other, 0.0, (trial >= 0) * 1.0 + (over_trial >= 0) * 1.0)
        return mean[:-1] - mean[-1], np.maximum(prior - np.einsum("nm,nm->m", half, half), 0.0)

    def _cross(self, x: Array, u: float, trial: NDArray[np.int64]) -> Array:
        kernel = self.kernel
        cross = kernel.between(x, u, self.points)
        observed = np.flatnonzero(trial >= 0)
        if len(observed):
            cross[observed] += kernel.offset * (trial[observed, None] == self.points.trial[None, :])
        return cross
