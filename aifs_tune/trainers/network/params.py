"""What can be tuned in any trial of a network, whatever it learns from. Loads no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self, TypeAlias

from aifs_tune._util.scalars import Scalar, brief
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError, RequestError
from aifs_tune.space.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter

Optimizer: TypeAlias = Literal["adam", "adamw", "sgd"]
Schedule: TypeAlias = Literal["constant", "cosine", "plateau"]
Loss: TypeAlias = Literal["mse", "mae", "huber"]
Precision: TypeAlias = Literal["float32", "mixed_bfloat16"]
"""Of convolutions and dense layers; weights, updates and outputs are float32 in both."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7
"""Of Adam; the same for all trials."""

TRAINING: dict[str, Parameter] = {
    "learning_rate": FloatParameter(low=1e-12, high=1000),
    "optimizer": ChoiceParameter(choices=("adam", "adamw", "sgd")),
    "momentum": FloatParameter(low=0, high=0.9999, description="Of sgd; without effect for the others."),
    "weight_decay": FloatParameter(low=0, high=100, description="Of kernels; decoupled for adamw, else L2."),
    "batch_size": IntParameter(low=1, high=8192),
    "schedule": ChoiceParameter(
        choices=("constant", "cosine", "plateau"), description="How the learning rate changes with the epochs."
    ),
    "warmup_epochs": IntParameter(low=0, high=1000, description="Epochs in which the learning rate rises evenly."),
    "clip_norm": FloatParameter(low=0, high=1e6, description="Largest norm of all gradients together; 0: any."),
}
"""What each parameter that all networks have can be."""

CLASS_LOSS: dict[str, Parameter] = {
    "label_smoothing": FloatParameter(low=0, high=0.999, description="Share of a label spread over all classes."),
    "focal_gamma": FloatParameter(low=0, high=10, description="How little a sure guess counts; 0: cross-entropy."),
    "mixup": FloatParameter(low=0, high=10, description="Alpha of the Beta distribution of mixing shares; 0: none."),
}
"""What the loss of classes is like."""

VALUE_LOSS: dict[str, Parameter] = {
    "loss": ChoiceParameter(
        choices=("mse", "mae", "huber"), description="Of numbers, in units of their spread: what a large error costs."
    ),
}
"""What the loss of numbers is like."""

MOST_WEIGHTS = 2**28
"""A larger network is refused: with its slots and best weights it would take more than 4 GiB."""

PLATEAU_EPOCHS, PLATEAU_FACTOR = 3, 0.5
"""After so many epochs without a better value, ``plateau`` multiplies the learning rate by this."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Checked parameters of a trial. Subclasses add the parameters and fill in the class variables."""

    trainer: ClassVar[str]
    """The name of the trainer whose parameters these are."""
    allowed: ClassVar[Mapping[str, Parameter]]
    """What each parameter can be, by name."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name in self.allowed):
            object.__setattr__(self, name, self.allowed[name].take(name, getattr(self, name)))

    @classmethod
    def from_mapping(cls, params: Mapping[str, Scalar]) -> Self:
        """``params`` with the defaults for what is absent.

        Raises
        ------
        RequestError
            If a name is unknown or a value is not allowed.
        """
        for name, value in params.items():
            if name not in cls.allowed:
                known = ", ".join(cls.allowed)
                raise RequestError(
                    f"{brief(name)}: {brief(value)} is for no parameter of the {cls.trainer}; allowed: {known}"
                )
        return cls(**params)


@dataclass(frozen=True, kw_only=True)
class TrainingParams(Configuration):
    """How a network is trained. Subclasses add what they are made of."""

    static_params: ClassVar[tuple[str, ...]]
    """Those that make another program; all others are arguments of the compiled step."""

    learning_rate: float = 1e-3
    optimizer: Optimizer = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 32
    schedule: Schedule = "constant"
    warmup_epochs: int = 0
    clip_norm: float = 0.0

    def hyperparameters(self, rate_factor: float = 1.0) -> dict[str, float]:
        """What can change without a new program, the learning rate times ``rate_factor``; switches as 0 and 1."""
        skipped = (*self.static_params, "schedule", "warmup_epochs")  # strings, and what the driver of the epochs reads
        hyperparameters = {name: float(value) for name, value in asdict(self).items() if name not in skipped}
        return hyperparameters | {"learning_rate": self.learning_rate * rate_factor}

    def hyperparameters_of_epoch(self, epoch: int, epochs: int, n_stale: int) -> dict[str, float]:
        """:meth:`hyperparameters` of ``epoch`` (from 0), the learning rate as its schedule has it; see
        :meth:`rate_factor`."""
        return self.hyperparameters(self.rate_factor(epoch, epochs, n_stale))

    def rate_factor(self, epoch: int, epochs: int, n_stale: int) -> float:
        """The share of ``learning_rate`` that ``epoch`` (from 0) of ``epochs`` trains with.

        It rises evenly over ``warmup_epochs``. Then ``cosine`` falls along half a wave, 0 behind the last epoch
        (Loshchilov and Hutter 2017, eq. 5, without restarts), and ``plateau`` is halved after each three epochs without
        a better value, of which there are ``n_stale`` now.
        """
        if epoch < self.warmup_epochs:
            return (epoch + 1) / (self.warmup_epochs + 1)
        if self.schedule == "cosine":
            done = (epoch - self.warmup_epochs) / max(1, epochs - self.warmup_epochs)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        if self.schedule == "plateau":
            return float(PLATEAU_FACTOR ** (n_stale // PLATEAU_EPOCHS))
        return 1.0


_SWITCH = ChoiceParameter(choices=(True, False))

IMAGE_CHANGES: dict[str, Parameter] = {
    "rotation_deg": FloatParameter(low=0, high=180, unit="deg", description="Uniform to both sides."),
    "rotation_90": ChoiceParameter(choices=(True, False), description="Quarter turns, each as likely, exact."),
    "width_shift": FloatParameter(low=0, high=1, description="Share of the width, uniform to both sides."),
    "height_shift": FloatParameter(low=0, high=1, description="Share of the height, uniform to both sides."),
    "horizontal_flip": _SWITCH,
    "vertical_flip": _SWITCH,
    "zoom": FloatParameter(low=0, high=0.99, description="Scale uniform from 1 - zoom to 1 + zoom."),
    "blur": FloatParameter(low=0, high=8, unit="px", description="Gaussian, sigma uniform from 0 to this."),
    "brightness": FloatParameter(low=0, high=1, description="Factor uniform from 1 - brightness to 1 + brightness."),
    "noise": FloatParameter(low=0, high=1, description="Standard deviation, Gaussian, in units of full scale."),
    "read_noise": FloatParameter(low=0, high=1, description="Of a detector; standard deviation, full scale 1."),
    "shot_noise": FloatParameter(low=0, high=1, description="Of light; variance at full scale, falls with the value."),
    "random_erasing": FloatParameter(low=0, high=1, description="Share of the images that lose a rectangle."),
    "cutmix": FloatParameter(low=0, high=10, description="Alpha of the Beta distribution of pasted areas; 0: none."),
}
"""How images are changed at random."""

IMAGE_CLASSES: dict[str, Parameter] = {
    **TRAINING,
    "dropout": FloatParameter(low=0, high=0.999, description="Share of the last features that a training pass drops."),
    **IMAGE_CHANGES,
    **CLASS_LOSS,
}
"""What every network has that tells classes of images apart."""

ERASED_AREA = (0.02, 0.33)
ERASED_ASPECT = 0.3
"""Of what random erasing takes: smallest and largest share of an image, and smallest height through width, with one
through it as the largest."""


@dataclass(frozen=True, kw_only=True)
class ImageParams(TrainingParams):
    """How such a network is trained; subclasses add what it is made of."""

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
    """The changes of a random view of an image that is to be classified: all of ``hyperparameters`` that keep it
    whole."""
    return {name: hyperparameters[name] for name in IMAGE_CHANGES} | {"random_erasing": 0.0, "cutmix": 0.0}


SERIES: dict[str, Parameter] = {
    **TRAINING,
    **{name: parameter for name, parameter in CLASS_LOSS.items() if name != "mixup"},
    **VALUE_LOSS,
    "dropout": FloatParameter(low=0, high=0.999, description="Share of the units that a pass drops."),
    "noise": FloatParameter(low=0, high=10, description="Added to the values; in units of the spread of a channel."),
    "crop": FloatParameter(
        low=0, high=0.9, description="Largest share of the steps that a pass leaves out at the ends of a series."
    ),
}
"""What each parameter that all networks on series have can be."""


@dataclass(frozen=True, kw_only=True)
class SeriesParams(TrainingParams):
    """How a network on series is trained. Two series are not mixed: they differ in length and in their times."""

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    loss: Loss = "mse"
    dropout: float = 0.0
    noise: float = 0.0
    crop: float = 0.0


def sizes_of(examples: ExampleSet) -> dict[str, Any]:
    """``steps``, ``channels``, ``n_outputs`` and ``is_classes`` of a shape.

    Raises
    ------
    DataError
        If the inputs are not values (n, steps, channels) with lengths (n,).
    """
    shapes = [array.shape for array in examples.inputs]
    if [len(shape) for shape in shapes] != [3, 1]:
        told = ", ".join(map(str, shapes))
        raise DataError(f"inputs: of shapes {told}; allowed: (n, steps, channels) and (n,), the lengths")
    n_outputs = len(examples.classes) or len(examples.targets)
    _, steps, channels = shapes[0]
    return {"steps": steps, "channels": channels, "n_outputs": n_outputs, "is_classes": bool(examples.classes)}
