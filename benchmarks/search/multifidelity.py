"""DEHB, SMAC and Syne Tune as methods of the virtual-time benchmark. Each imports its library only when it is made."""

from __future__ import annotations

import logging
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aifs_tune.space.parameters import FixedParameter, Parameter
from aifs_tune.space.search_space import Space
from search.tables import CurveTable
from search.virtual_time import Method, Run

FREE_ANSWERS = 20
"""In a row, of budgets that were trained before; a small space might have no others."""


@dataclass(frozen=True)
class Axis:
    """One searched parameter as every library takes it: a range, or the numbers of choices as texts.

    A stepped range is the range of the whole number of its steps; ``start`` and ``step`` lead back.
    """

    name: str
    low: float = 0
    high: float = 0
    log: bool = False
    whole: bool = False
    start: float = 0
    step: float = 1
    choices: tuple[Any, ...] = ()

    @property
    def labels(self) -> list[str]:
        """What stands for each choice; empty for a range."""
        return [str(i) for i in range(len(self.choices))]

    def value(self, raw: Any) -> Any:
        """What the trial gets for the library's value: inside the range, where the library left it."""
        if self.choices:
            return self.choices[int(raw)]
        number = min(max(raw, self.low), self.high)
        return self.start + self.step * int(number) if self.whole else float(number)


class Axes:
    """The searched parameters of ``space``.

    Raises
    ------
    ValueError
        If a parameter has a condition.
    """

    def __init__(self, space: Space) -> None:
        conditional = [name for name, parameter in space.items() if parameter.when]
        if conditional:
            raise ValueError(f"{', '.join(conditional)}: a condition (when) is not supported by this rival")
        self._space = space
        self.searched = [_axis(name, p) for name, p in space.items() if not isinstance(p, FixedParameter)]

    def params(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The full configuration for a library's values of the searched parameters."""
        drawn = {axis.name: axis.value(raw[axis.name]) for axis in self.searched}
        return {name: p.value if isinstance(p, FixedParameter) else drawn[name] for name, p in self._space.items()}


def _axis(name: str, parameter: Parameter) -> Axis:
    if parameter.type == "choice":
        return Axis(name, choices=tuple(parameter.choices))
    low, high, whole = parameter.low, parameter.high, parameter.type == "int"
    if parameter.step is None or (whole and parameter.step == 1):
        return Axis(name, low, high, parameter.log, whole)
    return Axis(name, 0, round((high - low) / parameter.step), whole=True, start=low, step=parameter.step)


def _config_space(axes: Axes, seed: int) -> Any:
    from ConfigSpace import (
        CategoricalHyperparameter,
        ConfigurationSpace,
        UniformFloatHyperparameter,
        UniformIntegerHyperparameter,
    )

    space = ConfigurationSpace(seed=seed)
    for axis in axes.searched:
        if axis.choices:
            space.add(CategoricalHyperparameter(axis.name, axis.labels))
        else:
            number = UniformIntegerHyperparameter if axis.whole else UniformFloatHyperparameter
            space.add(number(axis.name, axis.low, axis.high, log=axis.log))
    return space


@dataclass
class _Job:
    """A library's wish to know one configuration at one budget."""

    info: Any
    params: dict[str, Any]
    budget: float


class _Budgets(ABC):
    """Trains configurations up to budgets, each the nearest whole number of epochs, at least one. The library is told
    the best value of the configuration's epochs so far, negated: it minimises.

    A configuration that is wanted at a higher budget goes on from the epochs it was trained for before, and one that
    was trained that far is answered at once: no epoch is paid twice. That is generous to the rival, as its library
    leaves it to the user to keep and find the weights.
    """

    def __init__(self, table: CurveTable, axes: Axes, library: Any) -> None:
        self._epochs, self._axes, self._library, self._n_runs = table.epochs, axes, library, 0
        self._curves: dict[tuple[Any, ...], list[float]] = {}
        self._running: dict[int, tuple[_Job, list[float], int]] = {}

    @abstractmethod
    def _next(self) -> _Job | None:
        """The library's next wish; None if it has none until others end."""

    @abstractmethod
    def _tell(self, job: _Job, loss: float, epochs: int) -> None:
        """Answer it."""

    def ask(self) -> Run | None:
        for attempt in range(FREE_ANSWERS + 1):
            job = self._next()
            if job is None:
                return None
            until = min(max(round(job.budget), 1), self._epochs)
            curve = self._curves.setdefault(tuple(job.params.values()), [])
            if len(curve) < until or attempt == FREE_ANSWERS:
                break
            self._tell(job, -max(curve[:until]), until)
        run = Run(self._n_runs, job.params, len(curve) if len(curve) < until else 0, until)
        self._running[run.trial] = (job, curve, until)
        self._n_runs += 1
        return run

    def report(self, trial: int, epoch: int, value: float) -> bool:
        job, curve, until = self._running[trial]
        if epoch > len(curve):
            curve.append(value)
        if epoch < until:
            return True
        del self._running[trial]
        self._tell(job, -max(curve[:until]), until)
        return False


class _Dehb(_Budgets):
    def _next(self) -> _Job:
        info = self._library.ask()
        return _Job(info, self._axes.params(dict(info["config"])), float(info["fidelity"]))

    def _tell(self, job: _Job, loss: float, epochs: int) -> None:
        self._library.tell(job.info, {"fitness": loss, "cost": float(epochs)})
        self._library._clean_inactive_brackets()  # As its own run() does: they slow it down.


def make_dehb(table: CurveTable, seed: int, workers: int) -> Method:
    """DEHB by ask and tell, budgets 1 to all epochs, eta 3. With one worker of its own it starts no cluster; asked
    again before it is told, it opens further brackets, as it does for its own workers."""
    from dehb import DEHB

    class QuietDEHB(DEHB):
        def _setup_logger(self, resume: bool, kwargs: dict[str, Any]) -> None:
            """Neither prints nor writes a file."""
            self.output_path, self.logger = Path(kwargs["output_path"]), logging.Logger("dehb", logging.CRITICAL)

    axes = Axes(table.space)
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # It writes nothing there, once saving is left to the end of its run().
        dehb = QuietDEHB(
            cs=_config_space(axes, seed),
            min_fidelity=1,
            max_fidelity=table.epochs,
            eta=3,
            seed=seed,
            n_workers=1,
            save_freq="end",
            output_path=folder,
        )
    return _Dehb(table, axes, dehb)


class _Smac(_Budgets):
    def _next(self) -> _Job | None:
        from joblib import parallel_config
        from smac.main.exceptions import ConfigurationSpaceExhaustedException

        try:
            with parallel_config(backend="sequential"):  # Its forest would take all cores; the result is the same.
                info = self._library.ask()
        except (StopIteration, ConfigurationSpaceExhaustedException):
            return None
        return _Job(info, self._axes.params(dict(info.config)), info.budget)

    def _tell(self, job: _Job, loss: float, epochs: int) -> None:
        from smac.runhistory import TrialValue

        self._library.tell(job.info, TrialValue(cost=loss, time=float(epochs)), save=False)


def make_smac(table: CurveTable, seed: int, workers: int) -> Method:
    """SMAC's multi-fidelity facade by ask and tell: Hyperband with a random forest, budgets 1 to all epochs, eta 3. Its
    first quarter of ``n_trials``, 100 unless stated, is random; by ask and tell it goes on after them."""
    from smac import MultiFidelityFacade, Scenario

    axes = Axes(table.space)
    with tempfile.TemporaryDirectory() as folder:  # It writes only at the start, as it is told without saving.
        scenario = Scenario(
            _config_space(axes, seed),
            output_directory=Path(folder),
            deterministic=True,
            min_budget=1,
            max_budget=table.epochs,
            seed=seed,
        )
        facade = MultiFidelityFacade(
            scenario,
            intensifier=MultiFidelityFacade.get_intensifier(scenario, eta=3),
            acquisition_maximizer=_repeatable(MultiFidelityFacade.get_acquisition_maximizer(scenario)),
            logging_level=False,
            overwrite=True,
        )
    return _Smac(table, axes, facade)


def _repeatable(maximizer: Any) -> Any:
    """Sorts the set that its local search starts from: its order changes from one Python process to the next."""
    local = maximizer._local_search
    starts = local._get_init_points_from_previous_configs
    local._get_init_points_from_previous_configs = lambda *given: sorted(starts(*given), key=repr)
    return maximizer


class _SyneTune:
    """A scheduler of Syne Tune, told what its own tuner tells it."""

    def __init__(self, table: CurveTable, axes: Axes, scheduler: Any) -> None:
        self._axes, self._epochs, self._scheduler = axes, table.epochs, scheduler
        self._trials: list[Any] = []

    def ask(self) -> Run | None:
        from syne_tune.backend.trial_status import Trial

        suggestion = self._scheduler.suggest()
        if suggestion is None:
            return None
        trial = Trial(len(self._trials), suggestion.config, datetime.fromtimestamp(0, UTC))
        self._trials.append(trial)
        self._scheduler.on_trial_add(trial)
        return Run(trial.trial_id, self._axes.params(trial.config), 0, self._epochs)

    def report(self, trial: int, epoch: int, value: float) -> bool:
        known = self._trials[trial]
        if self._scheduler.on_trial_result(known, {"objective": value, "epoch": epoch}) == "CONTINUE":
            return True
        self._scheduler.on_trial_remove(known)
        return False


def make_syne_tune(baseline: str) -> Callable[[CurveTable, int, int], Method]:
    """A multi-fidelity baseline of Syne Tune with its own ASHA: grace 1, reduction factor 3. ``BOHB`` models with
    kernel densities, ``ASHACQR`` with conformal quantile regression (which imports huggingface_hub)."""

    def make(table: CurveTable, seed: int, workers: int) -> Method:
        from syne_tune.optimizer import baselines

        axes = Axes(table.space)
        scheduler = getattr(baselines, baseline)(
            {axis.name: _domain(axis) for axis in axes.searched},
            metric="objective",
            time_attr="epoch",
            max_t=table.epochs,
            do_minimize=False,
            random_seed=seed,
        )
        return _SyneTune(table, axes, scheduler)

    return make


def _domain(axis: Axis) -> Any:
    from syne_tune import config_space

    if axis.choices:
        return config_space.choice(axis.labels)
    if axis.whole:
        return (config_space.lograndint if axis.log else config_space.randint)(axis.low, axis.high)
    return (config_space.loguniform if axis.log else config_space.uniform)(axis.low, axis.high)
