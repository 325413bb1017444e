"""How near a closed loop comes to the optimum of simulated instruments with noise.

python benchmarks/closed_loop.py [--instruments furnace,...] [--samplers aifs,random] [--seeds 10] [--json]

Each run is a study of one instrument with the given sampler, without a plan of its own and without replicates: ask,
measure, tell, 40 times. In the end one configuration is taken: by `aifs` the one that `recommend` names, by the
others the best result.
Quality is the true, noiseless value at that configuration over the true optimum; the goal is a median of 0.95 over the
seeds. The furnace is that of examples/furnace.py. "Stop" is after how many measurements the expected gain first
was below the known noise, from 5 for each parameter and 5 on, and the quality of what was recommended then.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from search.instruments import instruments

from aifs_tune.samplers.proposer import Proposer
from aifs_tune.study.open import instrument_spec

FIRST_SEED = 100
"""The sampler was designed with seeds below this."""


class SimulatedRun(NamedTuple):
    instrument: str
    sampler: str
    seed: int
    measurements: int


class Run(NamedTuple):
    """Qualities: of what is taken in the end, and of the best true value of all that was measured."""

    job: SimulatedRun
    taken: float
    reached: float
    stopped_after: int | None
    taken_then: float | None


def run(job: SimulatedRun) -> Run:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    instrument = instruments()[job.instrument]
    search = {"sampler": job.sampler, "seed": job.seed}
    spec = instrument_spec(job.instrument, {"space": instrument.space, "search": search, **instrument.beside})
    study, proposer = optuna.create_study(direction="maximize"), Proposer(spec)
    noise = np.random.default_rng(10_000 + job.seed)
    truths: list[float] = []
    results: list[float] = []
    stopped_after, taken_then = None, None
    for number in range(job.measurements):
        study.sampler = proposer.sampler(number)
        trial = study.ask()
        truths.append(instrument.truth(spec.space.suggest(trial)))
        results.append(truths[-1] + instrument.noise * noise.standard_normal())
        study.tell(trial, results[-1])
        if job.sampler == "aifs" and stopped_after is None and number + 1 >= 5 * (1 + len(instrument.space)):
            best_and_gain = proposer.best_and_gain(study)
            if best_and_gain is not None and best_and_gain[0] < instrument.noise:
                stopped_after, taken_then = number + 1, truths[best_and_gain[1]] / instrument.optimum
    best_and_gain = proposer.best_and_gain(study) if job.sampler == "aifs" else None
    taken = truths[int(np.argmax(results)) if best_and_gain is None else best_and_gain[1]]
    return Run(job, taken / instrument.optimum, max(truths) / instrument.optimum, stopped_after, taken_then)


def row(runs: list[Run]) -> dict[str, Any]:
    """The line of one sampler on one instrument."""
    taken = np.array([each.taken for each in runs])
    stopped = [each for each in runs if each.stopped_after is not None]
    return {
        "instrument": runs[0].job.instrument,
        "sampler": runs[0].job.sampler,
        "median": round(float(np.median(taken)), 3),
        "quartiles": [round(float(q), 3) for q in np.quantile(taken, [0.25, 0.75])],
        "worst": round(float(taken.min()), 3),
        "within_5_percent": int((taken >= 0.95).sum()),
        "best_measured": round(float(np.median([each.reached for each in runs])), 3),
        "runs": len(runs),
        "stopped": len(stopped),
        "stopped_after": float(np.median([e.stopped_after for e in stopped if e.stopped_after])) if stopped else None,
        "taken_then": round(float(np.median([e.taken_then for e in stopped if e.taken_then])), 3) if stopped else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instruments", default=",".join(instruments()))
    parser.add_argument("--samplers", default="aifs,random")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--measurements", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    pairs = [(name, sampler) for name in given.instruments.split(",") for sampler in given.samplers.split(",")]
    jobs = [SimulatedRun(name, sampler, seed, given.measurements) for name, sampler in pairs for seed in seeds]
    with ProcessPoolExecutor(given.processes) as pool:
        done = list(pool.map(run, jobs))
    rows = [row([each for each in done if each.job[:2] == pair]) for pair in pairs]
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'instrument':14} {'sampler':8} median  quartiles      worst  >=0.95  best measured  stop (quality)")
    for line in rows:
        low, high = line["quartiles"]
        n_stopped = line["stopped"]
        stop = f"{line['stopped_after']:.0f} ({line['taken_then']:.3f}), {n_stopped} runs" if n_stopped else "-"
        print(
            f"{line['instrument']:14} {line['sampler']:8} {line['median']:.3f}  {low:.3f}-{high:.3f}  "
            f"{line['worst']:.3f}  {line['within_5_percent']:2} of {line['runs']:2}  {line['best_measured']:.3f}"
            f"          {stop}"
        )


if __name__ == "__main__":
    main()
