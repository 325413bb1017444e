"""The main job, small: a folder of images, Ray, Keras, a study, the best configuration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import aifs_tune
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data.simulate.sky import simulate_sky
from aifs_tune.errors import ConflictError, DataError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import start_study
from aifs_tune.trainers.network.trainer import MAX_TRAIN_FUNCTIONS

pytestmark = pytest.mark.usefixtures("one_ray")
SMALL = ("space.filters=8", "space.dense_units=16", "space.optimizer=adam", "space.batch_size=16", "data.image_size=24")


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    return simulate_sky(tmp_path_factory.mktemp("sky") / "survey", images=150, size=24, difficulty=0.0).folder


def test_a_folder_becomes_a_best_configuration(survey, url):
    overrides = [*SMALL, "data.group_by=^(field[0-9]+)_", "search.grace_epochs=1"]
    sweep = aifs_tune.load_sweep("celestial_cnn", data=survey, overrides=overrides)
    result = sweep.run(trials=6, epochs=3, workers=2, storage=url)
    best, table = result.best, result.trials
    assert best.state == "complete"
    assert best.value == table.loc[table["state"] == "complete", "value"].max()
    assert dict(result.study.spec.space.check(best.params)) == dict(best.params)
    expected = {"loss", "accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_auc"}
    assert set(best.metrics) == expected
    assert len(table) == 6
    assert set(table["state"]) <= {"complete", "pruned"}
    assert table.loc[0, "params_learning_rate"] == 1e-4
    assert table["worker"].nunique() <= 2
    folders = sorted(p.name for p in result.study.artifacts.iterdir() if p.name != "logs")
    assert folders == ["data", f"trial-{best.number:06d}"]
    assert [len(result.study.curve(t)) for t in table["trial"]] == list(table["epochs"])

    from aifs_tune.artifacts.trial_artifacts import kept_weights
    from aifs_tune.data import open_images, prepare_images
    from aifs_tune.trainers.load import load_classifier
    from aifs_tune.trainers.network.metrics import measure

    prepared = prepare_images(result.study.spec.data)
    images = open_images(prepared.location)
    assert set(best.weights) == {"weights.json", "weights.npz"}
    classifier = load_classifier(kept_weights(result.study, best))
    again = measure(images.labels[images.val], classifier.predict(images.images[images.val]))
    assert again["macro_f1"] == pytest.approx(best.value, abs=1e-6)
    assert sorted(classifier.classes) == sorted(images.classes)


@pytest.mark.soak
def test_other_images_are_another_study(survey, url, tmp_path):
    overrides = [*SMALL, "search.trials=1", "search.epochs=1"]
    aifs_tune.load_sweep("celestial_cnn", data=survey, overrides=overrides).run(storage=url, study="sky")
    (next((survey / "spiral").glob("*.png"))).unlink()
    with pytest.raises(ConflictError, match="other data"):
        aifs_tune.resume("sky", storage=url)
    with pytest.raises(DataError, match="needs images"):
        aifs_tune.load_sweep("blood_cells").run(storage=url)


@pytest.mark.soak
def test_a_killed_trial_goes_on_from_its_checkpoint_and_measures_the_same(tmp_path):
    survey = simulate_sky(tmp_path / "survey", images=240, size=24, difficulty=0.0).folder
    overrides = [
        *SMALL,
        "trainer.checkpoint_s=0",
        "trainer.patience=99",
        "search.trials=1",
        "search.epochs=14",
        "search.workers=1",
    ]
    sweep = aifs_tune.load_sweep("celestial_cnn", data=survey, overrides=overrides)
    whole = sweep.run(storage=f"sqlite:///{tmp_path}/whole.db", study="sky").study

    url = f"sqlite:///{tmp_path}/killed.db"
    words = ["run", "celestial_cnn", "--data", str(survey), "--storage", url, "--study", "sky"]
    words += [word for override in overrides for word in ("--set", override)]
    driver = subprocess.Popen([sys.executable, "-m", "aifs_tune", *words], env=os.environ, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline
        assert driver.poll() is None, driver.stderr.read()
        is_kept = list(tmp_path.glob("killed_artifacts/*/*/checkpoint-0000[3-9]"))
        if is_kept and get_study(Storage(url), "sky").trial(0).epochs >= 2:
            break
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    killed = get_study(Storage(url), "sky")
    reached = killed.trial(0).epochs
    assert killed.trial(0).state == "running"
    assert set(killed.checkpoint(0).hashes) == {"hashes.json", "epochs.json", "state.json", "state.npz"}
    assert 2 <= reached < 14
    resumed = aifs_tune.resume("sky", storage=url).study
    assert [m.epoch for m in resumed.curve(0)] == list(range(1, 15))
    for a, b in zip(whole.curve(0), resumed.curve(0), strict=True):
        assert dict(a.metrics) == dict(b.metrics), a.epoch
    seconds = np.array([m.seconds for m in resumed.curve(0)])
    assert (seconds > 0).all()


@pytest.mark.soak
def test_a_worker_that_has_compiled_enough_is_replaced_and_no_trial_notices(survey, url):
    """Its memory of dropped programs does not come back: a new process takes over, and it is no failure."""
    overrides = [*SMALL, "search.sampler=random", "search.worker_retries=0", "search.scheduler=none"]
    sweep = aifs_tune.load_sweep("celestial_cnn", data=survey, overrides=overrides)
    document = sweep.spec.model_dump(mode="json")
    document["space"]["filters"] = {"type": "int", "low": 1, "high": 1000, "default": 1}
    spec = parse_sweep(document)
    study = start_study(Storage(url, create=True), spec, "shapes")
    n = MAX_TRAIN_FUNCTIONS + 3
    for filters in range(2, n + 1):  # after the defaults, with one filter
        study.enqueue((spec.space.default_params() or {}) | {"filters": filters})
    aifs_tune.Sweep.from_spec(spec).run(trials=n, epochs=1, workers=1, storage=url, study="shapes")
    trials = study.all_trials()
    assert [t.params["filters"] for t in trials] == list(range(1, n + 1))
    assert [t.state for t in trials] == ["complete"] * n
    workers = [t.worker for t in trials]
    assert len(set(workers)) == 2
    assert len(set(workers[:MAX_TRAIN_FUNCTIONS])) == 1
