"""What can be tuned in any trial that tells classes of images apart. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aifs_tune.parameters import ChoiceParameter, FloatParameter, Parameter
from aifs_tune.trainers.params import CLASS_LOSS, TRAINING, TrainingParams

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
    """The changes of a random view of an image that is to be classified: all of ``hyperparameters`` that keep it whole."""
    return {name: hyperparameters[name] for name in IMAGE_CHANGES} | {"random_erasing": 0.0, "cutmix": 0.0}
