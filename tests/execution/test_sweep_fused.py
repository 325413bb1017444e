"""Trials that share one program: a real Ray, a population in an actor, each trial proposed and recorded by itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import aifs_tune
from aifs_tune.data import prepare_images
from aifs_tune.data.simulate.sky import simulate_sky
from aifs_tune.errors import RequestError, WorkError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.context import RayConfig, TrialContext
from aifs_tune.execution.ray.cluster import ray_pool
from aifs_tune.execution.ray.fused import open_worker_group
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.trainers.factory import why_not_fused

pytestmark = pytest.mark.usefixtures("one_ray")
FIXED = (
    *("space.filters=4", "space.dense_units=16", "space.optimizer=adam", "space.batch_size=16", "data.image_size=24"),
    *("trainer.precision=float32", "search.scheduler=asha", "search.grace_epochs=1", "search.sampler=random"),
)


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    return simulate_sky(tmp_path_factory.mktemp("sky") / "survey", images=150, size=24, difficulty=0.0).folder


class Lines(NullCallback):
    """Remembers what a sweep says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_status(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.soak
def test_a_population_measures_what_its_members_do_alone(survey, url):
    said = Lines()
    sweep = aifs_tune.load_sweep("celestial_cnn", data=survey, overrides=[*FIXED, "resources.fused_trials=3"])
    result = sweep.run(trials=8, epochs=4, workers=3, storage=url, study="three", callback=said)
    table = result.trials
    assert any("1 group(s) of 3 fused trials, each in one program" in line for line in said.lines)
    assert set(table["state"]) == {"complete", "pruned"}
    reasons = [trial.reason or "" for trial in result.study.all_trials() if trial.state == "pruned"]
    assert all(reason.endswith("; 1 more had begun and was discarded") for reason in reasons), reasons
    assert table["worker"].nunique() == 3
    assert [len(result.study.curve(t)) for t in table["trial"]] == list(table["epochs"])
    assert len(list((result.study.artifacts / f"trial-{result.best.number:06d}" / "weights").iterdir())) == 2

    prepared = prepare_images(result.study.spec.data).location
    alone = Path(__file__).parents[1] / "trainers" / "curve_on_jax.py"
    trials = [[trial.params, trial.seed, trial.epochs] for trial in result.study.all_trials()[:3]]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    told = [sys.executable, str(alone), str(prepared), json.dumps(trials)]
    curves = json.loads(subprocess.run(told, env=environment, stdout=subprocess.PIPE, check=True).stdout)
    for trial, curve in zip(result.study.all_trials(), curves, strict=False):
        for measured, again in zip(result.study.curve(trial), curve, strict=True):
            assert again == pytest.approx(dict(measured.metrics), rel=1e-3, abs=1e-3)


@pytest.mark.soak
def test_a_population_that_dies_is_started_anew_and_its_trials_go_on(survey, url):
    overrides = [*FIXED, "resources.fused_trials=2", "search.scheduler=none", "search.grace_epochs=null"]
    overrides += ["trainer.checkpoint_s=0", "trainer.patience=99"]
    sweep = aifs_tune.load_sweep("celestial_cnn", data=survey, overrides=overrides)
    killed: list[int] = []

    def kill_once_it_trains() -> None:
        until = time.monotonic() + 280
        while time.monotonic() < until and not killed:
            if _epochs(url) >= 2:
                killed.extend(_processes_of("ray::FusedTrainerActor"))
                for process in killed:
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)

    killer = threading.Thread(target=kill_once_it_trains)
    killer.start()
    result = sweep.run(trials=2, epochs=60, workers=2, storage=url, study="two")
    killer.join()
    assert killed
    assert [trial.state for trial in result.study.all_trials()] == ["complete", "complete"]
    assert [len(result.study.curve(trial)) for trial in result.study.all_trials()] == [60, 60]


def _processes_of(title: str) -> list[int]:
    """Those that this process started, not those of whoever else tests here."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith(title):
                found.append(process.pid)
    return found


def _epochs(url: str) -> int:
    if not Path(url.removeprefix("sqlite:///")).exists():
        return 0
    try:
        return sum(trial.epochs for trial in get_study(Storage(url), "two").all_trials())
    except aifs_tune.errors.AifsTuneError:
        return 0


def test_a_population_that_cannot_start_says_why(survey, tmp_path):
    overrides = [*FIXED, "resources.fused_trials=2", "search.workers=1"]
    spec = aifs_tune.load_sweep("celestial_cnn", data=survey, overrides=overrides).spec
    context = TrialContext(spec, tmp_path / "gone", tmp_path, tmp_path)
    with ray_pool(spec.search, spec.resources, RayConfig()) as pool:
        with (
            pytest.raises(WorkError, match=r"fused trials cannot start: .*gone"),
            open_worker_group(context, pool, n_trials=2, callback=NullCallback()),
        ):
            pass
        elsewhere = replace(context, fingerprint="that of other data")
        said = Lines()
        with (
            pytest.raises(WorkError, match=r"no node is left .*; the last one failed with: the data on "),
            open_worker_group(elsewhere, pool, n_trials=2, callback=said),
        ):
            pass
        assert "gets no more trials: the data on " in said.lines[0]


def test_shapes_that_are_tuned_are_fused_where_the_sweep_asks_for_it(survey):
    def reason(*overrides: str) -> str | None:
        return why_not_fused(aifs_tune.load_sweep("celestial_cnn", data=survey, overrides=overrides).spec)

    assert reason("resources.fused_trials=2") is None
    assert "filters" in str(reason("resources.gpu=1"))
    spec = aifs_tune.load_sweep(
        "celestial_cnn", data=survey, overrides=["resources.fused_trials=2", "search.scheduler=pbt"]
    ).spec
    with pytest.raises(RequestError, match=r"resources.fused_trials: 2 is not possible: the parameters of trials"):
        aifs_tune.Sweep.from_spec(spec).run(trials=4)


def test_on_a_cpu_a_trial_trains_alone_unless_told_otherwise(survey):
    def spec(*more: str) -> aifs_tune.config.sweep.SweepSpec:
        return aifs_tune.load_sweep("celestial_cnn", data=survey, overrides=[*FIXED, *more]).spec

    assert why_not_fused(spec()) == "one trial keeps a CPU busy"
    assert why_not_fused(spec("resources.gpu=1")) is None
    assert why_not_fused(spec("resources.gpu=1", "resources.fused_trials=1")) is not None
    assert why_not_fused(spec("resources.fused_trials=4")) is None
    assert "measures the share of a GPU" in str(why_not_fused(spec("resources.gpu=auto", "resources.fused_trials=4")))
