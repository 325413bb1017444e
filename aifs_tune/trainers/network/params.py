"""Hyperparameters that networks share, with their allowed values. Loads no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self, TypeAlias

from aifs_tune._util.scalars import Scalar, brief
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError, RequestError
from aifs_tune.space.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.predictions import LEVELS

Optimizer: TypeAlias = Literal["adam", "adamw", "sgd"]
Schedule: TypeAlias = Literal["constant", "cosine", "plateau"]
Loss: TypeAlias = Literal["mse", "mae", "huber"]
AnyLoss: TypeAlias = Literal["mse", "mae", "huber", "quantiles"]
Precision: TypeAlias = Literal["float32", "mixed_bfloat16"]
"""Precision of convolutions and dense layers; weights, optimizer and outputs are float32 in both."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7
"""Constants of Adam; the same for all trials."""

TRAINING: dict[str, Parameter] = {
    "learning_rate": FloatParameter(low=1e-12, high=1000, description="Learning rate of the optimizer."),
    "optimizer": ChoiceParameter(choices=("adam", "adamw", "sgd"), description="Optimizer of the weights."),
    "momentum": FloatParameter(low=0, high=0.9999, description="Momentum of sgd; no effect with other optimizers."),
    "weight_decay": FloatParameter(
        low=0, high=100, description="Weight decay of kernels: decoupled with adamw, else an L2 penalty."
    ),
    "batch_size": IntParameter(low=1, high=8192, description="Examples in a training batch."),
    "schedule": ChoiceParameter(
        choices=("constant", "cosine", "plateau"), description="Learning rate schedule over the epochs."
    ),
    "warmup_epochs": IntParameter(low=0, high=1000, description="Epochs of linear warm-up of the learning rate."),
    "clip_norm": FloatParameter(low=0, high=1e6, description="Maximum global norm of the gradients; 0: no clipping."),
}
"""Allowed values of the hyperparameters that all networks have."""

CLASS_LOSS: dict[str, Parameter] = {
    "label_smoothing": FloatParameter(
        low=0, high=0.999, description="Share of each label that is spread over all classes."
    ),
    "focal_gamma": FloatParameter(low=0, high=10, description="Gamma of the focal loss; 0: cross-entropy."),
    "mixup": FloatParameter(low=0, high=10, description="Alpha of mixup's Beta distribution; 0: no mixup."),
}
"""Allowed values of the hyperparameters of the classification loss."""

VALUE_LOSS: dict[str, Parameter] = {
    "loss": ChoiceParameter(choices=("mse", "mae", "huber"), description="Loss of numbers, in units of their spread."),
}
"""Allowed values of the hyperparameters of the regression loss."""

VALUES_WEIGHT: dict[str, Parameter] = {
    "values_weight": FloatParameter(
        low=0, high=1000, description="Weight of the loss of numbers beside the cross-entropy of classes."
    ),
}
"""Allowed values of the hyperparameter that joins both losses, of networks that learn classes and numbers together."""
QUANTILES = "quantiles"
"""Loss of a network that predicts quantiles of one number."""

VALUE_OR_QUANTILE_LOSS: dict[str, Parameter] = {
    "loss": ChoiceParameter(
        choices=("mse", "mae", "huber", QUANTILES),
        description="Loss of numbers, in units of their spread; quantiles: the pinball loss of one number's deciles.",
    ),
}
"""Allowed values of the loss where quantiles can be predicted instead of a number."""

MAX_WEIGHTS = 2**28
"""Largest allowed number of weights: with optimizer state and best weights they take 4 GiB."""

PLATEAU_EPOCHS, PLATEAU_FACTOR = 3, 0.5
"""Epochs without a better value, and the factor that ``plateau`` then multiplies the learning rate by."""


def check_static_params(shape: Any, allowed: Mapping[str, Parameter], names: Sequence[str]) -> None:
    """Check the hyperparameters ``names`` of a frozen ``shape`` and store them with their proper types.

    Raises
    ------
    RequestError
        If a value is not allowed.
    """
    for name in names:
        object.__setattr__(shape, name, allowed[name].take(name, getattr(shape, name)))


def n_outputs_of(params: Any, examples: ExampleSet) -> int:
    """Number of outputs of a network with ``params``: one for each class and target, or for each quantile of a target.

    Raises
    ------
    RequestError
        If quantiles of several targets are to be predicted, or beside classes.
    """
    n_classes, n_targets = len(examples.classes), len(examples.targets)
    if n_targets == 0 or params.loss != QUANTILES:
        return n_classes + n_targets
    if n_classes or n_targets > 1:
        allowed = ", ".join(map(str, VALUE_LOSS["loss"].extremes))
        raise RequestError(
            f"loss: {QUANTILES} is not allowed {'beside classes' if n_classes else f'with {n_targets} targets'}; "
            f"allowed: {allowed}, or one target alone"
        )
    return len(LEVELS)


def has_loss_of_quantiles(allowed: Mapping[str, Parameter]) -> bool:
    """Whether the loss of quantiles is among the ``allowed`` values."""
    return "loss" in allowed and QUANTILES in allowed["loss"].extremes


def check_n_weights(shape: Any, n_weights: int, names: Sequence[str]) -> None:
    """Check that a network is not too large; ``names`` are the hyperparameters that make it so.

    Raises
    ------
    RequestError
        If ``n_weights`` is above :data:`MAX_WEIGHTS`.
    """
    if n_weights > MAX_WEIGHTS:
        *others, last = (str(getattr(shape, name)) for name in names)
        raise RequestError(
            f"{', '.join(names)}: {', '.join(others)} and {last} make a network of {n_weights:,} weights; "
            f"allowed: at most {MAX_WEIGHTS:,}"
        )


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Checked hyperparameters of a trial. Subclasses add the parameters and set the class variables."""

    trainer: ClassVar[str]
    """Name of the trainer."""
    allowed: ClassVar[Mapping[str, Parameter]]
    """Allowed values of each parameter, by name."""
    static_params: ClassVar[tuple[str, ...]] = ()
    """Parameters that change the compiled program; all others are arguments of the compiled step."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name in self.allowed):
            object.__setattr__(self, name, self.allowed[name].take(name, getattr(self, name)))

    @classmethod
    def from_mapping(cls, params: Mapping[str, Scalar]) -> Self:
        """Check ``params`` and add the defaults of missing ones.

        Raises
        ------
        RequestError
            If a name is unknown or a value is not allowed.
        """
        for name, value in params.items():
            if name not in cls.allowed:
                known = ", ".join(cls.allowed)
                raise RequestError(
                    f"{brief(name)}: {brief(value)} is not a parameter of the {cls.trainer}; allowed: {known}"
                )
        return cls(**params)


@dataclass(frozen=True, kw_only=True)
class TrainingParams(Configuration):
    """Hyperparameters of the training of a network. Subclasses add those of its architecture."""

    learning_rate: float = 1e-3
    optimizer: Optimizer = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 32
    schedule: Schedule = "constant"
    warmup_epochs: int = 0
    clip_norm: float = 0.0

    def hyperparameters(self, rate_factor: float = 1.0) -> dict[str, float]:
        """Parameters that are arguments of the compiled step; the learning rate is multiplied by ``rate_factor``."""
        skipped = (
            *self.static_params,
            "schedule",
            "warmup_epochs",
        )  # strings, and parameters that only set the learning rate of an epoch
        hyperparameters = {name: float(value) for name, value in asdict(self).items() if name not in skipped}
        return hyperparameters | {"learning_rate": self.learning_rate * rate_factor}

    def hyperparameters_of_epoch(self, epoch: int, epochs: int, n_stale: int) -> dict[str, float]:
        """:meth:`hyperparameters` of ``epoch``, counted from 0, with the scheduled learning rate."""
        return self.hyperparameters(self.rate_factor(epoch, epochs, n_stale))

    def rate_factor(self, epoch: int, epochs: int, n_stale: int) -> float:
        """Factor of the learning rate in ``epoch``, counted from 0, of ``epochs``.

        It rises linearly over ``warmup_epochs``. Then ``cosine`` falls along half a cosine wave to 0 after the last
        epoch (Loshchilov and Hutter 2017, eq. 5, without restarts), and ``plateau`` halves it after every three epochs
        without a better value; ``n_stale`` counts these epochs.
        """
        if epoch < self.warmup_epochs:
            return (epoch + 1) / (self.warmup_epochs + 1)
        if self.schedule == "cosine":
            done = (epoch - self.warmup_epochs) / max(1, epochs - self.warmup_epochs)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        if self.schedule == "plateau":
            return float(PLATEAU_FACTOR ** (n_stale // PLATEAU_EPOCHS))
        return 1.0


AUGMENTATION: dict[str, Parameter] = {
    "rotation_deg": FloatParameter(
        low=0, high=180, unit="deg", description="Random rotation, uniform, in both directions."
    ),
    "rotation_90": ChoiceParameter(
        choices=(True, False), description="Random rotation by 0, 90, 180 or 270 degrees, without interpolation."
    ),
    "width_shift": FloatParameter(
        low=0, high=1, description="Random shift in parts of the width, uniform, in both directions."
    ),
    "height_shift": FloatParameter(
        low=0, high=1, description="Random shift in parts of the height, uniform, in both directions."
    ),
    "horizontal_flip": ChoiceParameter(choices=(True, False), description="Flip half of the images left to right."),
    "vertical_flip": ChoiceParameter(choices=(True, False), description="Flip half of the images upside down."),
    "zoom": FloatParameter(low=0, high=0.99, description="Random scale, uniform from 1 - zoom to 1 + zoom."),
    "blur": FloatParameter(low=0, high=8, unit="px", description="Gaussian blur, sigma uniform from 0 to this."),
    "brightness": FloatParameter(
        low=0, high=1, description="Random factor, uniform from 1 - brightness to 1 + brightness."
    ),
    "noise": FloatParameter(low=0, high=1, description="Standard deviation of Gaussian noise; full scale is 1."),
    "read_noise": FloatParameter(
        low=0, high=1, description="Standard deviation of a detector's read noise; full scale is 1."
    ),
    "shot_noise": FloatParameter(
        low=0, high=1, description="Variance of shot noise at full scale; proportional to the pixel value."
    ),
    "random_erasing": FloatParameter(low=0, high=1, description="Share of images in which a rectangle is erased."),
    "cutmix": FloatParameter(low=0, high=10, description="Alpha of CutMix's Beta distribution; 0: no CutMix."),
}
"""Allowed values of the hyperparameters of image augmentation."""

IMAGE_CLASSES: dict[str, Parameter] = {
    **TRAINING,
    "dropout": FloatParameter(
        low=0, high=0.999, description="Share of the last features that are dropped in training."
    ),
    **AUGMENTATION,
    **CLASS_LOSS,
}
"""Allowed values of the hyperparameters of all networks that classify images."""

ERASED_AREA = (0.02, 0.33)
ERASED_ASPECT = 0.3
"""Random erasing: smallest and largest erased share of an image, and smallest ratio of height to width; the largest
ratio is its inverse."""


@dataclass(frozen=True, kw_only=True)
class ImageParams(TrainingParams):
    """Hyperparameters of the training of a network that classifies images."""

    dropout: float = 0.0
    rotation_deg: float = 20.0
    rotation_90: bool = False
    width_shift: float = 0.2
    height_shift: float = 0.2
    horizontal_flip: bool = True
    vertical_flip: bool = False
    zoom: float = 0.0
    blur: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    read_noise: float = 0.0
    shot_noise: float = 0.0
    random_erasing: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    mixup: float = 0.0


def view_hyperparameters(hyperparameters: Mapping[str, float]) -> dict[str, float]:
    """Augmentation of a random view of an image to be classified: that of training, but without erasing and CutMix."""
    return {name: hyperparameters[name] for name in AUGMENTATION} | {"random_erasing": 0.0, "cutmix": 0.0}


SERIES: dict[str, Parameter] = {
    **TRAINING,
    **{name: parameter for name, parameter in CLASS_LOSS.items() if name != "mixup"},
    **VALUE_LOSS,
    "dropout": FloatParameter(low=0, high=0.999, description="Share of the units that are dropped in training."),
    "noise": FloatParameter(
        low=0, high=10, description="Gaussian noise added in training, in units of a channel's spread."
    ),
    "crop": FloatParameter(
        low=0, high=0.9, description="Largest share of the steps that is cropped from a series in training."
    ),
}
"""Allowed values of the hyperparameters of all networks on series."""


@dataclass(frozen=True, kw_only=True)
class SeriesParams(TrainingParams):
    """Hyperparameters of the training of a network on series. There is no mixup because series differ in length."""

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    loss: AnyLoss = "mse"
    dropout: float = 0.0
    noise: float = 0.0
    crop: float = 0.0


def series_sizes(params: SeriesParams, examples: ExampleSet) -> dict[str, Any]:
    """``steps``, ``channels``, ``n_outputs`` and ``is_classes`` of a network's shape.

    Raises
    ------
    RequestError
        If the quantiles of several targets are to be predicted.
    DataError
        If the inputs are not values (n, steps, channels) with lengths (n,).
    """
    shapes = [array.shape for array in examples.inputs]
    if [len(shape) for shape in shapes] != [3, 1]:
        listed = ", ".join(map(str, shapes))
        raise DataError(
            f"inputs: shapes {listed} are not allowed; allowed: values (n, steps, channels) and lengths (n,)"
        )
    n_outputs = n_outputs_of(params, examples)
    _, steps, channels = shapes[0]
    return {"steps": steps, "channels": channels, "n_outputs": n_outputs, "is_classes": bool(examples.classes)}
