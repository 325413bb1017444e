"""Problems with several objectives, all larger is better, each with an ideal hypervolume to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TradeOff:
    """``truth`` of points (d,) of the unit cube without noise, larger is better; ``noise`` is the standard deviation of
    one measurement of each objective; hypervolume is counted above ``reference`` and stated as a share of ``ideal``,
    that of the true Pareto front."""

    name: str
    d: int
    truth: Callable[[np.ndarray], np.ndarray]
    reference: tuple[float, ...]
    ideal: float
    noise: tuple[float, ...]
    batch: int = 1
    limit: Callable[[np.ndarray], float] | None = None
    """An outcome that is measured too and must be at most 0."""

    @property
    def space(self) -> dict[str, dict[str, object]]:
        return {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(self.d)}


def branin_currin(x: np.ndarray) -> np.ndarray:
    """Branin's and Currin's functions, as BoTorch has them."""
    a, b = 15 * x[0] - 5, 15 * x[1]
    branin = (b - 5.1 / (4 * np.pi**2) * a * a + 5 / np.pi * a - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10
    scale = 1 - np.exp(-1 / (2 * max(x[1], 1e-9)))
    rise = 2300 * x[0] ** 3 + 1900 * x[0] ** 2 + 2092 * x[0] + 60
    return -np.array([branin, scale * rise / (100 * x[0] ** 3 + 500 * x[0] ** 2 + 4 * x[0] + 20)])


def dtlz2(x: np.ndarray) -> np.ndarray:
    """Deb, Thiele, Laumanns and Zitzler's second problem, with two objectives."""
    g = float(np.sum((x[1:] - 0.5) ** 2))
    return -(1 + g) * np.array([np.cos(0.5 * np.pi * x[0]), np.sin(0.5 * np.pi * x[0])])


def vehicle_safety(x: np.ndarray) -> np.ndarray:
    """Mass, acceleration and intrusion of a car in a crash (Liao et al. 2008), as BoTorch has them."""
    x1, x2, x3, x4, x5 = 1 + 2 * x
    mass = 1640.2823 + 2.3573285 * x1 + 2.3220035 * x2 + 4.5688768 * x3 + 7.7213633 * x4 + 4.4559504 * x5
    acceleration = (
        6.5856 + 1.15 * x1 - 1.0427 * x2 + 0.9738 * x3 + 0.8364 * x4 - 0.3695 * x1 * x4 + 0.0861 * x1 * x5
        + 0.3628 * x2 * x4 - 0.1106 * x1 * x1 - 0.3437 * x3 * x3 + 0.1764 * x4 * x4
    )  # fmt: skip
    intrusion = (
        -0.0551 + 0.0181 * x1 + 0.1024 * x2 + 0.0421 * x3 - 0.0073 * x1 * x2 + 0.024 * x2 * x3
        - 0.0118 * x2 * x4 - 0.0204 * x3 * x4 - 0.008 * x3 * x5 - 0.0241 * x2 * x2 + 0.0109 * x4 * x4
    )  # fmt: skip
    return -np.array([mass, acceleration, intrusion])


def constrained_dtlz2(x: np.ndarray) -> float:
    """The limit of C2-DTLZ2 with two objectives: near the ends of the front and its middle; feasible at most 0."""
    f, r = -dtlz2(x), 0.2
    ends = min((f[i] - 1) ** 2 + f[1 - i] ** 2 - r * r for i in range(2))
    middle = float(np.sum((f - np.sqrt(0.5)) ** 2)) - r * r
    return float(min(ends, middle))


TRADE_OFFS = {
    p.name: p
    for p in (
        TradeOff("branin_currin", 2, branin_currin, (-18.0, -6.0), 59.36011874867746, (0.5, 0.1)),
        TradeOff(
            "vehicle_safety",
            5,
            vehicle_safety,
            (-1864.72022, -11.81993945, -0.2903999384),
            246.81607081187002,
            (0, 0, 0),
        ),
        TradeOff("dtlz2", 6, dtlz2, (-1.1, -1.1), 1.21 - np.pi / 4, (0.0, 0.0), batch=4),
        TradeOff("limited_dtlz2", 4, dtlz2, (-1.1, -1.1), 0.3996406303723544, (0.0, 0.0), limit=constrained_dtlz2),
    )
}


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    """Volume that ``values`` (n, m) dominate above ``reference`` (m,)."""
    kept = np.maximum(values, reference)
    if kept.shape[1] == 1:
        return float(np.max(kept[:, 0], initial=reference[0]) - reference[0])
    total, edge = 0.0, float(reference[-1])
    for level in np.unique(kept[:, -1]):
        total += (float(level) - edge) * hypervolume(kept[kept[:, -1] >= level][:, :-1], reference[:-1])
        edge = float(level)
    return total
