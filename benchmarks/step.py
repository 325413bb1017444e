"""Images a second of ways to train the same CNN, each in a process of its own, in turn, on the same threads.

    python benchmarks/step.py --size 64 --repeats 3

The ways: ImageDataGenerator and model.fit, which people write today; model.fit on arrays without augmentation;
ours in float32 and in mixed bfloat16, with the same augmentation. The limit is a measured rate of square matrix
products, in the same run, over the floating-point operations of an image that are needed, or, as the textbook's
limit, over those of the network as it is written down. The first epoch of each process, which compiles, does not
count.
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

WAYS = ("generator", "arrays", "float32", "mixed_bfloat16")
GOALS = {"float32": 1.6, "mixed_bfloat16": 2.6}
GOAL_SHARE = 0.7
N_CLASSES, BATCH = 3, 32


def pictures(n: int, size: int):
    """Random smooth images and labels."""
    import numpy as np

    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (n, size // 8, size // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2), (np.arange(n) % N_CLASSES).astype(np.int32)


def keras_model(size: int):
    """The CNN as its example writes it."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((size, size, 3)),
            *(layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Flatten(), layers.Dense(256, activation="relu"), layers.Dropout(0.5)),
            layers.Dense(N_CLASSES, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="sparse_categorical_crossentropy")
    return model


def generator_epochs(n: int, size: int, epochs: int) -> list[float]:
    """Seconds of each epoch of ImageDataGenerator from a folder of JPEG files and model.fit."""
    from PIL import Image
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    images, labels = pictures(n, size)
    with tempfile.TemporaryDirectory() as folder:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = Path(folder) / f"class{label}" / f"{i:05d}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(path)
        flow = ImageDataGenerator(
            rescale=1 / 255,
            rotation_range=20,
            width_shift_range=0.2,
            height_shift_range=0.2,
            horizontal_flip=True,
            fill_mode="nearest",
        ).flow_from_directory(folder, target_size=(size, size), batch_size=BATCH, class_mode="sparse")
        model = keras_model(size)
        return timed(lambda: model.fit(flow, verbose=0), epochs)


def array_epochs(n: int, size: int, epochs: int) -> list[float]:
    """Seconds of each epoch of model.fit on arrays, without augmentation."""
    images, labels = pictures(n, size)
    scaled = (images / 255).astype("float32")
    model = keras_model(size)
    return timed(lambda: model.fit(scaled, labels, batch_size=BATCH, verbose=0), epochs)


def our_epochs(n: int, size: int, epochs: int, precision: str) -> list[float]:
    """Seconds of each epoch of our compiled program, with augmentation."""
    import numpy as np

    from aifs_tune.trainers.augment.images import augment
    from aifs_tune.trainers.models.cnn import CnnNetwork, CnnParams, CnnShape
    from aifs_tune.trainers.network.losses import ClassificationLoss
    from aifs_tune.trainers.network.program import Epoch, Examples, TrainFunction
    from aifs_tune.trainers.network.runtime import tf

    examples = Examples(*(tf.constant(array) for array in pictures(n, size)), tf.ones(n))
    network = CnnNetwork(CnnShape((size, size, 3), N_CLASSES), precision)  # type: ignore[arg-type]
    train_function = TrainFunction(network, ClassificationLoss(augment), optimizer="adam", batch_size=BATCH)
    train_function.start(0)
    order, numbers = np.arange(n, dtype=np.int32), iter(range(10**6))
    return timed(
        lambda: train_function.train(examples, Epoch(order, next(numbers), 0, CnnParams().hyperparameters())), epochs
    )


def timed(epoch, epochs: int) -> list[float]:
    """Seconds of each of ``epochs`` calls after a first one."""
    seconds = []
    for _ in range(epochs + 1):
        started = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def matmul_rates() -> dict[str, float]:
    """Floating-point operations a second of a product of two 2048 x 2048 matrices."""
    import tensorflow as tf

    rates = {}
    for name, dtype in (("float32", tf.float32), ("mixed_bfloat16", tf.bfloat16)):
        a = tf.cast(tf.random.stateless_normal((2048, 2048), (1, 2)), dtype)
        seconds = timed(lambda a=a: float(tf.matmul(a, a)[0, 0]), 7)
        rates[name] = 2 * 2048**3 / statistics.median(seconds)
    return rates


def operations(size: int) -> float:
    """Floating-point operations to train on one image: forwards, and twice that backwards but for the images."""
    from aifs_tune.trainers.models.cnn import CnnShape

    shape = CnnShape((size, size, 3), N_CLASSES)
    sizes = shape.weight_shapes
    forward, first = 0.0, 0.0
    for block, (height, width, _) in enumerate(shape.block_sizes):
        k, _, before, after = sizes[f"conv{block}.kernel"]
        forward += 2 * (2 * height) * (2 * width) * k * k * before * after
        first = first or forward
    for name in ("dense.kernel", "classes.kernel"):
        forward += 2 * sizes[name][0] * sizes[name][1]
    return 3 * forward - first


def textbook_operations(size: int) -> float:
    """The same where nothing is left out: images not cropped, and three times forwards for every layer."""
    from aifs_tune.trainers.models.cnn import CnnShape

    sizes = CnnShape((size, size, 3), N_CLASSES).weight_shapes
    forward, edge = 0.0, size
    for name in ("conv0.kernel", "conv1.kernel"):
        k, _, before, after = sizes[name]
        edge -= k - 1
        forward += 2 * edge**2 * k * k * before * after
        edge //= 2
    for name in ("dense.kernel", "classes.kernel"):
        forward += 2 * sizes[name][0] * sizes[name][1]
    return 3 * forward


def child(args: argparse.Namespace) -> None:
    """What one process measures."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    if args.way == "limit":
        print(json.dumps(matmul_rates()))
        return
    if args.way == "generator":
        seconds = generator_epochs(args.images, args.size, args.epochs)
    elif args.way == "arrays":
        seconds = array_epochs(args.images, args.size, args.epochs)
    else:
        seconds = our_epochs(args.images, args.size, args.epochs, args.way)
    print(json.dumps(args.images / statistics.median(seconds)))


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--size", type=int, default=64, help="edge in px, a multiple of 8")
    cli.add_argument("--images", type=int, default=640)
    cli.add_argument("--epochs", type=int, default=3, help="timed epochs in each process")
    cli.add_argument("--repeats", type=int, default=3, help="processes of each way")
    cli.add_argument("--threads", type=int, default=1)
    cli.add_argument("--json", action="store_true")
    cli.add_argument("--way", choices=(*WAYS, "limit"), help=argparse.SUPPRESS)
    args = cli.parse_args()
    if args.way:
        child(args)
        return
    counts = [f"--{name}={getattr(args, name)}" for name in ("size", "images", "epochs", "threads")]
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    cores = sorted(os.sched_getaffinity(0))[: args.threads]
    rounds: dict[str, list] = {way: [] for way in (*WAYS, "limit")}
    for _ in range(args.repeats):
        for way, found in rounds.items():
            command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, __file__, "--way", way, *counts]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
            if done.returncode:
                sys.exit(f"{way} failed:\n{done.stderr[-3000:]}")
            found.append(json.loads(done.stdout.splitlines()[-1]))
    speed = {way: statistics.median(rounds[way]) for way in WAYS}
    rate = {name: statistics.median(r[name] for r in rounds["limit"]) for name in GOALS}
    per_image, textbook = operations(args.size), textbook_operations(args.size)
    limit = {name: rate[name] / per_image for name in GOALS}
    answer = {
        **{name: getattr(args, name) for name in ("size", "images", "epochs", "repeats", "threads")},
        "images_per_s": {way: round(value, 1) for way, value in speed.items()},
        "runs": {way: [round(value, 1) for value in rounds[way]] for way in WAYS},
        "limit_images_per_s": {name: round(value, 1) for name, value in limit.items()},
        "million_operations_per_image": round(per_image / 1e6, 1),
        "ratio_to_generator": {name: round(speed[name] / speed["generator"], 2) for name in GOALS},
        "share_of_limit": {name: round(speed[name] / limit[name], 2) for name in GOALS},
        "million_operations_of_the_textbook": round(textbook / 1e6, 1),
        "share_of_textbook_limit": {name: round(speed[name] * textbook / rate[name], 2) for name in GOALS},
    }
    if args.json:
        print(json.dumps(answer))
        return
    print(f"{args.size} px, batch {BATCH}, {args.threads} thread(s), medians of {args.repeats} processes")
    for way in WAYS:
        line = f"{way:16} {speed[way]:8.1f} images/s"
        if way in GOALS:
            ratio, share = speed[way] / speed["generator"], speed[way] / limit[way]
            line += f"  {ratio:5.2f} x generator (goal {GOALS[way]}: {'met' if ratio >= GOALS[way] else 'missed'})"
            line += f"  {share:4.0%} of {limit[way]:.0f} (goal 70 %: {'met' if share >= GOAL_SHARE else 'missed'})"
            line += f"  {speed[way] * textbook / rate[way]:4.0%} of the textbook's {rate[way] / textbook:.0f}"
        print(line)


if __name__ == "__main__":
    main()
