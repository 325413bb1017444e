"""Fused training of several trials of equal shape in one program; each remains a separate trial.

With a small network, a large GPU mostly waits for the next kernel launch. Here each launch computes all trials
(horizontally fused training, Wang et al. 2021, arXiv 2102.02344).
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

GATHER_S = 0.5
"""Seconds after which an epoch starts without the trials that did not ask for one; they join the next epoch."""

_SIZES = (1, 4, 16, 64)
_MIN_GAIN = 1.1
_MAX_MEMORY_SHARE = 0.8
_BFLOAT16_CAPABILITY = 8.0


def make_stack(task: ImageTask, params: Mapping[str, Scalar], size: int) -> Stack:
    """Make the stack of ``size`` trials with the shape of ``params``."""
    images, shape = task.images, task.shape_of(CnnParams.from_mapping(params))
    return Stack(shape, size, images.images, images.labels, task.weights_of_classes(), precision_of(task))


def choose_fused_size(task: ImageTask, params: Mapping[str, Scalar], *, max_size: int) -> int:
    """Choose the number of fused trials, at most ``max_size``, by measurement.

    Sizes 1, 4, 16 and 64 are tried, some seconds each, as long as each trains at least 10 % more images per second than
    the one before and needs at most 80 % of the device's memory. On a CPU the size is 1, because one trial keeps it
    busy.
    """
    if jax.default_backend() == "cpu":
        return 1
    chosen, best_rate = 1, 0.0
    for size in sorted({min(size, max_size) for size in _SIZES}):
        try:
            rate = images_per_second(make_stack(task, params, size), task, params)
        except jax.errors.JaxRuntimeError:  # out of memory
            break
        if rate < _MIN_GAIN * best_rate or memory_share() > _MAX_MEMORY_SHARE:
            break
        chosen, best_rate = size, rate
    return chosen


def images_per_second(stack: Stack, task: ImageTask, params: Mapping[str, Scalar], *, at_least_s: float = 1.0) -> float:
    """Measure the images per second of all trials of ``stack`` together, without compilation."""
    batches = np.resize(task.images.train, min(len(task.images.train), 32 * stack.shape.batch_size))
    epochs = dict.fromkeys(
        range(stack.size), FusedEpoch(batches, 0, 0, CnnParams.from_mapping(params).hyperparameters())
    )
    stack.train(epochs)
    n_epochs, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < at_least_s or n_epochs == 0:
        stack.train(epochs)
        n_epochs += 1
    return n_epochs * stack.size * len(batches) / seconds


def memory_share() -> float:
    """Largest share of the device's memory used so far, 0 to 1; 0 if the device does not report it."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return float(stats.get("peak_bytes_in_use", 0) / stats["bytes_limit"]) if stats.get("bytes_limit") else 0.0


def precision_of(task: ImageTask) -> Precision:
    """Precision of ``task``.

    ``"auto"`` is mixed bfloat16 on a GPU that multiplies it natively (compute capability from 8.0), else float32.
    """
    if task.precision != "auto":
        return task.precision
    capability: Any = getattr(jax.local_devices()[0], "compute_capability", None)
    is_native = capability is not None and float(capability) >= _BFLOAT16_CAPABILITY
    return "mixed_bfloat16" if is_native else "float32"


class FusedEpochResult(NamedTuple):
    """Result of one epoch of one trial.

    Parameters
    ----------
    loss, accuracy
        Means over the training batches.
    log_probabilities
        Predictions for the validation images, shape (n, classes).
    timings
        Seconds of the epoch, the same for all trials that took part.
    """

    loss: float
    accuracy: float
    log_probabilities: NDArray[np.float32]
    timings: Mapping[str, float]


class FusedTrainer:
    """Program that trains up to ``size`` trials of equal shape together.

    :meth:`trial_trainer` returns a trainer of one trial at a time. Each of these trainers needs its own thread, because
    an epoch waits for the other trials that are about to train. A new trial compiles nothing. The metrics of a trial
    depend on its parameters, its seed and the data, not on the other trials; compared with
    :class:`~aifs_tune.trainers.models.cnn.CnnTrainer`, the random numbers of augmentation and dropout differ.

    Parameters
    ----------
    task
        Images and goal of all trials.
    params
        Hyperparameters that give the shape of all trials; missing ones have their defaults.
    size
        Largest number of trials at a time, from 1.

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
        """Lock of ``stack``; hold it to read or change the stack."""
        self.stack = make_stack(self.task, self.params, size)
        self._free = set(range(size))
        self._expected: set[int] = set()
        self._requests: dict[int, FusedEpoch] = {}
        self._epoch_results: dict[int, FusedEpochResult | Exception] = {}

    @property
    def n_traces(self) -> int:
        """Traces so far: one to train for each combination of augmentations in use, one to evaluate."""
        return self.stack.n_traces

    def trial_trainer(self) -> FusedTrialTrainer:
        """Make a trainer of one trial at a time.

        Raises
        ------
        RequestError
            If there are ``size`` trainers already.
        """
        with self.lock:
            if not self._free:
                raise RequestError(f"fused trials: all {self.size} are in use; release one first")
            index = min(self._free)
            self._free.remove(index)
            return FusedTrialTrainer(self, index)

    def leave(self, index: int) -> None:
        """Stop waiting for trial ``index``."""
        with self.lock:
            self._expected.discard(index)
            self._requests.pop(index, None)
            self.lock.notify_all()

    def free(self, index: int) -> None:
        """Make ``index`` available for another trainer."""
        with self.lock:
            self.leave(index)
            self._free.add(index)

    def join(self, index: int) -> None:
        """Announce that trial ``index`` is about to train, so that the others wait for it up to :data:`GATHER_S`."""
        with self.lock:
            self._expected.add(index)

    def train(self, index: int, epoch: FusedEpoch) -> FusedEpochResult:
        """Train one epoch of trial ``index`` together with the other trials that ask for one.

        Raises
        ------
        TrainerError
            If the epoch failed; then it failed for all trials that took part.
        """
        with self.lock:
            self._requests[index] = epoch
            self._expected.add(index)
            self.lock.notify_all()
            deadline = time.monotonic() + GATHER_S
            while index not in self._epoch_results:
                left_s = deadline - time.monotonic()
                if self._expected <= self._requests.keys() or left_s <= 0:
                    self._train_requested()
                else:
                    self.lock.wait(left_s)
            result = self._epoch_results.pop(index)
        if isinstance(result, Exception):
            raise TrainerError(
                f"the epoch of the fused trials failed: {' '.join(str(result).split())[:300]}"
            ) from result
        return result

    def _train_requested(self) -> None:
        """Train and measure one epoch of every trial that asked for one."""
        requested, self._requests = self._requests, {}
        self._expected = set(requested)  # does not wait for a late trial until it asks again
        try:
            traced, began = self.n_traces, time.perf_counter()
            trained = self.stack.train(requested)
            measured = time.perf_counter()
            found = self.stack.log_probabilities(self.task.images.val, list(requested))
            done = time.perf_counter()
            timings = {"train": measured - began, "evaluate": done - measured}
            if self.n_traces > traced:
                timings = {"trace": done - began}
            self._epoch_results |= {
                index: FusedEpochResult(*trained[index], found[index], timings) for index in requested
            }
        except Exception as error:  # noqa: BLE001 - raised again in each trial
            self._epoch_results |= dict.fromkeys(requested, error)
        self.lock.notify_all()


class FusedTrialTrainer:
    """Trainer of one trial at a time in a :class:`FusedTrainer`, whose :meth:`~FusedTrainer.trial_trainer` makes it."""

    def __init__(self, fused_trainer: FusedTrainer, index: int) -> None:
        self._fused_trainer, self._index = fused_trainer, index
        self._timings = {"trace": 0.0, "train": 0.0, "evaluate": 0.0}
        self.reset(fused_trainer.params, seed=0)

    @property
    def is_finished(self) -> bool:
        """Whether the best epoch is ``patience`` epochs ago."""
        return self._train_state.is_finished

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds so far of ``train`` and ``evaluate``, or ``trace`` for epochs that compiled something.

        The time of a common epoch counts in full for each of its trials.
        """
        return self._timings

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or changes the shape of the fused trials.
        """
        fused_trainer = self._fused_trainer
        train_state = TrainState(fused_trainer.task, params, seed=seed, precision=fused_trainer.precision, engine="jax")
        shape, expected = asdict(train_state.shape), asdict(fused_trainer.shape)
        for name, value in shape.items():
            if value != expected[name]:
                raise RequestError(
                    f"{name}: {value!r} is not allowed; allowed: {expected[name]!r}, as in all fused trials"
                )
        self._train_state = train_state
        with fused_trainer.lock:
            fused_trainer.stack.start(self._index, seed)
            fused_trainer.join(self._index)

    def epoch(self) -> dict[str, float]:
        """Train one epoch with the other trials, measure it on the validation part; empty if already finished.

        Raises
        ------
        TrainerError
            If the epoch failed; then it failed for all trials that took part.
        """
        if self.is_finished:
            return {}
        train_state, fused_trainer = self._train_state, self._fused_trainer
        epoch = FusedEpoch(
            train_state.order(), train_state.epochs_done, train_state.seed, train_state.hyperparameters()
        )
        result = fused_trainer.train(self._index, epoch)
        for what, seconds in result.timings.items():
            self._timings[what] += seconds
        measured = fused_trainer.task.measure("val", result.log_probabilities)
        metrics = {"loss": result.loss, "accuracy": result.accuracy, **measured}
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
        """Continue the trial of :meth:`save`, after a reset with parameters of the same shape.

        Raises
        ------
        ConflictError
            If the files belong to other images or another shape.
        TrainerError
            If the files are damaged or of another version.
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
        """Write the weights of the best epoch like :meth:`aifs_tune.trainers.models.cnn.CnnTrainer.save_best`.

        Raises
        ------
        TrainerError
            If no epoch had a finite value yet.
        """
        return self._train_state.write_best(folder, self._best())

    def release(self) -> None:
        """Make room for another trainer; this one cannot be used any more."""
        self._fused_trainer.free(self._index)

    def _best(self) -> Weights:
        if self._train_state.best_epoch is None:
            return {}
        with self._fused_trainer.lock:
            return self._fused_trainer.stack.best(self._index)
