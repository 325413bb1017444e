"""Optimizers made of TensorFlow's fused operations, with every hyperparameter a tensor.

A Keras optimizer needs several operations for each weight, and its hyperparameters belong to the optimizer object;
these optimizers take them as arguments of each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from aifs_tune.trainers.network.network import is_kernel, is_pretrained
from aifs_tune.trainers.network.params import BETA1, BETA2, EPSILON, Optimizer
from aifs_tune.trainers.network.runtime import tf


class TrialOptimizer(Protocol):
    """Optimizer of the weights of one trial after another; ``slots`` are its state, 0 at the start of a trial."""

    slots: dict[str, Any]

    def apply(self, gradients: Mapping[str, Any], step: Any, hyperparameters: Mapping[str, Any]) -> None:
        """Update all weights; ``step`` counts the updates of a trial from 1, ``hyperparameters`` are scalar tensors."""
        ...


def make_optimizer(optimizer: Optimizer, weights: Mapping[str, Any]) -> TrialOptimizer:
    """Make the optimizer of this name for ``weights``."""
    if optimizer == "sgd":
        return Momentum(weights)
    return Adam(weights, is_decoupled=optimizer == "adamw")


class Adam:
    """Adam (Kingma and Ba 2015, the variant at the end of section 2) with weight decay of the kernels.

    Decoupled weight decay, as in Loshchilov and Hutter (2019), algorithm 2 line 12, shrinks a kernel by
    ``learning_rate * weight_decay`` of itself at each step; otherwise ``weight_decay`` times the kernel is added to
    its gradient.
    """

    def __init__(self, weights: Mapping[str, Any], *, is_decoupled: bool) -> None:
        self._weights = weights
        self._is_decoupled = is_decoupled
        self.slots = _zeros("m", weights) | _zeros("v", weights)

    def apply(self, gradients: Mapping[str, Any], step: Any, hyperparameters: Mapping[str, Any]) -> None:
        """Update all weights once."""
        count = tf.cast(step, tf.float32)
        decay = hyperparameters["weight_decay"]
        for name, weight in self._weights.items():
            gradient, rate = gradients[name], _rate(name, hyperparameters)
            if is_kernel(name) and self._is_decoupled:
                _shrink(weight, rate * decay)
            elif is_kernel(name):
                gradient = _with_l2(gradient, weight, decay)
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=self.slots[f"m.{name}"].handle,
                v=self.slots[f"v.{name}"].handle,
                beta1_power=tf.pow(BETA1, count),
                beta2_power=tf.pow(BETA2, count),
                lr=rate,
                beta1=BETA1,
                beta2=BETA2,
                epsilon=EPSILON,
                grad=gradient,
            )


class Momentum:
    """Gradient descent with momentum; ``weight_decay`` times the kernel is added to its gradient."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self._weights = weights
        self.slots = _zeros("momentum", weights)

    def apply(self, gradients: Mapping[str, Any], step: Any, hyperparameters: Mapping[str, Any]) -> None:
        """Update all weights once."""
        del step
        for name, weight in self._weights.items():
            gradient = gradients[name]
            if is_kernel(name):
                gradient = _with_l2(gradient, weight, hyperparameters["weight_decay"])
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=weight.handle,
                accum=self.slots[f"momentum.{name}"].handle,
                lr=_rate(name, hyperparameters),
                grad=gradient,
                momentum=hyperparameters["momentum"],
            )


def _rate(name: str, hyperparameters: Mapping[str, Any]) -> Any:
    return hyperparameters["learning_rate"] * (hyperparameters["backbone_rate"] if is_pretrained(name) else 1.0)


def _zeros(slot: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{slot}.{name}": tf.Variable(tf.zeros_like(weight)) for name, weight in weights.items()}


def _with_l2(gradient: Any, weight: Any, decay: Any) -> Any:
    # Reading a large kernel once more costs as much as its update, so it is skipped without decay.
    return tf.cond(decay > 0, lambda: gradient + decay * weight, lambda: gradient)


def _shrink(weight: Any, share: Any) -> None:
    def subtract() -> bool:
        # the handle is that of this device, if the trial runs on several
        tf.raw_ops.AssignSubVariableOp(resource=weight.handle, value=weight * share)
        return True

    tf.cond(share > 0, subtract, lambda: False)
