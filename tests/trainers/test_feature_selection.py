"""Which columns of a table a trial keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_tables import clouds, planes

from aifs_tune.data.examples import ExampleSet
from aifs_tune.trainers.boosting import BoostingTrainer
from aifs_tune.trainers.feature_selection import n_kept, ranked_columns
from aifs_tune.trainers.models.mlp import MlpTrainer

FAST = {"learning_rate": 0.03, "units": 16, "dropout": 0.0, "batch_size": 16}


def with_inputs(examples: ExampleSet, inputs: Any) -> ExampleSet:
    return replace(examples, inputs=(inputs.astype(np.float32),))


def test_columns_that_tell_classes_apart_come_first_and_constant_ones_last() -> None:
    examples = clouds(columns=7)  # the first three tell classes apart
    inputs = examples.inputs[0].copy()
    inputs[:, 5] = 4.0
    ranked = ranked_columns(with_inputs(examples, inputs))
    assert set(ranked[:3]) == {0, 1, 2}
    assert ranked[-1] == 5


def test_columns_that_go_with_a_number_come_first() -> None:
    examples = planes(n_targets=1)
    inputs = np.random.default_rng(2).normal(size=(120, 6))
    inputs[:, 4] = -examples.y_true[:, 0]
    assert ranked_columns(with_inputs(examples, inputs))[0] == 4


def test_only_the_training_part_is_looked_at() -> None:
    examples = clouds()
    inputs = examples.inputs[0].copy()
    for part in (examples.val, examples.test):
        inputs[part] = 100.0 * examples.y_true[part][:, None]
    assert np.array_equal(ranked_columns(with_inputs(examples, inputs)), ranked_columns(examples))


@pytest.mark.parametrize(("share", "n"), [(1.0, 2000), (0.005, 10), (0.0001, 1)])
def test_at_least_one_column_is_kept(share: float, n: int) -> None:
    assert n_kept(share, 2000) == n


def answers_of(trainer: Any, folder: Any) -> Any:
    trainer.epoch()
    with np.load(trainer.save_predictions(folder)) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("kind", [MlpTrainer, BoostingTrainer])
def test_what_is_left_out_changes_no_answer(kind: Any, tmp_path) -> None:
    examples, params = clouds(columns=10), {"kept_columns": 0.3, **(FAST if kind is MlpTrainer else {"trees": 4})}
    noisy = examples.inputs[0].copy()
    noisy[examples.test[:, None], ranked_columns(examples)[3:]] = 50.0
    given = [answers_of(kind(each, params, threads=1), tmp_path) for each in (examples, with_inputs(examples, noisy))]
    for name, array in given[0].items():
        assert np.array_equal(array, given[1][name]), name
    whole = kind(with_inputs(examples, noisy), params | {"kept_columns": 1.0}, threads=1)
    assert not all(np.array_equal(array, given[0][name]) for name, array in answers_of(whole, tmp_path).items())


def test_trials_that_keep_other_columns_share_a_program() -> None:
    trainer = MlpTrainer(clouds(columns=10), FAST | {"kept_columns": 0.3}, threads=1)
    first = trainer.epoch()
    trainer.reset(FAST, seed=0)
    assert trainer.epoch() != first
    trainer.reset(FAST | {"kept_columns": 0.3}, seed=0)
    assert trainer.epoch() == first
    assert trainer.n_train_functions == 1
    unchanged = trainer.epoch()
    trainer.reset(FAST | {"kept_columns": 0.3}, seed=0)
    trainer.epoch()
    trainer.change(FAST | {"kept_columns": 1.0})
    assert trainer.epoch() != unchanged
