"""Keras models that trials of equal architecture share, so that each architecture is compiled once."""

from __future__ import annotations

import gc
import json
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.backend.common import global_state
from numpy.typing import NDArray

from aifs_tune.errors import TrainerError
from aifs_tune.trainers.keras_rewrites import fuse_pooling
from aifs_tune.trainers.network.devices import ChunkSizer
from aifs_tune.trainers.network.runtime import tf

MAX_WARM_MODELS = 8
"""Architectures whose compiled models a process keeps; the one that was not used for longest is dropped."""
_BYTES = 4
"""Of a weight in float32; others are counted like it."""
MAX_UNCOLLECTED = 128 * 2**20
"""Bytes of weights of newly built models after which those that are no longer in use are collected."""
_LAYER_NAMES = "object_name_uids"
_STRENGTHS: Mapping[type, str] = {
    keras.layers.Dropout: "rate",
    keras.layers.SpatialDropout1D: "rate",
    keras.layers.SpatialDropout2D: "rate",
    keras.layers.SpatialDropout3D: "rate",
    keras.layers.GaussianDropout: "rate",
    keras.layers.GaussianNoise: "stddev",
}
"""Layers whose strength becomes a variable, and its name."""
_COEFFICIENTS = ("momentum", "beta_1", "beta_2", "rho", "epsilon")
_RATES = ("learning_rate", "weight_decay", "global_clipnorm", *_COEFFICIENTS)
"""Settings of an optimizer that become variables if they are numbers."""
_SMOOTHING = "label_smoothing"
"""Setting of a loss that becomes a variable."""
_PLAIN = ("__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__", "__typespec__")
"""Names in a configuration for what is no class."""


@dataclass(frozen=True)
class Start:
    """What one trial of an architecture begins with.

    Parameters
    ----------
    values
        Values of :func:`variables_of` the model.
    strengths
        Strengths of its dropout and noise layers, in their order.
    optimizer
        Those of :data:`_RATES` that its optimizer has as a number.
    loss
        Label smoothing of its losses, then ``loss_weights``.
    """

    values: list[NDArray[Any]]
    strengths: list[float]
    optimizer: dict[str, float]
    loss: list[float]

    @classmethod
    def of(cls, model: keras.Model) -> Start:
        """The start that a newly built model gives."""
        values = [np.array(variable) for variable in variables_of(model)]
        strengths = [float(getattr(layer, _STRENGTHS[type(layer)])) for layer in tunable(model)]
        return cls(values, strengths, _rates(getattr(model, "optimizer", None)), _loss_settings(model))


@contextmanager
def fresh_names() -> Iterator[None]:
    """Count the automatic names of layers from 0, so that equal models have equal names."""
    kept = global_state.get_global_attribute(_LAYER_NAMES)
    global_state.set_global_attribute(_LAYER_NAMES, None)
    try:
        yield
    finally:
        global_state.set_global_attribute(_LAYER_NAMES, kept)


def architecture_of(model: keras.Model, params: Mapping[str, Any]) -> str:
    """Text that is the same for models which can share a compiled program.

    It is made of the configuration of all layers, loss, metrics and optimizer, without what variables hold, which is
    the settings in :class:`Start`. Code that Keras does not know, such as a class of the user's, may do anything with
    the ``params`` of the trial; then these are part of the text, as with layers that were adapted to data.
    """
    try:
        described = {"model": model.get_config(), "compiled": model.get_compile_config() or {}}
        text = json.dumps(_without_settings(model, described), sort_keys=True, default=repr)
        is_known = _is_of_keras(type(model)) and consists_of_keras(described)
        is_known &= not any(hasattr(layer, "adapt") for layer in model._flatten_layers())
    except Exception:  # noqa: BLE001 - a user's get_config may raise anything
        text, is_known = type(model).__qualname__, False
    shapes = [(variable.path, tuple(variable.shape), bool(variable.trainable)) for variable in _weights(model)]
    own = None if is_known else sorted((name, repr(value)) for name, value in params.items())
    return json.dumps([text, shapes, own, keras.config.dtype_policy().name])


def variables_of(model: keras.Model) -> list[Any]:
    """Weights and states of the layers of a model, then its random generators in the order of their layers."""
    return [*_weights(model), *_generators(model)]


def _weights(model: keras.Model) -> list[Any]:
    generators = {id(state) for state in _generators(model)}
    return [variable for variable in model.variables if id(variable) not in generators]


def _generators(model: keras.Model) -> list[Any]:
    layers = model._flatten_layers(include_self=True)
    return [generator.state for layer in layers for generator in layer._seed_generators]


def built(
    build: Callable[[], keras.Model], params: Mapping[str, Any], batch: Callable[[], Any], *, seed: int
) -> tuple[keras.Model, str]:
    """Model that ``build`` returns, with weights of this ``seed``, and its :func:`architecture_of`.

    ``batch`` returns an example of a batch, (x, y) or (x, y, weights), for models that are built by their first.

    Raises
    ------
    TrainerError
        If ``build`` returns a model that it has returned before, whose weights another trial may have trained.
    """
    keras.utils.set_random_seed(seed % 2**32)
    with fresh_names():
        model = build()
        if any(model is known() for known in _NEW_MODELS.known):
            raise TrainerError(
                "the function returned a model that it has returned before; allowed: a new one each time"
            )
        if not all(layer.built for layer in model._flatten_layers()):
            if model.compiled:
                _build(model.optimizer, lambda: model._symbolic_build(data_batch=batch()))
            else:
                model(batch()[0])
        _add_generators(model)
    _NEW_MODELS.add(model)
    return model, architecture_of(model, params)


class _NewModels:
    """Models that functions have returned and that are still in memory.

    The layers of a model refer to each other, so that its weights stay in memory until Python collects garbage, which
    it does by the number of objects: few of them may hold gigabytes.
    """

    def __init__(self) -> None:
        self.known: list[weakref.ref[Any]] = []
        self._n_bytes = 0

    def add(self, model: keras.Model) -> None:
        """Count a new model, and free those that are no longer in use after :data:`MAX_UNCOLLECTED`."""
        self._n_bytes += sum(int(np.prod(variable.shape)) * _BYTES for variable in model.variables)
        if self._n_bytes > MAX_UNCOLLECTED:
            self._n_bytes = 0
            gc.collect()
        self.known = [*(known for known in self.known if known() is not None), weakref.ref(model)]


_NEW_MODELS = _NewModels()


class WarmModels:
    """The compiled models of a process, by architecture.

    ``is_private`` is whether only training and saving use the models, so that parts of them may be computed in faster
    forms; see :func:`~aifs_tune.trainers.keras_rewrites.fuse_pooling`.
    """

    def __init__(self, *, is_private: bool = False) -> None:
        self._is_private = is_private
        self._models: OrderedDict[str, WarmModel] = OrderedDict()
        self.n_compiled = 0
        """Architectures compiled so far."""

    def take(
        self, build: Callable[[], keras.Model], params: Mapping[str, Any], batch: Callable[[], Any], *, seed: int
    ) -> WarmModel:
        """Compiled model for what ``build`` returns, with the weights of ``build``; see :func:`built`."""
        model, key = built(build, params, batch, seed=seed)
        start = Start.of(model)
        if key not in self._models or not self._models[key].is_intact:
            if self._is_private:
                fuse_pooling(model)
            self._models[key] = WarmModel(model, batch)
            self.n_compiled += 1
        self._models.move_to_end(key)
        while len(self._models) > MAX_WARM_MODELS:
            self._models.popitem(last=False)
        warm = self._models[key]
        warm.begin(start)
        return warm


class WarmModel:
    """A Keras model with the compiled training of its architecture.

    Parameters
    ----------
    model
        A compiled ``keras.Model``.
    batch
        Returns an example of a batch: (x, y) or (x, y, weights).
    """

    def __init__(self, model: keras.Model, batch: Callable[[], Any]) -> None:
        self.model, self._batch, self._optimizer = model, batch, model.optimizer
        self._tuned = [with_variable(layer) for layer in tunable(model)]
        self._trainable = [(layer, layer.trainable) for layer in model._flatten_layers()]
        optimizer = model.optimizer
        if not optimizer.built:
            _build(optimizer, lambda: optimizer.build(model.trainable_variables))
        self._rates = _with_variables(optimizer)
        self._loss = _LossSettings(model)
        self._slots = [(slot, np.array(slot)) for slot in optimizer.variables]
        self._chunks = {"train": ChunkSizer(), "test": ChunkSizer()}
        self._programs: dict[tuple[str, int | None], Any] = {}

    @property
    def is_intact(self) -> bool:
        """Whether no callback has compiled the model anew."""
        return self.model.optimizer is self._optimizer

    def begin(self, start: Start) -> None:
        """Begin a trial: set weights, optimizer and strengths."""
        model = self.model
        for layer, is_trainable in self._trainable:
            if layer.trainable != is_trainable:
                layer.trainable = is_trainable
        for variable, value in zip(variables_of(model), start.values, strict=True):
            variable.assign(value)
        for slot, value in self._slots:
            slot.assign(value)
        self.hold(start)
        model.reset_metrics()
        model.stop_training = False

    def hold(self, start: Start) -> None:
        """Set strengths, and settings of optimizer and loss, alone."""
        for name, rate in start.optimizer.items():
            setattr(self.model.optimizer, name, rate)
            if name in self._rates:
                self._rates[name].hold(rate)
        self._loss.hold(start.loss)
        set_strengths(self._tuned, start.strengths)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that training changes: weights, states of layers and of random generators, and the optimizer."""
        kept = {f"model/{i}": np.array(variable) for i, variable in enumerate(variables_of(self.model))}
        return kept | {f"optimizer/{i}": np.array(slot) for i, (slot, _) in enumerate(self._slots)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set what :meth:`state` returned."""
        for i, variable in enumerate(variables_of(self.model)):
            variable.assign(state[f"model/{i}"])
        for i, (slot, _) in enumerate(self._slots):
            slot.assign(state[f"optimizer/{i}"])

    def runs_in_graph(self, callbacks: Sequence[Any]) -> bool:
        """Whether :meth:`fit` gives what Keras' own loop gives.

        Keras' own loop is needed where code of the user's is called at each batch, or an optimizer averages weights.
        """
        model = self.model
        is_own_step = type(model).train_step is not keras.Model.train_step
        is_own_test = type(model).test_step is not keras.Model.test_step
        per_batch = any(_is_called_per_batch(callback) for callback in callbacks)
        return (
            keras.backend.backend() == "tensorflow"
            and not (is_own_step or is_own_test or per_batch or model.run_eagerly)
            and not getattr(model.optimizer, "use_ema", False)
            and getattr(model, "_distribute_strategy", None) is None
        )

    def fit(
        self,
        train: Any,
        val: Any,
        *,
        batch_size: int,
        epochs: int,
        initial_epoch: int,
        seed: int,
        callbacks: Sequence[Any],
        prepare: Callable[[int], Prepare] | None = None,
    ) -> None:
        """Train like ``model.fit`` on tensors, many batches in one call of a compiled program.

        The order of the examples depends on ``seed`` and the number of the epoch alone. ``prepare`` returns what makes
        the training batches of an epoch.
        """
        model, n = self.model, _length(train)
        called = keras.callbacks.CallbackList(
            list(callbacks), add_history=True, model=model, epochs=epochs, steps=-(-n // batch_size)
        )
        logs: dict[str, float] = {}
        model.stop_training = False
        called.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            called.on_epoch_begin(epoch)
            order = np.random.default_rng([seed, epoch + 1]).permutation(n).astype(np.int32)
            logs = self.run("train", train, order, batch_size, prepare and prepare(epoch))
            if val is not None:
                called.on_test_begin()
                measured = self.run("test", val, np.arange(_length(val), dtype=np.int32), batch_size)
                called.on_test_end(measured)
                logs |= {f"val_{name}": value for name, value in measured.items()}
            called.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        called.on_train_end(logs)

    @property
    def n_traces(self) -> int:
        """Traces of the compiled programs so far."""
        return sum(program.experimental_get_tracing_count() for program in self._programs.values())

    def run(
        self, what: str, data: Any, order: NDArray[np.int32], batch_size: int, prepare: Prepare | None = None
    ) -> dict[str, float]:
        """Run all batches of ``data`` in this ``order`` through the training or the test; return the model's metrics.

        ``what`` is ``train`` or ``test``; ``prepare`` makes the batches.
        """
        program = what, None if prepare is None else batch_size
        if program not in self._programs:
            self.model._symbolic_build(data_batch=self._batch())
            step = self.model.train_step if what == "train" else self.model.test_step
            self._programs[program] = _looped(_as_compiled(self.model, step), prepare and prepare.batch)
        self.model.reset_metrics()
        given = tf.constant(order), tf.constant(batch_size), () if prepare is None else prepare.given
        for first, last in self._chunks[what].slices(-(-len(order) // batch_size)):
            int(self._programs[program](data, *given, tf.constant(first), tf.constant(last)))  # waits for its end
        return {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def run_by_keras(
        self, what: str, data: Any, order: NDArray[np.int32], batch_size: int, prepare: Prepare
    ) -> dict[str, float]:
        """The same as :meth:`run` by Keras' own loop."""
        picked, size = tf.constant(order), tf.constant(batch_size)
        steps = tf.data.Dataset.range(-(-len(order) // batch_size), output_type=tf.int32)
        batches = steps.map(lambda i: prepare.batch(data, picked, size, i, prepare.given))
        if what == "test":
            return dict(self.model.evaluate(batches, return_dict=True, verbose=0))
        history = self.model.fit(batches, shuffle=False, verbose=0).history
        return {name: float(values[0]) for name, values in history.items()}


class Prepare(NamedTuple):
    """How batches are made within the compiled program.

    Parameters
    ----------
    batch
        Called with the data, the order of the examples, the batch size, the number of the batch and ``given``; returns
        (x, y) or (x, y, weights).
    given
        Tensors that differ between epochs.
    """

    batch: Callable[[Any, Any, Any, Any, Any], Any]
    given: Any


def filled_batch(data: Any, order: Any, batch_size: int, i: Any) -> tuple[Any, Any]:
    """Batch ``i``, filled up with the first examples so that its shape stays the same, and how many are its own."""
    n = tf.shape(order)[0]
    picked = tf.gather(order, (i * batch_size + tf.range(batch_size)) % n)
    batch = tf.nest.map_structure(lambda values: tf.gather(values, picked), data)
    return batch, tf.minimum(n - i * batch_size, batch_size)


def _picked(data: Any, order: Any, size: Any, i: Any, given: Any) -> Any:
    """Batch ``i`` of the data as they are."""
    del given
    picked = order[i * size : tf.minimum((i + 1) * size, tf.shape(order)[0])]
    return tf.nest.map_structure(lambda values: tf.gather(values, picked), data)


def _looped(step: Callable[[Any], Any], batch: Callable[..., Any] | None) -> Any:
    """Compiled function that takes batches ``first`` to ``last`` (exclusive) of the data through ``step``."""
    of = batch or _picked

    def run(data: Any, order: Any, size: Any, given: Any, first: Any, last: Any) -> Any:
        def one(i: Any) -> Any:
            step(of(data, order, size, i, given))
            return (i + 1,)

        return tf.while_loop(lambda i: i < last, one, (first,))[0]

    compiled = tf.function(run, autograph=False, reduce_retracing=True)
    compiled._omit_frequent_tracing_warning = True  # each architecture is traced once, which looks like too often
    return compiled


def _as_compiled(model: keras.Model, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``step``, by XLA if the user's ``compile`` asks for it."""
    wants_xla = getattr(getattr(model, "_compile_config", None), "config", {}).get("jit_compile") is True
    return tf.function(step, jit_compile=True, reduce_retracing=True) if wants_xla else step


def set_strengths(tuned: Sequence[tuple[Any, Any]], strengths: Sequence[float]) -> None:
    """Set the strengths of layers of dropout and noise, which :func:`with_variable` returned."""
    for (layer, variable), strength in zip(tuned, strengths, strict=True):
        setattr(layer, _STRENGTHS[type(layer)], strength)
        variable.assign(strength)


def tunable(model: keras.Model) -> list[Any]:
    """Layers of dropout and noise of a model, in its order."""
    return [layer for layer in model._flatten_layers() if type(layer) in _STRENGTHS]


def _add_generators(model: keras.Model) -> None:
    """Give layers of strength 0, which draw nothing, a random generator like all others."""
    for layer in tunable(model):
        if not hasattr(layer, "seed_generator"):
            layer._tracker.unlock()
            layer.seed_generator = keras.random.SeedGenerator(layer.seed)
            layer._tracker.lock()


def with_variable(layer: Any) -> tuple[Any, Any]:
    """Let ``layer`` read its strength from a variable, so that a compiled program serves every strength."""
    variable = keras.Variable(0.0, trainable=False, dtype="float32", name="strength")

    def strength(inputs: Any) -> Any:
        return keras.ops.cast(variable, inputs.dtype)

    def dropped(inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        sizes = keras.ops.shape(inputs)
        noise_shape = layer._get_noise_shape(inputs) if hasattr(layer, "_get_noise_shape") else layer.noise_shape
        wanted = (
            sizes if noise_shape is None else [a if b is None else b for a, b in zip(sizes, noise_shape, strict=True)]
        )
        drawn = keras.random.uniform(wanted, dtype=inputs.dtype, seed=layer.seed_generator)
        share = strength(inputs)
        return keras.ops.where(drawn >= share, inputs * (1 / (1 - share)), keras.ops.zeros_like(inputs))

    def noisy(inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        drawn = keras.random.normal(keras.ops.shape(inputs), dtype=inputs.dtype, seed=layer.seed_generator)
        if isinstance(layer, keras.layers.GaussianNoise):
            return inputs + drawn * strength(inputs)
        share = strength(inputs)
        return inputs * (1 + drawn * keras.ops.sqrt(share / (1 - share)))

    is_noise = isinstance(layer, keras.layers.GaussianNoise | keras.layers.GaussianDropout)
    object.__setattr__(layer, "call", noisy if is_noise else dropped)
    return layer, variable


def _without_settings(model: Any, described: Mapping[str, Any]) -> Any:
    """The configuration of a model, and of its compilation, without what variables hold."""
    layers, compiled = _without(described["model"], _strength_in), described["compiled"]
    if not compiled:
        return layers
    optimizer, held = compiled["optimizer"], _rates(model.optimizer)
    kept = {name: value for name, value in optimizer["config"].items() if name not in held}
    has_slots = not hasattr(model.optimizer, "momentum") or _holds_momentum(model.optimizer)
    loss = _without(compiled["loss"], lambda one: [_SMOOTHING] if one.get("module") == "keras.losses" else [])
    weights = keras.tree.map_structure(lambda weight: weight is None, compiled["loss_weights"])
    return [
        layers,
        {**compiled, "optimizer": [optimizer["class_name"], kept, has_slots], "loss": loss, "loss_weights": weights},
    ]


def _strength_in(found: Mapping[str, Any]) -> list[str]:
    """Name of the strength in the configuration of a layer that has one."""
    is_layer = found.get("module") == "keras.layers"
    return [name for layer, name in _STRENGTHS.items() if is_layer and layer.__name__ == found.get("class_name")]


def _without(found: Any, held: Callable[[Mapping[str, Any]], list[str]]) -> Any:
    """Copy of a configuration; of each object the settings are left out whose names ``held`` returns."""
    if isinstance(found, list | tuple):
        return [_without(one, held) for one in found]
    if not isinstance(found, Mapping):
        return found
    copied = {name: _without(value, held) for name, value in found.items()}
    if isinstance(copied.get("config"), dict):
        copied["config"] = {name: value for name, value in copied["config"].items() if name not in held(copied)}
    return copied


def consists_of_keras(found: Any) -> bool:
    """Whether a configuration names classes and functions of Keras alone."""
    if isinstance(found, list | tuple):
        return all(consists_of_keras(one) for one in found)
    if not isinstance(found, Mapping):
        return isinstance(found, str | int | float | bool | None)
    if "class_name" in found and not _is_standard(found):
        return False
    return all(consists_of_keras(value) for value in found.values())


def _is_standard(found: Mapping[str, Any]) -> bool:
    module = str(found.get("module") or "")
    name = found["class_name"]
    return name in _PLAIN or (module.partition(".")[0] == "keras" and name not in ("Lambda", "function"))


def _is_of_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "keras"


def _is_called_per_batch(callback: Any) -> bool:
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    more = ("on_test_batch_begin", "on_test_batch_end")
    base = keras.callbacks.Callback
    return any(getattr(type(callback), hook) is not getattr(base, hook) for hook in (*hooks, *more))


class _Held(keras.Variable):  # type: ignore[misc]
    """A number of an optimizer or a loss as a variable.

    As of a Python number, 1 minus it is exact, which the update of Adam needs. Keras leaves out what belongs to a
    number of 0; of a variable it is computed, so this one is true, above 0 and other than 0.
    """

    def __init__(self, name: str) -> None:
        super().__init__(0.0, trainable=False, dtype="float32", name=name)
        self._rest = keras.Variable(1.0, trainable=False, dtype="float32", name=f"one_minus_{name}")

    def hold(self, value: float) -> None:
        self.assign(value)
        self._rest.assign(1 - value)

    def __rsub__(self, one: Any) -> Any:
        return self._rest.value if isinstance(one, int | float) and one == 1 else one - self.value

    def __bool__(self) -> bool:
        return True

    def __ne__(self, other: object) -> Any:
        return True

    def __gt__(self, other: Any) -> Any:
        return True

    __hash__ = keras.Variable.__hash__


def _rates(optimizer: Any) -> dict[str, float]:
    """Those settings of :data:`_RATES` that are numbers."""
    if not _is_of_keras(type(optimizer)):
        return {}
    rates = {name: getattr(optimizer, name, None) for name in _RATES[1:]}
    if isinstance(getattr(optimizer, "_learning_rate", None), keras.Variable):
        rates["learning_rate"] = optimizer.learning_rate
    return {name: float(value) for name, value in rates.items() if value is not None}


def _build(optimizer: Any, build: Callable[[], Any]) -> None:
    """Call ``build``, which builds ``optimizer``, with slots for a momentum even if it is 0."""
    is_without = _is_of_keras(type(optimizer)) and getattr(optimizer, "momentum", None) == 0
    if is_without:
        optimizer.momentum = 0.5
    try:
        build()
    finally:
        if is_without:
            optimizer.momentum = 0.0


def _holds_momentum(optimizer: Any) -> bool:
    """Whether ``optimizer`` has slots for a momentum, or will have them; code of the user may have built it without."""
    return not optimizer.built or bool(getattr(optimizer, "momentums", getattr(optimizer, "_momentums", None)))


def _with_variables(optimizer: Any) -> dict[str, _Held]:
    """Let ``optimizer`` read its settings, but for the learning rate, from variables."""
    names = [name for name in _rates(optimizer) if name != "learning_rate"]
    if "momentum" in names and not _holds_momentum(optimizer):
        names.remove("momentum")
    held = {name: _Held(name) for name in names}
    coefficients = {name: held[name] for name in _COEFFICIENTS if name in held}
    step = optimizer._backend_update_step

    def decayed(variables: Sequence[Any]) -> None:
        for variable in variables:
            if optimizer._use_weight_decay(variable):
                share = keras.ops.cast(held["weight_decay"] * optimizer.learning_rate, variable.dtype)
                variable.assign(variable - variable * share)

    def clipped(gradients: Sequence[Any]) -> list[Any]:
        squares = [keras.ops.sum(keras.ops.square(one)) for one in gradients if one is not None]
        norm, limit = keras.ops.sqrt(sum(squares)), held["global_clipnorm"].value
        factor = keras.ops.where((limit > 0) & (norm > limit), limit / keras.ops.maximum(norm, 1e-12), 1.0)
        return [one if one is None else one * keras.ops.cast(factor, one.dtype) for one in gradients]

    def updated(gradients: Any, variables: Any, learning_rate: Any) -> None:
        numbers = {name: getattr(optimizer, name) for name in coefficients}
        try:
            for name, variable in coefficients.items():
                object.__setattr__(optimizer, name, variable)
            step(gradients, variables, learning_rate)
        finally:  # numbers again, as they are written to a file
            for name, number in numbers.items():
                object.__setattr__(optimizer, name, number)

    if "weight_decay" in held:
        object.__setattr__(optimizer, "_apply_weight_decay", decayed)
    if "global_clipnorm" in held and not (optimizer.clipnorm or optimizer.clipvalue):
        object.__setattr__(optimizer, "_clip_gradients", clipped)
    if coefficients:
        object.__setattr__(optimizer, "_backend_update_step", updated)
    return held


def _loss_settings(model: keras.Model) -> list[float]:
    """Label smoothing of each loss of Keras that has it, then ``loss_weights``."""
    loss = getattr(model, "_compile_loss", None)
    if loss is None:
        return []
    smoothing = [each.label_smoothing for each in keras.tree.flatten(loss._user_loss) if _is_smoothing(each)]
    return [float(value) for value in (*smoothing, *_weights_of(loss))]


class _LossSettings:
    """Variables for :func:`_loss_settings` of a model, which its losses then read."""

    def __init__(self, model: keras.Model) -> None:
        self._smoothing: list[tuple[Any, _Held]] = []
        self._weights: list[_Held] = []
        self._config = model._compile_config.config if getattr(model, "_compile_config", None) else {}
        loss = getattr(model, "_compile_loss", None)
        if loss is not None and _loss_settings(model):
            losses, weights = keras.tree.map_structure(self._smoothed, loss._user_loss), loss._user_loss_weights
            model._compile_loss = type(loss)(losses, reduction=loss.reduction, output_names=loss.output_names)
            model._compile_loss._user_loss_weights = keras.tree.map_structure(self._weight, weights)

    def hold(self, settings: Sequence[float]) -> None:
        """Set the variables, and the settings that are written to a file with the model."""
        rest = iter(settings)
        for loss, held in self._smoothing:
            loss.label_smoothing = next(rest)
            held.hold(loss.label_smoothing)
        for held in self._weights:
            held.hold(next(rest))
        if self._weights:
            numbers = iter(settings[len(self._smoothing) :])
            given = self._config["loss_weights"]
            self._config["loss_weights"] = keras.tree.map_structure(
                lambda weight: None if weight is None else next(numbers), given
            )

    def _smoothed(self, loss: Any) -> Any:
        if not _is_smoothing(loss):
            return loss
        self._smoothing.append((loss, _Held(_SMOOTHING)))
        copied = copy(loss)  # models of other architectures may have the same loss
        copied._fn_kwargs = {**loss._fn_kwargs, _SMOOTHING: self._smoothing[-1][1]}
        return copied

    def _weight(self, weight: Any) -> Any:
        if weight is None:
            return None
        self._weights.append(_Held("loss_weight"))
        return self._weights[-1]


def _is_smoothing(loss: Any) -> bool:
    return _is_of_keras(type(loss)) and _SMOOTHING in getattr(loss, "_fn_kwargs", {})


def _weights_of(loss: Any) -> list[float]:
    return [weight for weight in keras.tree.flatten(loss._user_loss_weights) if weight is not None]


def _length(data: Any) -> int:
    return int(tf.nest.flatten(data)[0].shape[0])
