"""A user's own Keras model on a cluster of two nodes, one of which dies in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clusters import Cluster

import aifs_tune
from aifs_tune.artifacts import read_log

pytestmark = [pytest.mark.ray, pytest.mark.soak]

LAB = """
import json, time
import keras, numpy as np
from aifs_tune.trainers import KerasTrainer

rng = np.random.default_rng(0)
x = rng.normal(size=(256, 5)).astype("float32")
y = (x[:, 0] > 0).astype("int32")

def build(units, rate):
    layers = [keras.Input((5,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

class Slow(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        print("epoch", epoch, "steps", int(self.model.optimizer.iterations.numpy()), flush=True)
        time.sleep(0.7)

def read(path):
    return np.array(json.loads(path.read_text()), "float32")

data = (x[:192], y[:192], x[192:], y[192:])
trainer = KerasTrainer(build, data, callbacks=lambda _: [Slow()], read=read, classes=["down", "up"])
"""
SWEEP = """
name: kerlab
trainer: {name: "kerlab:trainer", checkpoint_s: 0}
objective: {metric: val_accuracy, mode: max}
search: {trials: 4, epochs: 12, scheduler: none, worker_retries: 3}
space:
  units: {type: int, low: 4, high: 16}
  rate: {type: float, low: 0.005, high: 0.05, log: true}
"""


def test_a_users_model_goes_on_from_its_checkpoints_when_a_node_dies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("kerlab.py").write_text(LAB)
    Path("kerlab.yaml").write_text(SWEEP)
    url = f"sqlite:///{tmp_path}/lab.db"
    cluster = Cluster({})
    command = [sys.executable, "-m", "aifs_tune"]
    try:
        cluster.join()
        environment = {**os.environ, **cluster.secrets, "AIFS_TUNE_STORAGE": url}
        words = ["run", "kerlab.yaml", "--address", f"127.0.0.1:{cluster.gcs}"]
        running = subprocess.Popen([*command, *words], env=environment, stderr=subprocess.PIPE, text=True)

        def both_train() -> bool:
            try:
                trials = aifs_tune.load_study("kerlab", storage=url).all_trials()
            except aifs_tune.AifsTuneError:
                return False
            return sum(t.epochs >= 3 and t.state == "running" for t in trials) == 2

        until = time.monotonic() + 120
        while not both_train():
            assert time.monotonic() < until
            assert running.poll() is None
            time.sleep(0.2)
        cluster.kill_raylet(1)
        _, said = running.communicate(timeout=240)
        assert running.returncode == 0, said
    finally:
        cluster.close()
    study = aifs_tune.load_study("kerlab", storage=url)
    trials = study.all_trials()
    assert [(t.state, t.epochs) for t in trials] == [("complete", 12)] * 4
    begun = {
        t.number: [line.split() for line in read_log(study, t).splitlines() if line.startswith("epoch ")]
        for t in trials
    }
    steps = [int(line[3]) == 6 * int(line[1]) for lines in begun.values() for line in lines]
    assert all(steps), "weights and optimizer are those of the epochs before"
    repeated = {number: len(lines) - 12 for number, lines in begun.items()}
    assert 1 <= sum(repeated.values()) <= 2, "the trial that was on the lost node repeats the epoch it was in, no more"
    Path("up.json").write_text(json.dumps([2.0, 0, 0, 0, 0]))
    Path("down.json").write_text(json.dumps([-2.0, 0, 0, 0, 0]))
    words = ["predict", "kerlab", "up.json", "down.json", "--storage", url, "--json"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [row["class"] for row in json.loads(done.stdout)["predictions"]] == ["up", "down"]
    assert np.isfinite(study.best.value)
