"""Dense network on a table (MLP): hyperparameters, architecture and trainer."""

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
from aifs_tune.space.parameters import FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.feature_selection import KEPT_COLUMNS, n_kept, ranked_columns
from aifs_tune.trainers.network.examples import ExamplesNetwork, ExamplesTrainer
from aifs_tune.trainers.network.layers import in_order, make_model, outputs_of, weights_and_states
from aifs_tune.trainers.network.losses import Hyperparameters
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.ops import held, normal, when
from aifs_tune.trainers.network.params import (
    CLASS_LOSS,
    TRAINING,
    VALUE_OR_QUANTILE_LOSS,
    VALUES_WEIGHT,
    AnyLoss,
    Optimizer,
    Precision,
    TrainingParams,
    check_n_weights,
    n_outputs_of,
)
from aifs_tune.trainers.network.runtime import keras

ALLOWED: dict[str, Parameter] = {
    **TRAINING,
    **CLASS_LOSS,
    **VALUE_OR_QUANTILE_LOSS,
    **VALUES_WEIGHT,
    "dropout": FloatParameter(
        low=0, high=0.999, description="Share of the units of each layer that are dropped in training."
    ),
    "noise": FloatParameter(
        low=0, high=10, description="Gaussian noise added to the inputs in training, in units of a column's spread."
    ),
    "kept_columns": KEPT_COLUMNS,
    "layers": IntParameter(low=0, high=16, description="Hidden layers; 0 is a linear model."),
    "units": IntParameter(low=1, high=65536, description="Units of each hidden layer."),
}
"""Allowed values of each hyperparameter."""

STATIC_PARAMS = ("optimizer", "batch_size", "loss", "layers", "units")
"""Hyperparameters that change the compiled program."""


@dataclass(frozen=True, kw_only=True)
class MlpParams(TrainingParams):
    """Hyperparameters. The defaults are common ones: two hidden layers of 64 units, dropout 0.5, Adam."""

    trainer: ClassVar[str] = "mlp"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    mixup: float = 0.0
    loss: AnyLoss = "mse"
    values_weight: float = 1.0
    dropout: float = 0.5
    noise: float = 0.0
    kept_columns: float = 1.0
    layers: int = 2
    units: int = 64


@dataclass(frozen=True)
class MlpShape:
    """Shape of the network: all that its compiled program depends on.

    ``n_values`` of the outputs are numbers beside classes.
    """

    n_inputs: int
    n_outputs: int
    is_classes: bool
    optimizer: Optimizer
    batch_size: int
    loss: AnyLoss
    layers: int
    units: int
    n_values: int = 0

    @classmethod
    def of(cls, params: MlpParams, examples: ExampleSet) -> MlpShape:
        """Shape of a network with ``params`` for examples with one input (n, columns).

        Raises
        ------
        RequestError
            If the network is too large, or the quantiles of several targets are to be predicted.
        """
        n_values = len(examples.targets) if examples.classes else 0
        made = {name: getattr(params, name) for name in STATIC_PARAMS} | {"n_values": n_values}
        n_outputs = n_outputs_of(params, examples)
        shape = cls(examples.inputs[0].shape[1], n_outputs, bool(examples.classes), **made)
        n_weights = sum(a * b for a, b in pairwise(shape.widths))
        check_n_weights(shape, n_weights, ("layers", "units"))
        return shape

    @property
    def widths(self) -> list[int]:
        """Numbers of inputs, units of each hidden layer, and outputs."""
        return [self.n_inputs, *[self.units] * self.layers, self.n_outputs]


COLUMN_SCALE = "columns.scale"
"""State that multiplies the columns: 0 for columns that a trial does not use."""


class MlpNetwork(ExamplesNetwork):
    """Dense network from one float32 input (n, columns) to logits (n, classes), scaled numbers, both, or quantiles."""

    def __init__(self, shape: MlpShape, precision: Precision) -> None:
        self._shape = shape
        self.model = make_model(self.layers, keras.Input((shape.n_inputs,)), precision)
        weights, _ = weights_and_states(self.model)
        scale = held(keras.Variable(np.zeros(shape.n_inputs, np.float32), trainable=False, aggregation="mean"))
        super().__init__(shape, weights, {COLUMN_SCALE: scale})

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Outputs of the network; ``drop`` is applied to the units of each hidden layer."""
        return outputs_of(
            self.model, keras.ops.multiply(inputs, self.states[COLUMN_SCALE]), drop, is_training=is_training
        )

    def layers(self, given: Any, dropout: float = 0.0) -> Any:
        """The network as new Keras layers, from scaled columns to its outputs."""
        layers, shape, values = keras.layers, self._shape, given
        for layer in range(shape.layers):
            values = layers.Dense(shape.units, activation="relu", name=f"dense{layer}")(values)
            values = layers.Dropout(dropout, name=f"dropout{layer}", dtype="float32")(values)
        return in_order(layers.Dense(shape.n_outputs, name=f"dense{shape.layers}", dtype="float32")(values), shape)

    @property
    def n_classes(self) -> int:
        """Number of classes, which are the first outputs; numbers may follow."""
        n_values: int = self._shape.n_values
        return super().n_classes - n_values

    def preprocess(self, raw: Any) -> Any:
        """The one input."""
        return raw[0]


class MlpTrainer(ExamplesTrainer):
    """Trainer of dense networks on tables; examples have one float32 input, shape (n, columns)."""

    params_type: ClassVar = MlpParams
    shape_type: ClassVar = MlpShape
    learns_both: ClassVar = True

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial; see :meth:`~aifs_tune.trainers.network.trainer.NetTrainer.reset`."""
        super().reset(params, seed=seed)
        self._scale_columns()

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Continue with other parameters; see :meth:`~aifs_tune.trainers.network.trainer.NetTrainer.change`."""
        super().change(params)
        self._scale_columns()

    def _scale_columns(self) -> None:
        """Scale unused columns to 0 and the others up, so that the first layer's sums keep their size."""
        params: Any = self._train_state.params
        share, n_columns = params.kept_columns, self._data.inputs[0].shape[1]
        scale = np.ones(n_columns, np.float32)
        if (kept := n_kept(share, n_columns)) < n_columns:
            scale[self._ranking[:kept]] = math.sqrt(n_columns / kept)
            scale[self._ranking[kept:]] = 0.0
        self._train_function.network.states[COLUMN_SCALE].assign(scale)

    @cached_property
    def _ranking(self) -> NDArray[np.intp]:
        return ranked_columns(self._data)

    def augment(self, inputs: Any, hyperparameters: Hyperparameters, seed: Any) -> Any:
        """Inputs with Gaussian noise of standard deviation ``noise``."""
        return with_noise(inputs, hyperparameters["noise"], seed)

    def _make_network(self, shape: Any) -> Network:
        return MlpNetwork(shape, self.precision)


def with_noise(inputs: Any, noise: Any, seed: Any) -> Any:
    """Inputs with Gaussian noise of standard deviation ``noise``."""
    return when(noise > 0, lambda: inputs + normal(inputs.shape, seed) * noise, lambda: inputs)
