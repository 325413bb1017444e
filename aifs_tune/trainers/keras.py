"""Trainer of a user's own Keras model, and a callback for a ``model.fit`` that exists already."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from aifs_tune._util.scalars import brief, did_you_mean
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.space.parameters import Parameter
from aifs_tune.space.search_space import Space
from aifs_tune.trainers.keras_augment import ALLOWED, ArrayAugmentation
from aifs_tune.trainers.keras_files import FACTS_NAME, MODEL_NAME
from aifs_tune.trainers.keras_warm import Prepare, WarmModel, WarmModels, built
from aifs_tune.trainers.network.runtime import resident, tf
from aifs_tune.trainers.running_trial import RunningTrial

_WEIGHTS = "model.weights.h5"
_STATE = "state.npz"
_BATCH_SIZE = 32
"""Examples in a batch, as of ``fit``."""
OF_OPTIMIZER = ("optimizer", "learning_rate", "weight_decay", "clip_norm")
"""Parameters that the trainer gives to the optimizer where ``build`` does not take them."""
OF_FIT = ("batch_size",)
"""Parameters that the trainer gives to ``fit`` where ``build`` does not take them."""


class ReportEpochs(keras.callbacks.Callback):  # type: ignore[misc]
    """Keras callback that reports the epochs of ``model.fit`` as those of a trial.

    It stops the training when the trial is to stop, writes a checkpoint after each epoch, and keeps the model of the
    best epoch. A trial that was interrupted goes on from its checkpoint if ``fit`` is called with
    ``initial_epoch=trial.epoch``.

    Parameters
    ----------
    trial : RunningTrial
        The trial.
    checkpoint : bool
        Whether to write checkpoints. Default: True.
    save_best : bool
        Whether to keep the model of the best epoch as ``model.keras``; of a subclass of ``keras.Model`` without
        ``get_config`` its weights. Default: True.

    Examples
    --------
    >>> from aifs_tune.trainers import ReportEpochs
    >>> def run(units, trial):
    ...     model = build_model(units)
    ...     model.fit(
    ...         x,
    ...         y,
    ...         validation_data=(x_val, y_val),
    ...         epochs=trial.epochs,
    ...         initial_epoch=trial.epoch,
    ...         callbacks=[ReportEpochs(trial)],
    ...     )
    """

    def __init__(self, trial: RunningTrial, *, checkpoint: bool = True, save_best: bool = True) -> None:
        super().__init__()
        self._trial, self._checkpoint, self._save_best = trial, checkpoint, save_best

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Continue from the checkpoint of an interrupted trial.

        Parameters
        ----------
        logs
            Not used.
        """
        del logs
        if self._trial.restored is not None:
            self.restore(self._trial.restored)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Report the epoch.

        Parameters
        ----------
        epoch
            Number of the epoch, from 0.
        logs
            Its metrics by name.
        """
        metrics = dict(logs or {})
        if self._save_best and self._trial.is_better(metrics):
            try:
                self._trial.save(MODEL_NAME, self.model.save)
            except NotImplementedError:  # a subclass of keras.Model without get_config
                self._trial.save(_WEIGHTS, self.model.save_weights)
        if self._checkpoint and epoch + 1 < self._trial.epochs:
            with self._trial.checkpoint_dir() as folder:
                self.write(folder)
        if not self._trial.report(metrics):
            self.model.stop_training = True

    def write(self, folder: Path) -> None:
        """Write the checkpoint.

        Parameters
        ----------
        folder
            An empty folder.
        """
        self.model.save_weights(folder / _WEIGHTS)

    def restore(self, folder: Path) -> None:
        """Continue from the checkpoint.

        Parameters
        ----------
        folder
            The folder of :meth:`write`.
        """
        if self.model.optimizer is not None:
            self.model.optimizer.build(self.model.trainable_variables)
        self.model.load_weights(folder / _WEIGHTS)


class _ReportWarm(ReportEpochs):
    """Report of a model that trials share, whose checkpoint holds random generators too."""

    def __init__(self, trial: RunningTrial, warm: WarmModel) -> None:
        super().__init__(trial)
        self._warm = warm

    def write(self, folder: Path) -> None:
        np.savez(folder / _STATE, **self._warm.state())  # type: ignore[arg-type]

    def restore(self, folder: Path) -> None:
        with np.load(folder / _STATE, allow_pickle=False) as state:
            self._warm.restore(state)


class KerasTrainer:
    """Trainer of a user's own Keras model.

    Parameters
    ----------
    build : callable
        Returns the model for the parameters that it takes by name. A compiled model keeps its loss, metrics and
        optimizer.
    data : tuple or callable
        ``((x, y), (x_val, y_val))`` or ``(x, y, x_val, y_val)``; ``(train, val)`` of two ``tf.data.Dataset`` or
        ``keras.utils.PyDataset``; or a function that returns one of these, called once in each worker.
    loss, metrics
        What a model is compiled with that ``build`` did not compile.
    callbacks : callable, optional
        Called with the parameters of a trial; returns Keras callbacks for it. Default: none.
    read : callable, optional
        Reads one file into one input of the model, an array without the axis of examples, so that
        ``aifs-tune predict`` can read new files. Default: files ``.npy`` and ``.npz`` with inputs.
    classes : sequence of str
        Names of the classes, in the order of the outputs. Default: none.
    augment : bool
        Whether images are augmented in the compiled step, by the parameters of the trainer ``cnn``, from
        ``rotation_deg`` to ``cutmix``, and ``mixup``; each is off where the space has no value for it. ``x`` are then
        arrays of shape (n, height, width, channels), uint8 or of 0 to 1. Default: False.
    fit : mapping
        Further arguments of ``fit``, such as ``{"class_weight": {0: 1, 1: 5}}``. Default: none.

    Raises
    ------
    RequestError
        If ``build`` is no function, or ``augment`` is true and ``x`` are no images.

    Examples
    --------
    >>> import keras
    >>> from aifs_tune.trainers import KerasTrainer
    >>> def build(units, rate):
    ...     layers = [keras.Input((4,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(1)]
    ...     model = keras.Sequential(layers)
    ...     model.compile(keras.optimizers.Adam(rate), "mse")
    ...     return model
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> trainer = KerasTrainer(build, (x[:48], x[:48, :1], x[48:], x[48:, :1]))
    >>> space = {"units": {"type": "int", "low": 4, "high": 16}, "rate": 0.01}
    >>> result = aifs_tune.tune(trainer, space, trials=2, epochs=3, metric="val_loss", mode="min")
    >>> result.study.counts()["failed"]
    0

    Notes
    -----
    A parameter that ``build`` does not take may be ``batch_size``, or for a model that ``build`` did not compile
    ``optimizer`` (a name), ``learning_rate``, ``weight_decay`` or ``clip_norm``; ``learning_rate`` also changes the
    optimizer of a compiled model. Any other is refused before a trial starts.

    Trials whose models have the same layers, loss, metrics and optimizer share one compiled model; what ``build``
    returns gives its weights. Rates of dropout and noise layers, learning rate, weight decay and ``global_clipnorm``
    may differ between them. A model, layer or loss of a class or function of the user's is compiled for each set of
    arguments of ``build``.

    Arrays are trained many batches at a time in one compiled program, with the values of ``fit``; the order of the
    examples depends on seed and epoch, so that an interrupted trial goes on as if it had not been interrupted.
    Datasets, further arguments of ``fit``, callbacks that are called at each batch, a ``train_step`` of the user's and
    ``run_eagerly`` have Keras' own loop; after an interruption it draws the order of the batches anew.
    """

    def __init__(
        self,
        build: Callable[..., keras.Model],
        data: Any,
        *,
        loss: Any = None,
        metrics: Sequence[Any] = (),
        callbacks: Callable[[Mapping[str, Any]], Sequence[Any]] | None = None,
        read: Callable[[Path], Any] | None = None,
        classes: Sequence[str] = (),
        augment: bool = False,
        fit: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(build):
            raise RequestError(f"build: {brief(build)} is not a function; allowed: one that returns a keras.Model")
        self._build, self._data, self._loss, self._metrics = build, data, loss, list(metrics)
        self._callbacks, self.read, self.classes = callbacks, read, tuple(classes)
        self._fit = dict(fit or {})
        self._augment = augment
        self._loaded: _Examples | None = None
        self._warm = WarmModels(is_private=callbacks is None)
        self.__name__ = getattr(build, "__name__", "build")

    def check_space(self, space: Mapping[str, Parameter]) -> None:
        """Check that each parameter of a space has a meaning.

        Parameters
        ----------
        space
            The parameters by name.

        Raises
        ------
        RequestError
            If one has none, ``build`` requires another one, or images cannot be augmented so.
        """
        taken, takes_any = self._arguments()
        others, names = self._of_trainer, list(space)
        if self._augment:
            for end in (0, -1):
                self._examples().augmentation.check(
                    {name: one.extremes[end] for name, one in space.items() if name not in taken}
                )
        for name in names:
            if name not in taken and name not in others and not takes_any:
                known = [*taken, *others]
                raise RequestError(
                    f"space.{name}: {self.__name__} takes no such argument{did_you_mean(name, known)}; "
                    f"allowed: {', '.join(known)}"
                )
        for name, argument in taken.items():
            if argument.default is argument.empty and name not in names:
                raise RequestError(
                    f"trainer {self.__name__}: requires the argument {name}, which is no parameter of the space"
                    f"{did_you_mean(name, names)}; allowed: {', '.join(names)}, or a default for it"
                )

    def compiled_anew(self, space: Space) -> list[str]:
        """Parameters of which each value may need a compiled model of its own.

        Found by building the models at both ends of each parameter, with the defaults of all others.

        Parameters
        ----------
        space
            The search space.

        Returns
        -------
        list of str
            Their names.
        """
        usual = {name: _usual(each) for name, each in space.items() if not each.when}
        names = []
        for name, parameter in space.items():
            models = []
            for value in parameter.extremes:
                params = usual | {name: value}
                build, own = partial(self._model, params), self._given(params)
                models.append(built(build, own, lambda: self._examples().batch(), seed=0)[1])
            if len(set(models)) > 1 or (self._augment and name == "batch_size" and self._is_left(name, space.root)):
                names.append(name)
        return names

    def __call__(self, trial: RunningTrial, **params: Any) -> None:
        """Train one trial.

        Parameters
        ----------
        trial
            The trial.
        **params
            Its parameters.

        Raises
        ------
        TrainerError
            If ``build`` returns no model, or one that is not compiled while the trainer has no loss.
        """
        examples = self._examples()
        warm = self._warm.take(lambda: self._model(params), self._given(params), examples.batch, seed=trial.seed)
        own = list(self._callbacks(params)) if self._callbacks is not None else []
        trial.save(FACTS_NAME, {"classes": list(self.classes)})
        fit = self._fit | ({"batch_size": params["batch_size"]} if self._is_left("batch_size", params) else {})
        epochs = {"epochs": trial.epochs, "initial_epoch": trial.epoch}
        callbacks = [*own, _ReportWarm(trial, warm)]
        if examples.tensors is not None and fit.keys() <= {"batch_size"} and warm.runs_in_graph(callbacks):
            size = int(fit.get("batch_size") or _BATCH_SIZE)
            train, val = examples.tensors
            prepare = self._prepare(params, size, trial.seed) if self._augment else None
            warm.fit(train, val, batch_size=size, seed=trial.seed, callbacks=callbacks, prepare=prepare, **epochs)
        elif self._augment:
            raise TrainerError(
                "augment: images are augmented in the compiled step, which this training does not have; allowed: no "
                "arguments in fit, no callbacks that are called at each batch, no train_step of your own and no "
                "run_eagerly"
            )
        else:
            given = _as_arguments(examples.train) | fit
            warm.model.fit(**given, validation_data=examples.val, callbacks=callbacks, verbose=0, **epochs)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: no compiled models."""
        return self.__dict__ | {"_warm": None, "_loaded": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_warm": WarmModels(is_private=state["_callbacks"] is None)}

    def _prepare(self, params: Mapping[str, Any], batch_size: int, seed: int) -> Callable[[int], Prepare]:
        """What augments the batches of each epoch."""
        taken, augmentation = self._arguments()[0], self._examples().augmentation
        left = {name: value for name, value in params.items() if name not in taken}
        augmentation.check(left)
        steps = -(-len(self._examples().train[0]) // batch_size)
        return lambda epoch: augmentation.prepare(left, batch_size=batch_size, seed=seed, first_batch=epoch * steps)

    @property
    def _of_trainer(self) -> list[str]:
        """Parameters that the trainer takes where ``build`` does not."""
        return [*OF_FIT, *OF_OPTIMIZER, *(ALLOWED if self._augment else ())]

    def _arguments(self) -> tuple[dict[str, inspect.Parameter], bool]:
        signature = inspect.signature(self._build).parameters
        named = {name: p for name, p in signature.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        return named, any(p.kind is p.VAR_KEYWORD for p in signature.values())

    def _is_left(self, name: str, params: Mapping[str, Any]) -> bool:
        """Whether the trainer has to give the parameter to somebody else than ``build``."""
        return name in params and name not in self._arguments()[0]

    def _given(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters that ``build`` is called with."""
        taken, takes_any = self._arguments()
        return {n: v for n, v in params.items() if n in taken or (takes_any and n not in self._of_trainer)}

    def _model(self, params: Mapping[str, Any]) -> keras.Model:
        model = self._build(**self._given(params))
        if not isinstance(model, keras.Model):
            raise TrainerError(f"{self.__name__} returned {brief(model)}; allowed: a keras.Model")
        left = {name: params[name] for name in OF_OPTIMIZER if self._is_left(name, params)}
        if getattr(model, "compiled", False):
            rate = left.pop("learning_rate", None)
            if left:
                raise TrainerError(
                    f"{', '.join(left)}: {self.__name__} compiles its model with an optimizer of its own; allowed: "
                    f"arguments of {self.__name__}, or a model that is not compiled"
                )
            if rate is not None:
                model.optimizer.learning_rate = rate
            return model
        if self._loss is None:
            raise TrainerError(
                f"{self.__name__} returned a model that is not compiled; allowed: KerasTrainer(..., loss=...), or "
                f"model.compile in {self.__name__}"
            )
        model.compile(_optimizer(left), self._loss, metrics=list(self._metrics))
        return model

    @property
    def n_compiled(self) -> int:
        """Architectures that this process has compiled so far."""
        return self._warm.n_compiled

    def _examples(self) -> _Examples:
        if self._loaded is None:
            given = self._data() if callable(self._data) and not hasattr(self._data, "__iter__") else self._data
            if isinstance(given, tuple | list) and len(given) == 4:
                given = (tuple(given[:2]), tuple(given[2:]))
            if not isinstance(given, tuple | list) or len(given) != 2:
                what = f"{type(given).__name__} of {len(given)}" if isinstance(given, tuple | list) else brief(given)
                raise TrainerError(
                    f"data: {what} is not allowed; allowed: ((x, y), (x_val, y_val)), (x, y, x_val, y_val) or "
                    "(train, val) of two datasets"
                )
            self._loaded = _Examples(given[0], given[1])
        return self._loaded


def _usual(parameter: Parameter) -> Any:
    """Default of a parameter, or its smallest or first value if it has none."""
    return parameter.extremes[0] if parameter.default_value is None else parameter.default_value


class _Examples:
    """Training and validation examples as a user gives them, and as tensors if they are arrays."""

    def __init__(self, train: Any, val: Any) -> None:
        self.train, self.val = train, val
        for name, part in (("train", train), ("val", val)):
            sizes = {len(leaf) for leaf in tf.nest.flatten(tuple(part))} if _are_arrays(part) else {1}
            if len(sizes) > 1 or 0 in sizes:
                listed = " and ".join(map(str, sorted(sizes)))
                raise TrainerError(f"data: {name} has arrays of {listed} examples; allowed: one number, from 1")
        self.tensors: tuple[Any, Any] | None = None
        if keras.backend.backend() == "tensorflow" and _are_arrays(train) and _are_arrays(val):
            self.tensors = tf.nest.map_structure(_as_tensor, (tuple(train), tuple(val)))

    @cached_property
    def augmentation(self) -> ArrayAugmentation:
        """Augmentation of the training examples; raises RequestError if they are no images."""
        return ArrayAugmentation(self.train)

    def batch(self) -> Any:
        """A small batch."""
        if self.tensors is not None:
            return tf.nest.map_structure(lambda values: values[:2], self.tensors[0])
        if _are_arrays(self.train):
            return tf.nest.map_structure(lambda values: np.asarray(values)[:2], tuple(self.train))
        found = self.train[0] if isinstance(self.train, keras.utils.PyDataset) else next(iter(self.train))
        return tuple(found) if isinstance(found, list) else found


def _are_arrays(part: Any) -> bool:
    """Whether a part is (x, y) or (x, y, weights) of arrays of numbers."""
    if not isinstance(part, tuple | list):
        return False
    leaves = tf.nest.flatten(tuple(part))
    return bool(leaves) and all(
        hasattr(leaf, "__array__") and getattr(leaf, "ndim", 0) > 0 and np.asarray(leaf).dtype.kind in "fiub"
        for leaf in leaves
    )


def _as_tensor(values: Any) -> Any:
    array = np.asarray(values)
    return resident(np.ascontiguousarray(array, keras.config.floatx() if array.dtype.kind == "f" else array.dtype))


def _as_arguments(train: Any) -> dict[str, Any]:
    if isinstance(train, tf.data.Dataset):
        return {"x": train, "shuffle": False}  # it has its order already; Keras warns of its own default
    if isinstance(train, tuple | list):
        return dict(zip(("x", "y", "sample_weight"), train, strict=False))
    return {"x": train}


def _optimizer(left: Mapping[str, Any]) -> Any:
    config = {name: left[name] for name in ("learning_rate", "weight_decay") if name in left}
    if "clip_norm" in left:  # 0: none, as a value of the variable that it becomes
        config["global_clipnorm"] = left["clip_norm"]
    return keras.optimizers.get({"class_name": str(left.get("optimizer", "adam")), "config": config})
