"""Curves of CNNs that train alone: ``python curve_on_jax.py IMAGES '[[PARAMS, SEED, EPOCHS], ...]'``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from aifs_tune.data import open_images
from aifs_tune.trainers.models.cnn import CnnTrainer

images, trials = open_images(Path(sys.argv[1])), json.loads(sys.argv[2])
trainer = CnnTrainer(images, trials[0][0], precision="float32")
curves = []
for params, seed, epochs in trials:
    trainer.reset(params, seed=seed)
    curves.append([trainer.epoch() for _ in range(epochs)])
sys.stdout.write(json.dumps(curves))
