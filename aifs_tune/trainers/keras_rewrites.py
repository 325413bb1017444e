"""Faster forms of parts of a Keras model, with the same values and gradients."""

from __future__ import annotations

from typing import Any

import keras

from aifs_tune.trainers.network.convolution import conv_block
from aifs_tune.trainers.network.runtime import tf


def fuse_pooling(model: Any) -> int:
    """Let each convolution with ReLU that only a 2 x 2 max pooling follows compute both; return how many there are.

    See :func:`~aifs_tune.trainers.network.convolution.conv_block`.
    """
    if keras.backend.backend() != "tensorflow" or not getattr(model, "outputs", None):  # a subclass of keras.Model
        return 0
    pairs = [(layer, after) for layer in model.layers if _is_plain(layer) and (after := _only_pooling(model, layer))]
    for layer, pooling in pairs:
        object.__setattr__(layer, "call", _fused(layer))
        object.__setattr__(pooling, "call", lambda inputs: inputs)
    return len(pairs)


def _fused(layer: Any) -> Any:
    def call(inputs: Any) -> Any:
        kernel, bias = (tf.cast(each.value, inputs.dtype) for each in (layer.kernel, layer.bias))
        return conv_block(inputs, kernel, bias)

    return call


def _is_plain(layer: Any) -> bool:
    """Whether a layer is a convolution without padding, strides, groups or dilation, with bias and ReLU."""
    return (
        type(layer) is keras.layers.Conv2D
        and layer.activation is keras.activations.relu
        and layer.padding == "valid"
        and tuple(layer.strides) == tuple(layer.dilation_rate) == (1, 1)
        and layer.groups == 1
        and layer.use_bias
        and layer.data_format == "channels_last"
        and layer.activity_regularizer is None
        and not getattr(layer, "lora_enabled", False)
    )


def _only_pooling(model: Any, layer: Any) -> Any:
    """The 2 x 2 max pooling that alone takes the output of ``layer``; None if there is none."""
    pooling = _only_next(model, layer)
    if type(pooling) is not keras.layers.MaxPooling2D:
        return None
    is_plain = tuple(pooling.pool_size) == tuple(pooling.strides) == (2, 2) and pooling.padding == "valid"
    return pooling if is_plain and pooling.data_format == "channels_last" else None


def _only_next(model: Any, layer: Any) -> Any:
    """The layer that alone takes the output of ``layer``, and nothing else; None if there is none."""
    if isinstance(model, keras.Sequential):
        place = model.layers.index(layer) + 1
        return model.layers[place] if place < len(model.layers) and model.layers.count(layer) == 1 else None
    before, after = layer._inbound_nodes, layer._outbound_nodes
    if len(before) != 1 or len(after) != 1 or any(before[0].outputs[0] is output for output in model.outputs):
        return None
    following = after[0].operation
    return following if len(following._inbound_nodes) == 1 else None
