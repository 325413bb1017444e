"""A sweep of a detector, and the catalogue that its model writes of new frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aifs_tune
from aifs_tune.config.data import SkyFields
from aifs_tune.data.simulate.sky_fields import draw_field, simulate_sky_fields
from aifs_tune.errors import RequestError
from aifs_tune.trainers.factory import check_trainer

SMALL = [
    "data.bodies.tile=32",
    "data.bodies.group=null",
    "space.filters=8",
    "space.halvings=1",
    "space.batch_size=4",
    "space.min_score=0.15",
    "space.learning_rate=0.01",
    "search.trials=1",
    "search.epochs=6",
]


@pytest.mark.soak
def test_a_sweep_of_a_detector_and_its_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sky = SkyFields(fields=40, size=32, bodies=4, galaxies=0.2)
    sweep = aifs_tune.load_sweep("sky_fields", data=str(simulate_sky_fields(sky)), overrides=SMALL)
    result = sweep.run(workers=1, storage=f"sqlite:///{tmp_path}/a.db")
    assert 0 < result.best.value <= 1
    frame = SkyFields(fields=12, size=70, bodies=15, galaxies=0.2, seed=3)
    np.save("new.npy", draw_field(frame, 0)[0])  # needs nine tiles
    Path("bad.npy").write_bytes(b"")
    model = aifs_tune.load_model("sky-fields", storage=f"sqlite:///{tmp_path}/a.db")
    answers = model.predict_files(["new.npy", "bad.npy"])
    table = answers.table
    assert list(table.columns) == ["file", "x", "y", "class", "size", "score", "magnitude [mag]"]
    assert [one.name for one in answers.skipped] == ["bad.npy"]
    assert len(table) > 0
    assert table["score"].is_monotonic_decreasing
    assert table["score"].min() >= 0.15
    assert table[["x", "y"]].to_numpy().max() < 69.5
    with pytest.raises(RequestError, match="is a detector, which answers for each body"):
        model.explain_files(["new.npy"])


def test_a_metric_that_a_detector_does_not_report_is_told() -> None:
    with pytest.raises(RequestError, match=r"the detector does not report 'val_loss'.*val_completeness_faint"):
        check_trainer(aifs_tune.load_sweep("sky_fields", overrides=["objective.metric=val_loss"]).spec)
