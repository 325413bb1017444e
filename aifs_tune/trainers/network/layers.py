"""Built-in networks as Keras models: variables by our names, and dropout by the seed of a training step."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import NormalDist
from typing import Any

from aifs_tune.trainers.network.network import PRETRAINED
from aifs_tune.trainers.network.ops import held, of_shape
from aifs_tune.trainers.network.params import QUANTILES, Precision
from aifs_tune.trainers.network.runtime import keras
from aifs_tune.trainers.predictions import LEVELS

NORM = ".norm"
"""End of the name of a batch normalization, whose variables are called by the convolution before it."""
_PARTS = {
    "depthwise_kernel": "kernel",
    "recurrent_kernel": "recurrent",
    "gamma": "scale",
    "beta": "offset",
    "moving_mean": "mean",
    "moving_variance": "variance",
}


def make_model(layers: Callable[[Any], Any], given: Any, precision: Precision) -> Any:
    """The ``keras.Model`` of ``layers``, which return outputs for ``given``, in its fast form.

    ``given`` is a ``keras.Input`` or a tuple of them; layers that name no precision have this one.
    """
    from aifs_tune.trainers.keras_rewrites import fuse_bias, fuse_normalization, fuse_pooling
    from aifs_tune.trainers.keras_warm import fresh_names

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        with fresh_names():
            model = keras.Model(given, layers(given))
    finally:
        keras.config.set_dtype_policy(policy)
    fuse_pooling(model)
    fuse_normalization(model)
    fuse_bias(model)
    return model


def in_order(values: Any, shape: Any) -> Any:
    """Outputs of a network of this ``shape`` from the ``values`` (n, outputs) of its last layer.

    The quantiles of a number are ordered by new Keras layers; all other outputs are the values themselves.
    """
    return values if shape.is_classes or shape.loss != QUANTILES else _quantiles(values)


def _quantiles(values: Any) -> Any:
    """Quantiles at :data:`LEVELS`, shape (n, levels): the first, and positive steps from each to the next.

    They cannot cross (Park et al. 2022, incremental quantile functions). Values of 0 give the quantiles of the standard
    normal distribution, so that a training begins near those of the scaled targets.
    """
    normal = [NormalDist().inv_cdf(level) for level in LEVELS]
    offset = [normal[0], *(math.log(math.expm1(after - before)) for before, after in pairwise(normal))]
    moved = keras.layers.Rescaling(1.0, offset=offset, name="levels", dtype="float32")(values)
    first, steps = keras.ops.split(moved, [1], axis=1)
    return keras.ops.cumsum(keras.ops.concatenate([first, keras.ops.softplus(steps)], axis=1), axis=1)


def variables_of(model: Any) -> dict[str, Any]:
    """Variables of the layers of a model by our names, such as ``conv0.kernel``."""
    return {_name(layer, variable): variable for layer in model.layers for variable in layer.weights}


def _name(layer: Any, variable: Any) -> str:
    *outer, end = variable.path.split("/")
    part = _PARTS.get(end, end)
    if isinstance(layer, keras.Model):  # a pretrained one
        return f"{PRETRAINED}{outer[-1]}.{part}"
    if isinstance(layer, keras.layers.Bidirectional):
        return f"{layer.name}.{outer[-2].partition('_')[0]}.{part}"
    return f"{layer.name.removesuffix(NORM)}.{part}"


def weights_and_states(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables by our names, as a step holds them: those that are trained, and the others."""
    found = variables_of(model)
    weights, states = (
        {name: held(variable) for name, variable in found.items() if variable.trainable is is_trained}
        for is_trained in (True, False)
    )
    return weights, states


def outputs_of(model: Any, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
    """Outputs of a model whose layers ``Dropout`` are computed by ``drop``."""
    n = keras.tree.flatten(inputs)[0].shape[0]
    for layer in model.layers:
        if type(layer) is keras.layers.Dropout:
            object.__setattr__(layer, "call", _dropped(drop, (n, *layer.output.shape[1:])))
    return model(inputs, training=is_training)


def _dropped(drop: Callable[[Any], Any], shape: tuple[int | None, ...]) -> Any:
    def call(values: Any, training: bool = False) -> Any:
        del training  # without it, drop changes nothing
        return drop(of_shape(values, shape))

    return call
