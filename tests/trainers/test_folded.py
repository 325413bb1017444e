"""Trials that are measured on several folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from compiled_once import CompiledOnce
from small_tables import clouds

from aifs_tune.analysis.candidates import BASELINE, Candidate
from aifs_tune.analysis.confirmation import start_confirmation
from aifs_tune.analysis.noise import find_noise_floor
from aifs_tune.analysis.test_part import selection_bias_warning
from aifs_tune.config.cross_validation import CrossValidation
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.trusted_code import trust
from aifs_tune.data import open_examples
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import RequestError, SweepFileError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.data import data_for, located
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study
from aifs_tune.testing import TrainerContract
from aifs_tune.trainers.boosting import BoostingTrainer
from aifs_tune.trainers.factory import check_trainer, make_trainer
from aifs_tune.trainers.folded import folded
from aifs_tune.trainers.models.mlp import MlpTrainer
from aifs_tune.trainers.protocol import Resumable, Trainer

FAST: dict[str, Any] = {"learning_rate": 0.03, "units": 8, "batch_size": 16, "dropout": 0.0}
GOAL: dict[str, Any] = {"metric": "val_loss", "mode": "min", "threads": 1}


def division(n: int) -> ExampleSet:
    """Of three equal thirds of the training and validation parts, the one to validate on."""
    examples = clouds()
    rest = np.sort(np.concatenate([examples.train, examples.val]))
    return replace(examples, train=rest[rest // 3 % 3 != n], val=rest[rest // 3 % 3 == n], fingerprint=f"division {n}")


class TestFoldedNetTrainer(CompiledOnce):
    first: ClassVar = {"units": 8, "batch_size": 16, "schedule": "plateau"}
    second: ClassVar = {"units": 8, "batch_size": 16, "learning_rate": 0.1}

    def make_new(self) -> Trainer:
        return folded(MlpTrainer(clouds(), threads=1), [MlpTrainer(division(n), threads=1) for n in range(2)])


class TestFoldedTrainer(TrainerContract):
    first: ClassVar = {"trees": 2, "columns": 0.5}
    second: ClassVar = {"trees": 3, "leaf_samples": 5}

    def make(self) -> Trainer:
        return folded(BoostingTrainer(clouds(), threads=1), [BoostingTrainer(division(n), threads=1) for n in range(2)])


@pytest.mark.parametrize(("kind", "params"), [(MlpTrainer, FAST), (BoostingTrainer, {"trees": 3, "leaf_samples": 5})])
def test_what_an_epoch_validates_is_the_mean_of_what_the_folds_do_alone(kind: Any, params: dict[str, Any]) -> None:
    alone = [
        kind(examples, params, seed=4 + i, **GOAL) for i, examples in enumerate([clouds(), *map(division, range(3))])
    ]
    together = folded(kind(clouds(), **GOAL), [kind(division(n), **GOAL) for n in range(3)])
    together.reset(params, seed=4)
    for _ in range(3):
        own, *folds = (trainer.epoch() for trainer in alone)
        found = together.epoch()
        assert found["loss"] == own["loss"]
        for name in ("val_loss", "val_accuracy"):
            assert found[name] == pytest.approx(np.mean([fold[name] for fold in folds]), rel=1e-6), name


class Scripted(MlpTrainer):
    """Trains as usual and reports given validation losses, one for each epoch; keeps the weights and the validation
    losses that the epochs really had."""

    def __init__(self, examples: ExampleSet, script: list[float], **goal: Any) -> None:
        self.script, self.weights, self.losses = script, [], []
        super().__init__(examples, **GOAL | goal)

    def train_epoch(self) -> dict[str, float]:
        metrics = super().train_epoch()
        self.weights.append(self._train_function.network.values())
        self.losses.append(metrics["val_loss"])
        return metrics | {"val_loss": self.script[len(self.losses) - 1]}


def test_the_folds_choose_the_epoch_and_the_weights_are_of_the_own_division(tmp_path: Path) -> None:
    own = Scripted(clouds(), [0.5, 0.1, 0.3, 0.4])
    folds = [Scripted(division(0), [0.9, 0.8, 0.4, 0.2]), Scripted(division(1), [0.1, 0.4, 0.2, 0.8])]
    together: Any = folded(own, folds)
    together.reset(FAST, seed=1)
    for expected in [0.5, 0.6, 0.3, 0.5]:
        assert together.epoch()["val_loss"] == pytest.approx(expected)
    assert together.best_epoch == 3, "the best of the means; alone, no division would have chosen it"
    assert together.best_value == pytest.approx(0.3)
    assert together.evaluate("val")["val_loss"] == pytest.approx(own.losses[2], rel=1e-5)
    with np.load(together.save_best(tmp_path)) as arrays:
        assert set(arrays) == set(own.weights[2])
        for name, values in own.weights[2].items():
            np.testing.assert_array_equal(arrays[name], values)
            if name.endswith(".kernel"):
                assert (values != own.weights[3][name]).any(), "an epoch changes the weights"


def test_patience_counts_the_means() -> None:
    own = Scripted(clouds(), [0.9, 0.8, 0.7, 0.6], patience=2)
    folds = [
        Scripted(division(0), [0.9, 0.2, 0.6, 0.5], patience=2),
        Scripted(division(1), [0.1, 0.4, 0.3, 0.2], patience=2),
    ]
    together = folded(own, folds)
    together.reset(FAST, seed=1)
    means = [together.epoch()["val_loss"] for _ in range(4)]
    assert means == pytest.approx([0.5, 0.3, 0.45, 0.35])
    assert together.is_finished, "two epochs after the best mean, while the own division still gets better"
    assert together.epoch() == {}


def test_any_seed_of_a_trial_will_do() -> None:
    trees = TestFoldedTrainer().make()
    trees.reset({"trees": 2}, seed=2**32 - 1)
    assert trees.epoch()["val_loss"] > 0
    with pytest.raises(RequestError, match="seed: -1 is not allowed"):
        trees.reset({}, seed=-1)


def test_trees_cannot_be_continued_on_folds_either() -> None:
    assert not isinstance(TestFoldedTrainer().make(), Resumable)
    assert isinstance(TestFoldedNetTrainer().make_new(), Resumable)


@pytest.fixture
def sweep(tmp_path: Path) -> dict[str, Any]:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"u": random.normal(size=90), "v": random.normal(size=90)})
    frame["target"] = np.array(["a", "b", "c"])[np.arange(90) % 3]
    frame.to_csv(tmp_path / "table.csv", index=False)
    return {
        "name": "few",
        "trainer": {"name": "boosting", "folds": 4},
        "data": {"table": {"file": str(tmp_path / "table.csv")}},
        "objective": {"metric": "val_loss", "mode": "min"},
        "space": {"leaves": {"type": "int", "low": 2, "high": 31, "default": 31}},
    }


class Told(NullCallback):
    """Keeps what a stage says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_status(self, text: str) -> None:
        self.lines.append(text)


def test_a_job_has_the_folds_of_all_that_is_not_the_test_part(sweep: dict[str, Any], tmp_path: Path) -> None:
    spec, told = located(parse_sweep(sweep)), Told()
    data = data_for(spec, strict=False, callback=told)
    assert told.lines[-1] == (
        "each trial is measured on 4 folds, about 54 examples to train on and 18 to validate on in each"
    )
    context = TrialContext(spec, data.location, tmp_path, tmp_path, data.fingerprint, splits=data.splits)
    assert data.location is not None
    own, folds = open_examples(data.location), [open_examples(place) for place in context.fold_locations()]
    assert len(folds) == 4
    assert sorted(row for fold in folds for row in fold.val) == sorted([*own.train, *own.val])
    assert all(set(fold.test) == set(own.test) for fold in folds)
    trainer = make_trainer(spec, data.location, folds=context.fold_locations(), params={"leaves": 4}, seed=0, threads=1)
    alone = make_trainer(spec, data.location, params={"leaves": 4}, seed=0, threads=1)
    assert trainer.epoch()["val_loss"] != alone.epoch()["val_loss"]


def test_a_confirmation_has_trials_of_one_division_each_and_a_noise_of_these_does_not_count(
    sweep: dict[str, Any], tmp_path: Path
) -> None:
    spec = located(parse_sweep(sweep))
    storage = Storage(f"sqlite:///{tmp_path}/few.db", create=True)
    with storage.writing():
        study = start_study(storage, spec, "few")
        default = Candidate(BASELINE, None, {"leaves": 31})
        made = start_confirmation(storage, spec, "few-noise", [default], CrossValidation(folds=3))
        assert made.spec.trainer is not None
        assert made.spec.trainer.folds == 1
        assert selection_bias_warning(made.spec) is None
        assert "The sweep selected configurations by 4 folds of all data outside the test set" in str(
            selection_bias_warning(study.spec)
        )
        assert "is that of one split, but trials are means over several folds" in str(find_noise_floor(study))


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            {"name": "cnn", "folds": 5},
            "trainer.folds: 5 is not allowed for the cnn; allowed: 1, or trainers mlp, boosting",
        ),
        (
            {"name": "processes:start", "folds": 2},
            "trainer.folds: 2 is not allowed: a function reads its own data; allowed: 1",
        ),
    ],
)
def test_trainers_without_folds_are_named(trainer: dict[str, Any], message: str) -> None:
    trust(["processes:start"])
    spec = parse_sweep({"name": "few", "trainer": trainer, "space": {"learning_rate": 1e-3}})
    with pytest.raises(RequestError, match=message):
        check_trainer(spec)


def test_folds_in_each_trial_and_trials_of_one_fold_exclude_each_other(sweep: dict[str, Any]) -> None:
    sweep |= {"cross_validation": {"folds": 3}, "space": sweep["space"] | {"split": 0}}
    with pytest.raises(
        SweepFileError, match=r"trainer\.folds: 4 cannot be combined with cross_validation, where each trial uses one"
    ):
        parse_sweep(sweep)
