"""Loss functions of the compiled training step, with the augmentation of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np

from aifs_tune.trainers.augment.images import cutmix, larger_share
from aifs_tune.trainers.network.ops import numbered, split, uniform, when
from aifs_tune.trainers.network.runtime import keras
from aifs_tune.trainers.predictions import LEVELS, MEDIAN

Hyperparameters = Mapping[str, Any]
"""Scalar tensors by the name of their hyperparameter."""

_MIN_ERROR = 1e-7
"""Smallest 1 - probability in the focal loss; a power of 0 has no gradient."""


class LossFunction(Protocol):
    """Loss of a batch inside the compiled step; the ``y_true`` of a loss are those that :meth:`prepare` returns."""

    def prepare(
        self, inputs: Any, y_true: Any, weights: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any]:
        """Augment inputs and targets of a batch; ``weights`` (n,) are those of the examples."""
        ...

    def compute_loss(self, outputs: Any, y_true: Any, hyperparameters: Hyperparameters) -> Any:
        """Weighted loss of each example, shape (n,)."""
        ...

    def scores(self, outputs: Any, y_true: Any) -> Any:
        """Second metric of each training example beside the loss, shape (n,)."""
        ...


class ClassificationLoss:
    """Cross-entropy of integer labels; ``augment`` changes inputs by their hyperparameters and a seed.

    With label smoothing (Szegedy et al. 2016), focal loss (Lin et al. 2017, eq. 4 without alpha), mixup (Zhang et al.
    2018) with a random share for each example, and CutMix of images (Yun et al. 2019). With mixup and CutMix, each is
    applied to half of the examples. Inputs of several tensors have no mixup, and no hyperparameter of this name.
    """

    def __init__(self, augment: Callable[[Any, Hyperparameters, Any], Any] | None = None) -> None:
        self._augment = augment

    def prepare(
        self, inputs: Any, y_true: Any, weights: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any]:
        """Augment and mix the inputs; ``y_true`` becomes both labels, the share of the first, and both weights."""
        seeds = split(seed, 3)
        if self._augment is not None:
            inputs = self._augment(inputs, hyperparameters, seeds[0])
        n = y_true.shape[0]
        if "mixup" not in hyperparameters:
            return inputs, (y_true, y_true, keras.ops.ones(n), weights, weights)
        inputs, share = mixed(inputs, n, hyperparameters, seeds)
        return inputs, (y_true, keras.ops.roll(y_true, 1, 0), share, weights, keras.ops.roll(weights, 1, 0))

    def compute_loss(self, outputs: Any, y_true: Any, hyperparameters: Hyperparameters) -> Any:
        """Weighted cross-entropy of each example, shape (n,)."""
        own, other, share, weights, other_weights = y_true
        mixed = share * weights * _cost(outputs, own, hyperparameters)
        return mixed + (1 - share) * other_weights * _cost(outputs, other, hyperparameters)

    def scores(self, outputs: Any, y_true: Any) -> Any:
        """1 where the prediction is the class with the larger share of an example, else 0."""
        return keras.ops.cast(keras.ops.argmax(outputs, 1) == y_true[0], "float32")


def mixed(inputs: Any, n: int, hyperparameters: Hyperparameters, seeds: Any) -> tuple[Any, Any]:
    """Inputs mixed with the example before each, and the share (n,) of the example itself, at least a half."""

    def blended() -> tuple[Any, Any]:
        near = larger_share(n, hyperparameters["mixup"], seeds[1])
        across = keras.ops.reshape(near, (n, *[1] * (len(inputs.shape) - 1)))
        return inputs * across + keras.ops.roll(inputs, 1, 0) * (1 - across), near

    mixed, share = when(hyperparameters["mixup"] > 0, blended, lambda: (inputs, keras.ops.ones(n)))
    if "cutmix" not in hyperparameters:
        return mixed, share

    def cut() -> tuple[Any, Any]:
        found, found_share = cutmix(inputs, hyperparameters["cutmix"], seeds[2])
        is_blended = (uniform((n,), numbered(seeds[2], 1)) < 0.5) & (hyperparameters["mixup"] > 0)
        return keras.ops.where(is_blended[:, None, None, None], mixed, found), keras.ops.where(
            is_blended, share, found_share
        )

    inputs, share = when(hyperparameters["cutmix"] > 0, cut, lambda: (mixed, share))
    return inputs, share


def _cost(logits: Any, labels: Any, hyperparameters: Hyperparameters) -> Any:
    sharp = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    even = keras.ops.logsumexp(logits, 1) - keras.ops.mean(logits, axis=1)
    unsure = keras.ops.maximum(1 - keras.ops.exp(-sharp), _MIN_ERROR)
    return keras.ops.power(unsure, hyperparameters["focal_gamma"]) * (
        sharp + hyperparameters["label_smoothing"] * (even - sharp)
    )


class RegressionLoss:
    """Errors of numbers, shape (n, targets), averaged over the targets that an example has: a missing one is NaN.

    The squared error, the absolute error, or that of Huber (1964), which is half the square up to 1 and linear above.
    ``augment`` changes inputs and targets by their hyperparameters and a seed. ``has_gaps`` says that targets are
    missing.
    """

    def __init__(
        self,
        loss: Literal["mse", "mae", "huber"],
        augment: Callable[[Any, Any, Hyperparameters, Any], tuple[Any, Any]] | None = None,
        *,
        has_gaps: bool = False,
    ) -> None:
        self._loss, self._augment, self._has_gaps = loss, augment, has_gaps

    def prepare(
        self, inputs: Any, y_true: Any, weights: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any]:
        """Augment inputs and targets; ``y_true`` becomes targets and weights."""
        if self._augment is not None:
            inputs, y_true = self._augment(inputs, y_true, hyperparameters, seed)
        return inputs, (y_true, weights)

    def compute_loss(self, outputs: Any, y_true: Any, hyperparameters: Hyperparameters) -> Any:
        """Weighted error of each example, shape (n,)."""
        del hyperparameters
        errors = keras.ops.abs(self._errors(outputs, y_true[0]))
        if self._loss == "mse":
            costs = errors**2
        elif self._loss == "mae":
            costs = errors
        else:
            costs = keras.ops.where(errors <= 1, 0.5 * errors**2, errors - 0.5)
        return y_true[1] * self._mean(costs, y_true[0])

    def scores(self, outputs: Any, y_true: Any) -> Any:
        """Absolute error, averaged over the targets that an example has."""
        return self._mean(keras.ops.abs(self._errors(outputs, y_true[0])), y_true[0])

    def _errors(self, outputs: Any, targets: Any) -> Any:
        """Outputs minus targets, shape (n, outputs); 0, without a gradient, where a target is missing."""
        if self._has_gaps:
            targets = keras.ops.where(keras.ops.isnan(targets), outputs, targets)
        return outputs - targets

    def _mean(self, costs: Any, targets: Any) -> Any:
        """Mean over the targets that each example has, shape (n,)."""
        if not self._has_gaps:
            return keras.ops.mean(costs, axis=1)
        n_known = keras.ops.sum(keras.ops.cast(~keras.ops.isnan(targets), costs.dtype), axis=1)
        return keras.ops.sum(costs, axis=1) / keras.ops.maximum(n_known, 1)


class ClassesAndValuesLoss:
    """Cross-entropy of labels plus ``values_weight`` times the error of numbers, of one network with outputs for both.

    The targets have the shape (n, 1 + targets), the label first; the outputs (n, classes + targets), the logits first.
    ``values`` augments inputs and numbers. An example that is mixed with another learns the numbers of both, in the
    shares of their labels.
    """

    def __init__(self, values: RegressionLoss, n_classes: int) -> None:
        self._classes, self._values, self._n_classes = ClassificationLoss(), values, n_classes

    def prepare(
        self, inputs: Any, y_true: Any, weights: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any]:
        """Augment and mix; ``y_true`` becomes that of the labels, and the numbers of an example and of its partner."""
        seeds = split(seed, 2)
        labels, numbers = keras.ops.cast(y_true[:, 0], "int32"), y_true[:, 1:]
        inputs, (numbers, _) = self._values.prepare(inputs, numbers, weights, hyperparameters, seeds[0])
        inputs, of_labels = self._classes.prepare(inputs, labels, weights, hyperparameters, seeds[1])
        return inputs, (of_labels, numbers, keras.ops.roll(numbers, 1, 0))

    def compute_loss(self, outputs: Any, y_true: Any, hyperparameters: Hyperparameters) -> Any:
        """Weighted sum of both losses of each example, shape (n,)."""
        of_labels, numbers, other_numbers = y_true
        _, _, share, weights, other_weights = of_labels
        logits, values = outputs[:, : self._n_classes], outputs[:, self._n_classes :]
        errors = self._values.compute_loss(values, (numbers, share * weights), hyperparameters)
        errors += self._values.compute_loss(values, (other_numbers, (1 - share) * other_weights), hyperparameters)
        cost = self._classes.compute_loss(logits, of_labels, hyperparameters)
        return cost + hyperparameters["values_weight"] * errors

    def scores(self, outputs: Any, y_true: Any) -> Any:
        """1 where the predicted class is right, as of :class:`ClassificationLoss`."""
        return self._classes.scores(outputs[:, : self._n_classes], y_true[0])


class QuantileLoss(RegressionLoss):
    """Pinball loss (Koenker and Bassett 1978) of quantiles (n, levels) of one number, averaged over the levels.

    An output that is too low by d costs level * d, one that is too high by d costs (1 - level) * d: the least mean cost
    has the quantile at this level. Other parameters are those of :class:`RegressionLoss`.
    """

    def __init__(
        self,
        augment: Callable[[Any, Any, Hyperparameters, Any], tuple[Any, Any]] | None = None,
        *,
        has_gaps: bool = False,
    ) -> None:
        super().__init__("mae", augment, has_gaps=has_gaps)

    def compute_loss(self, outputs: Any, y_true: Any, hyperparameters: Hyperparameters) -> Any:
        """Weighted pinball loss of each example, shape (n,)."""
        del hyperparameters
        errors, levels = self._errors(outputs, y_true[0]), np.array(LEVELS, np.float32)
        return y_true[1] * keras.ops.mean(keras.ops.maximum((1 - levels) * errors, -levels * errors), axis=1)

    def scores(self, outputs: Any, y_true: Any) -> Any:
        """Absolute error of the median."""
        return super().scores(outputs[:, MEDIAN : MEDIAN + 1], y_true)
