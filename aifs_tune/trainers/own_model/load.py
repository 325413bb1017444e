"""A user's Keras model from the files that its trainer wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np

from aifs_tune.errors import TrainerError
from aifs_tune.trainers.function import import_function
from aifs_tune.trainers.keras_warm import Start
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.params import Loss, Optimizer, Precision
from aifs_tune.trainers.own_model.network import BuiltModel, ModelNetwork, ModelShape, build_model, read_model
from aifs_tune.trainers.own_model.recipe import MODEL_NAME, PARAMS, ModelRecipe


def read_shape(stored: Mapping[str, Any]) -> ModelShape:
    """Shape that ``weights.json`` describes.

    Raises
    ------
    ValueError
        If a value is not allowed.
    """
    shape = ModelShape(**{**stored, "inputs": tuple(stored["inputs"])})
    sizes = (*shape.inputs, shape.n_outputs, shape.batch_size)
    if not all(isinstance(size, int) and 0 < size < 2**24 for size in sizes):
        raise ValueError(f"sizes are {sizes}; allowed: whole numbers from 1 to below 2**24")
    if shape.kind not in PARAMS or shape.optimizer not in get_args(Optimizer) or shape.loss not in get_args(Loss):
        raise ValueError(f"kind, optimizer or loss is unknown: {shape.kind!r}, {shape.optimizer!r}, {shape.loss!r}")
    return shape


def network_maker(folder: Path, shape: ModelShape) -> Callable[[Precision], Network]:
    """What makes the network of the files in ``folder``.

    Raises
    ------
    TrainerError
        If ``keras_model.json`` is missing or damaged.
    """
    try:
        described = json.loads((folder / MODEL_NAME).read_bytes())
        name, arguments, config = described["function"], dict(described["arguments"]), described["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainerError(f"{folder / MODEL_NAME} cannot be read ({error})") from error

    def make(precision: Precision) -> Network:
        if config is None:
            recipe = ModelRecipe(name, import_function(name), shape.kind)
            built = build_model(recipe, arguments, shape.inputs, shape.n_outputs, seed=0, precision=precision)
        else:
            model: keras.Model = read_model(config, precision)
            if not all(layer.built for layer in model._flatten_layers()):
                model(np.zeros((1, *shape.inputs), np.float32))
            built = BuiltModel(model, Start.of(model), shape.architecture)
        return ModelNetwork(shape, built, precision)

    return make
