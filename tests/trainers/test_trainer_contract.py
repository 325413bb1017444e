from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from compiled_once import CompiledOnce
from small_fields import SMALL_DETECTOR, spots
from small_images import SMALL_NET, blobs
from small_series import SMALL_CNN1D, SMALL_RNN, slopes
from small_tables import clouds, clouds_and_planes, planes

from aifs_tune.testing import TrainerContract
from aifs_tune.trainers.boosting import BoostingTrainer
from aifs_tune.trainers.function import FunctionTrainer
from aifs_tune.trainers.models.cnn import CnnTrainer
from aifs_tune.trainers.models.cnn1d import Cnn1dTrainer
from aifs_tune.trainers.models.detector import DetectorTrainer
from aifs_tune.trainers.models.mlp import MlpTrainer
from aifs_tune.trainers.models.rnn import RnnTrainer
from aifs_tune.trainers.network.ops import is_jax
from aifs_tune.trainers.protocol import Trainer


class TestCnnTrainer(CompiledOnce):
    first = SMALL_NET
    second = SMALL_NET | {"learning_rate": 1e-2, "dropout": 0.5}

    def make_new(self) -> Trainer:
        return CnnTrainer(blobs(), threads=1)


@pytest.mark.soak
class TestCnnTrainerOfOtherShapes(CompiledOnce):
    first = SMALL_NET | {"optimizer": "sgd", "weight_decay": 1e-3, "zoom": 0.2, "noise": 0.1}
    second = SMALL_NET | {"optimizer": "adamw", "filters": 3}

    def make_new(self) -> Trainer:
        return CnnTrainer(blobs(n_classes=2), class_weights="none", metric="val_loss", mode="min", threads=1)


class TestRnnTrainer(CompiledOnce):
    first = SMALL_RNN | {"noise": 0.1, "crop": 0.3}
    second = SMALL_RNN | {"cell": "gru"}

    def make_new(self) -> Trainer:
        return RnnTrainer(slopes(), threads=1)


@pytest.mark.soak
class TestRnnTrainerOfValues(CompiledOnce):
    first = SMALL_RNN | {"cell": "gru", "optimizer": "adamw", "weight_decay": 1e-3}
    second = SMALL_RNN | {"loss": "huber"}

    def make_new(self) -> Trainer:
        return RnnTrainer(slopes(of_values=True), threads=1)


class TestCnn1dTrainer(CompiledOnce):
    first = SMALL_CNN1D | {"noise": 0.1, "crop": 0.3}
    second = SMALL_CNN1D | {"pooling": "max", "label_smoothing": 0.1}

    def make_new(self) -> Trainer:
        return Cnn1dTrainer(slopes(), threads=1)


@pytest.mark.soak
class TestCnn1dTrainerOfValues(CompiledOnce):
    first = SMALL_CNN1D | {"optimizer": "sgd", "loss": "mae", "schedule": "cosine"}
    second = SMALL_CNN1D | {"filters": 3}

    def make_new(self) -> Trainer:
        return Cnn1dTrainer(slopes(of_values=True), threads=1)


def curve(x: float, epochs: int) -> Iterator[dict[str, float]]:
    for epoch in range(epochs):
        yield {"loss": x / (epoch + 1)}


class TestGeneratorFunction(TrainerContract):
    first: ClassVar = {"x": 1.0}
    second: ClassVar = {"x": 2.0}

    def make(self) -> Trainer:
        return FunctionTrainer(curve, objectives=["loss"], epochs=5)


class TestPlainFunction(TrainerContract):
    first: ClassVar = {"x": 1.0}
    second: ClassVar = {"x": 2.0}

    def make(self) -> Trainer:
        return FunctionTrainer(lambda x: x * x, objectives=["value"], epochs=5)


class TestMlpTrainer(CompiledOnce):
    first: ClassVar = {"units": 8, "batch_size": 16, "noise": 0.2, "schedule": "plateau", "mixup": 0.3}
    second: ClassVar = {"units": 8, "batch_size": 16, "clip_norm": 0.1}

    def make_new(self) -> Trainer:
        return MlpTrainer(clouds(), threads=1)


class TestMlpTrainerOfNumbers(CompiledOnce):
    first: ClassVar = {"units": 8, "loss": "huber"}
    second: ClassVar = {"units": 8, "loss": "mae", "optimizer": "sgd"}

    def make_new(self) -> Trainer:
        return MlpTrainer(planes(), threads=1)


class TestMlpTrainerOfClassesAndNumbers(CompiledOnce):
    first: ClassVar = {"units": 8, "batch_size": 16, "mixup": 0.3, "noise": 0.2, "values_weight": 0.5}
    second: ClassVar = {"units": 8, "batch_size": 16, "label_smoothing": 0.1, "values_weight": 2.0}

    def make_new(self) -> Trainer:
        return MlpTrainer(clouds_and_planes(gaps=0.2), threads=1)


@pytest.mark.skipif(is_jax(), reason="the detector needs TensorFlow")
class TestDetectorTrainer(CompiledOnce):
    first: ClassVar = SMALL_DETECTOR | {"rotation_deg": 30.0, "noise": 0.02, "brightness": 0.1}
    second: ClassVar = SMALL_DETECTOR | {"dropout": 0.2, "spread": 0.2}

    def make_new(self) -> Trainer:
        return DetectorTrainer(spots(), threads=1)


class TestBoostingTrainer(TrainerContract):
    first: ClassVar = {"trees": 2, "columns": 0.5}
    second: ClassVar = {"trees": 3, "leaf_samples": 5}

    def make(self) -> Trainer:
        return BoostingTrainer(clouds(), threads=1)
