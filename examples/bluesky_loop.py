"""Align a mirror: Bluesky moves the motors and counts, the service says where to look next.

    aifs-tune serve &
    python examples/bluesky_loop.py --n 40

The beamline is simulated with ophyd.sim; the plan moves the motors that are named as the parameters are.
"""

import argparse
import os

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky import RunEngine
from ophyd.sim import SynAxis, SynSignal

from aifs_tune import Client

URL, TOKEN = os.environ.get("AIFS_TUNE_URL", "http://127.0.0.1:8000"), os.environ.get("AIFS_TUNE_TOKEN")
SPACE = {
    "pitch": {"type": "float", "low": -5.0, "high": 5.0, "unit": "mrad"},
    "bend": {"type": "float", "low": -5.0, "high": 5.0, "unit": "mrad"},
}
OPTIMUM, PEAK, WIDTH = {"pitch": 1.3, "bend": -2.1}, 10_000, 1.5  # of the simulation


def tuned(study, detector, motors, n):
    """A plan: ``n`` times ask, move, count, tell; then move to the best and stay there."""

    @bpp.stage_decorator([detector])
    @bpp.run_decorator(md={"plan_name": "tuned", "study": study.name})
    def loop():
        for _ in range(n):
            trial = study.ask()
            yield from move(trial.params)
            reading = yield from bps.trigger_and_read([detector, *motors])
            study.tell(trial, float(reading[detector.name]["value"]))
        yield from move(study.best.params)

    def move(params):
        yield from bps.mv(*(word for motor in motors for word in (motor, params[motor.name])))

    return loop()


def main():
    parser = argparse.ArgumentParser(description="Align a simulated mirror.")
    for option, default in {"study": "mirror", "n": 40, "seed": 0, "sampler": "aifs"}.items():
        parser.add_argument(f"--{option}", type=type(default), default=default)
    given = parser.parse_args()
    motors, noise = [SynAxis(name=name) for name in SPACE], np.random.default_rng(given.seed)

    def counted():
        away = sum((motor.position - OPTIMUM[motor.name]) ** 2 for motor in motors)
        return int(noise.poisson(PEAK * np.exp(-away / (2 * WIDTH**2))))

    detector = SynSignal(name="counts", func=counted)
    question = {"space": SPACE, "metric": "counts", "sampler": given.sampler, "seed": given.seed}
    study = Client(URL, TOKEN).open_study(given.study, **question)
    RunEngine()(tuned(study, detector, motors, given.n))
    print({motor.name: round(float(motor.position), 3) for motor in motors}, study.best.value)


if __name__ == "__main__":
    main()
