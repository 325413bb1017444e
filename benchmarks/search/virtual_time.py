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
class Course:
    """What one simulated sweep found: the epochs spent in all at each improvement, and the best value then."""

    spent: list[int] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    proposals: int = 0
    asking_s: float = 0.0
    """Processor time of the proposals alone."""
    seconds: float = 0.0
    """Of all the method's own computing: proposals, what it does with results, decisions to stop."""
    longest_s: float = 0.0

    def best_at(self, spent: int) -> float:
        """The best value after ``spent`` epochs in all."""
        return self.best[int(np.searchsorted(self.spent, spent, side="right")) - 1]

    def spent_until(self, value: float) -> int | None:
        """Epochs in all until ``value`` was reached; None if it never was."""
        return next((spent for spent, best in zip(self.spent, self.best, strict=True) if best >= value), None)


def simulate(table: CurveTable, method: Method, *, workers: int, epochs: int) -> Course:
    """Let ``workers`` train what ``method`` asks for until ``epochs`` epochs are spent in all.

    All workers finish an epoch at the same time and are told one after another; a worker that is free asks before the
    next epoch.
    """
    course = Course()
    running: list[tuple[Run, Sequence[float], int] | None] = [None] * workers
    spent = 0
    while spent < epochs:
        for worker in range(workers):
            if running[worker] is None:
                began = time.process_time()
                run = method.ask()
                took = time.process_time() - began
                _took(course, took)
                course.asking_s += took
                if run is not None:
                    course.proposals += run.done == 0
                    running[worker] = (run, table.curve(run.params), run.done)
        if not any(running):
            raise RuntimeError("the method lets every worker wait")
        for worker, current in enumerate(running):
            if current is None or spent >= epochs:
                continue
            run, curve, epoch = current[0], current[1], current[2] + 1
            spent += 1
            value = float(curve[epoch - 1])
            if not course.best or value > course.best[-1]:
                course.spent.append(spent)
                course.best.append(value)
            began = time.process_time()
            goes_on = method.report(run.trial, epoch, value)
            _took(course, time.process_time() - began)
            running[worker] = (run, curve, epoch) if goes_on and epoch < run.until else None
    return course


def _took(course: Course, seconds: float) -> None:
    course.seconds += seconds
    course.longest_s = max(course.longest_s, seconds)
