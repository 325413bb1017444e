"""A folder of series, Ray, a network, a study, the best configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aifs_tune

pytestmark = pytest.mark.usefixtures("one_ray")


def test_a_folder_of_series_becomes_a_best_configuration(tmp_path: Path, url: str) -> None:
    random = np.random.default_rng(0)
    for label, trend in (("rise", 1.0), ("fall", -1.0)):
        (tmp_path / "series" / label).mkdir(parents=True)
        for i in range(20):
            n = int(random.integers(10, 20))
            values = trend * np.arange(n) / n + random.normal(0, 0.1, n)
            rows = "\n".join(f"{t},{v:.5f}" for t, v in enumerate(values))
            (tmp_path / "series" / label / f"{i}.csv").write_text(f"time,height\n{rows}\n")
    small = ["space.filters=4", "space.batch_size=16", "space.conv_blocks=2", "search.scheduler=none"]
    sweep = aifs_tune.load_sweep("seismograms", data=tmp_path / "series", overrides=small)
    result = sweep.run(trials=2, epochs=2, workers=1, storage=url)
    assert list(result.trials["state"]) == ["complete", "complete"]
    assert {"val_macro_f1", "val_auc"} <= set(result.best.metrics)
    assert result.study.spec.data is not None
    assert result.study.spec.data.series is not None
    assert result.study.spec.data.series.path == tmp_path / "series"
