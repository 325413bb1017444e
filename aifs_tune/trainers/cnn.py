"""The CNN trainer: one warm object that trains one configuration after another on one image set."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images import ImageSet
from aifs_tune.errors import ConflictError, DataError, RequestError, TrainerError
from aifs_tune.scalars import Scalar, brief
from aifs_tune.trainers.checkpoint import read_state, write_state
from aifs_tune.trainers.classifier import WEIGHTS_NAME
from aifs_tune.trainers.cnn_params import METRICS, CnnParams, CnnShape
from aifs_tune.trainers.metrics import measure
from aifs_tune.trainers.program import Pass, Program
from aifs_tune.trainers.runtime import configure, native_precision, resident

KEPT_PROGRAMS = 8
KEPT_BYTES = 2**30
"""Programs beyond either are dropped, the longest unused first; the current one is always kept. As that gives
back their weights only, a sweep's worker is replaced instead."""

_STATE_NAME = "state"


class CnnTrainer:
    """Trains a CNN on ``images``; usable alone, or as the trainer of a sweep.

    Parameters
    ----------
    images
        Every class counts by its share of the training part if ``class_weights`` is ``"balanced"``.
    params
        Any of :class:`~aifs_tune.trainers.cnn_params.CnnParams`; absent ones have their default.
    metric, mode
        One of ``METRICS``; decides which epoch is best. A value that is not finite is never best.
    patience
        Epochs without a better value after which the trial is finished; None for no limit.
    precision
        Of the convolutions; ``"auto"`` is mixed bfloat16 where the hardware has it.
    threads
        CPU threads of TensorFlow; without effect if it already runs in this process.

    Raises
    ------
    RequestError
        If an argument or parameter is not allowed; DataError if nothing can be learnt or measured on ``images``.
    """

    def __init__(
        self,
        images: ImageSet,
        params: Mapping[str, Scalar] | None = None,
        *,
        seed: int = 0,
        metric: str = "val_macro_f1",
        mode: Literal["max", "min"] = "max",
        patience: int | None = None,
        class_weights: Literal["balanced", "none"] = "balanced",
        precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto",
        threads: int | None = None,
    ) -> None:
        _check_one_of("metric", metric, METRICS)
        _check_one_of("precision", precision, ("auto", "float32", "mixed_bfloat16"))
        _check_one_of("mode", mode, ("max", "min"))
        _check_one_of("class_weights", class_weights, ("balanced", "none"))
        if patience is not None and patience < 1:
            raise RequestError(f"patience: {patience} is not allowed; allowed: a whole number from 1, or none")
        _check_images(images)
        configure(threads)
        self.precision = native_precision() if precision == "auto" else precision
        self._set = images
        self._metric, self._sign, self._patience = metric, 1 if mode == "max" else -1, patience
        self._class_weights = weights_of_classes(images, is_balanced=class_weights == "balanced")
        self._images, self._labels = resident(images.images), resident(images.labels)
        self._programs: OrderedDict[CnnShape, Program] = OrderedDict()
        self._dropped_traces = 0
        self._spent = {"trace": 0.0, "train": 0.0, "evaluate": 0.0}
        self.n_programs = 0
        """Programs compiled so far. A dropped one gives back its weights, not all of its memory."""
        self.reset(params or {}, seed=seed)

    @property
    def n_traces(self) -> int:
        """Functions traced so far: two for each program, one to train and one to evaluate."""
        return self._dropped_traces + sum(program.n_traces for program in self._programs.values())

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds so far by what they went into: ``trace`` (a program, compiled at its first epoch and part), ``train``
        and ``evaluate``."""
        return self._spent

    def wears_out(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a trial with ``params`` would drop a program: better to begin it in a new process."""
        try:
            shape = CnnShape.of(CnnParams.from_mapping(params), self._set.shape, len(self._set.classes))
        except RequestError:
            return False
        if shape in self._programs:
            return False
        return len(self._programs) >= KEPT_PROGRAMS or self._n_bytes() > KEPT_BYTES

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        return self._patience is not None and self.epochs_done - (self.best_epoch or 0) >= self._patience

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial; compiles only if no kept program has the shape of ``params``.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, the network does not fit the images, or the seed is negative.
        """
        if seed < 0:
            raise RequestError(f"seed: {seed} is not allowed; allowed: a whole number from 0")
        checked = CnnParams.from_mapping(params)
        self._program = self._program_of(CnnShape.of(checked, self._set.shape, len(self._set.classes)))
        self._params, self._seed = checked, seed
        self._program.start(seed)
        self.epochs_done = 0
        self.best_epoch: int | None = None
        """Counted from 1; None before the first finite value."""
        self.best_value: float | None = None
        self._best: dict[str, NDArray[np.float32]] = {}

    def epoch(self) -> dict[str, float]:
        """Train one epoch and measure it on the validation part: ``METRICS``; empty if already finished.

        Values are NaN or infinite where the training diverged.
        """
        if self.is_finished:
            return {}
        order = np.random.default_rng([self._seed, self.epochs_done + 1]).permutation(self._set.train)
        now = Pass(order, self.epochs_done, self._seed, self._params.knobs(), self._class_weights)
        with self._timed("train"):
            loss, accuracy = self._program.train(self._images, self._labels, now)
        metrics = {"loss": loss, "accuracy": accuracy, **self._measure("val", self._set.val)}
        self.epochs_done += 1
        self._keep_if_best(metrics[self._metric])
        return metrics

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Measure the best epoch on one part, without augmentation: ``test_loss``, ``test_accuracy`` and so on.

        Raises
        ------
        RequestError
            If there is no such part, or it has no images; TrainerError if no epoch was trained yet.
        """
        _check_one_of("part", part, ("train", "val", "test"))
        picked: NDArray[np.int32] = getattr(self._set, part)
        if len(picked) == 0:
            raise DataError(f"part: {part!r} has no images; allowed: a part with images")
        with self._best_weights():
            return self._measure(part, picked)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of the best epoch, shape (n, classes), of uint8 images (n, height, width, channels)."""
        with self._best_weights():
            return self._program.network.probabilities(images)

    def save(self, folder: Path) -> None:
        """Write the running trial into ``folder``."""
        facts = {
            "fingerprint": self._set.fingerprint,
            "architecture": asdict(self._program.shape),
            "precision": self.precision,
            "params": asdict(self._params),
            "seed": self._seed,
            "epochs_done": self.epochs_done,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
        }
        parts = {"weight": self._program.network.values(), "slot": self._program.slots(), "best": self._best}
        arrays = {f"{part}/{name}": array for part, found in parts.items() for name, array in found.items()}
        write_state(folder, _STATE_NAME, arrays, facts)

    def load(self, folder: Path) -> None:
        """Continue from what :meth:`save` wrote, after a reset with parameters of the same shape.

        Raises
        ------
        ConflictError
            If it was written for other images or another shape; TrainerError if the files are damaged.
        """
        arrays, facts = read_state(folder, _STATE_NAME)
        described = asdict(self._program.shape) | {"image": list(self._program.shape.image)}
        mine = {"fingerprint": self._set.fingerprint, "architecture": described, "precision": self.precision}
        for key, here in mine.items():
            if facts.get(key) != here:
                raise ConflictError(f"{folder}: {key} is {facts.get(key)!r}; allowed: {here!r}, that of this trial")
        parts: dict[str, dict[str, NDArray[np.float32]]] = {"weight": {}, "slot": {}, "best": {}}
        try:
            for key, array in arrays.items():
                part, _, name = key.partition("/")
                parts[part][name] = array
            self._program.network.assign(parts["weight"])
            self._program.assign_slots(parts["slot"])
            self.epochs_done, self.best_epoch = facts["epochs_done"], facts["best_epoch"]
            self.best_value, self._best = facts["best_value"], parts["best"]
        except (KeyError, ValueError) as error:
            raise TrainerError(
                f"{folder}: is no whole checkpoint of a cnn trial ({error}); reset the trainer"
            ) from error

    def save_best(self, folder: Path) -> Path:
        """Write the best epoch into ``folder`` as ``weights.npz`` and ``weights.json``; the path of the first.

        :func:`~aifs_tune.trainers.classifier.load_classifier` reads them. The arrays stand in the order of
        ``set_weights`` of a Keras ``Sequential`` with the same layers.

        Raises
        ------
        TrainerError
            If no epoch had a finite value yet.
        """
        self._check_trained()
        facts = {
            "architecture": asdict(self._program.shape),
            "precision": self.precision,
            "classes": list(self._set.classes),
            "params": asdict(self._params),
            "seed": self._seed,
            "epoch": self.best_epoch,
            "metric": self._metric,
            "value": self.best_value,
            "fingerprint": self._set.fingerprint,
        }
        return write_state(folder, WEIGHTS_NAME, self._best, facts)

    def _measure(self, part: str, picked: NDArray[np.int32]) -> dict[str, float]:
        with self._timed("evaluate"):
            found = self._program.network.log_probabilities(self._images, picked)
            measured = measure(self._set.labels[picked], found)
        return {f"{part}_{name}": value for name, value in measured.items()}

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        traced, began = self.n_traces, time.perf_counter()
        try:
            yield
        finally:
            self._spent["trace" if self.n_traces > traced else what] += time.perf_counter() - began

    def _keep_if_best(self, value: float) -> None:
        if math.isfinite(value) and (self.best_value is None or self._sign * value > self._sign * self.best_value):
            self.best_epoch, self.best_value = self.epochs_done, value
            self._best = self._program.network.values()

    @contextmanager
    def _best_weights(self) -> Iterator[None]:
        self._check_trained()
        current = self._program.network.values()
        self._program.network.assign(self._best)
        try:
            yield
        finally:
            self._program.network.assign(current)

    def _check_trained(self) -> None:
        if self.best_epoch is None:
            raise TrainerError(f"no epoch of {self.epochs_done} has a finite {self._metric}, so none is best")

    def _program_of(self, shape: CnnShape) -> Program:
        if shape not in self._programs:
            began = time.perf_counter()
            self._programs[shape] = Program(shape, self.precision)
            self._spent["trace"] += time.perf_counter() - began
            self.n_programs += 1
        self._programs.move_to_end(shape)
        while len(self._programs) > KEPT_PROGRAMS or (len(self._programs) > 1 and self._n_bytes() > KEPT_BYTES):
            self._dropped_traces += self._programs.popitem(last=False)[1].n_traces
        return self._programs[shape]

    def _n_bytes(self) -> int:
        return sum(program.n_bytes for program in self._programs.values())


def _check_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise RequestError(f"{name}: {brief(value)} is not allowed; allowed: {', '.join(allowed)}")


def _check_images(images: ImageSet) -> None:
    if len(images.train) == 0:
        raise DataError("train: no images; allowed: at least one image to train on")
    classes = np.unique(images.labels[images.val])
    if len(classes) < 2:
        raise DataError(f"val: images of {len(classes)} class(es); allowed: at least two, or no metric says anything")


def weights_of_classes(images: ImageSet, *, is_balanced: bool) -> NDArray[np.float32]:
    """Balanced as in King and Zeng (2001): each class of the training part has the same total weight, the mean is 1."""
    counts = np.bincount(images.labels[images.train], minlength=len(images.classes))
    if not is_balanced:
        return np.ones(len(counts), np.float32)
    return (len(images.train) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)
