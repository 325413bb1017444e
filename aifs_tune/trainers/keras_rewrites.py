"""Faster forms of parts of a Keras model, with the same values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from aifs_tune.trainers.network.runtime import tf


def fuse_pooling(model: Any) -> int:
    """Let each convolution with ReLU that only a 2 x 2 max pooling follows compute both; return how many there are.

    See :func:`conv_block`.
    """
    return _with_pooling(model, _fused) if _is_rewritable(model) else 0


def _with_pooling(model: Any, made: Callable[[Any], Any]) -> int:
    """Replace each convolution and its pooling by what is ``made`` of the convolution; return how many there are."""
    pairs = [(layer, after) for layer in model.layers if _is_plain(layer) and (after := _only_pooling(model, layer))]
    for layer, pooling in pairs:
        object.__setattr__(layer, "call", made(layer))
        object.__setattr__(pooling, "call", lambda inputs: inputs)
    return len(pairs)


def _fused(layer: Any) -> Any:
    def call(inputs: Any) -> Any:
        kernel, bias = (tf.cast(each.value, inputs.dtype) for each in (layer.kernel, layer.bias))
        return conv_block(inputs, kernel, bias)

    return call


def stack_convolutions(model: Any) -> int:
    """On JAX, let each convolution of :func:`fuse_pooling` be a product of patches and kernel; return how many.

    Where several models are one program, theirs are then one batched product; the program would otherwise have grouped
    convolutions, which are slow on a GPU.
    """
    return _with_pooling(model, _of_patches) if getattr(model, "outputs", None) else 0


def _of_patches(layer: Any) -> Any:
    ops = keras.ops

    def call(inputs: Any) -> Any:
        kernel, bias = (ops.cast(each, inputs.dtype) for each in (layer.kernel, layer.bias))
        high, wide, _, filters = kernel.shape
        rows, columns = inputs.shape[1] - high + 1, inputs.shape[2] - wide + 1
        across = ops.concatenate([inputs[:, :, x : x + columns] for x in range(wide)], axis=-1)
        patches = ops.concatenate([across[:, y : y + rows] for y in range(high)], axis=-1)
        wide_values = ops.matmul(patches, ops.reshape(kernel, (-1, filters)))[:, : rows // 2 * 2, : columns // 2 * 2]
        pooled = ops.max(ops.reshape(wide_values, (-1, rows // 2, 2, columns // 2, 2, filters)), axis=(2, 4))
        return ops.relu(pooled + bias)

    return call


def fuse_bias(model: Any) -> int:
    """Let each convolution of series add its bias by the operation for it, whose gradient is faster; return how many.

    Keras adds it like any other tensor.
    """
    found = [layer for layer in model.layers if type(layer) is keras.layers.Conv1D] if _is_rewritable(model) else []
    for layer in found:
        object.__setattr__(layer, "call", _biased(layer))
    return len(found)


def _biased(layer: Any) -> Any:
    def call(inputs: Any) -> Any:
        wide = layer.convolution_op(inputs, layer.kernel)
        return layer.activation(tf.nn.bias_add(wide, tf.cast(layer.bias.value, wide.dtype)))

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


def fuse_normalization(model: Any) -> int:
    """Let each batch normalization of images be one operation (Ioffe and Szegedy 2015); return how many there are.

    As in Keras, the variance of a batch, and so the running variance, is the mean square without Bessel's correction.
    """
    found = [layer for layer in model.layers if _is_of_images(layer)] if _is_rewritable(model) else []
    for layer in found:
        object.__setattr__(layer, "call", _normalized(layer))
    return len(found)


def _normalized(layer: Any) -> Any:
    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        del mask
        is_training = bool(training) and layer.trainable
        mean, variance = layer.moving_mean.value, layer.moving_variance.value
        fused = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, tf.float32),
            scale=layer.gamma.value,
            offset=layer.beta.value,
            mean=tf.constant([]) if is_training else mean,
            variance=tf.constant([]) if is_training else variance,
            epsilon=layer.epsilon,
            is_training=is_training,
        )
        if is_training:
            n = tf.cast(tf.size(inputs) / tf.shape(inputs)[3], tf.float32)
            mean.assign_add((fused.batch_mean - mean) * (1 - layer.momentum))
            # The operation returns the sample variance, which is n / (n - 1) times the mean square.
            variance.assign_add((fused.batch_variance * ((n - 1) / n) - variance) * (1 - layer.momentum))
        return tf.cast(fused.y, layer.compute_dtype)

    return call


def _is_of_images(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.input_spec is not None
        and layer.input_spec.ndim == 4
        and layer.axis in (-1, 3)
        and layer.center
        and layer.scale
        and not layer.synchronized
        and not layer.renorm
    )


def _is_rewritable(model: Any) -> bool:
    """Whether a model is of TensorFlow and its layers are known: no subclass of keras.Model."""
    return keras.backend.backend() == "tensorflow" and bool(getattr(model, "outputs", None))


def conv_block(values: Any, kernel: Any, bias: Any) -> Any:
    """One block: convolution, bias and ReLU, which TensorFlow computes as one operation, then 2 x 2 max pooling.

    Where ReLU is 0 the gradient is 0, and the largest of four values is 0 only if all four are. So bias and ReLU are
    differentiated after the pooling, on a quarter of the numbers.
    """
    return tf.custom_gradient(_conv_block)(values, kernel, bias)


def _conv_block(values: Any, kernel: Any, bias: Any) -> Any:
    wide = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(values, kernel, 1, "VALID"), bias))
    pooled = tf.nn.max_pool2d(wide, 2, 2, "VALID")
    window = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "VALID"}
    convolution = {"strides": [1, 1, 1, 1], "padding": "VALID"}

    def gradient(upstream: Any) -> tuple[Any, Any, Any]:
        kept = tf.raw_ops.ReluGrad(gradients=upstream, features=pooled)
        spread = tf.raw_ops.MaxPoolGrad(orig_input=wide, orig_output=pooled, grad=kept, **window)
        return (
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(values), filter=kernel, out_backprop=spread, **convolution
            ),
            tf.raw_ops.Conv2DBackpropFilter(
                input=values, filter_sizes=kernel.shape, out_backprop=spread, **convolution
            ),
            tf.raw_ops.BiasAddGrad(out_backprop=kept),
        )

    return pooled, gradient
