"""Built-in networks as Keras models: variables by our names, and dropout by the seed of a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aifs_tune.trainers.network.params import Precision
from aifs_tune.trainers.network.runtime import keras

NORM = ".norm"
"""End of the name of a batch normalization, whose variables are called by the convolution before it."""
_PARTS = {"gamma": "scale", "beta": "offset", "moving_mean": "mean", "moving_variance": "variance"}


def make_model(layers: Callable[[Any], Any], inputs: tuple[int, ...], precision: Precision) -> Any:
    """The ``keras.Model`` of ``layers``, which return outputs for a ``keras.Input``, in its fast form.

    ``inputs`` is the shape of one example; layers that name no precision have this one.
    """
    from aifs_tune.trainers.keras_rewrites import fuse_normalization, fuse_pooling
    from aifs_tune.trainers.keras_warm import fresh_names

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        with fresh_names():
            given = keras.Input(inputs)
            model = keras.Model(given, layers(given))
    finally:
        keras.config.set_dtype_policy(policy)
    fuse_pooling(model)
    fuse_normalization(model)
    return model


def variables_of(model: Any) -> dict[str, Any]:
    """Variables of the layers of a model by our names, such as ``conv0.kernel``."""
    return {
        f"{layer.name.removesuffix(NORM)}.{_PARTS.get(variable.name, variable.name)}": variable.value
        for layer in model.layers
        for variable in layer.weights
    }


def outputs_of(model: Any, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
    """Outputs of a model whose layers ``Dropout`` are computed by ``drop``."""

    def dropped(values: Any, training: bool = False) -> Any:
        return drop(values) if training else values

    for layer in model.layers:
        if type(layer) is keras.layers.Dropout:
            object.__setattr__(layer, "call", dropped)
    return model(inputs, training=is_training)
