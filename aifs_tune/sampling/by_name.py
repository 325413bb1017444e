"""Optuna's samplers by name, set up for trials that run in parallel."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from aifs_tune.errors import RequestError

NAMES = ("tpe", "random", "qmc")


def make_sampler(name: str, *, seed: int, n_trials: int) -> BaseSampler:
    """The sampler ``name`` for the next proposal of a study that has ``n_trials`` trials.

    A study asks for a new one before each proposal: the draw depends on ``seed`` and the study alone, so
    that a resumed sweep continues as it would have. Quasi-random sampling keeps one sequence per seed and
    its position in the study.

    Raises
    ------
    RequestError
        If there is no such sampler.
    """
    draw = int(np.random.SeedSequence([seed, n_trials]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "random":
            return optuna.samplers.RandomSampler(seed=draw)
        if name == "tpe":
            return optuna.samplers.TPESampler(seed=draw, multivariate=True, group=True, constant_liar=True)
        if name == "qmc":
            independent = optuna.samplers.RandomSampler(seed=draw)
            return optuna.samplers.QMCSampler(
                seed=seed, scramble=True, independent_sampler=independent, warn_independent_sampling=False
            )
    raise RequestError(f"search.sampler: {name!r} is not a sampler; allowed: {', '.join(NAMES)}")
