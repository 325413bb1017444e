"""Base class of the trainers of networks, which keeps compiled programs from trial to trial."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.network.devices import Devices
from aifs_tune.trainers.network.losses import LossFunction
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.ops import is_jax
from aifs_tune.trainers.network.params import Precision
from aifs_tune.trainers.network.program import Epoch, Examples, TrainFunction, Training
from aifs_tune.trainers.network.runtime import configure, gpu_peak_mb, keras, native_precision
from aifs_tune.trainers.network.stateless import StatelessTraining
from aifs_tune.trainers.network.trial_state import Task, TrainState, Weights, check_one_of, damaged
from aifs_tune.trainers.predictions import write_predictions

MAX_TRAIN_FUNCTIONS = 8
MAX_TRAIN_FUNCTION_BYTES = 2**30
"""Limits of the compiled programs in one process. Above a limit, the one that was not used for longest is dropped; the
current one is always kept. Dropping frees only the weights of a program, so a sweep replaces the worker instead."""


class NetTrainer(ABC):
    """Base of the trainers of networks; see :mod:`aifs_tune.trainers.protocol`.

    A subclass makes the network and the loss function of a shape, and provides the examples.

    Parameters
    ----------
    params
        Hyperparameters of the first trial; missing ones have their defaults.
    seed
        Seed of the first trial, from 0: of the initial weights, the order of the examples and all random draws.
    metric, mode
        Metric of an epoch that decides which epoch is best, and its direction. A value that is not finite is never
        best.
    patience
        Epochs without a better value after which the trial is finished. Default: no limit.
    class_weights
        ``"balanced"``: all classes have the same total weight. ``"none"``: all examples have the same weight.
    precision
        Precision of convolutions and dense layers; ``"auto"`` is mixed bfloat16 where the hardware supports it.
    epochs
        Largest number of epochs of a trial, where a cosine schedule ends.
    keep
        ``"best"`` (default) keeps the weights of the best epoch, ``"last"`` those of the newest epoch with a finite
        value.
    threads
        CPU threads of TensorFlow. Default: all. No effect if TensorFlow already runs in this process.
    devices
        Number of GPUs that split each batch, or of logical CPUs without a GPU. Below 1: share of a GPU's memory that
        this process may use.

    Raises
    ------
    RequestError
        If an argument or a hyperparameter is not allowed.
    DataError
        If the data have nothing to train on, or too few examples to measure.
    """

    _score = "accuracy"
    """Name of the loss function's second metric of the training batches."""

    backends: ClassVar[tuple[str, ...]] = ("tensorflow", "jax")
    """Backends of Keras that it trains on."""

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
        if (backend := keras.backend.backend()) not in self.backends:
            allowed = ", ".join(self.backends)
            raise RequestError(f"KERAS_BACKEND: {backend!r} is in use; allowed for {type(self).__name__}: {allowed}")
        self._devices = Devices(max(1, int(devices)))
        self.precision: Precision = native_precision() if precision == "auto" else precision
        self._examples = self._resident()
        self._train_functions: OrderedDict[Any, Training] = OrderedDict()
        self._variables_index = 0
        self.place: Any = None
        """Place among fused trials, which :mod:`aifs_tune.trainers.fused` gives; None for a trial that trains alone."""
        self._dropped_traces = 0
        self._timings = {"trace": 0.0, "train": 0.0, "evaluate": 0.0}
        self.n_train_functions = 0
        """Programs compiled so far."""
        self.given_params = dict(params or {})
        """Parameters that the trainer was made with."""
        self.reset(self.given_params, seed=seed)

    @abstractmethod
    def _resident(self) -> Examples:
        """Put all examples on the device."""

    @abstractmethod
    def _make_loss_function(self, shape: Any) -> LossFunction:
        """Make the loss function of a shape."""

    @abstractmethod
    def _make_network(self, shape: Any) -> Network:
        """Make the network of a shape."""

    @abstractmethod
    def _part(self, part: str) -> NDArray[np.int32]:
        """Indices of the examples of ``train``, ``val`` or ``test``."""

    @property
    def n_traces(self) -> int:
        """Traces so far: two for each program, one to train and one to evaluate."""
        return self._dropped_traces + sum(train_function.n_traces for train_function in self._train_functions.values())

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds so far of ``trace``, ``train`` and ``evaluate``.

        The first call of a compiled function counts as ``trace``.
        """
        return self._timings

    @property
    def gpu_peak_mb(self) -> float | None:
        """Peak GPU memory; see :func:`aifs_tune.trainers.network.runtime.gpu_peak_mb`."""
        return gpu_peak_mb()

    def needs_restart(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a trial with ``params`` would drop a program, so that it should start in a new process."""
        try:
            shape = self._task.shape_of(self._task.params_of(params))
        except RequestError:
            return False
        if shape in self._train_functions:
            return False
        return len(self._train_functions) >= MAX_TRAIN_FUNCTIONS or self._n_bytes() > MAX_TRAIN_FUNCTION_BYTES

    @property
    def is_finished(self) -> bool:
        """Whether the best epoch is ``patience`` epochs ago."""
        return self._train_state.is_finished

    @property
    def epochs_done(self) -> int:
        """Epochs that the running trial has trained."""
        return self._train_state.epochs_done

    @property
    def best_epoch(self) -> int | None:
        """Best epoch, counted from 1; None before the first finite value."""
        return self._train_state.best_epoch

    @property
    def best_value(self) -> float | None:
        """Metric of the best epoch; None before the first finite value."""
        return self._train_state.best_value

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial; compile a program only if there is none for the shape of ``params``.

        Raises
        ------
        RequestError
            If a hyperparameter is unknown or not allowed, the network does not fit the data, or the seed is negative.
        """
        with nullcontext() if self.place is None else self.place.lock:
            engine = keras.backend.backend()
            self._train_state = TrainState(self._task, params, seed=seed, precision=self.precision, engine=engine)
            self._current = self._train_function_of(self._train_state.shape)
            self._train_function.start(seed)
        self._best: Weights = {}

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Continue the trial from its current weights with other hyperparameters.

        Raises
        ------
        RequestError
            If a hyperparameter is unknown or not allowed, or needs another program; the trial is then unchanged.
        """
        self._train_state.change(params)

    def epoch(self) -> dict[str, float]:
        """Train one epoch and measure it on the validation part; empty if already finished.

        Values are NaN or infinite if the training diverged.
        """
        if self.is_finished:
            return {}
        metrics = self.train_epoch()
        self.finish_epoch(metrics)
        return metrics

    def train_epoch(self) -> dict[str, float]:
        """First half of :meth:`epoch`: train and measure, without a decision on the best epoch."""
        train_state = self._train_state
        epoch = Epoch(train_state.order(), train_state.epochs_done, train_state.seed, train_state.hyperparameters())
        with self._timed("train"):
            loss, score = self._train_function.train(self._examples, epoch)
        return {"loss": loss, self._score: score, **self._measure("val")}

    def finish_epoch(self, metrics: Mapping[str, float]) -> None:
        """Second half of :meth:`epoch`: record ``metrics`` for the last epoch, and keep its weights if it is best."""
        if self._train_state.finish_epoch(metrics):
            self._best = self._train_function.network.values()
        if self.is_finished:
            self._train_function.finish()

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Metrics, such as ``test_loss``, of the best epoch on one part of the data, without augmentation.

        Raises
        ------
        RequestError
            If there is no such part.
        DataError
            If the part is empty.
        TrainerError
            If no epoch had a finite value yet.
        """
        self._check_part(part)
        with self._best_weights():
            return self._measure(part)

    def save(self, folder: Path) -> None:
        """Write the running trial into ``folder``."""
        weights, slots = self._train_function.network.values(), self._train_function.slots()
        self._train_state.write(folder, weights=weights, slots=slots, best=self._best)

    def load(self, folder: Path) -> None:
        """Continue the trial of :meth:`save`, after a reset with parameters of the same shape.

        Raises
        ------
        ConflictError
            If the files belong to other data or another shape.
        TrainerError
            If the files are damaged or of another version.
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
        """Write the weights of the best epoch as ``weights.npz`` and ``weights.json``; return the path of the first.

        Raises
        ------
        TrainerError
            If no epoch had a finite value yet.
        """
        return self._train_state.write_best(folder, self._best)

    def save_predictions(self, folder: Path) -> Path:
        """Write the predictions of the best epoch for the test part into ``folder``; return the path of the arrays.

        Raises
        ------
        DataError
            If there is no test part.
        TrainerError
            If no epoch had a finite value yet.
        """
        self._check_part("test")
        with self._best_weights() as network:
            y_pred = network.predict(self._examples.inputs, self._part("test"))
        return write_predictions(folder, self._task.predictions_of("test", y_pred))

    def _check_part(self, part: str) -> None:
        check_one_of("part", part, ("train", "val", "test"))
        if len(self._part(part)) == 0:
            raise DataError(f"part: {part!r} has no examples; allowed: a part with examples")

    def _measure(self, part: str) -> dict[str, float]:
        with self._timed("evaluate"):
            training, rows = self._train_function, self._part(part)
            predict = training.predict_val if part == "val" else training.network.predict
            y_pred = predict(self._examples.inputs, rows)
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

    @property
    def shape(self) -> Any:
        """All that the compiled program of the running trial depends on."""
        return self._train_state.shape

    @property
    def val(self) -> NDArray[np.int32]:
        """Indices of the validation examples."""
        return self._part("val")

    def new_network(self, shape: Any) -> tuple[Network, LossFunction]:
        """Make another network of ``shape``, and its loss function."""
        with self._devices.scope():
            return self._make_network(shape), self._make_loss_function(shape)

    def next_member(self) -> tuple[Any, Examples, NDArray[np.int32]]:
        """On JAX: the running trial with its next epoch, all examples, and the indices of the validation examples."""
        training, state = self._train_function, self._train_state
        assert isinstance(training, StatelessTraining)
        epoch = Epoch(state.order(), state.epochs_done, state.seed, state.hyperparameters())
        return training.member(epoch), self._examples, self.val

    def twin(self, place: Any, params: Mapping[str, Scalar] | None = None) -> Self:
        """Another trainer of the same data in a ``place`` among fused trials, with ``params`` for its first trial."""
        trainer = self._copied()
        trainer.place, trainer._train_functions = place, OrderedDict()
        trainer._timings, trainer._dropped_traces = dict.fromkeys(self._timings, 0.0), 0
        trainer.reset(self.given_params if params is None else params, seed=0)
        return trainer

    def _copied(self) -> Self:
        """Copy that shares data, but nothing that a trial changes."""
        return copy(self)

    def share_train_functions(self, others: Sequence[NetTrainer]) -> None:
        """Let ``others`` use the programs of this trainer from their next trial on.

        They differ from this trainer in their data alone, and their augmentation must not depend on the data.
        """
        for index, other in enumerate(others, start=1):
            other._variables_index, other._train_functions = index, self._train_functions

    @property
    def _train_function(self) -> Training:
        """Train function of the running trial, with the variables of this trainer."""
        self._current.switch_variables(self._variables_index)
        return self._current

    def _make_training(self, shape: Any) -> Training:
        """Make the training of a shape."""
        network, loss_function = self.new_network(shape)
        if self.place is not None:
            training: Training = self.place.training(self, network, loss_function, shape)
            return training
        if is_jax():
            return StatelessTraining(network, loss_function, optimizer=shape.optimizer, batch_size=shape.batch_size)
        return TrainFunction(
            network, loss_function, optimizer=shape.optimizer, batch_size=shape.batch_size, devices=self._devices
        )

    def _train_function_of(self, shape: Any) -> Training:
        if shape not in self._train_functions:
            began = time.perf_counter()
            self._train_functions[shape] = self._make_training(shape)
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
