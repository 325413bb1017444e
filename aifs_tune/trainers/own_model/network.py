"""Network of a user's Keras model: its variables by name, and outputs before softmax."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from aifs_tune.errors import TrainerError
from aifs_tune.trainers.keras_rewrites import fuse_normalization, fuse_pooling
from aifs_tune.trainers.keras_warm import (
    Start,
    built,
    consists_of_keras,
    fresh_names,
    set_strengths,
    tunable,
    variables_of,
    with_variable,
)
from aifs_tune.trainers.network.devices import Devices
from aifs_tune.trainers.network.images import ImageNetwork, to_unit_scale
from aifs_tune.trainers.network.ops import held
from aifs_tune.trainers.network.params import Loss, Optimizer, Precision
from aifs_tune.trainers.network.series import present
from aifs_tune.trainers.own_model.recipe import Kind, ModelRecipe

_MODULES = {
    "keras",
    "keras.layers",
    "keras.models",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.src.models.functional",
}
"""Modules that the configuration of a model of Keras' own layers names."""
_OPERATIONS = "keras.src.ops."
"""Beginning of the modules with the operations of a functional model, such as the sum of two layers."""
_OWN_TRAINING = ("train_step", "compute_loss")
"""Methods of a model that only the training of a compiled model calls."""
_TINY = 1e-7
"""Smallest probability of a class, where a model returns probabilities that are not a softmax or sigmoid at its end."""


@dataclass(frozen=True)
class ModelShape:
    """All that a compiled program depends on.

    Parameters
    ----------
    kind
        Kind of the data.
    inputs
        Shape of one example.
    n_outputs
        Number of classes or of targets.
    is_classes
        Whether classes are predicted.
    architecture
        Digest of the layers of the model, without strengths of dropout and noise.
    optimizer, batch_size, loss
        As in the hyperparameters.
    """

    kind: Kind
    inputs: tuple[int, ...]
    n_outputs: int
    is_classes: bool
    architecture: str
    optimizer: Optimizer
    batch_size: int
    loss: Loss

    @property
    def image(self) -> tuple[int, ...]:
        """Height, width and channels of an image."""
        return self.inputs

    @property
    def n_classes(self) -> int:
        """Number of outputs."""
        return self.n_outputs


@dataclass(frozen=True)
class BuiltModel:
    """A new model, what a trial begins with, and the digest of its architecture."""

    model: Any
    start: Start
    architecture: str


def build_model(
    recipe: ModelRecipe,
    given: Mapping[str, Any],
    inputs: tuple[int, ...],
    n_outputs: int,
    *,
    seed: int,
    precision: Precision,
    devices: Devices | None = None,
) -> BuiltModel:
    """Build the model of a trial on its ``devices``, by default one, with weights of this ``seed``.

    Raises
    ------
    TrainerError
        If the function returns no model, one that it has returned before, a compiled one for several devices, or one
        that is not compiled and trains in its own way or not in float32.
    """

    def make() -> Any:
        found = recipe.make(given, inputs, n_outputs)
        if not isinstance(found, keras.Model):
            raise TrainerError(f"{recipe.name} returned {type(found).__name__}; allowed: a keras.Model")
        if not all(layer.built for layer in found._flatten_layers()):
            found(example)
        return found

    policy, devices = keras.config.dtype_policy(), devices or Devices()
    keras.config.set_dtype_policy(precision)
    try:
        example = np.zeros((2, *inputs), np.float32)
        with devices.scope():
            model, text = built(make, given, lambda: (example,), seed=seed)
    finally:
        keras.config.set_dtype_policy(policy)
    if model.compiled and devices.n > 1:
        raise TrainerError(f"gpu: {devices.n} is not allowed for a model that is compiled; allowed: up to 1")
    if not model.compiled:
        _check_training(model)
    return BuiltModel(model, Start.of(model), hashlib.sha256(text.encode()).hexdigest()[:16])


def _check_training(model: Any) -> None:
    """Check that a model which is not compiled can be trained like the built-in networks."""
    for name in _OWN_TRAINING:
        if getattr(type(model), name) is not getattr(keras.Model, name):
            raise TrainerError(
                f"the model has its own {name}, which is called only if it is compiled; allowed: compile it, or leave "
                f"{name} to Keras"
            )
    for variable in model.trainable_variables:
        if variable.dtype != "float32":
            raise TrainerError(
                f"the model has weights of {variable.dtype} ({variable.path}); allowed: float32, also with "
                "trainer.precision: mixed_bfloat16, or a model that is compiled"
            )


class ModelNetwork(ImageNetwork):
    """Network of a user's model, from inputs of its kind to logits (n, classes) or scaled numbers (n, targets).

    Images are given to the model as float32 of 0 to 1; of series, steps after the end are 0. A model may end with a
    softmax, with one sigmoid for two classes, or with logits.

    Raises
    ------
    TrainerError
        If the outputs of the model have another shape.
    """

    def __init__(self, shape: ModelShape, new: BuiltModel, precision: Precision) -> None:
        self.model, self._new = new.model, new
        fuse_pooling(self.model)
        fuse_normalization(self.model)
        self._tuned = [] if self.model.compiled else [with_variable(layer) for layer in tunable(self.model)]
        self.tune(lambda start: set_strengths(self._tuned, start.strengths[: len(self._tuned)]))
        variables = list(variables_of(self.model))
        names = _names(variables)
        made = {name: held(variable) for name, variable in zip(names, variables, strict=True)}
        trained = {id(variable) for variable in self.model.trainable_variables}
        is_trained = {name: id(variable) in trained for name, variable in zip(names, variables, strict=True)}
        self._names = names
        super().__init__(
            shape,
            precision,
            {name: made[name] for name in names if is_trained[name]},
            {name: made[name] for name in names if not is_trained[name]},
        )
        self._end = _end_of(self.model) if shape.is_classes else None
        self._gives_probabilities = False
        self._check_outputs()

    @property
    def ends_with_probabilities(self) -> bool:
        """Whether the model itself returns probabilities, one for each class."""
        return self._gives_probabilities or (self._end is not None and self.model.outputs[0].shape[-1] > 1)

    def begin_with(self, new: BuiltModel) -> None:
        """The weights that :meth:`initialise` sets, and strengths of dropout and noise."""
        self._new = new
        self.hold(new.start)

    def tune(self, hold: Callable[[Start], None]) -> None:
        """Let ``hold`` set the strengths of dropout and noise, and other settings that variables hold."""
        self.hold = hold

    @property
    def settings(self) -> list[Any]:
        """Strengths of dropout and noise."""
        return [variable for _, variable in self._tuned]

    @property
    def start(self) -> Start:
        """What the trial begins with."""
        return self._new.start

    def initialise(self, seed: int) -> None:
        """Set the weights of the model that was built with this ``seed``."""
        del seed
        self.assign(dict(zip(self._names, self._new.start.values, strict=True)))

    def preprocess(self, raw: Any) -> Any:
        """Inputs of the model, as float32."""
        if self.shape.kind == "images":
            return to_unit_scale(raw)
        if self.shape.kind == "series":
            return raw
        return keras.ops.cast(raw[0], "float32")

    def activation(self, outputs: Any) -> Any:
        """Log-probabilities of classes, or the numbers themselves."""
        return keras.ops.log_softmax(outputs) if self.shape.is_classes else outputs

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Outputs of the model, before a softmax or sigmoid at its end."""
        del drop
        with self._without_end():
            found = keras.ops.cast(self.model(self.inputs_of_model(inputs), training=is_training), "float32")
        if self._gives_probabilities:
            found = keras.ops.log(keras.ops.maximum(found, _TINY))
        if found.shape[-1] == 1 and self.shape.is_classes:
            found = keras.ops.concatenate([keras.ops.zeros_like(found), found], axis=1)
        return found

    def inputs_of_model(self, inputs: Any) -> Any:
        """What the model is given for the result of :meth:`preprocess`."""
        if self.shape.kind != "series":
            return inputs
        values, lengths = inputs
        return values * present(lengths, values.shape[1])[:, :, None]

    def penalty(self) -> Any:
        """Sum of the regularization losses of the layers."""
        losses = self.model.losses
        return sum(keras.ops.cast(loss, "float32") for loss in losses) if losses else None

    def constrain(self) -> None:
        """Apply the constraints of the weights."""
        for variable in self.model.trainable_variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))

    def _check_outputs(self) -> None:
        shape, example = self.shape, np.random.default_rng(1).random((4, *self.shape.inputs), np.float32)
        names = [given.name for given in getattr(self.model, "inputs", None) or ()]
        if len(names) > 1:
            raise TrainerError(
                f"the model has {len(names)} inputs ({', '.join(names)}); allowed: one, or from Python KerasTrainer"
            )
        found = self.model(example, training=False)
        sizes = tuple(found.shape) if keras.ops.is_tensor(found) else None
        n_outputs = (shape.n_outputs, 1) if shape.is_classes and shape.n_outputs == 2 else (shape.n_outputs,)
        if sizes is None:
            raise TrainerError(
                f"the model returns a {type(found).__name__}; allowed: one tensor, or from Python KerasTrainer, which "
                "takes several outputs"
            )
        if len(sizes) != 2 or sizes[1] not in n_outputs:
            came = f"outputs of shape (n, {', '.join(map(str, sizes[1:]))})"
            what = "classes" if shape.is_classes else "targets"
            raise TrainerError(
                f"the model has {came}; allowed: (n, {shape.n_outputs}), for {shape.n_outputs} {what}: "
                "use the argument n_outputs of the function"
            )
        if shape.is_classes and self._end is None:
            _check_end(self.model, sizes[1])
        if shape.is_classes and self._end is None and sizes[1] > 1:
            total = np.array(keras.ops.cast(keras.ops.sum(found, axis=1), "float32"))
            is_share = bool(keras.ops.all(found >= 0)) and bool(np.all(np.abs(total - 1) < 1e-2))
            self._gives_probabilities = is_share

    @contextmanager
    def _without_end(self) -> Iterator[None]:
        """Leave out the softmax or sigmoid at the end of the model."""
        if self._end is None:
            yield
            return
        layer, name, replacement = self._end
        kept = getattr(layer, name)
        object.__setattr__(layer, name, replacement)
        try:
            yield
        finally:
            if name == "call":
                object.__delattr__(layer, name)
            else:
                object.__setattr__(layer, name, kept)


def written_model(model: Any) -> Any:
    """Configuration of a model of Keras' own layers, from which :func:`read_model` makes it; None for another one."""
    try:
        found = keras.saving.serialize_keras_object(model)
        found.pop("compile_config", None)  # only layers are read again
        text = json.dumps(found)
    except Exception:  # noqa: BLE001 - a user's get_config may raise anything
        return None
    return json.loads(text) if _is_readable(found) else None


def read_model(config: Mapping[str, Any], precision: Precision) -> Any:
    """The model of :func:`written_model`, with layers of this ``precision``.

    Raises
    ------
    TrainerError
        If the configuration names other code than Keras' layers, or is damaged.
    """
    if not _is_readable(config):
        raise TrainerError("the configuration of the model names code that is not of Keras' layers")
    try:
        with fresh_names():
            return keras.saving.deserialize_keras_object(_in_precision(config, precision), safe_mode=True)
    except Exception as error:
        raise TrainerError(f"the configuration of the model cannot be read ({error})") from error


def _is_readable(config: Any) -> bool:
    """Whether a configuration names Keras' layers, and operations between them, alone."""
    return consists_of_keras(config) and all(
        module in _MODULES or _is_operation(module, name) for module, name in _named_in(config)
    )


def _named_in(found: Any) -> Iterator[tuple[str, str]]:
    """Modules that a configuration names, with the class in each."""
    inner: Iterable[Any] = found.values() if isinstance(found, Mapping) else found if isinstance(found, list) else ()
    if isinstance(found, Mapping) and found.get("module") is not None:
        yield str(found["module"]), str(found.get("class_name"))
    for each in inner:
        yield from _named_in(each)


def _is_operation(module: str, name: str) -> bool:
    """Whether this is one of Keras' operations on tensors, such as the sum of two layers' outputs."""
    if not module.startswith(_OPERATIONS) or module not in sys.modules:
        return False
    found = getattr(sys.modules[module], name, None)
    return isinstance(found, type) and issubclass(found, keras.Operation)


def _in_precision(found: Any, precision: Precision) -> Any:
    """Copy of a configuration in which mixed_bfloat16, which training may have used, is ``precision``."""
    if isinstance(found, list | tuple):
        return [_in_precision(one, precision) for one in found]
    if not isinstance(found, Mapping):
        return found
    if found.get("class_name") == "DTypePolicy" and found.get("config") == {"name": "mixed_bfloat16"}:
        return {**found, "config": {"name": precision}}
    return {name: _in_precision(value, precision) for name, value in found.items()}


def _end_of(model: Any) -> tuple[Any, str, Any] | None:
    """Layer, attribute and replacement that leave out the softmax or sigmoid at the end of a model; None if unknown."""
    try:
        layer = model.outputs[0]._keras_history.operation
    except (AttributeError, IndexError, TypeError):  # a subclass of keras.Model
        return None
    if sum(one is layer for one in model.layers) != 1:  # the end of a model within the model
        return None
    ends = (keras.activations.softmax, *([keras.activations.sigmoid] if model.outputs[0].shape[-1] == 1 else []))
    if getattr(layer, "activation", None) in ends:
        return layer, "activation", keras.activations.linear
    if type(layer) is keras.layers.Softmax and layer.axis == -1:
        return layer, "call", lambda inputs, mask=None: inputs
    return None


def _check_end(model: Any, n_outputs: int) -> None:
    """Check that a model without a softmax or sigmoid that was found at its end can end with logits.

    Raises
    ------
    TrainerError
        If its last layer has another activation, or its one output may be a probability as well as a logit.
    """
    try:
        activation = getattr(model.outputs[0]._keras_history.operation, "activation", None)
    except (AttributeError, IndexError, TypeError):  # a subclass of keras.Model
        activation = None
    allowed = "a softmax, one sigmoid for two classes, or logits of a layer without activation"
    if activation is None and n_outputs == 1:
        raise TrainerError(f"the model has one output, and its last activation cannot be seen; allowed: {allowed}")
    if activation not in (None, keras.activations.linear, keras.activations.softmax):
        name = getattr(activation, "__name__", type(activation).__name__)
        raise TrainerError(f"the model ends with {name}, {n_outputs} outputs, for classes; allowed: {allowed}")


def _names(variables: list[Any]) -> list[str]:
    """A name for each variable; those of kernels end with ``kernel``, as weight decay needs it.

    The beginning of a path depends on how a model was built, so only layer and variable are taken from it.
    """
    return [f"model.{i}.{'.'.join(variable.path.split('/')[-2:])}" for i, variable in enumerate(variables)]
