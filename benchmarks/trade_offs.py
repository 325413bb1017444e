"""How much of the Pareto front is found: our sampler against others on four problems with several objectives.

    python benchmarks/trade_offs.py --seeds 10
    python benchmarks/trade_offs.py --problems branin_currin --methods aifs gp botorch

Every method measures 20 to 60 configurations. Stated is the share of the true front's hypervolume that the true values
of the measured configurations dominate. Where a problem is noisy, every measurement has noise; where it has a limit, a
configuration that exceeds it does not count; where a problem has batches, so many are asked for before they are told.

``aifs`` is the sampler of a sweep file; ``tpe``, ``nsga2`` and ``gp`` are Optuna's with their defaults; ``botorch`` is
its noisy expected hypervolume improvement (qLogNEHVI) with the models and options of its tutorial, after 2 (d + 1)
quasi-random points. ``gp`` needs ``pip install 'aifs-tune[bench]'``, ``botorch`` the package of that name.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np  # noqa: E402  (reads the number of threads when it is imported)
import optuna  # noqa: E402
from search.trade_offs import TRADE_OFFS, TradeOff, hypervolume  # noqa: E402

from aifs_tune.samplers.proposer import Proposer  # noqa: E402
from aifs_tune.study.open import instrument_spec  # noqa: E402

BUDGETS = (20, 40, 60)
LIMIT = "limit"


class Job(NamedTuple):
    problem: str
    method: str
    seed: int


class Row(NamedTuple):
    job: Job
    share: list[float]
    ms_asking: float


Told = list[tuple[np.ndarray, np.ndarray, float]]
"""Points, measured values and measured limits so far."""
Ask = Callable[[Told, int], list[np.ndarray]]


def _optuna(problem: TradeOff, make: Callable[[int], optuna.samplers.BaseSampler]) -> Ask:
    """Ask Optuna's study; ``make`` returns the sampler for a study with so many trials."""
    study = optuna.create_study(directions=["maximize"] * len(problem.reference))
    asked: list[optuna.Trial] = []

    def ask(told: Told, n: int) -> list[np.ndarray]:
        for trial, (_, values, excess) in zip(asked, told[len(told) - len(asked) :], strict=True):
            if problem.limit is not None:
                study._storage.set_trial_system_attr(trial._trial_id, "constraints:limit <= 0", excess)
                study._storage.set_trial_system_attr(trial._trial_id, "constraints", (excess,))
            study.tell(trial, list(values))
        asked.clear()
        points = []
        for _ in range(n):
            study.sampler = make(len(study.trials))
            asked.append(study.ask())
            points.append(np.array([asked[-1].suggest_float(name, 0.0, 1.0) for name in problem.space]))
        return points

    return ask


def _aifs(problem: TradeOff, seed: int) -> Ask:
    names = [f"y{i}" for i in range(len(problem.reference))]
    document: dict[str, Any] = {
        "space": problem.space,
        "search": {"sampler": "aifs", "seed": seed},
        "objective": {"metric": names[0], "mode": "max"},
        "trade_off": [{"metric": name, "mode": "max"} for name in names[1:]],
    }
    if problem.limit is not None:
        document["limits"] = [f"{LIMIT} <= 0"]
    return _optuna(problem, Proposer(instrument_spec("trade_off", document)).sampler)


def _rival(problem: TradeOff, seed: int, name: str) -> Ask:
    options: dict[str, Any] = {"seed": seed}
    if problem.limit is not None and name != "random":
        options["constraints_func"] = lambda trial: trial.system_attrs["constraints"]
    kinds = {
        "random": optuna.samplers.RandomSampler,
        "tpe": optuna.samplers.TPESampler,
        "nsga2": optuna.samplers.NSGAIISampler,
        "gp": optuna.samplers.GPSampler,
    }
    sampler = kinds[name](**options)
    return _optuna(problem, lambda _n: sampler)


def _botorch(problem: TradeOff, seed: int) -> Ask:
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf
    from botorch.sampling import SobolQMCNormalSampler
    from gpytorch.mlls import SumMarginalLogLikelihood

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    m = len(problem.reference)
    first = torch.quasirandom.SobolEngine(problem.d, scramble=True, seed=seed).draw(2 * (problem.d + 1)).double()

    def ask(told: Told, n: int) -> list[np.ndarray]:
        if len(told) < len(first):
            return [row.numpy() for row in first[len(told) : len(told) + n]]
        x = torch.tensor(np.array([point for point, _, _ in told]))
        columns = np.array([[*values, *([excess] if problem.limit else [])] for _, values, excess in told])
        y = torch.tensor(columns)
        models = [SingleTaskGP(x, column[:, None], outcome_transform=Standardize(1)) for column in y.T]
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        function = qLogNoisyExpectedHypervolumeImprovement(
            model=model,
            ref_point=list(problem.reference),
            X_baseline=x,
            prune_baseline=True,
            sampler=SobolQMCNormalSampler(torch.Size([128]), seed=seed),
            objective=IdentityMCMultiOutputObjective(list(range(m))),
            constraints=[lambda z: z[..., -1]] if problem.limit else None,
        )
        bounds = torch.tensor([[0.0] * problem.d, [1.0] * problem.d], dtype=torch.double)
        found, _ = optimize_acqf(function, bounds, q=n, num_restarts=10, raw_samples=512, sequential=True)
        return [row.numpy() for row in found.detach()]

    return ask


RIVALS = ("random", "tpe", "nsga2", "gp")
METHODS = ("aifs", *RIVALS, "botorch")


def one_run(job: Job) -> Row:
    """One method on one problem with one seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    problem, rng = TRADE_OFFS[job.problem], np.random.default_rng(job.seed)
    if job.method in RIVALS:
        ask = _rival(problem, job.seed, job.method)
    else:
        ask = {"aifs": _aifs, "botorch": _botorch}[job.method](problem, job.seed)
    told: Told = []
    asking_s = 0.0
    while len(told) < BUDGETS[-1]:
        began = time.process_time()
        points = ask(told, min(problem.batch, BUDGETS[-1] - len(told)))
        asking_s += time.process_time() - began
        for point in points:
            noise = rng.standard_normal(len(problem.reference)) * problem.noise
            told.append((point, problem.truth(point) + noise, problem.limit(point) if problem.limit else 0.0))
    truths, reference = np.array([problem.truth(point) for point, _, _ in told]), np.array(problem.reference)
    counts = np.array([excess <= 0 for _, _, excess in told])
    share = [hypervolume(truths[:n][counts[:n]], reference) / problem.ideal for n in BUDGETS]
    return Row(job, share, 1e3 * asking_s / len(told))


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--problems", nargs="+", default=list(TRADE_OFFS), choices=list(TRADE_OFFS))
    cli.add_argument("--methods", nargs="+", default=["aifs", "random", "tpe", "nsga2"], choices=METHODS)
    cli.add_argument("--seeds", type=int, default=10)
    cli.add_argument("--first-seed", type=int, default=100, help="the sampler was designed with seeds below 100")
    cli.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    cli.add_argument("--json", action="store_true")
    given = cli.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    jobs = [Job(problem, method, seed) for method in given.methods for problem in given.problems for seed in seeds]
    with ProcessPoolExecutor(given.processes) as pool:
        rows = list(pool.map(one_run, jobs))
    entries = []
    for problem in given.problems:
        for method in given.methods:
            mine = [row for row in rows if row.job[:2] == (problem, method)]
            shares = np.array([row.share for row in mine])
            error = shares.std(0, ddof=1) / np.sqrt(len(mine)) if len(mine) > 1 else np.full(len(BUDGETS), np.nan)
            entry = {"problem": problem, "method": method, "share": shares.mean(0).tolist(), "error": error.tolist()}
            entries.append({**entry, "ms_asking": float(np.mean([row.ms_asking for row in mine])), "runs": len(mine)})
    if given.json:
        print(json.dumps(entries))
        return
    print("share of the ideal hypervolume ± standard error over seeds")
    print(
        f"{'problem':14} {'method':8} {' | '.join(f'after {budget}'.ljust(13) for budget in BUDGETS)} | ms/ask | runs"
    )
    for entry in entries:
        cells = " | ".join(f"{s:.3f} ± {e:.3f}" for s, e in zip(entry["share"], entry["error"], strict=True))
        print(f"{entry['problem']:14} {entry['method']:8} {cells} | {entry['ms_asking']:6.0f} | {entry['runs']:4}")


if __name__ == "__main__":
    main()
