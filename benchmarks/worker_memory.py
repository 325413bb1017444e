"""What a warm worker costs from trial to trial: milliseconds to switch, and memory after 1, 100 and 500 trials.

    python benchmarks/worker_memory.py --trials 500

One process runs trials of six shapes, one epoch each, the way a sweep's worker does; another one trials of a user's
own Keras model with four architectures. Beside them, in a third process, that Keras model is built anew and fitted for
each trial, with clear_session() and gc.collect().
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SHAPES = [{"filters": f, "dense_units": d} for f in (8, 16, 32) for d in (64, 128)]
WAYS = ("warm", "own_model", "fresh")
N_IMAGES, SIZE, N_CLASSES = 96, 64, 3


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def image_set():
    """Random images with labels."""
    import numpy as np

    from aifs_tune.data.images.decode import ImageSet

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (N_IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    labels = (np.arange(N_IMAGES) % N_CLASSES).astype(np.int32)
    parts = np.split(np.arange(N_IMAGES, dtype=np.int32), [64, N_IMAGES])
    return ImageSet(images, labels, ("a", "b", "c"), *parts, "random")


def build(input_shape=(SIZE, SIZE, 3), n_outputs=N_CLASSES, filters=8, dense_units=64, dropout=0.1):
    """A user's model."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input(input_shape),
            *(layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Conv2D(2 * filters, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Flatten(), layers.Dense(dense_units, activation="relu"), layers.Dropout(dropout)),
            layers.Dense(n_outputs, activation="softmax"),
        ]
    )


def warm(trials: int, shown: list[int]) -> dict:
    """Ours, with its own network."""
    from aifs_tune.trainers.models.cnn import CnnTrainer

    return trained(CnnTrainer(image_set(), SHAPES[0], threads=1), SHAPES, trials, shown)


def own_model(trials: int, shown: list[int]) -> dict:
    """Ours, with the user's model."""
    from aifs_tune.trainers.own_model.recipe import ModelRecipe
    from aifs_tune.trainers.own_model.trainer import ImageModelTrainer

    recipe = ModelRecipe("lab:build", build, "images")
    return trained(ImageModelTrainer(image_set(), SHAPES[0], model=recipe, threads=1), SHAPES[:4], trials, shown)


def trained(trainer, shapes: list[dict], trials: int, shown: list[int]) -> dict:
    """What trials of these shapes, in turns, cost a worker."""
    memory, switches = {}, []
    for number in range(trials):
        params = {**shapes[number % len(shapes)], "learning_rate": 1e-4 * (1 + number % 7), "dropout": 0.1}
        started = time.perf_counter()
        trainer.reset(params, seed=number)
        if number >= len(shapes):
            switches.append(1e3 * (time.perf_counter() - started))
        trainer.epoch()
        if number + 1 in shown:
            memory[number + 1] = round(resident_mb())
    traces = trainer.n_traces
    ms = {"median": round(statistics.median(switches), 1), "worst": round(max(switches), 1)}
    return {"resident_mb": memory, "switch_ms": ms, "traces": traces, "shapes": len(shapes)}


def fresh(trials: int) -> dict:
    """A new Keras model for each trial."""
    import keras

    images = image_set()
    scaled = (images.images / 255).astype("float32")
    memory = {}
    for number in range(trials):
        model = build(**SHAPES[number % len(SHAPES)])
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        model.fit(scaled, images.labels, batch_size=32, verbose=0)
        del model
        keras.backend.clear_session()
        gc.collect()
        if number + 1 in (1, trials):
            memory[number + 1] = round(resident_mb())
    return {"resident_mb": memory, "mb_per_trial": round((memory[trials] - memory[1]) / (trials - 1), 1)}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--trials", type=int, default=500)
    cli.add_argument("--fresh-trials", type=int, default=24)
    cli.add_argument("--json", action="store_true")
    cli.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = cli.parse_args()
    if args.way:
        shown = sorted({1, 100, args.trials})
        ways = {"warm": warm, "own_model": own_model}
        answer = ways[args.way](args.trials, shown) if args.way in ways else fresh(args.fresh_trials)
        print(json.dumps(answer))
        return
    answer = {}
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    for way in WAYS:
        counts = [f"--trials={args.trials}", f"--fresh-trials={args.fresh_trials}"]
        command = [sys.executable, __file__, "--way", way, *counts]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        if done.returncode:
            sys.exit(f"{way} failed:\n{done.stderr[-3000:]}")
        answer[way] = json.loads(done.stdout.splitlines()[-1])
    if args.json:
        print(json.dumps(answer))
        return
    for way, network in (("warm", "cnn"), ("own_model", "a user's model")):
        mine = answer[way]
        told = ", ".join(f"{mb} MB after {n}" for n, mb in mine["resident_mb"].items())
        print(f"warm worker, {network}, {mine['shapes']} shapes: {told} trials; {mine['traces']} traces")
        ms = mine["switch_ms"]
        print(f"switch: median {ms['median']} ms, worst {ms['worst']} ms (goal 50: {_met(ms['median'] < 50)})")
    theirs = answer["fresh"]
    told = ", ".join(f"{mb} MB after {n}" for n, mb in theirs["resident_mb"].items())
    print(f"a new Keras model for each trial: {told} trials, {theirs['mb_per_trial']} MB a trial")


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


if __name__ == "__main__":
    main()
