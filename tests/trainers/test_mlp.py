from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_tables import clouds, clouds_and_planes, planes

from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.feature_selection import ranked_columns
from aifs_tune.trainers.models.mlp import MlpNetwork, MlpParams, MlpShape, MlpTrainer
from aifs_tune.trainers.network.runtime import keras, tf
from aifs_tune.trainers.predictions import CLASS_METRICS, both_metrics, read_predictions, value_metrics

FAST = {"learning_rate": 0.01, "units": 16, "dropout": 0.1, "batch_size": 16}
EASY = clouds(apart=5.0)


@pytest.fixture(scope="module")
def warm() -> MlpTrainer:
    return MlpTrainer(EASY, FAST, threads=1)


def test_learns_classes_and_measures_what_it_says(warm: MlpTrainer) -> None:
    warm.reset(FAST, seed=0)
    measured = [warm.epoch() for _ in range(8)]
    assert tuple(measured[-1]) == CLASS_METRICS
    assert measured[-1]["val_macro_f1"] > 0.8
    assert warm.evaluate("test")["test_accuracy"] > 0.7
    probabilities = warm.predict(EASY.inputs[0][:5])
    assert probabilities.shape == (5, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_learns_numbers_and_gives_them_back_in_their_units(loss: str) -> None:
    examples = planes()
    trainer = MlpTrainer(examples, FAST | {"layers": 0, "loss": loss, "learning_rate": 0.03}, threads=1)
    measured = [trainer.epoch() for _ in range(30)]
    assert tuple(measured[-1]) == value_metrics(["t0", "t1"])
    assert measured[-1]["val_r2"] > 0.9
    found = trainer.predict(examples.inputs[0][examples.val])
    y_true = examples.y_true[examples.val] * np.array([2, 3]) + np.array([0, 10])
    errors = np.abs(found - y_true)
    best = measured[(trainer.best_epoch or 0) - 1]
    np.testing.assert_allclose(errors.mean(axis=0), [best["val_mae_t0"], best["val_mae_t1"]], rtol=1e-4)
    np.testing.assert_allclose(np.quantile(errors[:, 0], 0.9), best["val_q90_t0"], rtol=1e-4)
    np.testing.assert_allclose((errors[:, 1] ** 2).mean() ** 0.5, best["val_rmse_t1"], rtol=1e-4)


def test_values_and_gradients_are_those_of_keras() -> None:
    shape = MlpShape.of(MlpParams(units=5, layers=2), clouds())
    network = MlpNetwork(shape, "float32")
    network.initialise(3)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, activation="relu"), layers.Dense(5, activation="relu"), layers.Dense(3)]
    )
    model.set_weights([network.values()[name] for name in network.weights])
    inputs = tf.constant(clouds().inputs[0])

    def gradients(outputs: Any, variables: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(outputs() ** 2)
        return [np.array(gradient) for gradient in tape.gradient(total, variables)]

    found = gradients(lambda: network.outputs(inputs, lambda v: v, is_training=True), list(network.weights.values()))
    expected = gradients(lambda: model(inputs), [v.value for v in model.trainable_variables])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_new_values_compile_nothing_and_take_effect(warm: MlpTrainer) -> None:
    def first(params: dict[str, Any]) -> dict[str, float]:
        warm.reset(FAST | params, seed=1)
        return warm.epoch()

    base, traced = first({}), warm.n_traces
    changes: dict[str, Any] = {"learning_rate": 1e-3, "dropout": 0.6, "noise": 0.5, "weight_decay": 1.0}
    changes |= {"mixup": 0.4, "label_smoothing": 0.2, "focal_gamma": 2.0, "clip_norm": 0.01, "warmup_epochs": 3}
    for name, value in changes.items():
        assert first({name: value}) != base, name
    assert first({}) == base
    assert warm.n_traces == traced


def test_a_cosine_schedule_ends_with_the_trial() -> None:
    trainer = MlpTrainer(clouds(), FAST | {"schedule": "cosine"}, epochs=4, threads=1)
    losses = [trainer.epoch()["val_loss"] for _ in range(8)]
    assert len(set(losses[:5])) > 3
    assert losses[4:] == [losses[4]] * 4, "the rate is 0 beyond the last epoch"


def test_what_is_not_allowed_is_refused() -> None:
    with pytest.raises(RequestError, match="metric: 'val_r2' is not allowed; allowed: loss, accuracy"):
        MlpTrainer(clouds(), metric="val_r2")
    with pytest.raises(RequestError, match="metric: 'val_macro_f1' is not allowed; allowed: loss, mae, val_loss"):
        MlpTrainer(planes(), metric="val_macro_f1")
    with pytest.raises(RequestError, match=r"'filters': 8 is not a parameter of the mlp; allowed: learning_rate"):
        MlpTrainer(clouds(), {"filters": 8})
    with pytest.raises(RequestError, match=r"make a network of .* weights; allowed: at most"):
        MlpTrainer(clouds(), {"units": 65536, "layers": 2})
    with pytest.raises(DataError, match="train: no examples"):
        MlpTrainer(dataclasses.replace(clouds(), train=clouds().train[:0]))
    with pytest.raises(DataError, match="train, val: 80 and 1 examples are too few; allowed"):
        MlpTrainer(dataclasses.replace(planes(), val=planes().val[:1]))


@pytest.mark.parametrize(
    ("predict", "parameter", "message"),
    [
        ("values", "mixup", "space.mixup: has an effect only with classes, not with numbers; allowed: learning_rate"),
        ("classes", "loss", "space.loss: has an effect only with numbers, not with classes; allowed: learning_rate"),
    ],
)
def test_a_parameter_without_effect_on_these_data_is_refused(predict: str, parameter: str, message: str) -> None:
    metric = {"values": "val_loss", "classes": "val_accuracy"}[predict]
    sweep = {
        "name": "table",
        "trainer": "mlp",
        "data": {"table": {"bundled": "breast_cancer", "predict": predict}},
        "objective": {"metric": metric},
        "space": {parameter: {"mixup": 0.2, "loss": "mae"}[parameter]},
    }
    with pytest.raises(RequestError, match=re.escape(message)):
        check_trainer(parse_sweep(sweep))


BOTH = {"bundled": "breast_cancer", "numbers": {"mean area": "px", "worst area": "px"}}


ALONE = {"data": {"table": {"bundled": "breast_cancer"}}}
ONLY_BOTH = "space.values_weight: has an effect only with classes and numbers together; allowed: learning_rate"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"trainer": "boosting"},
            "worst area) beside classes are not allowed for boosting; allowed for: mlp",
        ),
        ({"objective": {"metric": "val_mae_mass"}}, "does not report 'val_mae_mass'"),
        ({**ALONE, "space": {"values_weight": 0.3}}, ONLY_BOTH),
        ({"space": {"values_weight": 5000}}, "space.values_weight: 5000"),
    ],
)
def test_a_sweep_of_classes_and_numbers_is_checked(changes: dict[str, Any], message: str) -> None:
    sweep = {
        "name": "table",
        "trainer": "mlp",
        "data": {"table": BOTH},
        "objective": {"metric": "val_macro_f1"},
        "space": {"values_weight": 0.3, "mixup": 0.2, "loss": "mae"},
    }
    check_trainer(parse_sweep(sweep | {"trade_off": [{"metric": "val_rmse_mean area", "mode": "min"}]}))
    with pytest.raises(RequestError, match=re.escape(message)):
        check_trainer(parse_sweep(sweep | changes))


def with_gaps(share: float = 0.3) -> tuple[Any, Any]:
    """Examples of three targets, and the same with gaps in each target."""
    whole = planes(n=180, n_targets=3)
    y_true = whole.y_true.copy()
    y_true[np.random.default_rng(5).random(y_true.shape) < share] = np.nan
    return whole, dataclasses.replace(whole, y_true=y_true, fingerprint="gaps")


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_examples_that_lack_a_target_teach_the_others(loss: str) -> None:
    whole, gaps = with_gaps()
    trainer = MlpTrainer(gaps, FAST | {"layers": 0, "loss": loss, "learning_rate": 0.03}, threads=1)
    measured = [trainer.epoch() for _ in range(30)]
    assert all(np.isfinite(list(each.values())).all() for each in measured)
    found = trainer.predict(whole.inputs[0][whole.val])
    scales, centres = np.array([2, 3, 4]), np.array([0, 10, 20])
    errors = np.abs(found - (whole.y_true[whole.val] * scales + centres))
    assert (errors.mean(axis=0) < 0.3 * scales).all(), "what is missing does not spoil what is known"
    known = ~np.isnan(gaps.y_true[gaps.val])
    best = measured[(trainer.best_epoch or 0) - 1]
    for i in range(3):
        assert best[f"val_mae_t{i}"] == pytest.approx(errors[known[:, i], i].mean(), rel=1e-3, abs=1e-5)


def test_a_target_that_no_example_to_validate_on_has_is_refused() -> None:
    _, gaps = with_gaps()
    y_true = gaps.y_true.copy()
    y_true[gaps.val[1:], 2] = np.nan
    y_true[gaps.val[0], 2] = 1.0
    with pytest.raises(DataError, match=r"val: 1 of 30 examples have 't2'; allowed: at least 2"):
        MlpTrainer(dataclasses.replace(gaps, y_true=y_true), FAST, threads=1)


def test_one_network_learns_classes_and_numbers(tmp_path: Path) -> None:
    examples = clouds_and_planes(n=240, gaps=0.2)
    trainer = MlpTrainer(examples, FAST | {"layers": 1, "dropout": 0.0, "learning_rate": 0.03}, threads=1)
    measured = [trainer.epoch() for _ in range(20)]
    assert tuple(measured[-1]) == both_metrics(CLASS_METRICS, ["t0", "t1"])
    assert measured[-1]["val_accuracy"] > 0.9
    assert measured[-1]["val_r2"] > 0.8
    best = measured[(trainer.best_epoch or 0) - 1]
    found = trainer.predict(examples.inputs[0][examples.val])
    assert found.shape == (40, 5)
    np.testing.assert_allclose(found[:, :3].sum(axis=1), 1, atol=1e-5)
    labels, numbers = examples.y_true[examples.val, 0].astype(int), examples.y_true[examples.val, 1:]
    assert best["val_loss"] == pytest.approx(-np.log(found[np.arange(40), labels]).mean(), rel=1e-3)
    errors = found[:, 3:] - (numbers * np.array([2, 3]) + np.array([0, 10]))
    np.testing.assert_allclose(np.nanmean(errors[:, 1] ** 2) ** 0.5, best["val_rmse_t1"], rtol=1e-4)
    trainer.save_predictions(tmp_path)
    kept = read_predictions(tmp_path)
    assert (kept.classes, [target["name"] for target in kept.targets]) == (examples.classes, ["t0", "t1"])
    np.testing.assert_array_equal(kept.of_classes[0], examples.y_true[examples.test, 0])
    np.testing.assert_array_equal(kept.of_targets[1], trainer.predict(examples.inputs[0][examples.test])[:, 3:])


def test_the_weight_of_numbers_takes_effect_without_a_new_program() -> None:
    examples = clouds_and_planes()
    trainer = MlpTrainer(examples, FAST | {"values_weight": 0.0}, threads=1)
    alone, traced = [trainer.epoch() for _ in range(10)][-1], trainer.n_traces
    trainer.reset(FAST | {"values_weight": 3.0}, seed=0)
    both = [trainer.epoch() for _ in range(10)][-1]
    assert trainer.n_traces == traced
    assert both["val_r2"] > 0.5 > alone["val_r2"]
    trainer.change(FAST | {"values_weight": 0.5})
    trainer.epoch()
    assert trainer.n_traces == traced


def test_columns_of_both_are_ranked_by_the_better_of_two() -> None:
    examples = clouds_and_planes()
    by_class, by_number = (
        ranked_columns(dataclasses.replace(examples, y_true=y_true, **others))
        for y_true, others in ((examples.labels, {"targets": ()}), (examples.numbers, {"classes": ()}))
    )
    found = ranked_columns(examples)
    assert {by_class[0], by_number[0]} <= set(found[:2].tolist())
