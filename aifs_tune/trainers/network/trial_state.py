"""A trial beside its weights: what it is to learn, how far it came, which epoch was best, and its files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar, brief
from aifs_tune.errors import ConflictError, RequestError, TrainerError
from aifs_tune.trainers.checkpoint import WEIGHTS_NAME, read_state, write_state
from aifs_tune.trainers.network.params import Precision, TrainingParams
from aifs_tune.trainers.predictions import Predictions

Weights: TypeAlias = Mapping[str, NDArray[np.float32]]
Sizes: TypeAlias = Mapping[str, tuple[int, ...]]

_STATE_NAME = "state"


class Task(Protocol):
    """What all trials of a trainer share: the data, and what is best."""

    @property
    def metric(self) -> str: ...
    @property
    def mode(self) -> Literal["max", "min"]: ...
    @property
    def patience(self) -> int | None: ...
    @property
    def epochs(self) -> int:
        """How long a trial trains at most: a schedule of the learning rate ends there."""
        ...

    @property
    def train(self) -> NDArray[np.int32]:
        """The examples to train on."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a reader of the weights has to know of the data, ``fingerprint`` among it."""
        ...

    def params_of(self, params: Mapping[str, Scalar]) -> TrainingParams:
        """Checked, with the defaults for what is absent."""
        ...

    def shape_of(self, params: Any) -> Any:
        """The shape of a network with these params for these data: a frozen dataclass of all that a compiled program
        depends on, ``optimizer`` and ``batch_size`` among it."""
        ...

    def measure(self, part: str, y_pred: NDArray[np.float32]) -> dict[str, float]:
        """What the network's answers for the examples of ``part`` are worth: ``val_loss`` and so on."""
        ...

    def predictions_of(self, part: str, y_pred: NDArray[np.float32]) -> Predictions:
        """The network's answers for the examples of ``part`` beside the truths."""
        ...


class BestEpochTracker:
    """How far a trial came, and which epoch was best by ``metric``; a value that is not finite is never best."""

    def __init__(self, metric: str, mode: Literal["max", "min"], patience: int | None) -> None:
        self._metric, self._sign, self._patience = metric, 1 if mode == "max" else -1, patience
        self.epochs_done = 0
        self.best_epoch: int | None = None
        """Counted from 1; None before the first finite value."""
        self.best_value: float | None = None

    @property
    def n_stale(self) -> int:
        """Epochs since the best one."""
        return self.epochs_done - (self.best_epoch or 0)

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        return self._patience is not None and self.n_stale >= self._patience

    def finish_epoch(self, metrics: Mapping[str, float]) -> bool:
        """Count an epoch; whether it is the best so far."""
        self.epochs_done += 1
        value, sign = metrics[self._metric], self._sign
        is_best = math.isfinite(value) and (self.best_value is None or sign * value > sign * self.best_value)
        if is_best:
            self.best_epoch, self.best_value = self.epochs_done, value
        return is_best

    def check_trained(self) -> None:
        """Raises TrainerError if no epoch had a finite value yet."""
        if self.best_epoch is None:
            raise TrainerError(f"no epoch of {self.epochs_done} has a finite {self._metric}, so none is best")


class TrainState(BestEpochTracker):
    """One trial of a task."""

    def __init__(self, task: Task, params: Mapping[str, Scalar], *, seed: int, precision: Precision, engine: str):
        """Raises RequestError if a parameter is unknown or not allowed, the network does not fit the data, or the
        seed is negative."""
        check_seed(seed)
        super().__init__(task.metric, task.mode, task.patience)
        self.task, self.seed = task, seed
        self.params = task.params_of(params)
        self.shape = task.shape_of(self.params)
        self._means = {"precision": precision, "engine": engine}

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Go on with other parameters. Raises RequestError if one is unknown or not allowed, or the shape would be
        another; the course is then as it was."""
        wanted = self.task.params_of(params)
        here, there = asdict(self.shape), asdict(self.task.shape_of(wanted))
        for name, value in here.items():
            if there[name] != value:
                raise RequestError(
                    f"{name}: {brief(there[name])} makes another program; allowed while a trial runs: {brief(value)}"
                )
        self.params = wanted

    @property
    def _architecture(self) -> dict[str, Any]:
        """The shape as JSON has it."""
        described: dict[str, Any] = json.loads(json.dumps(asdict(self.shape)))
        return described

    def hyperparameters(self) -> dict[str, float]:
        """What the next epoch trains with: the parameters, the learning rate as its schedule has it."""
        return self.params.hyperparameters_of_epoch(self.epochs_done, self.task.epochs, self.n_stale)

    def order(self) -> NDArray[np.int32]:
        """The training examples of the next epoch in the order in which they are seen."""
        return np.random.default_rng([self.seed, self.epochs_done + 1]).permutation(self.task.train)

    def write(self, folder: Path, *, weights: Weights, slots: Weights, best: Weights) -> None:
        """Write the running trial into ``folder``."""
        facts = {
            "fingerprint": self.task.facts["fingerprint"],
            "architecture": self._architecture,
            **self._means,
            "params": asdict(self.params),
            "seed": self.seed,
            "epochs_done": self.epochs_done,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
        }
        parts = {"weight": weights, "slot": slots, "best": best}
        arrays = {f"{part}/{name}": array for part, found in parts.items() for name, array in found.items()}
        write_state(folder, _STATE_NAME, arrays, facts)

    def read(self, folder: Path, sizes: Sizes) -> tuple[Weights, Weights, Weights]:
        """Weights, of these ``sizes``, slots and best weights that :meth:`write` wrote; counts epochs from there.

        Raises
        ------
        ConflictError
            If it was written for other data, another shape or another way of computing; TrainerError if the
            files are damaged.
        """
        arrays, facts = read_state(folder, _STATE_NAME)
        fingerprint = self.task.facts["fingerprint"]
        mine = {"fingerprint": fingerprint, "architecture": self._architecture, **self._means}
        for key, here in mine.items():
            if facts.get(key) != here:
                raise ConflictError(f"{folder}: {key} is {facts.get(key)!r}; allowed: {here!r}, that of this trial")
        parts: dict[str, dict[str, NDArray[np.float32]]] = {"weight": {}, "slot": {}, "best": {}}
        try:
            for key, array in arrays.items():
                part, _, name = key.partition("/")
                parts[part][name] = array
            _check_sizes(parts["weight"], sizes)
            self.epochs_done, self.best_epoch = facts["epochs_done"], facts["best_epoch"]
            self.best_value = facts["best_value"]
        except (KeyError, ValueError) as error:
            raise damaged(folder, error) from error
        return parts["weight"], parts["slot"], parts["best"]

    def write_best(self, folder: Path, best: Weights) -> Path:
        """Write the best epoch as ``weights.npz`` and ``weights.json``; the path of the first.

        The arrays stand in the order of ``set_weights`` of a Keras ``Sequential`` with the same layers.
        """
        self.check_trained()
        facts = {
            "trainer": self.params.trainer,
            "architecture": self._architecture,
            **self._means,
            **self.task.facts,
            "params": asdict(self.params),
            "seed": self.seed,
            "epoch": self.best_epoch,
            "metric": self.task.metric,
            "value": self.best_value,
        }
        return write_state(folder, WEIGHTS_NAME, best, facts)


def damaged(folder: Path, error: Exception) -> TrainerError:
    """What to raise for a checkpoint with something missing."""
    return TrainerError(f"{folder}: is no whole checkpoint of a trial ({error}); reset the trainer")


def check_seed(seed: int) -> None:
    """Raises RequestError if ``seed`` is negative."""
    if seed < 0:
        raise RequestError(f"seed: {seed} is not allowed; allowed: a whole number from 0")


def check_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raises RequestError if ``value`` is none of those."""
    if value not in allowed:
        raise RequestError(f"{name}: {brief(value)} is not allowed; allowed: {', '.join(allowed)}")


def _check_sizes(weights: Weights, sizes: Sizes) -> None:
    for name, size in sizes.items():
        if weights[name].shape != size:
            raise ValueError(f"{name} has shape {weights[name].shape}")
