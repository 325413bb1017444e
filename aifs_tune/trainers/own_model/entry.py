"""What the registry of trainers says of ``trainer: {name: keras, model: module:function}``. Loads no Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from aifs_tune.config.data import DataSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import Parameter
from aifs_tune.trainers.function import check_callable, import_function
from aifs_tune.trainers.network.params import CLASS_LOSS, VALUE_LOSS
from aifs_tune.trainers.network.runtime import import_quietly
from aifs_tune.trainers.own_model.recipe import OF_ENGINE, PARAMS, Kind, ModelRecipe
from aifs_tune.trainers.own_model.trainer import MODEL_TRAINERS
from aifs_tune.trainers.predictions import class_metrics, value_metrics

_SHAPES: Mapping[Kind, tuple[int, ...]] = {
    "images": (64, 64, 3),
    "table": (16,),
    "series": (64, 4),
    "frames": (64, 64, 1),
}
"""Shape of an example where the data are not known yet."""
_N_OUTPUTS = 3


@dataclass(frozen=True)
class ModelEntry:
    """What the registry says of a trainer, for the function ``name`` that returns a model.

    Parameters
    ----------
    name
        ``module:function``.
    kind
        Kind of the data.
    """

    name: str
    kind: Kind
    is_adaptable: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False
    preload: ClassVar[tuple[str, ...]] = ("aifs_tune.trainers.network.preload",)

    @property
    def trainer_type(self) -> Any:
        """Its trainer."""
        return MODEL_TRAINERS[self.kind]

    @property
    def allowed(self) -> Mapping[str, Parameter]:
        """Allowed values of the parameters of the training."""
        allowed: Mapping[str, Parameter] = PARAMS[self.kind].allowed
        return allowed

    @property
    def is_fusible(self) -> bool:
        """Whether several of its trials can be one program; a model that is compiled is refused by its first trial."""
        return True

    @cached_property
    def static_params(self) -> tuple[str, ...]:
        """Parameters that are fixed while a trial runs: the arguments of the function are among them."""
        of_training = [name for name in PARAMS[self.kind].static_params if name in self.allowed]
        return (*of_training, *self.recipe().arguments)

    def recipe(self, function: Callable[..., Any] | None = None) -> ModelRecipe:
        """How the model is made; ``function`` is the user's code where it was given in Python."""
        import_quietly()  # before the user's module does
        code = check_callable(function, self.name) if function else import_function(self.name)
        return ModelRecipe(self.name, code, self.kind)

    def parameters(self, data: DataSpec) -> dict[str, Parameter]:
        """Parameters of the training on ``data``: those of the loss of classes, or of numbers, are left out."""
        unused = CLASS_LOSS if data.targets(self.kind) else VALUE_LOSS
        return {name: parameter for name, parameter in self.allowed.items() if name not in unused}

    def metrics(self, data: DataSpec, asked: Sequence[str] = ()) -> tuple[str, ...]:
        """Metrics that an epoch reports on ``data``, with those of a signal at the false-positive rates ``asked``."""
        targets = data.targets(self.kind)
        return value_metrics(targets) if targets else class_metrics(data.signal, asked)

    def check_compiled(self, spec: SweepSpec, function: Callable[..., Any] | None = None) -> None:
        """Check the parameters of optimizer and loss in a space against a model that is built for usual examples.

        Where it cannot be built for these, its first trial checks them.

        Raises
        ------
        RequestError
            If one has no effect; see :meth:`~aifs_tune.trainers.own_model.recipe.ModelRecipe.check_compiled`.
        """
        recipe = self.recipe(function)
        if not set(OF_ENGINE) & set(spec.space.root):
            return
        try:
            is_compiled = self._build(recipe, _usual(recipe, spec)).model.compiled
        except Exception:  # noqa: BLE001 - a user's function may raise anything for a shape that is not its data's
            return
        recipe.check_compiled(spec.space.root, is_compiled=is_compiled)

    def _build(self, recipe: ModelRecipe, given: Mapping[str, Any]) -> Any:
        from aifs_tune.trainers.own_model.network import build_model

        return build_model(recipe, given, _SHAPES[self.kind], _N_OUTPUTS, seed=0, precision="float32")

    def compiled_anew(self, spec: SweepSpec) -> list[str]:
        """Parameters of the space of which each value may need a compiled program of its own.

        Those of the function are found by building the models at both ends of each, with the defaults of all others,
        for examples of a usual shape; all of them where it cannot build these.
        """
        recipe, space = self.recipe(), spec.space
        names = [name for name in PARAMS[self.kind].static_params if name in space]
        usual = _usual(recipe, spec)
        for name in (each for each in space.root if each not in recipe.of_training):
            try:
                models = {self._build(recipe, usual | {name: v}).architecture for v in space[name].extremes}
            except Exception:  # noqa: BLE001 - a user's function may raise anything for a shape that is not its data's
                models = {"one", "another"}
            if len(models) > 1:
                names.append(name)
        return names


def _usual(recipe: ModelRecipe, spec: SweepSpec) -> dict[str, Any]:
    """What the function is given of a space: defaults, or the smallest or first values."""
    return {
        name: each.extremes[0] if each.default_value is None else each.default_value
        for name, each in spec.space.items()
        if name not in recipe.of_training and not each.when
    }


def kind_of_data(data: DataSpec | None) -> Kind:
    """Kind of the data that a section describes.

    Raises
    ------
    RequestError
        If it describes several kinds.
    """
    found: list[Kind] = []
    if data is not None:
        found = [kind for kind in ("table", "series", "frames") if getattr(data, kind) is not None]
        if data.folder is not None or data.simulate is not None or data.labels is not None:
            found.insert(0, "images")
    if len(found) > 1:
        raise RequestError(f"data: {' and '.join(found)} are not allowed together for the trainer keras; allowed: one")
    return found[0] if found else "images"
