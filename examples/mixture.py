"""A three-component mixture: the strength of a composite, whose parts sum to one, with a safe limit on its viscosity.

python examples/mixture.py [MEASUREMENTS]
"""

from __future__ import annotations

import random
import sys

import aifs_tune

SPACE = {
    "resin": {"type": "float", "low": 0.3, "high": 0.8},
    "hardener": {"type": "float", "low": 0.1, "high": 0.6},
    "filler": {"type": "float", "low": 0.0, "high": 0.3},
    "cure": {"type": "choice", "choices": ["slow", "medium", "fast"], "ordered": True},
}


def measure(params: dict[str, float | str], noise: random.Random) -> dict[str, float]:
    """Strength (MPa) and viscosity (Pa s) of one sample."""
    resin, hardener, filler = float(params["resin"]), float(params["hardener"]), float(params["filler"])
    cure = {"slow": 1.0, "medium": 0.97, "fast": 0.85}[str(params["cure"])]
    strength = cure * (80 - 900 * (resin - 0.55) ** 2 - 700 * (hardener - 0.25) ** 2 + 60 * filler)
    return {"strength": strength + noise.gauss(0, 0.5), "viscosity": 2 + 40 * filler**1.5 + noise.gauss(0, 0.05)}


def main() -> None:
    n_measurements = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    noise = random.Random(0)
    study = aifs_tune.open_study(
        "composite",
        space=SPACE,
        metric="strength",
        storage="sqlite:///composite.db",
        mixtures=[{"components": ["resin", "hardener", "filler"], "total": 1.0}],
        limits=["viscosity <= 6"],  # thicker than this the nozzle clogs
        exclude=[{"cure": "fast", "filler": 0.0}],  # measured last year
        initial={"design": "sobol", "points": 8},
    )
    for _ in range(n_measurements):
        trial = study.ask()
        study.tell(trial, measure(dict(trial.params), noise))
    best = study.best
    n_over = sum(trial.feasible is False for trial in study.all_trials())
    print(f"trial {best.number}: {best.metrics['strength']:.1f} MPa at {best.metrics['viscosity']:.2f} Pa s")
    print(f"{dict(best.params)}, {n_over} samples were too viscous")


if __name__ == "__main__":
    main()
