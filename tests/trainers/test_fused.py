"""Trials that train together on JAX measure what they would alone; run with KERAS_BACKEND=jax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
from small_images import SMALL_NET, STILL, blobs
from small_series import SMALL_RNN, slopes
from small_tables import clouds
from test_own_model import recipe, sequential

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.testing import TrainerContract
from aifs_tune.trainers.fused import fused as fused_module
from aifs_tune.trainers.fused.fused import FusedTrainer, choose_fused_size, examples_per_second
from aifs_tune.trainers.fused.stacked import Stack
from aifs_tune.trainers.load import load_classifier
from aifs_tune.trainers.models.cnn import CnnTrainer
from aifs_tune.trainers.models.mlp import MlpTrainer
from aifs_tune.trainers.models.rnn import RnnTrainer
from aifs_tune.trainers.network.ops import is_jax
from aifs_tune.trainers.network.trainer import NetTrainer
from aifs_tune.trainers.own_model.trainer import TableModelTrainer
from aifs_tune.trainers.protocol import Trainer

IMAGES = blobs()
pytestmark = pytest.mark.skipif(not is_jax(), reason="fused trials need KERAS_BACKEND=jax")
MOVING = SMALL_NET | {"rotation_deg": 20.0, "zoom": 0.1, "brightness": 0.2, "noise": 0.05, "dropout": 0.3}
Curve = list[dict[str, float]]


@cache
def compiled(size: int, copy: int = 0) -> FusedTrainer:
    """A fused trainer for any test: compiling one takes longer than most tests of it. Copies share nothing."""
    return FusedTrainer(CnnTrainer(IMAGES, SMALL_NET, precision="float32"), size=size)


def emptied(fused_trainer: FusedTrainer) -> None:
    fused_trainer.release_all()


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
        images = blobs(n_classes=2)
        return FusedTrainer(CnnTrainer(images, self.first, metric="val_loss", mode="min"), size=1).trial_trainer()


def together(members: list[NetTrainer], trials: list[tuple[Mapping[str, Scalar], int]], epochs: int = 3) -> list[Curve]:
    """The curves of trials that train at the same time."""
    for member, (params, seed) in zip(members, trials, strict=True):
        member.reset(params, seed=seed)

    def run(member: NetTrainer) -> Curve:
        return [member.epoch() for _ in range(epochs)]

    with ThreadPoolExecutor(len(members)) as threads:
        return list(threads.map(run, members))


def alone(params: Mapping[str, Scalar], seed: int, epochs: int = 3) -> Curve:
    member = compiled(1).trial_trainer()
    try:
        return together([member], [(params, seed)], epochs)[0]
    finally:
        compiled(1).release(member)


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
    fused_trainer = FusedTrainer(CnnTrainer(IMAGES, SMALL_NET, precision="float32"), size=4)
    curves = together([fused_trainer.trial_trainer() for _ in range(4)], TRIALS)
    for curve, (params, seed) in zip(curves, TRIALS, strict=True):
        assert_close(curve, alone(params, seed))
    assert len({curve[0]["loss"] for curve in curves}) == 4


OTHERS: dict[str, Callable[[], NetTrainer]] = {
    "mlp": lambda: MlpTrainer(clouds(), {"units": 8, "batch_size": 16, "dropout": 0.2}, precision="float32"),
    "rnn": lambda: RnnTrainer(slopes(), SMALL_RNN | {"noise": 0.1, "crop": 0.2}),
    "keras": lambda: TableModelTrainer(clouds(), {"rate": 0.2, "batch_size": 16}, model=recipe(sequential)),
}


@pytest.mark.parametrize("name", ["keras", *(pytest.param(name, marks=pytest.mark.soak) for name in ("mlp", "rnn"))])
def test_other_networks_measure_together_what_they_do_alone(name: str) -> None:
    trainer = OTHERS[name]()
    params = trainer.given_params
    trials = [(params, 1), (params | {"learning_rate": 1e-2}, 2)]
    fused_trainer = FusedTrainer(trainer, size=2)
    found = together([fused_trainer.trial_trainer() for _ in range(2)], trials)
    for curve, (given, seed) in zip(found, trials, strict=True):
        trainer.reset(given, seed=seed)
        assert_close(curve, [trainer.epoch() for _ in range(3)])


@pytest.mark.soak
def test_trials_of_several_shapes_are_several_programs(pair: FusedTrainer) -> None:
    members = [pair.trial_trainer(), pair.trial_trainer()]
    wide = MOVING | {"filters": 5}
    found = together(members, [(MOVING, 1), (wide, 2)], 2)
    assert_close(found[0], alone(MOVING, 1, 2))
    trainer = CnnTrainer(IMAGES, wide, seed=2, precision="float32")
    assert_close(found[1], [trainer.epoch() for _ in range(2)])


@pytest.mark.soak
def test_mixed_precision_is_near_float32() -> None:
    member = FusedTrainer(CnnTrainer(IMAGES, SMALL_NET, precision="mixed_bfloat16"), size=2).trial_trainer()
    member.reset(MOVING, seed=1)
    mixed, exact = [member.epoch() for _ in range(3)], alone(MOVING, 1)
    assert mixed != exact
    assert_close([{"loss": m["loss"]} for m in mixed], [{"loss": m["loss"]} for m in exact], 3e-2)


def test_a_place_is_filled_again_without_compiling(pair: FusedTrainer) -> None:
    members = [pair.trial_trainer(), pair.trial_trainer()]
    together(members, TRIALS[:2])
    traces = pair.n_traces
    pair.release(members[0])
    with pytest.raises(RequestError, match="release one"):
        _ = [pair.trial_trainer() for _ in range(2)]
    members[1].reset(MOVING, seed=9)
    assert_close([members[1].epoch() for _ in range(2)], alone(MOVING, 9, 2))
    assert pair.n_traces == traces


@pytest.mark.soak
def test_a_late_member_is_not_waited_for_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_module, "GATHER_S", 0.01)
    fused_trainer = FusedTrainer(CnnTrainer(IMAGES, SMALL_NET, precision="float32"), size=2)
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
        broken.setattr(Stack, "train", lambda *_: 1 / 0)
        for member in members:
            member.reset(MOVING, seed=1)
        with ThreadPoolExecutor(2) as threads:
            errors = [future.exception() for future in [threads.submit(member.epoch) for member in members]]
    assert [type(error) for error in errors] == [TrainerError, TrainerError]
    assert "division by zero" in str(errors[0])
    assert_close([members[0].epoch() for _ in range(3)], alone(MOVING, 1))


def test_no_place_is_refused() -> None:
    with pytest.raises(RequestError, match="size: 0 is not allowed"):
        FusedTrainer(CnnTrainer(IMAGES, SMALL_NET), size=0)


def test_the_best_epoch_is_read_back_as_a_classifier(tmp_path: Path, pair: FusedTrainer) -> None:
    member = pair.trial_trainer()
    member.reset(SMALL_NET, seed=1)
    curve = [member.epoch() for _ in range(4)]
    member.save_best(tmp_path)
    found = load_classifier(tmp_path).predict(IMAGES.images[IMAGES.val])
    best = max(metrics["val_macro_f1"] for metrics in curve)
    right = (found.argmax(axis=1) == IMAGES.labels[IMAGES.val]).mean()
    assert right == pytest.approx(max(m["val_accuracy"] for m in curve if m["val_macro_f1"] == best))


def test_patience_ends_a_member_and_the_others_go_on() -> None:
    fused_trainer = FusedTrainer(CnnTrainer(IMAGES, SMALL_NET, precision="float32", patience=1), size=2)
    stuck, other = fused_trainer.trial_trainer(), fused_trainer.trial_trainer()
    stuck.reset(SMALL_NET | {"learning_rate": 1e-12}, seed=1)
    other.reset(SMALL_NET, seed=1)
    with ThreadPoolExecutor(2) as threads:
        curves = list(threads.map(lambda member: [member.epoch() for _ in range(3)], (stuck, other)))
    assert stuck.is_finished
    assert curves[0][2] == {}
    assert curves[1][0]


def test_on_a_cpu_one_trial_is_enough() -> None:
    trainer = CnnTrainer(IMAGES, SMALL_NET)
    assert choose_fused_size(trainer, max_size=64) == 1
    assert examples_per_second(trainer, 2, at_least_s=0.01) > 0
