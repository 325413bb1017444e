"""EfficientNet-Lite0, which ``keras.applications`` has not, in the manner of its modules.

It is EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze and excitation and with ReLU6 for swish, as in the
directory ``efficientnet/lite`` of TensorFlow's models for TPUs.
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
"""Of each stage: blocks, by how much they widen, edge of the kernel, stride of the first block, channels behind it."""
_STEM, _HEAD = 32, 1280
_LEAST_VARIANCE = 1e-3


def preprocess_input(pixels: Any) -> Any:
    """Pixels of 0 to 255 on the scale that the weights are for."""
    return (pixels - 127.0) / 128.0


def efficientnet_lite0(input_shape: tuple[int, int, int]) -> Any:
    """Without its classes: from images of this shape to the mean of each of 1280 features (n, 1280)."""
    images = keras.Input(input_shape)
    same = {"padding": "same", "use_bias": False}
    values = _normed(images, keras.layers.Conv2D(_STEM, 3, strides=2, name="stem", **same))
    block = 0
    for blocks, widening, edge, first_stride, channels in _STAGES:
        for i in range(blocks):
            stride, inner, given = first_stride if i == 0 else 1, values, values.shape[-1]
            if widening > 1:
                inner = _normed(inner, keras.layers.Conv2D(given * widening, 1, name=f"block{block}_expand", **same))
            depthwise = keras.layers.DepthwiseConv2D(edge, strides=stride, name=f"block{block}_depthwise", **same)
            inner = _normed(inner, depthwise)
            project = keras.layers.Conv2D(channels, 1, name=f"block{block}_project", **same)
            inner = _normed(inner, project, is_bent=False)
            values = keras.layers.Add()([inner, values]) if stride == 1 and given == channels else inner
            block += 1
    values = _normed(values, keras.layers.Conv2D(_HEAD, 1, name="head", **same))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(values), name="efficientnet_lite0")


def _normed(values: Any, convolution: Any, *, is_bent: bool = True) -> Any:
    norm = keras.layers.BatchNormalization(epsilon=_LEAST_VARIANCE, name=f"{convolution.name}_norm")
    values = norm(convolution(values))
    return keras.layers.ReLU(6.0)(values) if is_bent else values
