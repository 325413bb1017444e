"""State of a running trial besides its weights: task, finished epochs, best epoch, and checkpoint files."""

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

Keep: TypeAlias = Literal["best", "last"]
"""Which epoch's weights a trial keeps: that of the best value, or the newest one."""

_STATE_NAME = "state"


class Task(Protocol):
    """What all trials of a trainer share: the data, and the metric that decides which epoch is best."""

    @property
    def metric(self) -> str:
        """Metric that decides which epoch is best."""
        ...

    @property
    def mode(self) -> Literal["max", "min"]:
        """Direction of the metric."""
        ...

    @property
    def patience(self) -> int | None:
        """Epochs without a better value after which a trial is finished; None for no limit."""
        ...

    @property
    def epochs(self) -> int:
        """Largest number of epochs of a trial, where a schedule of the learning rate ends."""
        ...

    @property
    def keep(self) -> Keep:
        """Which epoch's weights are kept."""
        ...

    @property
    def train(self) -> NDArray[np.int32]:
        """Indices of the training examples."""
        ...

    def facts_of(self, shape: Any) -> Mapping[str, Any]:
        """Facts of the data that are stored with the weights of a network of ``shape``; one is ``fingerprint``."""
        ...

    def params_of(self, params: Mapping[str, Scalar]) -> TrainingParams:
        """Checked hyperparameters, with the defaults of missing ones."""
        ...

    def shape_of(self, params: Any) -> Any:
        """Shape of a network with ``params`` for the data.

        A frozen dataclass of all that a compiled program depends on; it has ``optimizer`` and ``batch_size``.
        """
        ...

    def measure(self, part: str, y_pred: NDArray[np.float32]) -> dict[str, float]:
        """Metrics, such as ``val_loss``, of the network's predictions for the examples of ``part``."""
        ...

    def predictions_of(self, part: str, y_pred: NDArray[np.float32]) -> Predictions:
        """Targets and predictions of the examples of ``part``."""
        ...


class BestEpochTracker:
    """Number of finished epochs, and the best one by ``metric``; a value that is not finite is never best.

    If the last epoch is kept (``keep``), the newest one with a finite value counts as the best.
    """

    def __init__(self, metric: str, mode: Literal["max", "min"], patience: int | None, keep: Keep = "best") -> None:
        self._metric, self._sign, self._patience, self._keep = metric, 1 if mode == "max" else -1, patience, keep
        self.epochs_done = 0
        self.best_epoch: int | None = None
        """Best epoch, counted from 1; None before the first finite value."""
        self.best_value: float | None = None
        self._reached: float | None = None
        self.n_stale = 0
        """Epochs since the last one with a better value than all before."""

    @property
    def is_finished(self) -> bool:
        """Whether the best epoch is ``patience`` epochs ago."""
        return self._patience is not None and self.n_stale >= self._patience

    def finish_epoch(self, metrics: Mapping[str, float]) -> bool:
        """Count an epoch; return whether it is the best so far."""
        self.epochs_done += 1
        value, sign = metrics[self._metric], self._sign
        is_finite = math.isfinite(value)
        is_better = is_finite and (self._reached is None or sign * value > sign * self._reached)
        self.n_stale = 0 if is_better else self.n_stale + 1
        if is_better:
            self._reached = value
        is_best = is_finite if self._keep == "last" else is_better
        if is_best:
            self.best_epoch, self.best_value = self.epochs_done, value
        return is_best

    def check_trained(self) -> None:
        """Raise TrainerError if no epoch had a finite value yet."""
        if self.best_epoch is None:
            reason = f"{self._metric} was not finite in any of {self.epochs_done} epochs"
            raise TrainerError(f"there is no best epoch: {reason if self.epochs_done else 'no epoch was trained yet'}")


class TrainState(BestEpochTracker):
    """State of one trial of a task."""

    def __init__(self, task: Task, params: Mapping[str, Scalar], *, seed: int, precision: Precision, engine: str):
        """Raise RequestError if params or seed are not allowed, or the network does not fit the data."""
        check_seed(seed)
        super().__init__(task.metric, task.mode, task.patience, task.keep)
        self.task, self.seed = task, seed
        self.params = task.params_of(params)
        self.shape = task.shape_of(self.params)
        self._engine = {"precision": precision, "engine": engine}

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Continue with other hyperparameters.

        Raises
        ------
        RequestError
            If a hyperparameter is unknown or not allowed, or changes the shape; the trial is then unchanged.
        """
        wanted = self.task.params_of(params)
        current, new = asdict(self.shape), asdict(self.task.shape_of(wanted))
        for name, value in current.items():
            if new[name] != value:
                raise RequestError(
                    f"{name}: {brief(new[name])} needs another program; allowed while a trial runs: {brief(value)}"
                )
        self.params = wanted

    @property
    def _architecture(self) -> dict[str, Any]:
        """Shape as JSON."""
        described: dict[str, Any] = json.loads(json.dumps(asdict(self.shape)))
        return described

    def hyperparameters(self) -> dict[str, float]:
        """Hyperparameters of the next epoch, with the scheduled learning rate."""
        return self.params.hyperparameters_of_epoch(self.epochs_done, self.task.epochs, self.n_stale)

    def order(self) -> NDArray[np.int32]:
        """Random order of the training examples in the next epoch."""
        return np.random.default_rng([self.seed, self.epochs_done + 1]).permutation(self.task.train)

    def write(self, folder: Path, *, weights: Weights, slots: Weights, best: Weights) -> None:
        """Write the running trial into ``folder``."""
        facts = {
            "fingerprint": self.task.facts_of(self.shape)["fingerprint"],
            "architecture": self._architecture,
            **self._engine,
            "params": asdict(self.params),
            "seed": self.seed,
            "epochs_done": self.epochs_done,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "reached": self._reached,
            "n_stale": self.n_stale,
        }
        parts = {"weight": weights, "slot": slots, "best": best}
        arrays = {f"{part}/{name}": array for part, found in parts.items() for name, array in found.items()}
        write_state(folder, _STATE_NAME, arrays, facts)

    def read(self, folder: Path, sizes: Sizes) -> tuple[Weights, Weights, Weights]:
        """Read weights, of these ``sizes``, optimizer state and best weights; continue from the epoch of the files.

        Raises
        ------
        ConflictError
            If the files belong to other data, another shape, precision or engine.
        TrainerError
            If the files are damaged or of another version.
        """
        arrays, facts = read_state(folder, _STATE_NAME)
        fingerprint = self.task.facts_of(self.shape)["fingerprint"]
        expected = {"fingerprint": fingerprint, "architecture": self._architecture, **self._engine}
        for key, value in expected.items():
            if facts.get(key) != value:
                raise ConflictError(f"{folder}: {key} is {facts.get(key)!r}; allowed: {value!r}, as in this trial")
        parts: dict[str, dict[str, NDArray[np.float32]]] = {"weight": {}, "slot": {}, "best": {}}
        try:
            for key, array in arrays.items():
                part, _, name = key.partition("/")
                parts[part][name] = array
            _check_sizes(parts["weight"], sizes)
            self.epochs_done, self.best_epoch = facts["epochs_done"], facts["best_epoch"]
            self.best_value, self._reached, self.n_stale = facts["best_value"], facts["reached"], facts["n_stale"]
        except (KeyError, ValueError) as error:
            raise damaged(folder, error) from error
        return parts["weight"], parts["slot"], parts["best"]

    def write_best(self, folder: Path, best: Weights) -> Path:
        """Write the weights of the best epoch as ``weights.npz`` and ``weights.json``; return the path of the first.

        The arrays have the order of ``set_weights`` of a Keras ``Sequential`` with the same layers.
        """
        self.check_trained()
        facts = {
            "trainer": self.params.trainer,
            "architecture": self._architecture,
            **self._engine,
            **self.task.facts_of(self.shape),
            "params": asdict(self.params),
            "seed": self.seed,
            "epoch": self.best_epoch,
            "metric": self.task.metric,
            "value": self.best_value,
        }
        return write_state(folder, WEIGHTS_NAME, best, facts)


def damaged(folder: Path, error: Exception) -> TrainerError:
    """Error for a checkpoint that is not complete."""
    return TrainerError(f"{folder} is not a complete checkpoint of a trial ({error}); reset the trainer")


def check_seed(seed: int) -> None:
    """Raise RequestError if ``seed`` is below 0."""
    if seed < 0:
        raise RequestError(f"seed: {seed} is not allowed; allowed: a whole number from 0")


def check_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise RequestError if ``value`` is not in ``allowed``."""
    if value not in allowed:
        raise RequestError(f"{name}: {brief(value)} is not allowed; allowed: {', '.join(allowed)}")


def _check_sizes(weights: Weights, sizes: Sizes) -> None:
    """Raise KeyError or ValueError if a weight is missing or has another shape."""
    for name, size in sizes.items():
        if weights[name].shape != size:
            raise ValueError(f"{name} has shape {weights[name].shape}")
