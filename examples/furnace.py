"""A crystal-growth furnace, simulated with its noise, and the loop that finds its best recipe in 40 runs.

python examples/furnace.py [RUNS]
"""

from __future__ import annotations

import math
import random
import sys
from typing import Any

SPACE: dict[str, Any] = {
    "temperature": {"type": "float", "low": 600, "high": 1400, "step": 5, "unit": "°C"},
    "hold_time": {"type": "float", "low": 0.5, "high": 100, "log": True, "unit": "h"},
    "cooling_rate": {"type": "float", "low": 0.5, "high": 50, "log": True, "unit": "K/h"},
    "pressure": {"type": "float", "low": 1, "high": 20, "step": 0.5, "unit": "bar"},
    "flux": {"type": "choice", "choices": ["none", "LiCl", "KF"]},
    "flux_ratio": {"type": "float", "low": 0.5, "high": 10, "log": True, "when": {"flux": ["LiCl", "KF"]}},
}
NOISE = 0.02
"""Standard deviation of a measured yield: two runs with one recipe differ."""
FLUXES = {"none": (1180.0, 0.55), "LiCl": (860.0, 0.80), "KF": (980.0, 0.95)}
"""Best temperature and largest yield with each."""


def true_yield(params: dict[str, Any]) -> float:
    """Mass of usable crystals over the mass put in, without noise."""
    best_temperature, largest = FLUXES[params["flux"]]
    if params["flux"] != "none":  # more flux melts earlier, and too much of it leaves little to grow
        excess = math.log(params["flux_ratio"] / 4.0)
        best_temperature -= 60.0 * excess
        largest *= math.exp(-((excess / 2.0) ** 2))
    off = (params["temperature"] - best_temperature) / 150.0
    hold = params["hold_time"]
    grown = (1.0 - math.exp(-hold / 7.0)) * math.exp(-((hold / 120.0) ** 2))
    ordered = math.exp(-((math.log(params["cooling_rate"] / 2.0) / 2.0) ** 2))
    kept = 1.0 - 0.5 * math.exp(-params["pressure"] / 5.0) * math.exp((params["temperature"] - 1000.0) / 250.0)
    return largest * math.exp(-off * off) * grown * ordered * max(0.0, kept)


def main() -> None:
    """Ask, grow, tell: with a plan first, each measurement noisy; then ask which recipe to take."""
    import aifs_tune

    n_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    noise = random.Random(0)
    study = aifs_tune.open_study(
        "furnace",
        space=SPACE,
        metric="yield",
        storage="sqlite:///furnace.db",
        initial={
            "design": "latin_hypercube",
            "points": 10,
            "centre_points": 4,
        },  # the repeated middle measures the noise
        constraints=["not (flux == 'KF' and temperature > 1300)"],  # KF would boil off
    )
    for _ in range(n_runs):
        trial = study.ask()
        study.tell(trial, true_yield(dict(trial.params)) + noise.gauss(0.0, NOISE))
    recommendation = study.recommendation()
    print("Stop." if recommendation.should_stop else "Keep measuring.", recommendation.reason)
    best = study.trial(study.best if recommendation.recommended is None else recommendation.recommended)
    print(f"take trial {best.number}: {dict(best.params)}")
    print(f"measured {best.value:.3f}, true {true_yield(dict(best.params)):.3f}")


if __name__ == "__main__":
    main()
