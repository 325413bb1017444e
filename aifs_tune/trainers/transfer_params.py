"""What can be tuned in a trial that begins with a trained backbone, and its tensor shapes. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from aifs_tune.errors import RequestError
from aifs_tune.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.image_params import IMAGE_CLASSES, ImageParams
from aifs_tune.trainers.params import Optimizer

BackboneName: TypeAlias = Literal["mobilenet_v2", "mobilenet_v2_035", "efficientnet_v2_b0", "resnet50"]


class Backbone(NamedTuple):
    """A network of ``keras.applications``: the module and the name of the function that makes it, and its width."""

    module: str
    maker: str
    alpha: float | None = None

    @property
    def call(self) -> str:
        """What makes it without its classes, as Python has it; ``{}`` where the weights are named."""
        alpha = "" if self.alpha is None else f", alpha={self.alpha}"
        return f"keras.applications.{self.maker}(weights={{}}, include_top=False{alpha})"


BACKBONES: dict[BackboneName, Backbone] = {
    "mobilenet_v2": Backbone("mobilenet_v2", "MobileNetV2"),
    "mobilenet_v2_035": Backbone("mobilenet_v2", "MobileNetV2", 0.35),
    "efficientnet_v2_b0": Backbone("efficientnet_v2", "EfficientNetV2B0"),
    "resnet50": Backbone("resnet50", "ResNet50"),
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

SHAPING = ("optimizer", "batch_size", "backbone")
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class TransferParams(ImageParams):
    """One configuration. By default the backbone learns from the fourth epoch on, at a tenth of the rate."""

    trainer: ClassVar[str] = "transfer"
    allowed: ClassVar = ALLOWED
    shaping: ClassVar = SHAPING

    dropout: float = 0.2
    backbone: BackboneName = "mobilenet_v2"
    frozen_epochs: int = 3
    backbone_rate: float = 0.1

    def knobs_of_epoch(self, epoch: int, epochs: int, n_stale: int) -> dict[str, float]:
        knobs = super().knobs_of_epoch(epoch, epochs, n_stale)
        return knobs | {"backbone_rate": 0.0 if epoch < self.frozen_epochs else self.backbone_rate}


@dataclass(frozen=True)
class TransferShape:
    """All that a compiled program depends on; ``image`` is height, width and channels."""

    image: tuple[int, int, int]
    n_classes: int
    optimizer: Optimizer = "adam"
    batch_size: int = 32
    backbone: BackboneName = "mobilenet_v2"

    def __post_init__(self) -> None:
        for name in SHAPING:
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
        return cls(image, n_classes, **{name: getattr(params, name) for name in SHAPING})


def check_weights(file: Path | None) -> Path:
    """``file``, if there is one.

    Raises
    ------
    RequestError
        If there is none; says how to get it.
    """
    if file is None:
        raise RequestError(
            "trainer.weights: absent, and transfer begins with trained weights; allowed: a file of a backbone "
            f"({', '.join(BACKBONES)}), which is never downloaded for you; {how_to_get('mobilenet_v2')}"
        )
    if not file.is_file():
        raise RequestError(
            f"trainer.weights: {file} is no file; it is never downloaded for you: {how_to_get('mobilenet_v2')}"
        )
    return file


def how_to_get(backbone: BackboneName) -> str:
    """A line to type where there is internet."""
    call = BACKBONES[backbone].call.format("'imagenet'")
    return f"on a machine with internet type python -c \"import keras; {call}.save_weights('{backbone}.weights.h5')\""
