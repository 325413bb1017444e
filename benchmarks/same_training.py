"""Does our CNN learn what the same network learns with ImageDataGenerator and model.fit?

    python benchmarks/same_training.py DATA --seeds 3 --epochs 4

DATA has train/ and val/ with one folder a class. Two configurations are trained with each seed: by Keras as it is
written today, and by our trainer in both precisions, without class weights, with the same augmentation, in one thread.
Printed is the smallest ``val_loss`` of the epochs of each training; means are over all trainings, with the standard
deviation between seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CONFIGURATIONS = (
    {"learning_rate": 1e-3, "dropout": 0.3, "rotation_deg": 10.0, "shift": 0.05},
    {"learning_rate": 2.5e-3, "dropout": 0.2, "rotation_deg": 20.0, "shift": 0.1},
)
WAYS = ("keras", "float32", "mixed_bfloat16")
SIZE = 64


def keras_losses(folder: Path, config: dict[str, float], seed: int, epochs: int) -> list[float]:
    """``val_loss`` of each epoch, as a sweep that is written today trains it."""
    import tensorflow as tf
    from tensorflow.keras import Sequential, layers
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    tf.keras.utils.set_random_seed(seed)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    shift = config["shift"]
    augmented = ImageDataGenerator(
        rescale=1 / 255,
        rotation_range=config["rotation_deg"],
        width_shift_range=shift,
        height_shift_range=shift,
        horizontal_flip=True,
        fill_mode="nearest",
    )
    flow = {"target_size": (SIZE, SIZE), "batch_size": 32, "class_mode": "categorical"}
    training = augmented.flow_from_directory(folder / "train", seed=seed, **flow)
    validation = ImageDataGenerator(rescale=1 / 255).flow_from_directory(folder / "val", shuffle=False, **flow)
    model = Sequential(
        [
            layers.Input((SIZE, SIZE, 3)),
            *(layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Flatten(), layers.Dense(256, activation="relu"), layers.Dropout(config["dropout"])),
            layers.Dense(training.num_classes, activation="softmax"),
        ]
    )
    model.compile(optimizer=tf.keras.optimizers.Adam(config["learning_rate"]), loss="categorical_crossentropy")
    fitted = model.fit(training, validation_data=validation, epochs=epochs, verbose=0)
    return [float(loss) for loss in fitted.history["val_loss"]]


def our_losses(location: Path, config: dict[str, float], seed: int, epochs: int, precision: str) -> list[float]:
    """``val_loss`` of each epoch of our trainer."""
    from aifs_tune.data import open_images
    from aifs_tune.trainers.models.cnn import CnnParams, CnnTrainer

    shift = config["shift"]
    own = {**config, "width_shift": shift, "height_shift": shift, "horizontal_flip": True}
    params = asdict(CnnParams()) | {name: value for name, value in own.items() if name != "shift"}
    images = open_images(location)
    trainer = CnnTrainer(images, params, seed=seed, precision=precision, threads=1, class_weights="none")  # type: ignore[arg-type]
    return [trainer.epoch()["val_loss"] for _ in range(epochs)]


def best_loss(job: tuple[Path, Path, int, int, int, str]) -> float:
    """The smallest loss of one training."""
    folder, location, configuration, seed, epochs, way = job
    config = CONFIGURATIONS[configuration]
    if way == "keras":
        return min(keras_losses(folder, config, seed, epochs))
    return min(our_losses(location, config, seed, epochs, way))


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("data", type=Path)
    cli.add_argument("--seeds", type=int, default=3)
    cli.add_argument("--epochs", type=int, default=4)
    cli.add_argument("--processes", type=int, default=2)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()

    from aifs_tune.config.data import DataSpec
    from aifs_tune.data import prepare_images

    folder = args.data.resolve()
    location = Path(str(prepare_images(DataSpec(folder=folder, image_size=SIZE)).location))
    runs = [(way, c, seed) for way in WAYS for c in range(len(CONFIGURATIONS)) for seed in range(args.seeds)]
    jobs = [(folder, location, c, seed, args.epochs, way) for way, c, seed in runs]
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        losses = dict(zip(runs, pool.map(best_loss, jobs), strict=True))
    answer = {}
    for way in WAYS:
        of_each = [[losses[way, c, seed] for seed in range(args.seeds)] for c in range(len(CONFIGURATIONS))]
        answer[way] = {
            "mean": statistics.mean(loss for each in of_each for loss in each),
            "sd_of_a_seed": statistics.mean(map(statistics.stdev, of_each)) if args.seeds > 1 else None,
            "best_val_loss": of_each,
        }
    if args.json:
        print(json.dumps(answer))
        return
    print(f"{'':15} {'mean':>7} {'sd of a seed':>13}  smallest val_loss of each training")
    for way, entry in answer.items():
        spread = "" if entry["sd_of_a_seed"] is None else f"{entry['sd_of_a_seed']:.4f}"
        of_each = "   ".join(" ".join(f"{loss:.4f}" for loss in each) for each in entry["best_val_loss"])
        print(f"{way:15} {entry['mean']:7.4f} {spread:>13}  {of_each}")


if __name__ == "__main__":
    main()
