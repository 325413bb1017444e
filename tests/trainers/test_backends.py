"""The backends of Keras: each network learns the same on JAX as on TensorFlow; run with KERAS_BACKEND=jax."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import still_curves
from small_images import SMALL_NET, blobs
from small_tables import clouds

from aifs_tune.errors import RequestError
from aifs_tune.trainers import export
from aifs_tune.trainers.export import write_onnx
from aifs_tune.trainers.load import load_network
from aifs_tune.trainers.models.cnn import CnnTrainer
from aifs_tune.trainers.models.mlp import MlpTrainer
from aifs_tune.trainers.network.ops import is_jax

pytestmark = pytest.mark.skipif(not is_jax(), reason="these tests need KERAS_BACKEND=jax")


@pytest.mark.parametrize(
    "names",
    [["cnn, adam", "mlp, numbers", "rnn, gru"], pytest.param(list(still_curves.TRAINERS), marks=pytest.mark.soak)],
)
def test_curves_are_those_of_tensorflow(names: list[str]) -> None:
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), str(folder.parent), *sys.path])
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": paths}
    with subprocess.Popen(
        [sys.executable, str(folder / "still_curves.py"), *names], env=environment, stdout=subprocess.PIPE, text=True
    ) as other:
        here = still_curves.curves(names)
        there = json.loads(other.communicate()[0])
    assert here.keys() == there.keys()
    for name, curve in here.items():
        for mine, theirs in zip(curve, there[name], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-4), name


def test_threads_and_the_share_of_a_gpu_are_told_to_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NPROC", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.setenv(name, "")
    CnnTrainer(blobs(), SMALL_NET, threads=3, devices=0.25)
    assert os.environ["NPROC"] == "3"
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.250"


def test_several_devices_are_refused() -> None:
    with pytest.raises(RequestError, match="devices: 2 is not allowed with KERAS_BACKEND=jax; allowed: 1"):
        CnnTrainer(blobs(), SMALL_NET, devices=2)


def test_an_onnx_file_of_a_model_trained_on_jax_answers_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = clouds()
    trainer = MlpTrainer(examples, {"units": 8, "layers": 1}, precision="float32")
    trainer.epoch()
    trainer.save_best(tmp_path)
    loaded, file = load_network(tmp_path), tmp_path / "model.onnx"
    write_onnx(loaded, file)
    session = pytest.importorskip("onnxruntime").InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(None, {"columns": examples.inputs[0]})[0]
    np.testing.assert_allclose(found, trainer.predict(*examples.inputs), atol=1e-5)

    monkeypatch.setattr(export, "ONNX_TIMEOUT_S", 0.01)
    with pytest.raises(RequestError, match=r"ONNX: its process on TensorFlow took more than 0\.01 s"):
        write_onnx(loaded, file)
    monkeypatch.undo()
    (tmp_path / "weights.json").unlink()
    with pytest.raises(RequestError, match=r"ONNX: its process on TensorFlow failed: .*weights.json .*cannot be read"):
        write_onnx(loaded, file)
