"""A backbone for transfer learning, trained on a simulated sky: weights for search_spaces/transfer.yaml.

    python benchmarks/pretrain.py backbone.weights.h5 --images 6000 --epochs 12
    aifs-tune run transfer --set space.backbone=mobilenet_v2_035

The survey is drawn, the backbone and new classes are trained on it with Keras, and the backbone's weights of the epoch
with the best validation accuracy are written as ``save_weights`` does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from aifs_tune.data.simulate.sky import simulate_sky
from aifs_tune.trainers.models.transfer import BACKBONES


def survey(images: int, size: int, difficulty: float, seed: int):
    """Pixels, uint8 (n, size, size, 3), and labels, int32 (n,), of a simulated sky in random order."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        drawn = simulate_sky(Path(folder, "sky"), images=images, size=size, seed=seed, difficulty=difficulty)
        files = [
            (file, k) for k, name in enumerate(drawn.counts) for file in sorted(Path(folder, "sky", name).iterdir())
        ]
        order = np.random.default_rng(seed).permutation(len(files))
        pixels = np.stack([np.asarray(Image.open(files[i][0]).convert("RGB")) for i in order])
        return pixels, np.array([files[i][1] for i in order], np.int32), list(drawn.counts)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("file", type=Path)
    cli.add_argument("--backbone", choices=list(BACKBONES), default="mobilenet_v2_035")
    cli.add_argument("--images", type=int, default=6000)
    cli.add_argument("--size", type=int, default=64)
    cli.add_argument("--difficulty", type=float, default=0.5)
    cli.add_argument("--epochs", type=int, default=12)
    cli.add_argument("--seed", type=int, default=0)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()

    from aifs_tune.trainers.models.transfer import make_backbone, pixel_scaling
    from aifs_tune.trainers.network.runtime import keras

    keras.utils.set_random_seed(args.seed)
    pixels, labels, classes = survey(args.images, args.size, args.difficulty, args.seed)
    backbone = make_backbone(args.backbone, (args.size, args.size))
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # its own 0.999 is for a million images
    prepare = pixel_scaling(args.backbone)
    inputs = keras.Input((args.size, args.size, 3))
    turned = keras.layers.RandomFlip()(inputs)
    outputs = keras.layers.Dense(len(classes), activation="softmax")(backbone(keras.layers.Lambda(prepare)(turned)))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    n_train = len(labels) * 4 // 5
    began, best = time.perf_counter(), 0.0
    for _ in range(args.epochs):
        model.fit(pixels[:n_train], labels[:n_train], batch_size=32, verbose=0)
        accuracy = float(model.evaluate(pixels[n_train:], labels[n_train:], verbose=0)[1])
        if accuracy >= best:
            best = accuracy
            backbone.save_weights(args.file)
    answer = {
        "backbone": args.backbone,
        "images": args.images,
        "classes": classes,
        "validation_accuracy": round(best, 4),
        "seconds": round(time.perf_counter() - began, 1),
    }
    told = f"{args.backbone} tells {', '.join(classes)}: validation accuracy {best:.3f} after {answer['seconds']} s"
    print(json.dumps(answer) if args.json else told)


if __name__ == "__main__":
    main()
