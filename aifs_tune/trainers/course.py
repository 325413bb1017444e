"""A CNN trial beside its weights: what it is to learn, how far it came, which epoch was best, and its files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images import ImageSet
from aifs_tune.errors import ConflictError, DataError, RequestError, TrainerError
from aifs_tune.scalars import Scalar, brief
from aifs_tune.trainers.checkpoint import WEIGHTS_NAME, read_state, write_state
from aifs_tune.trainers.cnn_params import METRICS, CnnParams, CnnShape, Precision
from aifs_tune.trainers.metrics import measure

Weights: TypeAlias = Mapping[str, NDArray[np.float32]]

_STATE_NAME = "state"


@dataclass(frozen=True)
class Task:
    """What all trials of a trainer share; the arguments of the same name in
    :class:`~aifs_tune.trainers.cnn.CnnTrainer`.

    Raises
    ------
    RequestError
        If a value is not allowed; DataError if nothing can be learnt or measured on ``images``.
    """

    images: ImageSet
    metric: str = "val_macro_f1"
    mode: Literal["max", "min"] = "max"
    patience: int | None = None
    class_weights: Literal["balanced", "none"] = "balanced"
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"

    def __post_init__(self) -> None:
        check_one_of("metric", self.metric, METRICS)
        check_one_of("precision", self.precision, ("auto", "float32", "mixed_bfloat16"))
        check_one_of("mode", self.mode, ("max", "min"))
        check_one_of("class_weights", self.class_weights, ("balanced", "none"))
        if self.patience is not None and self.patience < 1:
            raise RequestError(f"patience: {self.patience} is not allowed; allowed: a whole number from 1, or none")
        if len(self.images.train) == 0:
            raise DataError("train: no images; allowed: at least one image to train on")
        classes = np.unique(self.images.labels[self.images.val])
        if len(classes) < 2:
            raise DataError(
                f"val: images of {len(classes)} class(es); allowed: at least two, or no metric says anything"
            )

    def shape_of(self, params: CnnParams) -> CnnShape:
        """The shape of a network with ``params`` for these images."""
        return CnnShape.of(params, self.images.shape, len(self.images.classes))

    def weights_of_classes(self) -> NDArray[np.float32]:
        """Balanced as in King and Zeng (2001): each class of the training part has the same total weight, the mean
        is 1."""
        images = self.images
        counts = np.bincount(images.labels[images.train], minlength=len(images.classes))
        if self.class_weights == "none":
            return np.ones(len(counts), np.float32)
        return (len(images.train) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)

    def measure(self, part: str, log_probabilities: NDArray[np.float32]) -> dict[str, float]:
        """What the logarithms, shape (n, classes), of the images of ``part`` are worth: ``val_loss`` and so on."""
        labels = self.images.labels[getattr(self.images, part)]
        return {f"{part}_{name}": value for name, value in measure(labels, log_probabilities).items()}


class Course:
    """One trial of a task."""

    def __init__(self, task: Task, params: Mapping[str, Scalar], *, seed: int, precision: Precision, engine: str):
        """Raises RequestError if a parameter is unknown or not allowed, the network does not fit the images, or the
        seed is negative."""
        if seed < 0:
            raise RequestError(f"seed: {seed} is not allowed; allowed: a whole number from 0")
        self.task, self.seed = task, seed
        self.params = CnnParams.from_mapping(params)
        self.shape = task.shape_of(self.params)
        self._means = {"precision": precision, "engine": engine}
        self.epochs_done = 0
        self.best_epoch: int | None = None
        """Counted from 1; None before the first finite value."""
        self.best_value: float | None = None

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        patience = self.task.patience
        return patience is not None and self.epochs_done - (self.best_epoch or 0) >= patience

    def order(self) -> NDArray[np.int32]:
        """The training images of the next epoch in the order in which they are seen."""
        return np.random.default_rng([self.seed, self.epochs_done + 1]).permutation(self.task.images.train)

    def finish_epoch(self, metrics: Mapping[str, float]) -> bool:
        """Count an epoch; whether it is the best so far."""
        self.epochs_done += 1
        value, sign = metrics[self.task.metric], 1 if self.task.mode == "max" else -1
        is_best = math.isfinite(value) and (self.best_value is None or sign * value > sign * self.best_value)
        if is_best:
            self.best_epoch, self.best_value = self.epochs_done, value
        return is_best

    def check_trained(self) -> None:
        """Raises TrainerError if no epoch had a finite value yet."""
        if self.best_epoch is None:
            raise TrainerError(f"no epoch of {self.epochs_done} has a finite {self.task.metric}, so none is best")

    def write(self, folder: Path, *, weights: Weights, slots: Weights, best: Weights) -> None:
        """Write the running trial into ``folder``."""
        facts = {
            "fingerprint": self.task.images.fingerprint,
            "architecture": asdict(self.shape),
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

    def read(self, folder: Path) -> tuple[Weights, Weights, Weights]:
        """Weights, slots and best weights that :meth:`write` wrote; counts epochs from there.

        Raises
        ------
        ConflictError
            If it was written for other images, another shape or another way of computing; TrainerError if the
            files are damaged.
        """
        arrays, facts = read_state(folder, _STATE_NAME)
        described = asdict(self.shape) | {"image": list(self.shape.image)}
        mine = {"fingerprint": self.task.images.fingerprint, "architecture": described, **self._means}
        for key, here in mine.items():
            if facts.get(key) != here:
                raise ConflictError(f"{folder}: {key} is {facts.get(key)!r}; allowed: {here!r}, that of this trial")
        parts: dict[str, dict[str, NDArray[np.float32]]] = {"weight": {}, "slot": {}, "best": {}}
        try:
            for key, array in arrays.items():
                part, _, name = key.partition("/")
                parts[part][name] = array
            _check_sizes(parts["weight"], self.shape)
            self.epochs_done, self.best_epoch = facts["epochs_done"], facts["best_epoch"]
            self.best_value = facts["best_value"]
        except (KeyError, ValueError) as error:
            raise damaged(folder, error) from error
        return parts["weight"], parts["slot"], parts["best"]

    def write_best(self, folder: Path, best: Weights) -> Path:
        """Write the best epoch as ``weights.npz`` and ``weights.json``; the path of the first.

        :func:`~aifs_tune.trainers.classifier.load_classifier` reads them. The arrays stand in the order of
        ``set_weights`` of a Keras ``Sequential`` with the same layers.
        """
        self.check_trained()
        facts = {
            "architecture": asdict(self.shape),
            **self._means,
            "classes": list(self.task.images.classes),
            "params": asdict(self.params),
            "seed": self.seed,
            "epoch": self.best_epoch,
            "metric": self.task.metric,
            "value": self.best_value,
            "fingerprint": self.task.images.fingerprint,
        }
        return write_state(folder, WEIGHTS_NAME, best, facts)


def damaged(folder: Path, error: Exception) -> TrainerError:
    """What to raise for a checkpoint with something missing."""
    return TrainerError(f"{folder}: is no whole checkpoint of a cnn trial ({error}); reset the trainer")


def check_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raises RequestError if ``value`` is none of those."""
    if value not in allowed:
        raise RequestError(f"{name}: {brief(value)} is not allowed; allowed: {', '.join(allowed)}")


def _check_sizes(weights: Weights, shape: CnnShape) -> None:
    for name, size in shape.weight_shapes.items():
        if weights[name].shape != size:
            raise ValueError(f"{name} has shape {weights[name].shape}")
