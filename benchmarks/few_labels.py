"""What a trained backbone is worth with few labels: transfer against networks from nothing, on the same images.

    python benchmarks/few_labels.py DATA --weights efficientnet_lite0.weights.h5 --train 400 --val 200 \\
        --group-by 'REGEX' --size 64 --epochs 12 --seeds 3

The data are divided as a sweep would divide them; of the training and the validation part a few images are drawn, the
test part stays whole. All networks get the same images, changes of images and epochs, and a learning rate of 1e-3 (one
of them 1e-2); "frozen" is transfer whose backbone does not learn. The epoch that the validation images choose is
measured on the test part. Mean and standard deviation are over the seeds, which draw the networks' beginnings and not
the images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aifs_tune.config.data import DataSpec
from aifs_tune.trainers.models.transfer import BACKBONES

PARAMS = {
    "learning_rate": 1e-3,
    "rotation_90": True,
    "horizontal_flip": True,
    "vertical_flip": True,
    "rotation_deg": 0.0,
    "width_shift": 0.1,
    "height_shift": 0.1,
}


def few(part: Any, n: int, seed: int) -> Any:
    """``n`` of the images of a part."""
    return np.sort(np.random.default_rng(seed).permutation(part)[:n])


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("data", type=Path)
    cli.add_argument("--weights", type=Path, required=True)
    cli.add_argument("--backbone", choices=list(BACKBONES), default="efficientnet_lite0")
    cli.add_argument("--train", type=int, default=400)
    cli.add_argument("--val", type=int, default=200)
    cli.add_argument("--group-by")
    cli.add_argument("--channels", default="auto")
    cli.add_argument("--size", type=int, default=64)
    cli.add_argument("--epochs", type=int, default=12)
    cli.add_argument("--seeds", type=int, default=3)
    cli.add_argument("--drawn", type=int, default=0, help="seed of the few images")
    cli.add_argument("--only", nargs="*", help="names of networks; default: all")
    args = cli.parse_args()

    from aifs_tune.data import prepare_images
    from aifs_tune.trainers.models.cnn import CnnTrainer
    from aifs_tune.trainers.models.residual import ResidualCnnTrainer
    from aifs_tune.trainers.models.transfer import TransferTrainer

    data = DataSpec(folder=args.data, image_size=args.size, group_by=args.group_by, channels=args.channels)
    images = prepare_images(data).images
    images = replace(images, train=few(images.train, args.train, args.drawn), val=few(images.val, args.val, args.drawn))
    transfer = {"backbone": args.backbone, **PARAMS}
    frozen = {**transfer, "frozen_epochs": args.epochs}
    networks: dict[str, tuple[Any, dict[str, Any]]] = {
        "cnn": (CnnTrainer, PARAMS),
        "residual_cnn": (ResidualCnnTrainer, PARAMS),
        "frozen": (TransferTrainer, frozen),
        "frozen, rate 1e-2": (TransferTrainer, frozen | {"learning_rate": 1e-2}),
        "transfer": (TransferTrainer, transfer),
    }
    for name in args.only or networks:
        make, params = networks[name]
        given = {"weights": args.weights} if make is TransferTrainer else {}
        trainer = make(images, params, epochs=args.epochs, **given)
        began, rows = time.perf_counter(), []
        for seed in range(args.seeds):
            trainer.reset(params, seed=seed)
            for _ in range(args.epochs):
                trainer.epoch()
            rows.append({"epoch": trainer.best_epoch, "val": trainer.best_value, **trainer.evaluate("test")})
        scores = {
            score: [round(of([row[score] for row in rows]), 4) for of in (statistics.mean, statistics.stdev)]
            for score in ("test_macro_f1", "test_balanced_accuracy", "test_auc")
        }
        answer = {"network": name, "size": args.size, "train": len(images.train), "val": len(images.val)}
        answer |= {"test": len(images.test), **scores, "seconds": round(time.perf_counter() - began, 1)}
        answer["runs"] = [[row["epoch"], round(row["val"], 4), round(row["test_macro_f1"], 4)] for row in rows]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
