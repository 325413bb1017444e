"""Curves of each built-in network without random changes of its examples, as JSON; run with KERAS_BACKEND set."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable

from small_images import SMALL_NET, STILL, blobs
from small_series import SMALL_CNN1D, SMALL_RNN, slopes
from small_tables import clouds, planes
from test_cnn_values import frames

from aifs_tune.trainers.models.cnn import CnnTrainer
from aifs_tune.trainers.models.cnn1d import Cnn1dTrainer
from aifs_tune.trainers.models.cnn_values import CnnValuesTrainer
from aifs_tune.trainers.models.mlp import MlpTrainer
from aifs_tune.trainers.models.residual import ResidualCnnTrainer
from aifs_tune.trainers.models.rnn import RnnTrainer
from aifs_tune.trainers.network.trainer import NetTrainer

_CNN = SMALL_NET | STILL | {"weight_decay": 1e-2, "clip_norm": 0.5}
_MLP = {"dropout": 0.0, "units": 8, "batch_size": 16, "learning_rate": 1e-2}
_FOCAL = _MLP | {"focal_gamma": 1.0, "label_smoothing": 0.1}
_BLOCKS = STILL | {"filters": 4, "stages": 2, "blocks": 1, "batch_size": 16, "learning_rate": 1e-2}

TRAINERS: dict[str, Callable[[], NetTrainer]] = {
    "cnn, adam": lambda: CnnTrainer(blobs(), _CNN | {"kernel_size": 2}, seed=5, precision="float32"),
    "cnn, adamw": lambda: CnnTrainer(blobs(), _CNN | {"optimizer": "adamw"}, seed=5, precision="float32"),
    "cnn, sgd": lambda: CnnTrainer(blobs(), _CNN | {"optimizer": "sgd"}, seed=5, precision="float32"),
    "residual_cnn": lambda: ResidualCnnTrainer(blobs(), _BLOCKS, seed=5, precision="float32"),
    "cnn_values": lambda: CnnValuesTrainer(frames(), SMALL_NET | STILL, seed=5, precision="float32"),
    "mlp, classes": lambda: MlpTrainer(
        clouds(), _MLP | {"focal_gamma": 1.0, "label_smoothing": 0.1}, seed=5, precision="float32"
    ),
    "mlp, numbers": lambda: MlpTrainer(planes(), _MLP | {"loss": "huber"}, seed=5, precision="float32"),
    "rnn, lstm": lambda: RnnTrainer(slopes(), SMALL_RNN | {"dropout": 0.0}, seed=5),
    "rnn, gru": lambda: RnnTrainer(slopes(), SMALL_RNN | {"dropout": 0.0, "cell": "gru", "bidirectional": True}),
    "cnn1d": lambda: Cnn1dTrainer(slopes(of_values=True), SMALL_CNN1D | {"dropout": 0.0}, precision="float32"),
}


def curves(names: Iterable[str]) -> dict[str, list[dict[str, float]]]:
    """Three epochs of each of these networks, by its name."""
    found = {}
    for name in names:
        trainer = TRAINERS[name]()
        found[name] = [trainer.epoch() for _ in range(3)]
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(curves(sys.argv[1:])))
