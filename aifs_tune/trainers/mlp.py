"""A dense network on a table: columns in, classes or numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aifs_tune.scalars import Scalar
from aifs_tune.trainers.columns import n_kept, ranked_columns
from aifs_tune.trainers.examples_network import ExamplesNetwork
from aifs_tune.trainers.examples_trainer import ExamplesTrainer
from aifs_tune.trainers.lessons import Hyperparameters
from aifs_tune.trainers.mlp_params import MlpParams, MlpShape
from aifs_tune.trainers.network import Network
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.runtime import tf

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
