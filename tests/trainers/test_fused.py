"""Trials that train together measure what they would alone, and what the TensorFlow trainer measures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from small_images import SMALL_NET, STILL, blobs

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.testing import TrainerContract
from aifs_tune.trainers.fused import fused as fused_module
from aifs_tune.trainers.fused.fused import (
    FusedTrainer,
    FusedTrialTrainer,
    choose_fused_size,
    images_per_second,
    make_stack,
)
from aifs_tune.trainers.load import load_classifier
from aifs_tune.trainers.models.cnn import CnnTrainer, cnn_task
from aifs_tune.trainers.protocol import Trainer

IMAGES = blobs()
TASK = cnn_task(IMAGES, precision="float32")
MOVING = SMALL_NET | {"rotation_deg": 20.0, "zoom": 0.1, "brightness": 0.2, "noise": 0.05, "dropout": 0.3}
Curve = list[dict[str, float]]


@cache
def compiled(size: int, copy: int = 0) -> FusedTrainer:
    """A fused trainer for any test: compiling one takes longer than most tests of it. Copies share nothing."""
    return FusedTrainer(TASK, SMALL_NET, size=size)


def emptied(fused_trainer: FusedTrainer) -> None:
    for place in range(fused_trainer.size):
        fused_trainer.free(place)


@pytest.fixture
def pair() -> Iterator[FusedTrainer]:
    """Two places that nobody has."""
    fused_trainer = compiled(2)
    yield fused_trainer
    emptied(fused_trainer)


class TestMember(TrainerContract):
    first = SMALL_NET
    second: ClassVar = SMALL_NET | {"learning_rate": 1e-2, "dropout": 0.5, "noise": 0.1}
    made: list[FusedTrainer]

    @pytest.fixture(autouse=True)
    def _begin(self, pair: FusedTrainer) -> Iterator[None]:
        other = compiled(2, copy=1)
        self.made = [pair, other]
        yield
        emptied(other)

    def make(self) -> Trainer:
        """The second one of a test is of another fused trainer, as in another process."""
        return self.made.pop(0).trial_trainer()


@pytest.mark.soak
class TestMemberWithMomentum(TrainerContract):
    first: ClassVar = SMALL_NET | {"optimizer": "sgd", "weight_decay": 1e-3}
    second: ClassVar = SMALL_NET | {"optimizer": "sgd", "momentum": 0.5}

    def make(self) -> Trainer:
        return FusedTrainer(
            cnn_task(blobs(n_classes=2), metric="val_loss", mode="min"), self.first, size=1
        ).trial_trainer()


def together(
    members: list[FusedTrialTrainer], trials: list[tuple[Mapping[str, Scalar], int]], epochs: int = 3
) -> list[Curve]:
    """The curves of trials that train at the same time."""
    for member, (params, seed) in zip(members, trials, strict=True):
        member.reset(params, seed=seed)

    def run(member: FusedTrialTrainer) -> Curve:
        return [member.epoch() for _ in range(epochs)]

    with ThreadPoolExecutor(len(members)) as threads:
        return list(threads.map(run, members))


def alone(params: Mapping[str, Scalar], seed: int, epochs: int = 3) -> Curve:
    member = compiled(1).trial_trainer()
    try:
        return together([member], [(params, seed)], epochs)[0]
    finally:
        member.release()


def assert_close(one: Curve, other: Curve, tolerance: float = 1e-4) -> None:
    for mine, theirs in zip(one, other, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name] == pytest.approx(theirs[name], rel=tolerance, abs=tolerance), name


TRIALS: list[tuple[Mapping[str, Scalar], int]] = [
    (MOVING, 1),
    (MOVING | {"learning_rate": 1e-2, "weight_decay": 1e-2}, 2),
    (SMALL_NET | STILL, 3),
    (MOVING | {"vertical_flip": True, "dropout": 0.0}, 1),
]


@pytest.mark.soak
def test_each_member_measures_what_it_would_alone() -> None:
    fused_trainer = FusedTrainer(TASK, SMALL_NET, size=4)
    curves = together([fused_trainer.trial_trainer() for _ in range(4)], TRIALS)
    for curve, (params, seed) in zip(curves, TRIALS, strict=True):
        assert_close(curve, alone(params, seed))
    assert len({curve[0]["loss"] for curve in curves}) == 4


@pytest.mark.parametrize(
    "optimizer", ["adam", *(pytest.param(name, marks=pytest.mark.soak) for name in ("adamw", "sgd"))]
)
def test_a_member_measures_what_the_cnn_trainer_does(optimizer: str) -> None:
    params = SMALL_NET | STILL | {"optimizer": optimizer, "weight_decay": 1e-2, "kernel_size": 2}
    trainer = CnnTrainer(IMAGES, params, seed=5, precision="float32", threads=1)
    expected = [trainer.epoch() for _ in range(3)]
    member = FusedTrainer(TASK, params, size=3).trial_trainer()
    member.reset(params, seed=5)
    assert_close([member.epoch() for _ in range(3)], expected, 1e-3)


@pytest.mark.soak
def test_mixed_precision_is_near_float32() -> None:
    member = FusedTrainer(cnn_task(IMAGES, precision="mixed_bfloat16"), SMALL_NET, size=2).trial_trainer()
    member.reset(MOVING, seed=1)
    mixed, exact = [member.epoch() for _ in range(3)], alone(MOVING, 1)
    assert mixed != exact
    assert_close([{"loss": m["loss"]} for m in mixed], [{"loss": m["loss"]} for m in exact], 3e-2)


def test_a_place_is_filled_again_without_compiling(pair: FusedTrainer) -> None:
    members = [pair.trial_trainer(), pair.trial_trainer()]
    together(members, TRIALS[:2])
    traces = pair.n_traces
    members[0].release()
    with pytest.raises(RequestError, match="release one"):
        _ = [pair.trial_trainer() for _ in range(2)]
    members[1].reset(MOVING, seed=9)
    assert_close([members[1].epoch() for _ in range(2)], alone(MOVING, 9, 2))
    assert pair.n_traces == traces


@pytest.mark.soak
def test_a_late_member_is_not_waited_for_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_module, "GATHER_S", 0.01)
    fused_trainer = FusedTrainer(TASK, SMALL_NET, size=2)
    early, late = fused_trainer.trial_trainer(), fused_trainer.trial_trainer()
    early.reset(MOVING, seed=1)
    late.reset(MOVING, seed=2)
    curve = [late.epoch()]
    early_curve = [early.epoch() for _ in range(3)]
    curve += [late.epoch() for _ in range(2)]
    assert_close(curve, alone(MOVING, 2))
    assert_close(early_curve, alone(MOVING, 1))


def test_a_member_that_diverges_leaves_the_others_alone(pair: FusedTrainer) -> None:
    members = [pair.trial_trainer(), pair.trial_trainer()]
    wild, calm = together(members, [(MOVING | {"learning_rate": 1000.0, "optimizer": "adam"}, 1), TRIALS[0]])
    assert not math.isfinite(wild[-1]["val_loss"]) or wild[-1]["val_loss"] > 100
    assert_close(calm, alone(*TRIALS[0]))
    wild_again = together(members, [TRIALS[0], TRIALS[0]])
    assert_close(wild_again[0], calm)


def test_a_pass_that_fails_fails_for_all_and_for_that_epoch_only(
    monkeypatch: pytest.MonkeyPatch, pair: FusedTrainer
) -> None:
    members = [pair.trial_trainer(), pair.trial_trainer()]
    with monkeypatch.context() as broken:
        broken.setattr(pair.stack, "train", lambda epochs: 1 / 0)
        for member in members:
            member.reset(MOVING, seed=1)
        with ThreadPoolExecutor(2) as threads:
            errors = [future.exception() for future in [threads.submit(member.epoch) for member in members]]
    assert [type(error) for error in errors] == [TrainerError, TrainerError]
    assert "division by zero" in str(errors[0])
    assert_close([members[0].epoch() for _ in range(3)], alone(MOVING, 1))


def test_another_shape_is_refused() -> None:
    member = FusedTrainer(TASK, SMALL_NET, size=1).trial_trainer()
    with pytest.raises(RequestError, match="filters: 5 is not allowed; allowed: 4, as in all fused trials"):
        member.reset(SMALL_NET | {"filters": 5}, seed=1)
    with pytest.raises(RequestError, match="size: 0 is not allowed"):
        FusedTrainer(TASK, SMALL_NET, size=0)


def test_the_best_epoch_is_read_back_as_a_classifier(tmp_path: Path, pair: FusedTrainer) -> None:
    member = pair.trial_trainer()
    member.reset(SMALL_NET, seed=1)
    curve = [member.epoch() for _ in range(4)]
    member.save_best(tmp_path)
    found = load_classifier(tmp_path).predict(IMAGES.images[IMAGES.val])
    best = max(metrics["val_macro_f1"] for metrics in curve)
    measured = pair.task.measure("val", np.log(found))
    assert measured["val_macro_f1"] == pytest.approx(best)


def test_patience_ends_a_member_and_the_others_go_on(pair: FusedTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair, "task", replace(pair.task, patience=1))
    stuck, other = pair.trial_trainer(), pair.trial_trainer()
    stuck.reset(SMALL_NET | {"learning_rate": 1e-12}, seed=1)
    other.reset(SMALL_NET, seed=1)
    with ThreadPoolExecutor(2) as threads:
        curves = list(threads.map(lambda member: [member.epoch() for _ in range(3)], (stuck, other)))
    assert stuck.is_finished
    assert curves[0][2] == {}
    assert curves[1][0]


@pytest.mark.soak
def test_on_a_cpu_one_trial_is_enough() -> None:
    assert choose_fused_size(TASK, SMALL_NET, max_size=64) == 1
    assert images_per_second(make_stack(TASK, SMALL_NET, 2), TASK, SMALL_NET, at_least_s=0.01) > 0
