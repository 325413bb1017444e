"""Search methods of other libraries for the virtual-time benchmark, each set up as a user of its library gets it.

They need the bench extra. ``random+asha`` and all that is named after an Optuna sampler run as Ray Tune runs them, the
rest as its own library does: see :mod:`search.multifidelity`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np

from search.multifidelity import make_dehb, make_smac, make_syne_tune
from search.tables import CurveTable, random_params
from search.virtual_time import Method, Run


class _Trial(NamedTuple):
    """Stands in for a Tune trial."""

    trial_id: str


class _Searcher(Protocol):
    """What Tune asks of a searcher."""

    def suggest(self, trial_id: str) -> dict[str, Any]: ...

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None: ...

    def on_trial_complete(self, trial_id: str, result: dict[str, Any]) -> None: ...


class _RandomSearcher:
    def __init__(self, table: CurveTable, seed: int) -> None:
        self._space, self._rng = table.space, np.random.default_rng(seed)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return random_params(self._space, self._rng)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        pass

    def on_trial_complete(self, trial_id: str, result: dict[str, Any]) -> None:
        pass


class _RayTune:
    """A searcher and a scheduler of Ray Tune, told what Tune's own loop tells them, in its order.

    That loop keeps the result at which a trial is stopped from the searcher until the trial's end, which is a complete
    one whether it was stopped early or not.
    """

    def __init__(self, table: CurveTable, searcher: _Searcher, scheduler: Any) -> None:
        self._epochs, self._searcher, self._scheduler = table.epochs, searcher, scheduler
        self._n_trials = 0

    def ask(self) -> Run:
        number = self._n_trials
        self._n_trials += 1
        params = self._searcher.suggest(str(number))
        self._scheduler.on_trial_add(None, _Trial(str(number)))
        return Run(number, params, 0, self._epochs)

    def report(self, trial: int, epoch: int, value: float) -> bool:
        told, result = _Trial(str(trial)), {"epoch": epoch, "training_iteration": epoch, "objective": value}
        decision = self._scheduler.on_trial_result(None, told, result)
        if decision == "CONTINUE" and epoch < self._epochs:
            self._searcher.on_trial_result(told.trial_id, result)
            return True
        self._scheduler.on_trial_complete(None, told, result)
        self._searcher.on_trial_complete(told.trial_id, result)
        return False


def _asha(table: CurveTable, grace: int) -> Any:
    from ray.tune.schedulers import ASHAScheduler

    return ASHAScheduler(
        time_attr="epoch", metric="objective", mode="max", max_t=table.epochs, grace_period=grace, reduction_factor=4
    )


def _optuna(table: CurveTable, **chosen: Any) -> _Searcher:
    """Ray's Optuna searcher with ``seed`` for its own sampler, or another ``sampler``; conditions are asked for as an
    Optuna user states them, with a function of the trial."""
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(table.space.suggest, metric="objective", mode="max", **chosen)


def _random_asha(table: CurveTable, seed: int, workers: int) -> Method:
    return _RayTune(table, _RandomSearcher(table, seed), _asha(table, 1))


def _tpe(table: CurveTable, seed: int, workers: int) -> Method:
    from ray.tune.schedulers import FIFOScheduler

    return _RayTune(table, _optuna(table, seed=seed), FIFOScheduler())


def _tpe_asha(grace: int) -> Maker:
    return lambda table, seed, workers: _RayTune(table, _optuna(table, seed=seed), _asha(table, grace))


def _qmc_asha(table: CurveTable, seed: int, workers: int) -> Method:
    """Scrambled, as the points of all seeds would be the same otherwise."""
    from optuna.samplers import QMCSampler

    return _RayTune(table, _optuna(table, sampler=QMCSampler(scramble=True, seed=seed)), _asha(table, 1))


def _gp_asha4(table: CurveTable, seed: int, workers: int) -> Method:
    from optuna.samplers import GPSampler

    return _RayTune(table, _optuna(table, sampler=GPSampler(seed=seed)), _asha(table, 4))


class _IsolatedRandomState:
    """A rival whose library says nothing, and whose draws from NumPy's global generator are its own: they start from
    the seed, and leave the generator as it was.

    Raises
    ------
    ImportError
        If the library, or one that it needs, is not installed.
    """

    def __init__(self, make: Maker, table: CurveTable, seed: int, workers: int) -> None:
        self._numpy_state = np.random.RandomState(seed).get_state()
        with self._own_random_state():
            handlers, level = list(logging.root.handlers), logging.root.level
            try:
                self._method = make(table, seed, workers)
            except ImportError as error:
                raise ImportError(f"{error.name or error}: not found; install the bench extra") from error
            finally:  # One library sets up logging when it is imported.
                logging.root.handlers[:] = handlers
                logging.root.setLevel(level)

    def ask(self) -> Run | None:
        with self._own_random_state():
            return self._method.ask()

    def report(self, trial: int, epoch: int, value: float) -> bool:
        with self._own_random_state():
            return self._method.report(trial, epoch, value)

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        numpy_state, disabled = np.random.get_state(), logging.root.manager.disable
        np.random.set_state(self._numpy_state)
        logging.disable(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(disabled)
            self._numpy_state = np.random.get_state()
            np.random.set_state(numpy_state)


Maker = Callable[[CurveTable, int, int], Method]


def _isolated(make: Maker) -> Maker:
    return lambda table, seed, workers: _IsolatedRandomState(make, table, seed, workers)


RIVALS: Mapping[str, Maker] = {
    name: _isolated(make)
    for name, make in {
        "random+asha": _random_asha,
        "tpe": _tpe,
        "tpe+asha": _tpe_asha(1),
        "tpe+asha4": _tpe_asha(4),
        "qmc+asha": _qmc_asha,
        "gp+asha4": _gp_asha4,
        "dehb": make_dehb,
        "smac": make_smac,
        "syne-kde": make_syne_tune("BOHB"),
        "syne-cqr": make_syne_tune("ASHACQR"),
    }.items()
}
"""By name: makes the method for a task, a seed and a number of workers."""
