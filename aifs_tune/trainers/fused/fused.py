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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.fused.jax_runtime import jax
from aifs_tune.trainers.fused.stacked import FusedEpoch, Stack
from aifs_tune.trainers.models.cnn import CnnParams
from aifs_tune.trainers.network.images import ImageTask
from aifs_tune.trainers.network.params import Precision
from aifs_tune.trainers.network.trial_state import TrainState, Weights, damaged

_SIZES = (1, 4, 16, 64)
_LEAST_GAIN = 1.1
_MOST_MEMORY = 0.8
_BFLOAT16_CAPABILITY = 8.0


def make_stack(task: ImageTask, params: Mapping[str, Scalar], size: int) -> Stack:
    """The stack of a population of this size."""
    images, shape = task.images, task.shape_of(CnnParams.from_mapping(params))
    return Stack(shape, size, images.images, images.labels, task.weights_of_classes(), precision_of(task))


def choose_fused_size(task: ImageTask, params: Mapping[str, Scalar], *, most: int) -> int:
    """The size, at most ``most``, beyond which a population trains hardly more images a second, or is too large for
    the device's memory; 1 on a CPU, which one trial keeps busy.

    Takes some seconds for each size that it tries: 1, 4, 16 and 64.
    """
    if jax.default_backend() == "cpu":
        return 1
    chosen, best_rate = 1, 0.0
    for size in sorted({min(size, most) for size in _SIZES}):
        try:
            rate = images_per_second(make_stack(task, params, size), task, params)
        except jax.errors.JaxRuntimeError:  # out of memory
            break
        if rate < _LEAST_GAIN * best_rate or memory_share() > _MOST_MEMORY:
            break
        chosen, best_rate = size, rate
    return chosen


def images_per_second(stack: Stack, task: ImageTask, params: Mapping[str, Scalar], *, at_least_s: float = 1.0) -> float:
    """What all places of a stack train together, after what is compiled."""
    batches = np.resize(task.images.train, min(len(task.images.train), 32 * stack.shape.batch_size))
    passes = dict.fromkeys(
        range(stack.size), FusedEpoch(batches, 0, 0, CnnParams.from_mapping(params).hyperparameters())
    )
    stack.train(passes)
    n_passes, began = 0, time.perf_counter()
    while (timings := time.perf_counter() - began) < at_least_s or n_passes == 0:
        stack.train(passes)
        n_passes += 1
    return n_passes * stack.size * len(batches) / timings


def memory_share() -> float:
    """The most of the device's memory that was in use so far, of 1; 0 where the device does not tell."""
    told = jax.local_devices()[0].memory_stats() or {}
    return float(told.get("peak_bytes_in_use", 0) / told["bytes_limit"]) if told.get("bytes_limit") else 0.0


def precision_of(task: ImageTask) -> Precision:
    """That of ``task``; for ``"auto"`` mixed bfloat16 on a GPU that multiplies it natively (compute capability 8.0 or
    more), else float32."""
    if task.precision != "auto":
        return task.precision
    capability: Any = getattr(jax.local_devices()[0], "compute_capability", None)
    is_native = capability is not None and float(capability) >= _BFLOAT16_CAPABILITY
    return "mixed_bfloat16" if is_native else "float32"


GATHER_S = 0.5
"""A pass starts without a member that is later than this; it takes part in the next."""


class FusedEpochResult(NamedTuple):
    """What an epoch of a member came to: loss and accuracy of the training passes, the logarithms of the
    probabilities of the validation images, shape (n, classes), and the seconds that went into it."""

    loss: float
    accuracy: float
    log_probabilities: NDArray[np.float32]
    timings: Mapping[str, float]


class FusedTrainer:
    """Room for ``size`` trials of the shape that ``params`` have; :meth:`member` gives a trainer for one.

    Members may be used from different threads, and have to be: an epoch of one waits for the others that are
    about to train theirs. Nothing is compiled again when a member begins another trial. A trial's measurements
    depend on its parameters, its seed and the data, not on the other members; against a
    :class:`~aifs_tune.trainers.models.cnn.CnnTrainer` the random draws of augmentation and dropout differ.

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
        self.lock = threading.Condition()
        """Held by whoever reads or changes ``stack``."""
        self.stack = make_stack(self.task, self.params, size)
        self._free = set(range(size))
        self._expected: set[int] = set()
        self._asking: dict[int, FusedEpoch] = {}
        self._epoch_results: dict[int, FusedEpochResult | Exception] = {}

    @property
    def n_traces(self) -> int:
        """Functions traced so far: one to train for each set of random changes in use, one to evaluate."""
        return self.stack.n_traces

    def member(self) -> FusedMember:
        """A trainer for one trial at a time.

        Raises
        ------
        RequestError
            If all places are taken.
        """
        with self.lock:
            if not self._free:
                raise RequestError(f"member: all {self.size} places are taken; release one")
            index = min(self._free)
            self._free.remove(index)
            return FusedMember(self, index)

    def leave(self, index: int) -> None:
        """Nobody trains at this place for now."""
        with self.lock:
            self._expected.discard(index)
            self._asking.pop(index, None)
            self.lock.notify_all()

    def free(self, index: int) -> None:
        """Give the place back."""
        with self.lock:
            self.leave(index)
            self._free.add(index)

    def join(self, index: int) -> None:
        """Somebody is about to train at this place: the others wait for it a little."""
        with self.lock:
            self._expected.add(index)

    def train(self, index: int, epoch: FusedEpoch) -> FusedEpochResult:
        """Train one epoch at this place together with the others that ask for one.

        Raises
        ------
        TrainerError
            If the pass failed; then it failed for all who took part.
        """
        with self.lock:
            self._asking[index] = epoch
            self._expected.add(index)
            self.lock.notify_all()
            deadline = time.monotonic() + GATHER_S
            while index not in self._epoch_results:
                left_s = deadline - time.monotonic()
                if self._expected <= self._asking.keys() or left_s <= 0:
                    self._serve()
                else:
                    self.lock.wait(left_s)
            answer = self._epoch_results.pop(index)
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
            timings = {"train": measured - began, "evaluate": done - measured}
            if self.n_traces > traced:
                timings = {"trace": done - began}
            self._epoch_results |= {index: FusedEpochResult(*trained[index], found[index], timings) for index in asked}
        except Exception as error:  # noqa: BLE001 - each of them is told
            self._epoch_results |= dict.fromkeys(asked, error)
        self.lock.notify_all()


class FusedMember:
    """The trainer of one place; see :mod:`aifs_tune.trainers.protocol`. Made by :meth:`Population.member`."""

    def __init__(self, fused_trainer: FusedTrainer, index: int) -> None:
        self._fused_trainer, self._index = fused_trainer, index
        self._timings = {"trace": 0.0, "train": 0.0, "evaluate": 0.0}
        self.reset(fused_trainer.params, seed=0)

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        return self._train_state.is_finished

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds of the passes it took part in, each counted whole: ``train`` and ``evaluate``, or ``trace`` if
        something was compiled in it."""
        return self._timings

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or makes another shape than the population's.
        """
        fused_trainer = self._fused_trainer
        train_state = TrainState(fused_trainer.task, params, seed=seed, precision=fused_trainer.precision, engine="jax")
        mine, theirs = asdict(train_state.shape), asdict(fused_trainer.shape)
        for name, value in mine.items():
            if value != theirs[name]:
                raise RequestError(f"{name}: {value!r} is not allowed; allowed: {theirs[name]!r}, the population's")
        self._train_state = train_state
        with fused_trainer.lock:
            fused_trainer.stack.start(self._index, seed)
            fused_trainer.join(self._index)

    def epoch(self) -> dict[str, float]:
        """Train one epoch with the other members, measure it on the validation part; empty if already finished.

        Raises
        ------
        TrainerError
            If the pass failed; then it failed for all who took part.
        """
        if self.is_finished:
            return {}
        train_state, fused_trainer = self._train_state, self._fused_trainer
        now = FusedEpoch(train_state.order(), train_state.epochs_done, train_state.seed, train_state.hyperparameters())
        answer = fused_trainer.train(self._index, now)
        for what, seconds in answer.timings.items():
            self._timings[what] += seconds
        measured = fused_trainer.task.measure("val", answer.log_probabilities)
        metrics = {"loss": answer.loss, "accuracy": answer.accuracy, **measured}
        if train_state.finish_epoch(metrics):
            with fused_trainer.lock:
                fused_trainer.stack.keep_best(self._index)
        if train_state.is_finished:
            fused_trainer.leave(self._index)
        return metrics

    def save(self, folder: Path) -> None:
        """Write the running trial into ``folder``."""
        fused_trainer = self._fused_trainer
        with fused_trainer.lock:
            weights, slots = fused_trainer.stack.weights(self._index), fused_trainer.stack.slots(self._index)
        self._train_state.write(folder, weights=weights, slots=slots, best=self._best())

    def load(self, folder: Path) -> None:
        """Continue from what :meth:`save` wrote, after a reset with parameters of the same shape.

        Raises
        ------
        ConflictError
            If it was written for other images or another shape; TrainerError if the files are damaged.
        """
        weights, slots, best = self._train_state.read(folder, self._fused_trainer.shape.weight_shapes)
        stack = self._fused_trainer.stack
        try:
            with self._fused_trainer.lock:
                stack.assign(self._index, weights, slots)
                if best:
                    stack.assign_best(self._index, best)
        except (KeyError, ValueError) as error:
            raise damaged(folder, error) from error

    def save_best(self, folder: Path) -> Path:
        """Write the best epoch as :meth:`aifs_tune.trainers.models.cnn.CnnTrainer.save_best` does.

        Raises
        ------
        TrainerError
            If no epoch had a finite value yet.
        """
        return self._train_state.write_best(folder, self._best())

    def release(self) -> None:
        """Give the place to others; the member cannot be used any more."""
        self._fused_trainer.free(self._index)

    def _best(self) -> Weights:
        if self._train_state.best_epoch is None:
            return {}
        with self._fused_trainer.lock:
            return self._fused_trainer.stack.best(self._index)
