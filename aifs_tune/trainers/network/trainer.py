"""A warm object that trains one configuration of a network after another on one set of examples."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.network.devices import Devices
from aifs_tune.trainers.network.losses import LossFunction
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.params import Precision
from aifs_tune.trainers.network.program import Epoch, Examples, TrainFunction
from aifs_tune.trainers.network.runtime import configure, gpu_peak_mb, native_precision
from aifs_tune.trainers.network.trial_state import Task, TrainState, Weights, check_one_of, damaged
from aifs_tune.trainers.predictions import write_predictions

MAX_TRAIN_FUNCTIONS = 8
MAX_TRAIN_FUNCTION_BYTES = 2**30
"""Programs beyond either are dropped, the longest unused first; the current one is always kept. As that gives
back their weights only, a sweep's worker is replaced instead."""


class NetTrainer(ABC):
    """All that trainers of networks have in common; see :mod:`aifs_tune.trainers.protocol`.

    A subclass says which network a shape has, what a step does beside it, and where the examples are.

    Parameters
    ----------
    params
        Of the first trial; absent ones have their default.
    metric, mode
        A metric that an epoch reports; decides which epoch is best. A value that is not finite is never best.
    patience
        Epochs without a better value after which the trial is finished; None for no limit.
    class_weights
        ``"balanced"``: every class counts the same, however rare.
    precision
        Of convolutions and dense layers; ``"auto"`` is mixed bfloat16 where the hardware has it.
    epochs
        How long a trial trains at most: where a cosine schedule ends.
    threads
        CPU threads of TensorFlow; without effect if it already runs in this process.
    devices
        GPUs that share out each batch of one trial; where there are none, logical CPUs. Below 1: the part of a GPU's
        memory that this process may take.

    Raises
    ------
    RequestError
        If an argument or parameter is not allowed; DataError if nothing can be learnt or measured on the data.
    """

    def __init__(
        self,
        task: Task,
        params: Mapping[str, Scalar] | None,
        *,
        seed: int,
        precision: Literal["auto", "float32", "mixed_bfloat16"],
        threads: int | None,
        devices: float = 1,
    ) -> None:
        self._task: Any = task
        configure(threads, share=devices)
        self._devices = Devices(max(1, int(devices)))
        self.precision: Precision = native_precision() if precision == "auto" else precision
        self._examples = self._resident()
        self._train_functions: OrderedDict[Any, TrainFunction] = OrderedDict()
        self._variables_index = 0
        self._dropped_traces = 0
        self._timings = {"trace": 0.0, "train": 0.0, "evaluate": 0.0}
        self.n_train_functions = 0
        """Programs compiled so far. A dropped one gives back its weights, not all of its memory."""
        self.reset(params or {}, seed=seed)

    @abstractmethod
    def _resident(self) -> Examples:
        """All examples on the device."""

    @abstractmethod
    def _make_loss_function(self, shape: Any) -> LossFunction:
        """What a step of a shape does beside the network."""

    @abstractmethod
    def _make_network(self, shape: Any) -> Network:
        """The network of a shape."""

    @abstractmethod
    def _part(self, part: str) -> NDArray[np.int32]:
        """The examples of ``train``, ``val`` or ``test``."""

    @property
    def n_traces(self) -> int:
        """Functions traced so far: two for each program, one to train and one to evaluate."""
        return self._dropped_traces + sum(train_function.n_traces for train_function in self._train_functions.values())

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds so far by what they went into: ``trace`` (a program, compiled at its first epoch and part), ``train``
        and ``evaluate``."""
        return self._timings

    @property
    def gpu_peak_mb(self) -> float | None:
        """As of :func:`aifs_tune.trainers.network.runtime.gpu_peak_mb`."""
        return gpu_peak_mb()

    def needs_restart(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a trial with ``params`` would drop a program: better to begin it in a new process."""
        try:
            shape = self._task.shape_of(self._task.params_of(params))
        except RequestError:
            return False
        if shape in self._train_functions:
            return False
        return len(self._train_functions) >= MAX_TRAIN_FUNCTIONS or self._n_bytes() > MAX_TRAIN_FUNCTION_BYTES

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        return self._train_state.is_finished

    @property
    def epochs_done(self) -> int:
        """Epochs of the running trial."""
        return self._train_state.epochs_done

    @property
    def best_epoch(self) -> int | None:
        """Counted from 1; None before the first finite value."""
        return self._train_state.best_epoch

    @property
    def best_value(self) -> float | None:
        """The metric at the best epoch."""
        return self._train_state.best_value

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial; compiles only if no kept program has the shape of ``params``.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, the network does not fit the data, or the seed is negative.
        """
        self._train_state = TrainState(self._task, params, seed=seed, precision=self.precision, engine="tensorflow")
        self._current = self._train_function_of(self._train_state.shape)
        self._train_function.start(seed)
        self._best: Weights = {}

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Go on with other parameters, from the weights that the trial has.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or makes another program; the trial is as it was.
        """
        self._train_state.change(params)

    def epoch(self) -> dict[str, float]:
        """Train one epoch and measure it on the validation part; empty if already finished.

        Values are NaN or infinite where the training diverged.
        """
        if self.is_finished:
            return {}
        metrics = self.train_epoch()
        self.judge(metrics)
        return metrics

    def train_epoch(self) -> dict[str, float]:
        """The first half of :meth:`epoch`: train and measure, and leave open what that is worth."""
        train_state = self._train_state
        now = Epoch(train_state.order(), train_state.epochs_done, train_state.seed, train_state.hyperparameters())
        with self._timed("train"):
            loss, score = self._train_function.train(self._examples, now)
        return {"loss": loss, self._score: score, **self._measure("val")}

    def judge(self, metrics: Mapping[str, float]) -> None:
        """The second half: the epoch that was trained last counts as worth ``metrics``, its own or others."""
        if self._train_state.finish_epoch(metrics):
            self._best = self._train_function.network.values()

    _score = "accuracy"
    """What the lesson's score of the training passes is called."""

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Measure the best epoch on one part, nothing changed at random: ``test_loss`` and so on.

        Raises
        ------
        RequestError
            If there is no such part, or it is empty; TrainerError if no epoch was trained yet.
        """
        self._check_part(part)
        with self._best_weights():
            return self._measure(part)

    def save(self, folder: Path) -> None:
        """Write the running trial into ``folder``."""
        weights, slots = self._train_function.network.values(), self._train_function.slots()
        self._train_state.write(folder, weights=weights, slots=slots, best=self._best)

    def load(self, folder: Path) -> None:
        """Continue from what :meth:`save` wrote, after a reset with parameters of the same shape.

        Raises
        ------
        ConflictError
            If it was written for other data or another shape; TrainerError if the files are damaged.
        """
        network = self._train_function.network
        weights, slots, best = self._train_state.read(folder, network.sizes)
        try:
            network.assign(weights)
            self._train_function.assign_slots(slots)
        except (KeyError, ValueError) as error:
            raise damaged(folder, error) from error
        self._best = best

    def save_best(self, folder: Path) -> Path:
        """Write the best epoch into ``folder`` as ``weights.npz`` and ``weights.json``; the path of the first.

        Raises
        ------
        TrainerError
            If no epoch had a finite value yet.
        """
        return self._train_state.write_best(folder, self._best)

    def save_predictions(self, folder: Path) -> Path:
        """Write what the best epoch answers for the test part into ``folder``; the path of the arrays.

        Raises
        ------
        DataError
            If there is no test part; TrainerError if no epoch was trained yet.
        """
        self._check_part("test")
        with self._best_weights() as network:
            y_pred = network.predict(self._examples.inputs, self._part("test"))
        return write_predictions(folder, self._task.predictions_of("test", y_pred))

    def _check_part(self, part: str) -> None:
        check_one_of("part", part, ("train", "val", "test"))
        if len(self._part(part)) == 0:
            raise DataError(f"part: {part!r} is empty; allowed: a part with examples")

    def _measure(self, part: str) -> dict[str, float]:
        with self._timed("evaluate"):
            y_pred = self._train_function.network.predict(self._examples.inputs, self._part(part))
            measured: dict[str, float] = self._task.measure(part, y_pred)
            return measured

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        traced, began = self.n_traces, time.perf_counter()
        try:
            yield
        finally:
            self._timings["trace" if self.n_traces > traced else what] += time.perf_counter() - began

    @contextmanager
    def _best_weights(self) -> Iterator[Network]:
        self._train_state.check_trained()
        network = self._train_function.network
        current = network.values()
        network.assign(self._best)
        try:
            yield network
        finally:
            network.assign(current)

    def share_train_functions(self, others: Sequence[NetTrainer]) -> None:
        """Let ``others``, like this one in all but their data, train with its programs, from their next trial on; what
        is changed at random must not depend on the data."""
        for turn, other in enumerate(others, start=1):
            other._variables_index, other._train_functions = turn, self._train_functions

    @property
    def _train_function(self) -> TrainFunction:
        """With this trainer's weights in it, whoever trained last."""
        self._current.switch_variables(self._variables_index)
        return self._current

    def _train_function_of(self, shape: Any) -> TrainFunction:
        if shape not in self._train_functions:
            began = time.perf_counter()
            with self._devices.scope():
                network, loss_function = self._make_network(shape), self._make_loss_function(shape)
            self._train_functions[shape] = TrainFunction(
                network, loss_function, optimizer=shape.optimizer, batch_size=shape.batch_size, devices=self._devices
            )
            self._timings["trace"] += time.perf_counter() - began
            self.n_train_functions += 1
        self._train_functions.move_to_end(shape)
        while len(self._train_functions) > MAX_TRAIN_FUNCTIONS or (
            len(self._train_functions) > 1 and self._n_bytes() > MAX_TRAIN_FUNCTION_BYTES
        ):
            self._dropped_traces += self._train_functions.popitem(last=False)[1].n_traces
        return self._train_functions[shape]

    def _n_bytes(self) -> int:
        return sum(train_function.n_bytes for train_function in self._train_functions.values())
