"""What can be tuned in a trial of a dense network on a table, and its tensor shapes. Loads no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.feature_selection import KEPT, n_kept, ranked_columns
from aifs_tune.trainers.network.examples import ExamplesNetwork, ExamplesTrainer
from aifs_tune.trainers.network.losses import Hyperparameters
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.params import (
    CLASS_LOSS,
    MOST_WEIGHTS,
    TRAINING,
    VALUE_LOSS,
    Loss,
    Optimizer,
    Precision,
    TrainingParams,
)
from aifs_tune.trainers.network.runtime import tf

ALLOWED: dict[str, Parameter] = {
    **TRAINING,
    **CLASS_LOSS,
    **VALUE_LOSS,
    "dropout": FloatParameter(low=0, high=0.999, description="Share of the units of each layer that a pass drops."),
    "noise": FloatParameter(low=0, high=10, description="Added to the inputs; in units of the spread of a column."),
    "kept_columns": KEPT,
    "layers": IntParameter(low=0, high=16, description="Dense layers before the output; 0 is a linear model."),
    "units": IntParameter(low=1, high=65536, description="Of each layer."),
}
"""What each parameter can be."""

STATIC_PARAMS = ("optimizer", "batch_size", "loss", "layers", "units")
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class MlpParams(TrainingParams):
    """One configuration of the dense network. The defaults are a common one: two layers of 64, dropout 0.5, Adam."""

    trainer: ClassVar[str] = "mlp"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    mixup: float = 0.0
    loss: Loss = "mse"
    dropout: float = 0.5
    noise: float = 0.0
    kept_columns: float = 1.0
    layers: int = 2
    units: int = 64


@dataclass(frozen=True)
class MlpShape:
    """All that a compiled program depends on."""

    n_inputs: int
    n_outputs: int
    is_classes: bool
    optimizer: Optimizer
    batch_size: int
    loss: Loss
    layers: int
    units: int

    @classmethod
    def of(cls, params: MlpParams, examples: ExampleSet) -> MlpShape:
        """The shape of ``params`` for examples of one input (n, columns).

        Raises
        ------
        RequestError
            If the network is too large.
        """
        n_outputs = len(examples.classes) or len(examples.targets)
        made = {name: getattr(params, name) for name in STATIC_PARAMS}
        shape = cls(examples.inputs[0].shape[1], n_outputs, bool(examples.classes), **made)
        n_weights = sum(a * b for a, b in pairwise(shape.widths))
        if n_weights > MOST_WEIGHTS:
            raise RequestError(
                f"layers, units: {shape.layers} and {shape.units} make a network of {n_weights:,} weights for "
                f"{shape.n_inputs} columns; allowed: at most {MOST_WEIGHTS:,}"
            )
        return shape

    @property
    def widths(self) -> list[int]:
        """Numbers between the layers, from inputs to outputs."""
        return [self.n_inputs, *[self.units] * self.layers, self.n_outputs]


KEPT_SCALE = "columns.scale"
"""The state that multiplies the columns: 0 for those that a trial leaves out."""


class MlpNetwork(ExamplesNetwork):
    """From one input (n, columns), float32, to logits (n, classes) or scaled numbers (n, targets)."""

    def __init__(self, shape: MlpShape, precision: Precision) -> None:
        sizes: dict[str, tuple[int, ...]] = {}
        for layer, (before, after) in enumerate(pairwise(shape.widths)):
            sizes |= {f"dense{layer}.kernel": (before, after), f"dense{layer}.bias": (after,)}
        super().__init__(shape, precision, sizes, {KEPT_SCALE: (shape.n_inputs,)})

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        del is_training
        values = inputs * self.states[KEPT_SCALE]
        for layer in range(self._shape.layers):
            wide = tf.matmul(tf.cast(values, self._dtype), self._weight(f"dense{layer}.kernel"))
            values = drop(tf.nn.relu(tf.cast(wide, tf.float32) + self.weights[f"dense{layer}.bias"]))
        last = self._shape.layers
        return tf.matmul(values, self.weights[f"dense{last}.kernel"]) + self.weights[f"dense{last}.bias"]

    def seen(self, raw: Any) -> Any:
        return raw[0]


class MlpTrainer(ExamplesTrainer):
    """Trains dense networks; the examples have one input of float32, shape (n, columns)."""

    params_type: ClassVar = MlpParams
    shape_type: ClassVar = MlpShape

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        super().reset(params, seed=seed)
        self._keep_columns()

    def change(self, params: Mapping[str, Scalar]) -> None:
        super().change(params)
        self._keep_columns()

    def _keep_columns(self) -> None:
        """Those left are scaled up, so that the sums of the first layer are as large as those of all columns."""
        params: Any = self._train_state.params
        share, n_columns = params.kept_columns, self._data.inputs[0].shape[1]
        scale = np.ones(n_columns, np.float32)
        if (kept := n_kept(share, n_columns)) < n_columns:
            scale[self._ranked[:kept]] = math.sqrt(n_columns / kept)
            scale[self._ranked[kept:]] = 0.0
        self._train_function.network.states[KEPT_SCALE].assign(scale)

    @cached_property
    def _ranked(self) -> NDArray[np.intp]:
        return ranked_columns(self._data)

    def changed(self, inputs: Any, hyperparameters: Hyperparameters, seed: Any) -> Any:
        """With Gaussian noise of the standard deviation ``noise``."""
        noise = hyperparameters["noise"]
        return tf.cond(
            noise > 0, lambda: inputs + tf.random.stateless_normal(inputs.shape, seed) * noise, lambda: inputs
        )

    def _make_network(self, shape: Any) -> Network:
        return MlpNetwork(shape, self.precision)
