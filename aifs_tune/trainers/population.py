"""Trials of equal shape that train together in one program, each still a trial of its own.

A small network leaves a large GPU mostly waiting for the next launch; here one launch serves all members
(horizontally fused training: Wang et al. 2021, arXiv 2102.02344).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.scalars import Scalar
from aifs_tune.trainers.cnn_params import CnnParams
from aifs_tune.trainers.course import Course, Weights, damaged
from aifs_tune.trainers.image_task import ImageTask
from aifs_tune.trainers.population_size import make_stack, precision_of
from aifs_tune.trainers.stacked import MemberPass

GATHER_S = 0.5
"""A pass starts without a member that is later than this; it takes part in the next."""


class Answer(NamedTuple):
    """What an epoch of a member came to: loss and accuracy of the training passes, the logarithms of the
    probabilities of the validation images, shape (n, classes), and the seconds that went into it."""

    loss: float
    accuracy: float
    log_probabilities: NDArray[np.float32]
    spent: Mapping[str, float]


class Population:
    """Room for ``size`` trials of the shape that ``params`` have; :meth:`member` gives a trainer for one.

    Members may be used from different threads, and have to be: an epoch of one waits for the others that are
    about to train theirs. Nothing is compiled again when a member begins another trial. A trial's measurements
    depend on its parameters, its seed and the data, not on the other members; against a
    :class:`~aifs_tune.trainers.cnn.CnnTrainer` the random draws of augmentation and dropout differ.

    Raises
    ------
    RequestError
        If a parameter is not allowed or ``size`` is below 1.
    """

    def __init__(self, task: ImageTask, params: Mapping[str, Scalar] | None = None, *, size: int) -> None:
        if size < 1:
            raise RequestError(f"size: {size} is not allowed; allowed: a whole number from 1")
        self.task = task
        self.precision = precision_of(task)
        self.params = dict(params or {})
        self.shape = self.task.shape_of(CnnParams.from_mapping(self.params))
        self.size = size
        self.turn = threading.Condition()
        """Held by whoever reads or changes ``stack``."""
        self.stack = make_stack(self.task, self.params, size)
        self._free = set(range(size))
        self._expected: set[int] = set()
        self._asking: dict[int, MemberPass] = {}
        self._answers: dict[int, Answer | Exception] = {}

    @property
    def n_traces(self) -> int:
        """Functions traced so far: one to train for each set of random changes in use, one to evaluate."""
        return self.stack.n_traces

    def member(self) -> Member:
        """A trainer for one trial at a time.

        Raises
        ------
        RequestError
            If all places are taken.
        """
        with self.turn:
            if not self._free:
                raise RequestError(f"member: all {self.size} places are taken; release one")
            place = min(self._free)
            self._free.remove(place)
            return Member(self, place)

    def leave(self, place: int) -> None:
        """Nobody trains at this place for now."""
        with self.turn:
            self._expected.discard(place)
            self._asking.pop(place, None)
            self.turn.notify_all()

    def free(self, place: int) -> None:
        """Give the place back."""
        with self.turn:
            self.leave(place)
            self._free.add(place)

    def join(self, place: int) -> None:
        """Somebody is about to train at this place: the others wait for it a little."""
        with self.turn:
            self._expected.add(place)

    def train(self, place: int, epoch: MemberPass) -> Answer:
        """Train one epoch at this place together with the others that ask for one.

        Raises
        ------
        TrainerError
            If the pass failed; then it failed for all who took part.
        """
        with self.turn:
            self._asking[place] = epoch
            self._expected.add(place)
            self.turn.notify_all()
            deadline = time.monotonic() + GATHER_S
            while place not in self._answers:
                left_s = deadline - time.monotonic()
                if self._expected <= self._asking.keys() or left_s <= 0:
                    self._serve()
                else:
                    self.turn.wait(left_s)
            answer = self._answers.pop(place)
        if isinstance(answer, Exception):
            raise TrainerError(f"the population's pass failed: {' '.join(str(answer).split())[:300]}") from answer
        return answer

    def _serve(self) -> None:
        asked, self._asking = self._asking, {}
        self._expected = set(asked)  # who was late is not waited for until it asks again
        try:
            traced, began = self.n_traces, time.perf_counter()
            trained = self.stack.train(asked)
            measured = time.perf_counter()
            found = self.stack.log_probabilities(self.task.images.val, list(asked))
            done = time.perf_counter()
            spent = {"train": measured - began, "evaluate": done - measured}
            if self.n_traces > traced:
                spent = {"trace": done - began}
            self._answers |= {place: Answer(*trained[place], found[place], spent) for place in asked}
        except Exception as error:  # noqa: BLE001 - each of them is told
            self._answers |= dict.fromkeys(asked, error)
        self.turn.notify_all()


class Member:
    """The trainer of one place; see :mod:`aifs_tune.trainers.protocol`. Made by :meth:`Population.member`."""

    def __init__(self, population: Population, place: int) -> None:
        self._population, self._place = population, place
        self._spent = {"trace": 0.0, "train": 0.0, "evaluate": 0.0}
        self.reset(population.params, seed=0)

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        return self._course.is_finished

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds of the passes it took part in, each counted whole: ``train`` and ``evaluate``, or ``trace`` if
        something was compiled in it."""
        return self._spent

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or makes another shape than the population's.
        """
        population = self._population
        course = Course(population.task, params, seed=seed, precision=population.precision, engine="jax")
        mine, theirs = asdict(course.shape), asdict(population.shape)
        for name, value in mine.items():
            if value != theirs[name]:
                raise RequestError(f"{name}: {value!r} is not allowed; allowed: {theirs[name]!r}, the population's")
        self._course = course
        with population.turn:
            population.stack.start(self._place, seed)
            population.join(self._place)

    def epoch(self) -> dict[str, float]:
        """Train one epoch with the other members, measure it on the validation part; empty if already finished.

        Raises
        ------
        TrainerError
            If the pass failed; then it failed for all who took part.
        """
        if self.is_finished:
            return {}
        course, population = self._course, self._population
        now = MemberPass(course.order(), course.epochs_done, course.seed, course.knobs())
        answer = population.train(self._place, now)
        for what, seconds in answer.spent.items():
            self._spent[what] += seconds
        measured = population.task.measure("val", answer.log_probabilities)
        metrics = {"loss": answer.loss, "accuracy": answer.accuracy, **measured}
        if course.finish_epoch(metrics):
            with population.turn:
                population.stack.keep_best(self._place)
        if course.is_finished:
            population.leave(self._place)
        return metrics

    def save(self, folder: Path) -> None:
        """Write the running trial into ``folder``."""
        population = self._population
        with population.turn:
            weights, slots = population.stack.weights(self._place), population.stack.slots(self._place)
        self._course.write(folder, weights=weights, slots=slots, best=self._best())

    def load(self, folder: Path) -> None:
        """Continue from what :meth:`save` wrote, after a reset with parameters of the same shape.

        Raises
        ------
        ConflictError
            If it was written for other images or another shape; TrainerError if the files are damaged.
        """
        weights, slots, best = self._course.read(folder, self._population.shape.weight_shapes)
        stack = self._population.stack
        try:
            with self._population.turn:
                stack.assign(self._place, weights, slots)
                if best:
                    stack.assign_best(self._place, best)
        except (KeyError, ValueError) as error:
            raise damaged(folder, error) from error

    def save_best(self, folder: Path) -> Path:
        """Write the best epoch as :meth:`aifs_tune.trainers.cnn.CnnTrainer.save_best` does.

        Raises
        ------
        TrainerError
            If no epoch had a finite value yet.
        """
        return self._course.write_best(folder, self._best())

    def release(self) -> None:
        """Give the place to others; the member cannot be used any more."""
        self._population.free(self._place)

    def _best(self) -> Weights:
        if self._course.best_epoch is None:
            return {}
        with self._population.turn:
            return self._population.stack.best(self._place)
