"""Export of trained networks as a Keras file of standard layers and as ONNX.

Both take examples that are prepared like the training examples, and return probabilities, numbers in the units of their
targets, or first the ones and then the others, or the detections of tiles, computed in float32.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

from aifs_tune.config.sweep import KERAS as KERAS_MODEL
from aifs_tune.config.trusted_code import allowed_code
from aifs_tune.errors import RequestError
from aifs_tune.trainers import onnx_process
from aifs_tune.trainers.load import LoadedNetwork
from aifs_tune.trainers.models.detector import in_units
from aifs_tune.trainers.models.mlp import COLUMN_SCALE
from aifs_tune.trainers.network.layers import variables_of
from aifs_tune.trainers.network.ops import is_jax
from aifs_tune.trainers.network.runtime import keras, tf
from aifs_tune.trainers.network.series import present

ONNX_TIMEOUT_S = 600
"""Seconds for the process that writes ONNX for JAX: 15 times the 40 that it took beside 13 others on two cores."""
_OPSET = 18
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_onnx(loaded: LoadedNetwork, file: Path) -> None:
    """Write the network as ONNX for any number of examples.

    tf2onnx reads programs of TensorFlow. With Keras on JAX another process, on TensorFlow, does the same with the files
    that the network was loaded from.

    Raises
    ------
    RequestError
        If tf2onnx is not installed, or the other process fails or takes more than :data:`ONNX_TIMEOUT_S`.
    """
    if is_jax():
        _write_on_tensorflow(loaded, file)
        return
    try:
        import tf2onnx
    except ImportError as error:
        raise RequestError(f"ONNX needs tf2onnx ({error}); pip install 'aifs-tune[export]'") from error
    network = loaded.network

    def predict(*inputs: Any) -> Any:
        prepared = network.preprocess(inputs[0] if loaded.is_of_images else inputs)
        y_pred = network.activation(network.outputs(prepared, lambda values: values, is_training=False))
        if loaded.trainer == "detector":
            return tf.identity(in_units(y_pred, loaded.targets), "detections")
        return [tf.identity(tensor, name) for name, tensor in loaded.named(y_pred).items()]

    signature = [tf.TensorSpec((None, *shape), kind, name) for name, shape, kind in inputs_of(loaded)]
    traced = tf.function(predict, input_signature=signature, autograph=False)
    model, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=_OPSET)
    model.doc_string, model.graph.doc_string = f"{loaded.trainer} of aifs-tune", ""
    for value in (
        *model.graph.input,
        *model.graph.output,
    ):  # replaces a running number, so that the same network gives the same file
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    file.write_bytes(model.SerializeToString(deterministic=True))


def _write_on_tensorflow(loaded: LoadedNetwork, file: Path) -> None:
    """:func:`write_onnx` in a process on TensorFlow, without a GPU, whose memory JAX may hold."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-P", "-m", onnx_process.__name__, *map(str, (loaded.folder, file)), *allowed_code()]
    try:
        ended = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ONNX_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise RequestError(f"ONNX: its process on TensorFlow took more than {ONNX_TIMEOUT_S} s") from error
    if ended.returncode:
        why = ended.stderr.strip().rpartition("\n")[2] or f"exit code {ended.returncode}"
        raise RequestError(f"ONNX: its process on TensorFlow failed: {why}")


def inputs_of(loaded: LoadedNetwork) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape for one example, and type of each input.

    Raises
    ------
    RequestError
        If the trainer's inputs are not known here.
    """
    shape = loaded.shape
    kind = getattr(shape, "kind", "")
    if loaded.is_of_images:
        return [("images", shape.image, "uint8")]
    if loaded.trainer in ("cnn_values", "detector") or kind == "frames":
        return [("images", shape.image, "float32")]
    if loaded.trainer == "mlp" or kind == "table":
        return [("columns", shape.inputs if kind else (shape.n_inputs,), "float32")]
    if loaded.trainer in ("rnn", "cnn1d") or kind == "series":
        steps = shape.inputs if kind else (shape.steps, shape.channels)
        return [("values", steps, "float32"), ("lengths", (), "int32")]
    raise RequestError(f"trainer: the inputs of a {loaded.trainer} network are not known; add them to inputs_of")


def write_keras(loaded: LoadedNetwork, file: Path, written_at: datetime) -> None:
    """Write the network as a ``.keras`` file of standard layers, which Keras reads without this package.

    ``written_at`` is the time of saving in the file.

    Raises
    ------
    RequestError
        If the trainer is the detector, whose detections no standard layers give.
    """
    if loaded.trainer == "detector":
        raise RequestError("a Keras file of the detector would need more than standard layers; allowed: the ONNX file")
    model = _model(loaded)
    partial = file.with_name(f"partial-{file.name}")
    try:
        model.save(partial)
        file.write_bytes(_dated(partial.read_bytes(), written_at))
    finally:
        partial.unlink(missing_ok=True)


def _dated(content: bytes, written_at: datetime) -> bytes:
    """Archive with ``written_at`` as its only time, so that the same network gives the same file."""
    buffer = io.BytesIO()
    numbers: dict[int, int] = {}  # of shared objects, which Keras names by their memory address
    with zipfile.ZipFile(io.BytesIO(content)) as given, zipfile.ZipFile(buffer, "w") as taken:
        for name in sorted(given.namelist()):
            data = given.read(name)
            if name.endswith(".json"):
                content_json = json.loads(data, object_hook=lambda found: _numbered(found, numbers))
                if "date_saved" in content_json:
                    content_json["date_saved"] = f"{written_at:%Y-%m-%d@%H:%M:%S}"
                data = json.dumps(content_json).encode()
            taken.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), data)
    return buffer.getvalue()


def _numbered(found: dict[str, Any], numbers: dict[int, int]) -> dict[str, Any]:
    """JSON object with a running number instead of a memory address."""
    shared = found.get("shared_object_id")
    return found if shared is None else found | {"shared_object_id": numbers.setdefault(shared, len(numbers) + 1)}


def _model(loaded: LoadedNetwork) -> Any:
    keras.backend.clear_session(free_memory=False)  # gives layers the same names each time
    network: Any = loaded.network
    values, *lengths = inputs = [keras.Input(shape, dtype=kind, name=name) for name, shape, kind in inputs_of(loaded)]
    given = inputs if lengths else values
    if loaded.is_of_images:
        values = keras.layers.Rescaling(1 / 255, name="unit_scale")(values)
    if loaded.trainer == KERAS_MODEL:
        if lengths:
            values = values * keras.ops.expand_dims(present(lengths[0], values.shape[1]), 2)
        outputs = network.model(values)
        if loaded.targets or not network.ends_with_probabilities:
            outputs = _activated(loaded, outputs)
        return keras.Model(given, outputs, name=KERAS_MODEL)
    weights = network.values()
    if COLUMN_SCALE in weights:  # 0 for unused columns
        values = keras.layers.Rescaling(weights[COLUMN_SCALE].tolist(), name="kept_columns")(values)
    outputs = network.layers((values, *lengths) if lengths else values, _dropout(loaded))
    model = keras.Model(given, _activated(loaded, outputs), name=loaded.trainer)
    for one, variable in variables_of(model).items():
        variable.assign(weights[one])
    return model


def _activated(loaded: LoadedNetwork, outputs: Any) -> Any:
    n_classes = len(loaded.classes)
    if not loaded.targets:
        return keras.layers.Softmax(name="probabilities")(outputs)
    scales, centres = ([getattr(one, name) for one in loaded.targets] for name in ("scale", "centre"))
    in_units = keras.layers.Rescaling(scales, offset=centres, name="in_units")
    if not loaded.classes:
        return in_units(outputs)
    return [keras.layers.Softmax(name="probabilities")(outputs[:, :n_classes]), in_units(outputs[:, n_classes:])]


def _dropout(loaded: LoadedNetwork) -> float:
    """Dropout of the training, for continued training in Keras."""
    return float(getattr(loaded.params, "dropout", 0.0))
