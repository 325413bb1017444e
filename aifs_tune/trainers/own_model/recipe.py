"""How the Keras model of a trial is made, and which parameters go to it. Loads no Keras."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

from aifs_tune._util.scalars import Scalar, brief, did_you_mean
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import Parameter
from aifs_tune.trainers.models.cnn_values import CnnValuesParams
from aifs_tune.trainers.network.params import (
    CLASS_LOSS,
    IMAGE_CLASSES,
    SERIES,
    TRAINING,
    VALUE_LOSS,
    ImageParams,
    Loss,
    SeriesParams,
    TrainingParams,
)

Kind: TypeAlias = Literal["images", "table", "series", "frames"]
"""Kind of the data."""
MODEL_NAME = "keras_model.json"
"""File with the layers of a trial's model, or with the function and the arguments that make it."""
OF_DATA = ("input_shape", "n_outputs")
"""Arguments of a model that the data decide."""
_STATIC = ("optimizer", "batch_size", "loss", "model")
OF_ENGINE = (
    *("learning_rate", "optimizer", "momentum", "weight_decay", "schedule", "warmup_epochs", "clip_norm"),
    *("loss", "label_smoothing", "focal_gamma", "mixup", "cutmix"),
)
"""Parameters of the training that a compiled model has in place of the trainer."""
_TABLE: dict[str, Parameter] = {**TRAINING, **CLASS_LOSS, **VALUE_LOSS, "noise": SERIES["noise"]}


def _without(allowed: Mapping[str, Parameter], *names: str) -> dict[str, Parameter]:
    return {name: parameter for name, parameter in allowed.items() if name not in names}


@dataclass(frozen=True, kw_only=True)
class ImageModelParams(ImageParams):
    """Hyperparameters on images of classes; without any, images are not augmented."""

    trainer: ClassVar[str] = "keras"
    allowed: ClassVar = _without(IMAGE_CLASSES, "dropout")
    static_params: ClassVar = _STATIC

    rotation_deg: float = 0.0
    width_shift: float = 0.0
    height_shift: float = 0.0
    horizontal_flip: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TableModelParams(TrainingParams):
    """Hyperparameters on a table."""

    trainer: ClassVar[str] = "keras"
    allowed: ClassVar = _TABLE
    static_params: ClassVar = _STATIC

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    mixup: float = 0.0
    loss: Loss = "mse"
    noise: float = 0.0
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SeriesModelParams(SeriesParams):
    """Hyperparameters on series."""

    trainer: ClassVar[str] = "keras"
    allowed: ClassVar = _without(SERIES, "dropout")
    static_params: ClassVar = _STATIC

    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FrameModelParams(ImageModelParams):
    """Hyperparameters on images of numbers."""

    allowed: ClassVar = _without(
        CnnValuesParams.allowed, "dropout", "filters", "conv_blocks", "kernel_size", "dense_units", "values_weight"
    )

    loss: Loss = "mse"


PARAMS: Mapping[Kind, Any] = {
    "images": ImageModelParams,
    "table": TableModelParams,
    "series": SeriesModelParams,
    "frames": FrameModelParams,
}
"""Hyperparameters of the training for each kind of data."""


@dataclass(frozen=True)
class ModelRecipe:
    """A function that returns a ``keras.Model``, and the kind of the data.

    Parameters
    ----------
    name
        Name of ``code``, for messages.
    code
        The function. It is given the parameters that it takes by name, ``input_shape`` and ``n_outputs``.
    kind
        The kind of the data.
    """

    name: str
    code: Callable[..., Any]
    kind: Kind

    @property
    def of_training(self) -> Mapping[str, Parameter]:
        """Parameters of the training, with their allowed values: those that the function does not take."""
        return _without(PARAMS[self.kind].allowed, *self._arguments)

    def from_mapping(self, params: Mapping[str, Scalar]) -> Any:
        """Hyperparameters of a trial; ``model`` are those that the function is given.

        Raises
        ------
        RequestError
            If nobody takes a parameter, or a value is not allowed.
        """
        for name, value in params.items():
            if not self._is_known(name):
                known = [*self.arguments, *self.of_training]
                raise RequestError(
                    f"{brief(name)}: {brief(value)} is no argument of {self.name} and no parameter of the training"
                    f"{did_you_mean(name, known)}; allowed: {', '.join(known)}"
                )
        of_training = {name: value for name, value in params.items() if name in self.of_training}
        made = PARAMS[self.kind].from_mapping(of_training)
        return replace(made, model={name: value for name, value in params.items() if name not in of_training})

    def make(self, given: Mapping[str, Any], input_shape: Sequence[int], n_outputs: int) -> Any:
        """Call the function with ``given`` and what it takes of ``input_shape`` and ``n_outputs``."""
        of_data = {"input_shape": tuple(input_shape), "n_outputs": n_outputs}
        taken = {name: value for name, value in of_data.items() if name in self._arguments or self._takes_any}
        return self.code(**given, **taken)

    def check_compiled(self, names: Iterable[str], *, is_compiled: bool) -> None:
        """Check that no parameter of optimizer or loss goes to a model that does not use it.

        ``names`` are those of the parameters of a trial.

        Raises
        ------
        RequestError
            If one does: the training of a compiled model has none of them, and a function whose model the trainer
            compiles takes none of them.
        """
        is_lost = set(names) - set(self.arguments) if is_compiled else set(self.arguments)
        lost = [name for name in OF_ENGINE if name in is_lost]
        if lost and is_compiled:
            raise RequestError(
                f"space.{lost[0]}: {self.name} compiles its model with an optimizer and a loss of its own, which do "
                f"not use {', '.join(lost)}; allowed: arguments of {self.name}, batch_size and augmentation, or a "
                "model that is not compiled"
            )
        if lost:
            raise RequestError(
                f"{', '.join(lost)}: {self.name} takes what belongs to the training of the trainer keras, but returns "
                "a model that is not compiled; allowed: a compiled model, or a function without these arguments"
            )

    def check_space(self, names: Sequence[str], of_training: Mapping[str, Parameter]) -> None:
        """Check that each parameter of a space is one of the function or of the training.

        Raises
        ------
        RequestError
            If one is not, or the function requires another one.
        """
        for name in names:
            if name in OF_DATA:
                raise RequestError(f"space.{name}: the data decide it; allowed: any other parameter")
            if name in self.of_training and name not in of_training:
                reason = "only with classes, not with numbers" if name in CLASS_LOSS else "only with numbers"
                raise RequestError(f"space.{name}: has an effect {reason}; allowed: {', '.join(of_training)}")
            if not self._is_known(name):
                known = [*self.arguments, *of_training]
                raise RequestError(
                    f"space.{name}: {self.name} takes no such argument, and the training has no such parameter"
                    f"{did_you_mean(name, known)}; allowed: {', '.join(known)}"
                )
        for name, argument in self.arguments.items():
            if argument.default is argument.empty and name not in names:
                raise RequestError(
                    f"trainer.model {self.name}: requires the argument {name}, which is no parameter of the space"
                    f"{did_you_mean(name, list(names))}; allowed: {', '.join(names)}, or a default for it"
                )

    @cached_property
    def arguments(self) -> Mapping[str, inspect.Parameter]:
        """Arguments of the function by name, without :data:`OF_DATA`."""
        return {name: argument for name, argument in self._arguments.items() if name not in OF_DATA}

    def _is_known(self, name: str) -> bool:
        return name in self.arguments or name in self.of_training or (self._takes_any and name not in OF_DATA)

    @cached_property
    def _arguments(self) -> Mapping[str, inspect.Parameter]:
        signature = inspect.signature(self.code).parameters
        return {name: p for name, p in signature.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}

    @cached_property
    def _takes_any(self) -> bool:
        return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(self.code).parameters.values())
