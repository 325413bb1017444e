"""The CNN trainer: one warm object that trains one configuration after another on one image set."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images import ImageSet
from aifs_tune.errors import DataError, RequestError
from aifs_tune.scalars import Scalar
from aifs_tune.trainers.cnn_params import CnnParams, CnnShape
from aifs_tune.trainers.course import Course, Task, Weights, check_one_of, damaged
from aifs_tune.trainers.program import Pass, Program
from aifs_tune.trainers.runtime import configure, native_precision, resident

KEPT_PROGRAMS = 8
KEPT_BYTES = 2**30
"""Programs beyond either are dropped, the longest unused first; the current one is always kept. As that gives
back their weights only, a sweep's worker is replaced instead."""


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
        self._task = Task(images, metric, mode, patience, class_weights, precision)
        configure(threads)
        self.precision = native_precision() if precision == "auto" else precision
        self._class_weights = self._task.weights_of_classes()
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
            shape = self._task.shape_of(CnnParams.from_mapping(params))
        except RequestError:
            return False
        if shape in self._programs:
            return False
        return len(self._programs) >= KEPT_PROGRAMS or self._n_bytes() > KEPT_BYTES

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        return self._course.is_finished

    @property
    def epochs_done(self) -> int:
        """Epochs of the running trial."""
        return self._course.epochs_done

    @property
    def best_epoch(self) -> int | None:
        """Counted from 1; None before the first finite value."""
        return self._course.best_epoch

    @property
    def best_value(self) -> float | None:
        """The metric at the best epoch."""
        return self._course.best_value

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial; compiles only if no kept program has the shape of ``params``.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, the network does not fit the images, or the seed is negative.
        """
        self._course = Course(self._task, params, seed=seed, precision=self.precision, engine="tensorflow")
        self._program = self._program_of(self._course.shape)
        self._program.start(seed)
        self._best: Weights = {}

    def epoch(self) -> dict[str, float]:
        """Train one epoch and measure it on the validation part: ``METRICS``; empty if already finished.

        Values are NaN or infinite where the training diverged.
        """
        if self.is_finished:
            return {}
        course = self._course
        now = Pass(course.order(), course.epochs_done, course.seed, course.params.knobs(), self._class_weights)
        with self._timed("train"):
            loss, accuracy = self._program.train(self._images, self._labels, now)
        metrics = {"loss": loss, "accuracy": accuracy, **self._measure("val")}
        if course.finish_epoch(metrics):
            self._best = self._program.network.values()
        return metrics

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Measure the best epoch on one part, without augmentation: ``test_loss``, ``test_accuracy`` and so on.

        Raises
        ------
        RequestError
            If there is no such part, or it has no images; TrainerError if no epoch was trained yet.
        """
        check_one_of("part", part, ("train", "val", "test"))
        if len(getattr(self._task.images, part)) == 0:
            raise DataError(f"part: {part!r} has no images; allowed: a part with images")
        with self._best_weights():
            return self._measure(part)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of the best epoch, shape (n, classes), of uint8 images (n, height, width, channels)."""
        with self._best_weights():
            return self._program.network.probabilities(images)

    def save(self, folder: Path) -> None:
        """Write the running trial into ``folder``."""
        weights, slots = self._program.network.values(), self._program.slots()
        self._course.write(folder, weights=weights, slots=slots, best=self._best)

    def load(self, folder: Path) -> None:
        """Continue from what :meth:`save` wrote, after a reset with parameters of the same shape.

        Raises
        ------
        ConflictError
            If it was written for other images or another shape; TrainerError if the files are damaged.
        """
        weights, slots, best = self._course.read(folder)
        try:
            self._program.network.assign(weights)
            self._program.assign_slots(slots)
        except (KeyError, ValueError) as error:
            raise damaged(folder, error) from error
        self._best = best

    def save_best(self, folder: Path) -> Path:
        """Write the best epoch into ``folder`` as ``weights.npz`` and ``weights.json``; the path of the first.

        :func:`~aifs_tune.trainers.classifier.load_classifier` reads them.

        Raises
        ------
        TrainerError
            If no epoch had a finite value yet.
        """
        return self._course.write_best(folder, self._best)

    def _measure(self, part: str) -> dict[str, float]:
        with self._timed("evaluate"):
            picked: NDArray[np.int32] = getattr(self._task.images, part)
            return self._task.measure(part, self._program.network.log_probabilities(self._images, picked))

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        traced, began = self.n_traces, time.perf_counter()
        try:
            yield
        finally:
            self._spent["trace" if self.n_traces > traced else what] += time.perf_counter() - began

    @contextmanager
    def _best_weights(self) -> Iterator[None]:
        self._course.check_trained()
        current = self._program.network.values()
        self._program.network.assign(self._best)
        try:
            yield
        finally:
            self._program.network.assign(current)

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
