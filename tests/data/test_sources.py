"""Where data come from, as it is said."""

from __future__ import annotations

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.data.sources import prepare

SIMULATED = {
    "images": {"simulate": {"images": 40, "size": 16}},
    "table": {"table": {"simulate": {"samples": 60, "genes": 30}}},
}


@pytest.mark.parametrize("kind", SIMULATED)
def test_simulated_data_are_named_so(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path))
    space = {"learning_rate": {"type": "float", "low": 0.1, "high": 1}}
    told: list[str] = []
    spec = parse_sweep({"name": "a", "trainer": "cnn", "space": space, "data": SIMULATED[kind]})
    assert spec.data is not None
    prepare(spec.data, kind, strict=False, tell=told.append, progress=lambda *_: None)
    assert [line for line in told if line.startswith("no data were given, so simulated")] == told[:1]
    assert told[0].endswith("are used; give yours with --data")


def test_a_table_that_is_given_is_not_called_simulated():
    told: list[str] = []
    spec = parse_sweep(
        {"name": "a", "trainer": "mlp", "space": {"x": 1}, "data": {"table": {"bundled": "breast_cancer"}}}
    )
    assert spec.data is not None
    prepare(spec.data, "table", strict=False, tell=told.append, progress=lambda *_: None)
    assert not [line for line in told if "simulated" in line]
