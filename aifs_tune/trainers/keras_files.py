"""The kept model of a user's own Keras trainer. Loads Keras only when a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import DataError, RequestError, TrainerError
from aifs_tune.trainers.attribution import Attribution, integrated_gradients
from aifs_tune.trainers.network.runtime import import_quietly, keras

MODEL_NAME = "model.keras"
"""File with the model of the best epoch, in Keras' own format."""
FACTS_NAME = "keras_trainer.json"
"""File with the names of the classes."""


class KerasModel:
    """A model that a user's Keras trainer has kept.

    Parameters
    ----------
    folder
        Folder with ``model.keras``, and ``keras_trainer.json`` if a trainer has written it.

    Raises
    ------
    TrainerError
        If the model is missing, a file is damaged, or the model has layers that this process does not know.
    """

    def __init__(self, folder: Path) -> None:
        import_quietly()
        try:
            facts = json.loads((folder / FACTS_NAME).read_text()) if (folder / FACTS_NAME).exists() else {"classes": []}
            self.classes: tuple[str, ...] = tuple(facts["classes"])
            self._model = keras.models.load_model(folder / MODEL_NAME, compile=False)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainerError(f"{folder / MODEL_NAME} cannot be loaded: {error}") from error

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs of the model, shape (n, outputs); with several outputs side by side.

        Raises
        ------
        DataError
            If the inputs have another shape than the model's.
        """
        wanted = getattr(self._model, "input_shape", None)
        if len(inputs) == 1 and isinstance(wanted, tuple) and all(n is None or isinstance(n, int) for n in wanted):
            came = inputs[0].shape
            if len(came) != len(wanted) or any(n not in (None, m) for n, m in zip(wanted[1:], came[1:], strict=True)):
                raise DataError(f"has inputs of shape {came[1:]}; the model takes {wanted[1:]}")
        found = self._model.predict(inputs[0] if len(inputs) == 1 else list(inputs), verbose=0)
        outputs = [np.asarray(one, np.float32) for one in (found if isinstance(found, list | tuple) else [found])]
        return np.concatenate([one.reshape(len(one), -1) for one in outputs], axis=1)

    def attributions(self, inputs: NDArray[Any], references: NDArray[Any], of: NDArray[np.int64]) -> Attribution:
        """Contributions of the inputs of each example to one output, by integrated gradients.

        Parameters
        ----------
        inputs, references
            The examples and what they are compared with, shape (n, ...).
        of
            Number of the output that is explained, shape (n,).

        Returns
        -------
        Attribution
            Contributions to the output.

        Raises
        ------
        RequestError
            If Keras uses another backend than TensorFlow, or the model takes whole numbers.
        """
        if keras.backend.backend() != "tensorflow":
            raise RequestError(
                f"explain: KERAS_BACKEND {keras.backend.backend()!r} is not allowed for a Keras model; "
                "allowed: tensorflow"
            )

        def outputs(line: Any, example: int) -> Any:
            del example
            found = self._model(line, training=False)
            several = found if isinstance(found, list | tuple) else [found]
            return keras.ops.concatenate([keras.ops.reshape(one, (len(line), -1)) for one in several], axis=1)

        return integrated_gradients(outputs, inputs, references, of)


def read_inputs(file: Path, read: Callable[[Path], Any] | None) -> NDArray[Any]:
    """Inputs in a file, with the axis of examples first: one by ``read``, or all of a ``.npy`` or ``.npz``.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    if read is not None:
        try:
            return np.asarray(read(file))[None]
        except Exception as error:  # a user's code may raise anything
            raise DataError(f"cannot be read by the trainer's reader ({type(error).__name__}: {error})") from error
    try:
        opened = np.load(file, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            return opened
        names = opened.files
        if "x" not in names and len(names) != 1:
            raise DataError(f"has the arrays {', '.join(names)}; allowed: one array, or one called x")
        return np.asarray(opened["x" if "x" in names else names[0]])
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"is not read ({error}); allowed: .npy and .npz with inputs, or a trainer with a reader: "
            "KerasTrainer(..., read=...)"
        ) from error
