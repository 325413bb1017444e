from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aifs_tune.errors import RequestError
from aifs_tune.trainers.network.devices import Devices

SCRIPT = """
import json, sys
sys.path[:0] = sys.argv[2:]
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
from small_images import SMALL_NET, STILL, blobs
from aifs_tune.errors import RequestError
from aifs_tune.trainers.models.cnn import CnnTrainer
from pathlib import Path

params = SMALL_NET | STILL | {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 1.0}
told = {}
for devices in (1, 2):
    trainer = CnnTrainer(blobs(), params, seed=1, precision="float32", devices=devices)
    told[f"epochs{devices}"] = [trainer.epoch() for _ in range(3)]
    told[f"test{devices}"] = trainer.evaluate("test")
    told[f"weights{devices}"] = [float(np.abs(v).sum()) for v in trainer._train_function.network.values().values()]
trainer.reset(params, seed=1)
told["again"] = [trainer.epoch() for _ in range(2)]
folder = Path(sys.argv[1])
trainer.save(folder)
rest = trainer.epoch()
trainer.load(folder)
told["resumed"] = trainer.epoch() == rest
random = [CnnTrainer(blobs(), SMALL_NET, seed=1, precision="float32", devices=2).epoch() for _ in range(2)]
told["deterministic"] = random[0] == random[1]
from small_tables import clouds
import keras
from aifs_tune.errors import TrainerError
from aifs_tune.trainers.own_model.recipe import ModelRecipe
from aifs_tune.trainers.own_model.trainer import TableModelTrainer

DECAY = {"batch_size": 16, "optimizer": "adamw", "weight_decay": 0.1}

def build(input_shape, n_outputs, rate=0.0, is_compiled=False):
    layers = [keras.layers.Dense(6, "relu", kernel_regularizer="l2", kernel_constraint="unit_norm")]
    layers += [keras.layers.BatchNormalization()] * (rate > 0) + [keras.layers.Dropout(rate)]
    model = keras.Sequential([keras.Input(input_shape), *layers, keras.layers.Dense(n_outputs, "softmax")])
    if is_compiled:
        model.compile("sgd", "sparse_categorical_crossentropy")
    return model

def of_own_model(devices, **own):
    how = {"model": ModelRecipe("lab:build", build, "table"), "precision": "float32", "devices": devices}
    return TableModelTrainer(clouds(), DECAY | own, **how, seed=1)

for devices in (1, 2):
    own = of_own_model(devices)
    told[f"own{devices}"] = [own.epoch() for _ in range(3)]
own = of_own_model(2, rate=0.3)
first = own.epoch()
own.save(folder)
rest = own.epoch()
own.load(folder)
told["own_resumed"] = own.epoch() == rest
own.reset(DECAY | {"rate": 0.3}, seed=1)
told["own_again"] = own.epoch() == first
try:
    of_own_model(2, is_compiled=True)
except TrainerError as error:
    told["compiled"] = str(error)
try:
    trainer.reset(params | {"batch_size": 15}, seed=1)
except RequestError as error:
    told["refused"] = str(error)
print(json.dumps(told))
"""


@pytest.mark.soak
def test_a_trial_on_two_devices_measures_what_it_does_on_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), *sys.path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    for one, two in zip(told["epochs1"], told["epochs2"], strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-3)
    assert told["test2"] == pytest.approx(told["test1"], rel=1e-3, abs=1e-3)
    assert told["weights2"] == pytest.approx(told["weights1"], rel=1e-3)
    assert told["again"] == told["epochs2"][:2], "a reset forgets on both devices"
    assert told["resumed"] is True
    assert told["deterministic"] is True
    for one, two in zip(told["own1"], told["own2"], strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-5)
    assert told["own_resumed"] is True
    assert told["own_again"] is True
    assert told["compiled"] == "gpu: 2 is not allowed for a model that is compiled; allowed: up to 1"
    assert told["refused"].startswith("batch_size: 15 is not allowed with 2 devices")


def test_more_devices_than_there_are_are_refused() -> None:
    with pytest.raises(RequestError, match="devices: 7 is not allowed; TensorFlow finds"):
        Devices(7)
