"""EfficientNet-Lite0 in the form of a module of ``keras.applications``, which does not have it.

It is EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze and excitation and with ReLU6 instead of swish, as in
the directory ``efficientnet/lite`` of TensorFlow's models for TPUs.
"""

from __future__ import annotations

from typing import Any

from aifs_tune.trainers.network.runtime import keras

_STAGES = (
    (1, 1, 3, 1, 16),
    (2, 6, 3, 2, 24),
    (2, 6, 5, 2, 40),
    (3, 6, 3, 2, 80),
    (3, 6, 5, 1, 112),
    (4, 6, 5, 2, 192),
    (1, 6, 3, 1, 320),
)
"""Of each stage: blocks, expansion factor, kernel size, stride of the first block, output channels."""
_STEM_CHANNELS, _HEAD_CHANNELS = 32, 1280
_BATCH_NORM_EPSILON = 1e-3


def preprocess_input(pixels: Any) -> Any:
    """Scale pixels of 0 to 255 to the range that the weights were trained for."""
    return (pixels - 127.0) / 128.0


def efficientnet_lite0(input_shape: tuple[int, int, int]) -> Any:
    """Network without classes, from images of this shape to the average of each feature (n, 1280)."""
    images = keras.Input(input_shape)
    options = {"padding": "same", "use_bias": False}
    values = _normed(images, keras.layers.Conv2D(_STEM_CHANNELS, 3, strides=2, name="stem", **options))
    block = 0
    for blocks, expansion, edge, first_stride, channels in _STAGES:
        for i in range(blocks):
            stride, inner, given = first_stride if i == 0 else 1, values, values.shape[-1]
            if expansion > 1:
                inner = _normed(
                    inner, keras.layers.Conv2D(given * expansion, 1, name=f"block{block}_expand", **options)
                )
            depthwise = keras.layers.DepthwiseConv2D(edge, strides=stride, name=f"block{block}_depthwise", **options)
            inner = _normed(inner, depthwise)
            project = keras.layers.Conv2D(channels, 1, name=f"block{block}_project", **options)
            inner = _normed(inner, project, has_activation=False)
            values = keras.layers.Add()([inner, values]) if stride == 1 and given == channels else inner
            block += 1
    values = _normed(values, keras.layers.Conv2D(_HEAD_CHANNELS, 1, name="head", **options))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(values), name="efficientnet_lite0")


def _normed(values: Any, convolution: Any, *, has_activation: bool = True) -> Any:
    norm = keras.layers.BatchNormalization(epsilon=_BATCH_NORM_EPSILON, name=f"{convolution.name}_norm")
    values = norm(convolution(values))
    return keras.layers.ReLU(6.0)(values) if has_activation else values
