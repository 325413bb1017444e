"""Two objectives: the yield of a synthesis against its energy, each recipe measured twice; the Pareto front of means.

python examples/trade_off.py [MEASUREMENTS]
"""

from __future__ import annotations

import random
import sys

import aifs_tune

SPACE = {
    "temperature": {"type": "float", "low": 300, "high": 500, "unit": "K"},
    "time": {"type": "float", "low": 0.5, "high": 24, "log": True, "unit": "h"},
    "catalyst": {"type": "int", "low": 0, "high": 5, "unit": "mol%"},
}


def measure(params: dict[str, float], noise: random.Random) -> dict[str, float]:
    """Yield (0 to 1) and energy (kWh) of one batch."""
    rate = 0.02 * (1 + params["catalyst"]) * 2 ** ((params["temperature"] - 300) / 30)
    made = 1 - 2.718 ** (-rate * params["time"])
    decomposed = 0.6 * max(0.0, (params["temperature"] - 420) / 80) ** 2
    energy = 0.002 * (params["temperature"] - 290) * params["time"] + 0.05 * params["catalyst"]
    return {"yield": made * max(0.0, 1 - decomposed) + noise.gauss(0, 0.01), "energy": energy + noise.gauss(0, 0.01)}


def main() -> None:
    n_measurements = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    noise = random.Random(0)
    study = aifs_tune.open_study(
        "synthesis",
        space=SPACE,
        metric="yield",
        trade_off={"energy": "min"},
        storage="sqlite:///synthesis.db",
        initial={"design": "factorial", "centre_points": 2},
        replicates=2,
    )
    for _ in range(n_measurements):
        trial = study.ask()
        study.tell(trial, measure(dict(trial.params), noise))
    for trial in study.front:
        means = trial.replicates.means if trial.replicates else trial.values
        print(f"yield {means['yield']:.3f} for {means['energy']:.2f} kWh: {dict(trial.params)}")


if __name__ == "__main__":
    main()
