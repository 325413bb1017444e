"""Optuna's samplers by name, configured for parallel trials."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler

from aifs_tune.config.search import SAMPLERS
from aifs_tune.config.trusted_code import import_code
from aifs_tune.errors import RequestError
from aifs_tune.samplers.search_space import SearchSpace


def _tpe(seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=draw, multivariate=True, group=True, constant_liar=True)


def _gp(seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    _need("gp", "torch")
    return optuna.samplers.GPSampler(seed=draw, independent_sampler=RandomSampler(seed=draw), **_QUIET)


def _cmaes(seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    _need("cmaes", "cmaes")
    from aifs_tune.samplers.cmaes import CmaEsSampler

    return CmaEsSampler(
        seed=draw, independent_sampler=RandomSampler(seed=draw), with_margin=_has_steps(search_space.space), **_QUIET
    )


def _qmc(seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    # all proposals of a study share one sequence, so its scrambling has the seed of the study
    independent = RandomSampler(seed=draw)
    return optuna.samplers.QMCSampler(seed=seed, scramble=True, independent_sampler=independent, **_QUIET)


def _nsga2(seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    return optuna.samplers.NSGAIISampler(seed=draw)


def _nsga3(seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    return optuna.samplers.NSGAIIISampler(seed=draw)


def _grid(seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    return optuna.samplers.GridSampler(
        {name: _grid_values(name, d) for name, d in search_space.space.items()}, seed=seed
    )


def _brute_force(seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    for name, distribution in search_space.space.items():
        _grid_values(name, distribution)
    return optuna.samplers.BruteForceSampler(seed=draw)


def _random(seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    return RandomSampler(seed=draw)


_QUIET: dict[str, Any] = {"warn_independent_sampling": False}

OPTUNA_SAMPLERS: dict[str, Callable[[int, int, SearchSpace], BaseSampler]] = {
    "tpe": _tpe,
    "gp": _gp,
    "cmaes": _cmaes,
    "qmc": _qmc,
    "nsga2": _nsga2,
    "nsga3": _nsga3,
    "grid": _grid,
    "brute_force": _brute_force,
    "random": _random,
}
"""Functions that make a sampler from the seed of the study, the seed of this proposal and the search space."""


def make_optuna_sampler(name: str, *, seed: int, draw: int, search_space: SearchSpace) -> BaseSampler:
    """Make one of Optuna's samplers by name, or a user's own from ``module:Class``.

    Parameters
    ----------
    name : str
        A key of :data:`OPTUNA_SAMPLERS`, or ``module:Class``.
    seed : int
        Seed of the study, the same for all of its proposals.
    draw : int
        Seed of this proposal.
    search_space : SearchSpace
        The space to search.

    Returns
    -------
    optuna.samplers.BaseSampler
        A new sampler.

    Raises
    ------
    RequestError
        If there is no such sampler, it is not installed, or it cannot search this space.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name in OPTUNA_SAMPLERS:
            return OPTUNA_SAMPLERS[name](seed, draw, search_space)
        if ":" in name:
            return _imported(name, draw)
    raise RequestError(f"search.sampler: {name!r} is not a sampler; allowed: {', '.join(SAMPLERS)}, module:Class")


def _imported(name: str, draw: int) -> BaseSampler:
    made = import_code(name, "search.sampler")
    if not (inspect.isclass(made) and issubclass(made, BaseSampler)):
        raise RequestError(f"search.sampler: {name!r} is {made!r}; allowed: a subclass of optuna.samplers.BaseSampler")
    options: dict[str, Any] = {"seed": draw} if "seed" in inspect.signature(made).parameters else {}
    return made(**options)


def _need(sampler: str, package: str) -> None:
    if find_spec(package) is None:
        raise RequestError(
            f"search.sampler: {sampler!r} needs the package {package}, which is not installed; "
            f"run: pip install {package}, or use: aifs, tpe, qmc, random"
        )


def _has_steps(space: Mapping[str, BaseDistribution]) -> bool:
    return any(isinstance(d, IntDistribution) or getattr(d, "step", None) is not None for d in space.values())


def _grid_values(name: str, distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.step is None:
        raise RequestError(f"search.sampler: {name} is continuous; a grid needs a step or choices for it")
    n = round((distribution.high - distribution.low) / distribution.step)
    return [distribution.low + i * distribution.step for i in range(n + 1)]
