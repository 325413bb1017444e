"""Prepared data on a machine that shares no folder with the driver's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import picture

from aifs_tune.config.data import DataSpec
from aifs_tune.data.node_copy import find_local_copy
from aifs_tune.data.sources import prepare
from aifs_tune.errors import DataError

SIMULATED = {
    "images": None,
    "table": {"table": {"bundled": "breast_cancer"}},
    "series": {"series": {"simulate": {"what": "light_curves", "series": 24, "steps": 16}}},
    "frames": {"frames": {"simulate": {"images": 30, "size": 16}, "path": "image", "targets": {"x": "px", "y": "px"}}},
}


@pytest.fixture
def survey(tmp_path: Path) -> DataSpec:
    for i in range(20):
        file = tmp_path / "survey" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(file)
    return DataSpec(folder=tmp_path / "survey", image_size=16)


def nobody(*_told: object) -> None: ...


def decoded_elsewhere(data: DataSpec, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """What the driver knows of its data, whose cache this machine does not see; its own is empty."""
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "driver"))
    known = prepare(data, kind, strict=True, tell=nobody, progress=nobody)
    (tmp_path / "driver").rename(tmp_path / "out of sight")
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "node"))
    return known.location, known.fingerprint


@pytest.mark.parametrize("kind", list(SIMULATED))
def test_a_node_decodes_what_it_does_not_have(kind, survey, tmp_path, monkeypatch):
    data = survey if kind == "images" else DataSpec.model_validate(SIMULATED[kind])
    location, fingerprint = decoded_elsewhere(data, kind, tmp_path, monkeypatch)
    here = find_local_copy(data, kind, location, fingerprint)
    assert here == tmp_path / "node" / location.relative_to(tmp_path / "driver")
    monkeypatch.setattr("aifs_tune.data.node_copy.prepare", lambda *_, **__: pytest.fail("it is there"))
    assert find_local_copy(data, kind, location, fingerprint) == here
    (tmp_path / "out of sight").rename(tmp_path / "driver")
    assert find_local_copy(data, kind, location, fingerprint) == location, "a cache that is shared is used"


def test_the_workers_of_a_node_decode_once(survey, tmp_path, monkeypatch):
    location, fingerprint = decoded_elsewhere(survey, "images", tmp_path, monkeypatch)
    code = (
        "import json, sys; from pathlib import Path; from aifs_tune.data import node_copy; "
        "from aifs_tune.config.data import DataSpec; spec, location, fingerprint = sys.argv[1:]; "
        "inner = node_copy.prepare; node_copy.prepare = lambda *a, **k: (print('decodes'), inner(*a, **k))[1]; "
        "print(node_copy.find_local_copy(DataSpec(**json.loads(spec)), 'images', Path(location), fingerprint))"
    )
    spec = json.dumps({"folder": str(survey.folder), "image_size": 16})
    words = [sys.executable, "-c", code, spec, str(location), fingerprint]
    workers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) for _ in range(3)]
    said = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert sorted(len(words) for words in said) == [1, 1, 2]
    assert len({words[-1] for words in said}) == 1


def test_other_data_on_a_node_are_refused(survey, tmp_path, monkeypatch):
    location, fingerprint = decoded_elsewhere(survey, "images", tmp_path, monkeypatch)
    picture(99).save(survey.folder / "a" / "0.png")
    with pytest.raises(DataError, match=rf"^the data on \S+ differ from .* in the study {fingerprint[:12]}\)"):
        find_local_copy(survey, "images", location, fingerprint)
    missing = DataSpec(folder=tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere"):
        find_local_copy(missing, "images", location, fingerprint)
