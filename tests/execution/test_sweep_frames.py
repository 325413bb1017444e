"""A manifest of FITS frames through the whole of a sweep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aifs_tune
from aifs_tune.config.data import MovingSky
from aifs_tune.data.simulate.moving_sky import simulate_moving_sky
from aifs_tune.errors import RequestError
from aifs_tune.trainers.factory import check_trainer

pytestmark = pytest.mark.usefixtures("one_ray")


def test_a_manifest_becomes_a_best_configuration(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = simulate_moving_sky(MovingSky(images=60, size=24))
    monkeypatch.chdir(manifest.parent)
    small = ["space.filters=4", "space.dense_units=8", "space.conv_blocks=2", "space.batch_size=16"]
    sweep = aifs_tune.load_sweep("sky_positions", data="positions.csv", overrides=small)
    result = sweep.run(trials=2, epochs=2, workers=1, storage=url)
    best = result.best
    assert best.value == min(result.trials["value"])
    assert np.isfinite([best.metrics[f"val_mae_{name}"] for name in ("x", "y", "vx", "vy", "magnitude")]).all()
    assert result.study.spec.data.frames.manifest == manifest


def test_an_objective_that_is_no_metric_of_the_targets_is_refused() -> None:
    with pytest.raises(
        RequestError,
        match=r"the cnn_values does not report 'val_mae_z', did you mean val_mae_y\?; allowed: .*val_mae_magnitude",
    ):
        check_trainer(aifs_tune.load_sweep("sky_positions", overrides=["objective.metric=val_mae_z"]).spec)
