"""A user's own Keras CNN: our sweep, KerasTuner, and Ray Tune with a new process for each trial, in one run.

    python benchmarks/own_keras_model.py --trials 24 --epochs 4 --repeats 3

Each program is a process of its own that searches the same space at random: units, dropout and learning rate of a CNN
of three convolutions, on 1,500 simulated images of 32 px with 300 to validate. Seconds are those of the whole program,
imports and the start of Ray included; medians of the repeats, which take turns. ``memory_mb`` is the growth of the
process that trains, from its third trial to its last, where that is one process. Needs keras-tuner for its row.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EDGE, N_TRAIN, N_VAL = 32, 1500, 300


def images():
    """Images with a blob that is wide or narrow, under noise."""
    import numpy as np

    rng = np.random.default_rng(0)
    n = N_TRAIN + N_VAL
    labels = rng.integers(0, 2, n)
    y, x = np.mgrid[:EDGE, :EDGE]
    centre = rng.uniform(8, 24, (2, n, 1, 1))
    width = np.where(labels == 1, 3.0, 2.2)[:, None, None]
    blobs = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * width**2))
    pixels = (blobs + rng.normal(0, 0.6, blobs.shape))[..., None].astype("float32")
    return pixels[:N_TRAIN], labels[:N_TRAIN], pixels[N_TRAIN:], labels[N_TRAIN:]


def build(units=64, dropout=0.3, learning_rate=1e-3):
    """The user's model."""
    import keras

    layers = [keras.Input((EDGE, EDGE, 1))]
    for filters in (16, 32, 64):
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Flatten(), keras.layers.Dense(units, "relu"), keras.layers.Dropout(dropout)]
    model = keras.Sequential([*layers, keras.layers.Dense(2, "softmax")])
    model.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def memory_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def keras_tuner(trials: int, epochs: int) -> dict:
    """KerasTuner's random search."""
    import keras
    import keras_tuner

    grown: list[float] = []

    class Tuner(keras_tuner.RandomSearch):
        def run_trial(self, trial, *args, **kwargs):
            found = super().run_trial(trial, *args, **kwargs)
            grown.append(memory_mb())
            return found

    def model(hp):
        return build(
            hp.Choice("units", [32, 64, 96, 128]),
            hp.Float("dropout", 0.1, 0.5),
            hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"),
        )

    x, y, x_val, y_val = images()
    tuner = Tuner(model, "val_accuracy", max_trials=trials, directory=".", project_name="kt", overwrite=True, seed=1)
    tuner.search(x, y, validation_data=(x_val, y_val), epochs=epochs, batch_size=32, verbose=0)
    keras.backend.clear_session()
    return {"memory_mb": round(grown[-1] - grown[2])}


def ray_tune(trials: int, epochs: int) -> dict:
    """Ray Tune as it is written today: a function, a new process for each trial."""
    import ray
    from ray import tune

    def run(config):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        x, y, x_val, y_val = images()
        model = build(**config)
        for _ in range(epochs):
            found = model.fit(x, y, validation_data=(x_val, y_val), batch_size=32, verbose=0).history
            tune.report({name: values[-1] for name, values in found.items()})

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    space = {
        "units": tune.choice([32, 64, 96, 128]),
        "dropout": tune.uniform(0.1, 0.5),
        "learning_rate": tune.loguniform(1e-4, 1e-2),
    }
    config = tune.TuneConfig(metric="val_accuracy", mode="max", num_samples=trials)
    tune.Tuner(run, param_space=space, tune_config=config).fit()
    return {}


def ours(trials: int, epochs: int, workers: int) -> dict:
    """``aifs_tune.tune`` of a KerasTrainer."""
    import aifs_tune
    from aifs_tune.trainers import KerasTrainer

    grown: list[float] = []

    def watched(**params):
        grown.append(memory_mb())
        return build(**params)

    space = {
        "units": {"type": "choice", "choices": [32, 64, 96, 128]},
        "dropout": {"type": "float", "low": 0.1, "high": 0.5},
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    }
    result = aifs_tune.tune(
        KerasTrainer(build if workers else watched, images),
        space,
        trials=trials,
        epochs=epochs,
        metric="val_accuracy",
        sampler="random",
        scheduler="none",
        **({"workers": workers} if workers else {}),
    )
    counts = result.study.counts()
    assert counts["complete"] == trials, counts
    return {} if workers else {"memory_mb": round(grown[-1] - grown[2])}


PROGRAMS = {
    "keras_tuner": keras_tuner,
    "ray_tune": ray_tune,
    "ours_2_workers": lambda trials, epochs: ours(trials, epochs, 2),
    "ours_in_process": lambda trials, epochs: ours(trials, epochs, 0),
}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--trials", type=int, default=24)
    cli.add_argument("--epochs", type=int, default=4)
    cli.add_argument("--repeats", type=int, default=3)
    cli.add_argument("--program", choices=PROGRAMS, help="run one program once, in this process")
    given = cli.parse_args()
    if given.program:
        print(json.dumps(PROGRAMS[given.program](given.trials, given.epochs)))
        return
    found: dict[str, list[tuple[float, dict]]] = {name: [] for name in PROGRAMS}
    for _ in range(given.repeats):
        for name, runs in found.items():
            command = [sys.executable, str(Path(__file__).resolve()), "--program", name]
            command += ["--trials", str(given.trials), "--epochs", str(given.epochs)]
            with tempfile.TemporaryDirectory() as folder:
                quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "XDG_STATE_HOME": folder, "RAY_ADDRESS": "local"}
                began = time.perf_counter()
                done = subprocess.run(
                    command, cwd=folder, env=os.environ | quiet, capture_output=True, text=True, check=False
                )
                seconds = time.perf_counter() - began
            if done.returncode:
                print(json.dumps({"program": name, "left_out": done.stderr.strip().splitlines()[-1:]}), flush=True)
                continue
            runs.append((seconds, json.loads(done.stdout.strip().splitlines()[-1])))
    medians = {name: statistics.median(seconds for seconds, _ in runs) for name, runs in found.items() if runs}
    for name, seconds in medians.items():
        row: dict[str, object] = {"program": name, "wall_s": round(seconds, 1)}
        if any("memory_mb" in more for _, more in found[name]):
            row["memory_mb"] = statistics.median(more["memory_mb"] for _, more in found[name])
        for rival in ("keras_tuner", "ray_tune"):
            if rival in medians and name.startswith("ours"):
                row[f"times_faster_than_{rival}"] = round(medians[rival] / seconds, 2)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
