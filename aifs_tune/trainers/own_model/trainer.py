"""Trainers of a user's Keras model, one for each kind of data. Load Keras with the first trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aifs_tune._util.atomic_files import write_file
from aifs_tune._util.scalars import Scalar, brief
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.models.cnn_values import CnnValuesTrainer
from aifs_tune.trainers.models.mlp import with_noise
from aifs_tune.trainers.network.devices import Devices
from aifs_tune.trainers.network.examples import ExamplesTrainer
from aifs_tune.trainers.network.images import ImageTrainer
from aifs_tune.trainers.network.losses import Hyperparameters
from aifs_tune.trainers.network.ops import is_jax
from aifs_tune.trainers.network.params import Loss, Precision
from aifs_tune.trainers.network.series import SeriesTrainer
from aifs_tune.trainers.network.trainer import NetTrainer
from aifs_tune.trainers.own_model.recipe import MODEL_NAME, Kind, ModelRecipe

if TYPE_CHECKING:
    from aifs_tune.trainers.own_model.network import BuiltModel, ModelShape


class _Models:
    """Shapes of a recipe's models; keeps the one that was built last."""

    def __init__(self, recipe: ModelRecipe, precision: Callable[[], Precision], devices: Callable[[], Devices]) -> None:
        self._recipe, self._precision, self._devices = recipe, precision, devices
        self.seed = 0
        """Seed of the weights of the next model."""
        self._known: dict[str, str] = {}
        self._newest: tuple[str, BuiltModel] | None = None
        self._taken: Any = None

    def of(self, params: Any, data: Any, n_classes: int | None = None) -> ModelShape:
        """Shape of the model for ``params``: of images (height, width, channels), or of the examples."""
        from aifs_tune.trainers.own_model.network import ModelShape

        if n_classes is not None:
            inputs, n_outputs, is_classes = tuple(data), n_classes, True
        else:
            n_outputs, is_classes = len(data.classes) or len(data.targets), bool(data.classes)
            inputs = data.inputs[0].shape[1:]
        architecture = self.build(params, inputs, n_outputs).architecture
        loss: Loss = getattr(params, "loss", "mse")
        kind = self._recipe.kind
        return ModelShape(kind, inputs, n_outputs, is_classes, architecture, params.optimizer, params.batch_size, loss)

    def build(self, params: Any, inputs: tuple[int, ...], n_outputs: int) -> BuiltModel:
        """The model for ``params`` with weights of :attr:`seed`; it is built once."""
        from aifs_tune.trainers.own_model.network import build_model

        key = json.dumps([dict(params.model), self.seed], default=repr)
        if self._newest is None or self._newest[0] != key:
            made = build_model(
                self._recipe,
                params.model,
                inputs,
                n_outputs,
                seed=self.seed,
                precision=self._precision(),
                devices=self._devices(),
            )
            self._newest = key, made
        return self._newest[1]

    def take(self, params: Any, inputs: tuple[int, ...], n_outputs: int) -> BuiltModel:
        """Like :meth:`build`, but no model is taken twice: each network has variables of its own."""
        built = self.build(params, inputs, n_outputs)
        if built.model is self._taken:
            self._newest = None
            built = self.build(params, inputs, n_outputs)
        self._taken = built.model
        return built


class _OwnModel(NetTrainer):
    """What trainers of a user's model have in common."""

    params_type: ClassVar[Any] = None
    shape_type: ClassVar[Any] = None
    _models: _Models
    _recipe: ModelRecipe

    def _take_model(self, recipe: ModelRecipe) -> None:
        self._recipe = recipe
        self._models = _Models(recipe, lambda: self.precision, lambda: self._devices)
        self.params_type = recipe  # type: ignore[misc]
        self.shape_type = self._models  # type: ignore[misc]

    def needs_restart(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a trial would drop a program; no if its model cannot be built, as the trial then says itself."""
        try:
            return super().needs_restart(params)
        except Exception:  # noqa: BLE001 - a user's function may raise anything
            return False

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial; see :meth:`~aifs_tune.trainers.network.trainer.NetTrainer.reset`."""
        self._models.seed = seed
        super().reset(params, seed=seed)
        network: Any = self._train_function.network
        self._recipe.check_compiled(params, is_compiled=network.model.compiled)

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Continue with other parameters; see :meth:`~aifs_tune.trainers.network.trainer.NetTrainer.change`."""
        state = self._train_state
        wanted, current = self._task.params_of(params), self._given
        if self._task.shape_of(wanted).architecture != state.shape.architecture:
            differ = [name for name, value in wanted.model.items() if current.get(name) != value]
            raise RequestError(
                f"{', '.join(differ)}: {brief(dict(wanted.model))} makes another model; allowed while a trial runs: "
                f"{brief(current)}, but for strengths of dropout and noise"
            )
        super().change(params)
        network: Any = self._train_function.network
        network.hold(self._built(state.shape, wanted).start)

    def train_epoch(self) -> dict[str, float]:
        """Train and measure; metrics of a compiled model are its own where it has them."""
        metrics, training = super().train_epoch(), self._train_function
        own = getattr(training, "measured", None)
        if own is None:
            return metrics
        del metrics[self._score]
        measured = training.test(self._examples, self._part("val"))  # type: ignore[attr-defined]
        own = {**own, **{f"val_{name}": value for name, value in measured.items()}}
        return metrics | own

    def save_best(self, folder: Path) -> Path:
        """Write the weights of the best epoch and the layers of the model; return the path of the weights."""
        from aifs_tune.trainers.own_model.network import written_model

        path = super().save_best(folder)
        network: Any = self._train_function.network
        described = {"function": self._recipe.name, "arguments": self._given, "model": written_model(network.model)}
        write_file(folder / MODEL_NAME, json.dumps(described, indent=1).encode())
        return path

    @property
    def _given(self) -> dict[str, Any]:
        """What the function is given in the running trial."""
        params: Any = self._train_state.params
        return dict(params.model)

    def _built(self, shape: Any, params: Any) -> BuiltModel:
        return self._models.build(params, shape.inputs, shape.n_outputs)

    def _make_network(self, shape: Any) -> Any:
        from aifs_tune.trainers.own_model.network import ModelNetwork

        built = self._models.take(self._train_state.params, shape.inputs, shape.n_outputs)
        return ModelNetwork(shape, built, self.precision)

    def _copied(self) -> Any:
        trainer = super()._copied()
        trainer._take_model(self._recipe)
        trainer._task = replace(self._task, params_type=self._recipe, shape_type=trainer._models)
        return trainer

    def _make_training(self, shape: Any) -> Any:
        if not self._built(shape, self._train_state.params).model.compiled:
            return super()._make_training(shape)
        if is_jax():
            raise TrainerError("the model is compiled; allowed with KERAS_BACKEND=jax: a model without compile()")
        from aifs_tune.trainers.own_model.compiled import CompiledTraining

        network, loss_function = self._make_network(shape), self._make_loss_function(shape)
        return CompiledTraining(network, loss_function, batch_size=shape.batch_size)

    def _train_function_of(self, shape: Any) -> Any:
        found = super()._train_function_of(shape)
        network: Any = found.network
        network.begin_with(self._built(shape, self._train_state.params))
        return found


class ImageModelTrainer(_OwnModel, ImageTrainer):
    """Trainer of a user's model that classifies images; ``model`` is its recipe."""

    def __init__(self, images: Any, params: Any = None, *, model: ModelRecipe, **options: Any):
        self._take_model(model)
        super().__init__(images, params, **options)


class _OwnModelOfExamples(_OwnModel, ExamplesTrainer):
    learns_both: ClassVar = False

    def __init__(self, examples: Any, params: Any = None, *, model: ModelRecipe, **options: Any):
        self._take_model(model)
        super().__init__(examples, params, **options)


class TableModelTrainer(_OwnModelOfExamples):
    """Trainer of a user's model on tables; ``model`` is its recipe."""

    def augment(self, inputs: Any, hyperparameters: Hyperparameters, seed: Any) -> Any:
        """Inputs with Gaussian noise of standard deviation ``noise``."""
        return with_noise(inputs, hyperparameters["noise"], seed)


class SeriesModelTrainer(_OwnModelOfExamples, SeriesTrainer):
    """Trainer of a user's model on series; ``model`` is its recipe."""


class FrameModelTrainer(_OwnModelOfExamples, CnnValuesTrainer):
    """Trainer of a user's model on images of numbers; ``model`` is its recipe."""


MODEL_TRAINERS: Mapping[Kind, Any] = {
    "images": ImageModelTrainer,
    "table": TableModelTrainer,
    "series": SeriesModelTrainer,
    "frames": FrameModelTrainer,
}
"""Trainer of each kind of data."""
