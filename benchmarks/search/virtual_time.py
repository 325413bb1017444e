"""Many workers in virtual time: an epoch takes one unit, a proposal none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from search.tables import CurveTable


@dataclass(frozen=True)
class Run:
    """Train ``params`` for the epochs after ``done`` up to ``until``; what was trained before is not paid again."""

    trial: int
    params: Mapping[str, Any]
    done: int
    until: int


class Method(Protocol):
    """What chooses configurations and stops trials. Values are larger for better."""

    def ask(self) -> Run | None:
        """What a free worker trains next; None to let it wait for the results of the others."""

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """Take the value of an epoch, the last one of the run included; whether the run goes on."""


@dataclass
class SimulatedRun:
    """What one simulated sweep found: the epochs spent in all at each improvement, and the best value then."""

    n_epochs: list[int] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    proposals: int = 0
    asking_s: float = 0.0
    """Processor time of the proposals alone."""
    seconds: float = 0.0
    """Of all the method's own computing: proposals, what it does with results, decisions to stop."""
    longest_s: float = 0.0
    full: set[tuple[Any, ...]] = field(default_factory=set)
    """The configurations that were trained to the last epoch, as sorted pairs."""

    def best_at(self, n_epochs: int) -> float:
        """The best value after ``spent`` epochs in all."""
        return self.best[int(np.searchsorted(self.n_epochs, n_epochs, side="right")) - 1]

    def epochs_until(self, value: float) -> int | None:
        """Epochs in all until ``value`` was reached; None if it never was."""
        return next((n_epochs for n_epochs, best in zip(self.n_epochs, self.best, strict=True) if best >= value), None)


def simulate(table: CurveTable, method: Method, *, workers: int, epochs: int) -> SimulatedRun:
    """Let ``workers`` train what ``method`` asks for until ``epochs`` epochs are spent in all.

    All workers finish an epoch at the same time and are told one after another; a worker that is free asks before the
    next epoch.
    """
    trajectory = SimulatedRun()
    running: list[tuple[Run, Sequence[float], int] | None] = [None] * workers
    n_epochs = 0
    while n_epochs < epochs:
        for worker in range(workers):
            if running[worker] is None:
                began = time.process_time()
                run = method.ask()
                took = time.process_time() - began
                _took(trajectory, took)
                trajectory.asking_s += took
                if run is not None:
                    trajectory.proposals += run.done == 0
                    running[worker] = (run, table.curve(run.params), run.done)
        if not any(running):
            raise RuntimeError("the method lets every worker wait")
        for worker, current in enumerate(running):
            if current is None or n_epochs >= epochs:
                continue
            run, curve, epoch = current[0], current[1], current[2] + 1
            n_epochs += 1
            value = float(curve[epoch - 1])
            if not trajectory.best or value > trajectory.best[-1]:
                trajectory.n_epochs.append(n_epochs)
                trajectory.best.append(value)
            began = time.process_time()
            goes_on = method.report(run.trial, epoch, value)
            _took(trajectory, time.process_time() - began)
            running[worker] = (run, curve, epoch) if goes_on and epoch < run.until else None
            if epoch == table.epochs:
                trajectory.full.add(tuple(sorted(run.params.items())))
    return trajectory


def _took(trajectory: SimulatedRun, seconds: float) -> None:
    trajectory.seconds += seconds
    trajectory.longest_s = max(trajectory.longest_s, seconds)
