from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from small_images import SMALL_NET, STILL, blobs

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import ConflictError, DataError, RequestError, TrainerError
from aifs_tune.trainers.checkpoint import read_state, write_state
from aifs_tune.trainers.models.cnn import CnnParams, CnnShape, CnnTrainer
from aifs_tune.trainers.network import trainer as net_trainer
from aifs_tune.trainers.network.images import ImageTask
from aifs_tune.trainers.predictions import CLASS_METRICS

IMAGES = blobs()


@pytest.fixture(scope="module")
def warm() -> CnnTrainer:
    """One trainer for many tests; each resets it."""
    return CnnTrainer(IMAGES, SMALL_NET, threads=1)


def measured(
    trainer: CnnTrainer, params: dict[str, Scalar], *, seed: int = 1, epochs: int = 2
) -> list[dict[str, float]]:
    trainer.reset(params, seed=seed)
    return [trainer.epoch() for _ in range(epochs)]


def test_learns_what_is_easy() -> None:
    trainer = CnnTrainer(blobs(n=240), SMALL_NET)
    values = [trainer.epoch()["val_macro_f1"] for _ in range(10)]
    assert values[-1] > 0.9
    assert trainer.best_value == max(values)
    assert trainer.best_epoch == values.index(max(values)) + 1
    assert trainer.evaluate("test")["test_macro_f1"] > 0.9


def test_measures_what_it_says(warm: CnnTrainer) -> None:
    assert tuple(measured(warm, SMALL_NET, epochs=1)[0]) == CLASS_METRICS


WARM_CHANGES: dict[str, Scalar] = {
    "learning_rate": 1e-2,
    "dropout": 0.8,
    "rotation_deg": 90.0,
    "width_shift": 0.5,
    "height_shift": 0.5,
    "horizontal_flip": False,
    "vertical_flip": True,
    "zoom": 0.5,
    "brightness": 0.5,
    "noise": 0.2,
    "weight_decay": 0.5,
    "rotation_90": True,
    "blur": 2.0,
    "read_noise": 0.2,
    "shot_noise": 0.2,
    "random_erasing": 1.0,
    "cutmix": 1.0,
    "mixup": 1.0,
    "label_smoothing": 0.3,
    "focal_gamma": 2.0,
    "clip_norm": 1e-3,
    "warmup_epochs": 1,
}


def test_new_values_compile_nothing_and_take_effect(warm: CnnTrainer) -> None:
    base = measured(warm, SMALL_NET, epochs=1)
    traced, programs = warm.n_traces, warm.n_train_functions
    for name, value in WARM_CHANGES.items():
        changed = measured(warm, SMALL_NET | {name: value}, epochs=1)
        assert changed[0]["loss"] != base[0]["loss"] or changed[0]["val_loss"] != base[0]["val_loss"], name
    assert measured(warm, SMALL_NET, seed=2, epochs=1) != base
    assert measured(warm, SMALL_NET, epochs=1) == base
    assert (warm.n_traces, warm.n_train_functions) == (traced, programs)


def test_momentum_takes_effect_with_sgd_alone(warm: CnnTrainer) -> None:
    for optimizer, has_effect in (("sgd", True), ("adam", False)):
        params = SMALL_NET | {"optimizer": optimizer}
        slow, fast = (measured(warm, params | {"momentum": momentum}, epochs=1) for momentum in (0.0, 0.95))
        assert (slow != fast) is has_effect


def test_each_shape_is_traced_once_for_training_and_once_for_measuring() -> None:
    trainer = CnnTrainer(IMAGES, SMALL_NET)
    for _ in range(3):
        for params in (SMALL_NET, SMALL_NET | {"filters": 3}, SMALL_NET | {"optimizer": "sgd"}):
            measured(trainer, params, epochs=2)
            trainer.evaluate("train")
            trainer.predict(IMAGES.images[:5])
    assert (trainer.n_train_functions, trainer.n_traces) == (3, 6)


def test_kept_programs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_trainer, "MAX_TRAIN_FUNCTIONS", 2)
    trainer = CnnTrainer(IMAGES, SMALL_NET)
    first = measured(trainer, SMALL_NET, epochs=1)
    for units in (10, 11):
        trainer.reset(SMALL_NET | {"dense_units": units}, seed=1)
    assert trainer.n_train_functions == 3
    trainer.reset(SMALL_NET | {"dense_units": 11}, seed=1)
    assert trainer.n_train_functions == 3, "kept"
    assert measured(trainer, SMALL_NET, epochs=1) == first
    assert trainer.n_train_functions == 4, "dropped and made anew"
    assert trainer.n_traces == 4, "traces of dropped programs still count"


def test_large_programs_are_not_hoarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_trainer, "MAX_TRAIN_FUNCTION_BYTES", 1)
    trainer = CnnTrainer(IMAGES, SMALL_NET)
    trainer.reset(SMALL_NET | {"dense_units": 10}, seed=1)
    trainer.reset(SMALL_NET, seed=1)
    assert trainer.n_train_functions == 3
    assert trainer.epoch()


def test_two_trainers_measure_the_same(warm: CnnTrainer) -> None:
    params = SMALL_NET | {"zoom": 0.1, "noise": 0.05, "weight_decay": 1e-3}
    assert measured(CnnTrainer(IMAGES), params, epochs=3) == measured(warm, params, epochs=3)


def test_a_set_that_leaves_a_last_batch_unfilled_is_learnt_too() -> None:
    images = dataclasses.replace(IMAGES, train=IMAGES.train[:21])
    trainer = CnnTrainer(images, SMALL_NET | {"batch_size": 16})
    assert all(math.isfinite(trainer.epoch()["loss"]) for _ in range(2))


def test_patience_ends_a_trial_and_the_best_epoch_stays() -> None:
    trainer = CnnTrainer(IMAGES, patience=2, metric="val_loss", mode="min")
    trainer.reset(SMALL_NET | {"learning_rate": 1e-12}, seed=1)
    values = []
    while not trainer.is_finished:
        values.append(trainer.epoch()["val_loss"])
        assert len(values) < 50
    assert trainer.best_epoch == values.index(min(values)) + 1
    assert trainer.epochs_done == trainer.best_epoch + 2
    assert trainer.epoch() == {}
    assert trainer.epochs_done == len(values)
    trainer.reset(SMALL_NET, seed=1)
    assert not trainer.is_finished


def test_evaluates_and_predicts_with_the_best_epoch(warm: CnnTrainer) -> None:
    values = [metrics["val_macro_f1"] for metrics in measured(warm, SMALL_NET | {"learning_rate": 0.05}, epochs=6)]
    assert warm.evaluate("val")["val_macro_f1"] == max(values)
    again = [warm.epoch() for _ in range(2)]
    warm.reset(SMALL_NET | {"learning_rate": 0.05}, seed=1)
    assert [warm.epoch() for _ in range(8)][6:] == again, "evaluating must not disturb the trial"
    probabilities = warm.predict(IMAGES.images[IMAGES.val])
    assert probabilities.shape == (len(IMAGES.val), 3)
    accuracy = (probabilities.argmax(axis=1) == IMAGES.labels[IMAGES.val]).mean()
    assert accuracy == pytest.approx(warm.evaluate("val")["val_accuracy"])


def test_divergence_is_measured_and_is_never_best(warm: CnnTrainer) -> None:
    diverging = SMALL_NET | {"optimizer": "sgd", "learning_rate": 1000.0, "weight_decay": 100.0}
    metrics = measured(warm, diverging, epochs=4)[-1]
    assert not math.isfinite(metrics["loss"])
    assert math.isnan(metrics["val_macro_f1"])
    assert warm.best_value is None or math.isfinite(warm.best_value)
    good = measured(warm, SMALL_NET, epochs=1)
    assert all(math.isfinite(value) for value in good[0].values()), "the next trial is not infected"


def test_without_a_trained_epoch_nothing_is_best(warm: CnnTrainer, tmp_path: Path) -> None:
    warm.reset(SMALL_NET, seed=1)
    for ask in (lambda: warm.evaluate("val"), lambda: warm.predict(IMAGES.images), lambda: warm.save_best(tmp_path)):
        with pytest.raises(TrainerError, match="there is no best epoch: no epoch was trained yet"):
            ask()


def test_a_loaded_trial_keeps_its_best_epoch_and_patience(tmp_path: Path) -> None:
    trainer = CnnTrainer(IMAGES, SMALL_NET, patience=3)
    for _ in range(3):
        trainer.epoch()
    trainer.save(tmp_path)
    later = CnnTrainer(IMAGES, SMALL_NET, patience=3)
    later.load(tmp_path)
    for name in ("epochs_done", "best_epoch", "best_value", "is_finished"):
        assert getattr(later, name) == getattr(trainer, name)
    np.testing.assert_array_equal(later.predict(IMAGES.images), trainer.predict(IMAGES.images))


def test_a_checkpoint_of_another_shape_or_data_is_refused(warm: CnnTrainer, tmp_path: Path) -> None:
    measured(warm, SMALL_NET, epochs=1)
    warm.save(tmp_path)
    warm.reset(SMALL_NET | {"filters": 3}, seed=1)
    with pytest.raises(ConflictError, match="architecture is"):
        warm.load(tmp_path)
    with pytest.raises(ConflictError, match="fingerprint is"):
        CnnTrainer(dataclasses.replace(IMAGES, fingerprint="other"), SMALL_NET).load(tmp_path)


def test_a_checkpoint_that_lacks_arrays_is_refused(warm: CnnTrainer, tmp_path: Path) -> None:
    measured(warm, SMALL_NET, epochs=1)
    warm.save(tmp_path)
    arrays, facts = read_state(tmp_path, "state")
    del arrays["slot/m.dense.kernel"]
    write_state(tmp_path, "state", arrays, {name: facts[name] for name in facts if name not in ("version", "sha256")})
    with pytest.raises(TrainerError, match="is not a complete checkpoint"):
        warm.load(tmp_path)


def test_balanced_weights_lift_a_rare_class() -> None:
    rare = np.concatenate(
        [IMAGES.train[IMAGES.labels[IMAGES.train] != 2], IMAGES.train[IMAGES.labels[IMAGES.train] == 2][:2]]
    )
    images = dataclasses.replace(IMAGES, train=rare.astype(np.int32))
    params = SMALL_NET | STILL
    balanced, plain = (
        CnnTrainer(images, params, seed=1, class_weights=choice).epoch() for choice in ("balanced", "none")
    )
    assert balanced["val_loss"] != plain["val_loss"]
    weights = ImageTask(images, params_type=CnnParams, shape_type=CnnShape).weights_of_classes()
    counts = np.bincount(images.labels[images.train])
    np.testing.assert_allclose(weights * counts, len(rare) / 3, rtol=1e-6)


def test_a_class_that_is_absent_from_training_has_no_weight() -> None:
    images = dataclasses.replace(IMAGES, train=IMAGES.train[IMAGES.labels[IMAGES.train] != 2])
    assert math.isfinite(CnnTrainer(images, SMALL_NET).epoch()["loss"])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"metric": "val_f1"}, "metric: 'val_f1' is not allowed; allowed: loss, accuracy, val_loss"),
        ({"mode": "maximum"}, "mode: 'maximum' is not allowed; allowed: max, min"),
        ({"class_weights": "auto"}, "class_weights: 'auto' is not allowed; allowed: balanced, none"),
        ({"patience": 0}, "patience: 0 is not allowed"),
        ({"threads": 0}, "threads: 0 is not allowed"),
        ({"seed": -1}, "seed: -1 is not allowed"),
        ({"params": {"conv_blocks": 4}}, "16x16 px; .* at least 46 px"),
        ({"params": {"colour": "red"}}, "'colour': 'red' is not a parameter"),
    ],
)
def test_wrong_requests_are_named(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        CnnTrainer(IMAGES, **keywords)  # type: ignore[arg-type]


def test_a_refused_reset_leaves_the_running_trial(warm: CnnTrainer) -> None:
    expected = measured(warm, SMALL_NET, epochs=2)
    warm.reset(SMALL_NET, seed=1)
    one = warm.epoch()
    with pytest.raises(RequestError):
        warm.reset({"learning_rate": -1.0}, seed=1)
    assert [one, warm.epoch()] == expected


def test_data_on_which_nothing_can_be_learnt_or_measured_is_refused() -> None:
    with pytest.raises(DataError, match="train: no images"):
        CnnTrainer(dataclasses.replace(IMAGES, train=IMAGES.train[:0]))
    one_class = IMAGES.val[IMAGES.labels[IMAGES.val] == 0]
    with pytest.raises(DataError, match=r"val: images of 1 class\(es\)"):
        CnnTrainer(dataclasses.replace(IMAGES, val=one_class))
    trainer = CnnTrainer(dataclasses.replace(IMAGES, test=IMAGES.test[:0]), SMALL_NET)
    trainer.epoch()
    with pytest.raises(DataError, match="part: 'test' has no examples"):
        trainer.evaluate("test")
    with pytest.raises(RequestError, match="part: 'tests' is not allowed; allowed: train, val, test"):
        trainer.evaluate("tests")  # type: ignore[arg-type]


def test_a_checkpoint_of_the_other_precision_is_refused(tmp_path: Path) -> None:
    trainers = [CnnTrainer(IMAGES, SMALL_NET, precision=name) for name in ("float32", "mixed_bfloat16")]
    for trainer in trainers:
        trainer.epoch()
    trainers[0].save(tmp_path)
    with pytest.raises(ConflictError, match="precision is 'float32'; allowed: 'mixed_bfloat16'"):
        trainers[1].load(tmp_path)


def test_a_trial_that_would_drop_a_program_wears_the_worker_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_trainer, "MAX_TRAIN_FUNCTIONS", 2)
    trainer = CnnTrainer(IMAGES, SMALL_NET)
    assert not trainer.needs_restart(SMALL_NET)
    assert not trainer.needs_restart(SMALL_NET | {"filters": 5})
    trainer.reset(SMALL_NET | {"filters": 5}, seed=1)
    assert not trainer.needs_restart(SMALL_NET | {"learning_rate": 0.5})
    assert trainer.needs_restart(SMALL_NET | {"filters": 6})
    assert not trainer.needs_restart(SMALL_NET | {"filters": 0}), "it ends with the reason instead"


def test_time_is_accounted_for() -> None:
    trainer = CnnTrainer(IMAGES, SMALL_NET)
    trainer.epoch()
    after_first = dict(trainer.timings)
    trainer.epoch()
    assert after_first["trace"] > 0
    assert trainer.timings["trace"] == after_first["trace"]
    assert trainer.timings["train"] > after_first["train"]
    assert trainer.timings["evaluate"] > after_first["evaluate"]
