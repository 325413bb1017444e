"""The programs of the page on other tuners, before and after: all run, and the benchmark counts their lines."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "migrations"
NEEDS = {"keras_tuner_before": ("keras_tuner", "tensorboard")}


def marked(name: str) -> object:
    """The program as a parameter; those of before show what other packages do, by hand (``make soak``)."""
    marks = [*[pytest.mark.ray] * name.startswith("ray"), *[pytest.mark.soak] * name.endswith("_before")]
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [marked(file.stem) for file in sorted(EXAMPLES.glob("*_*.py"))])
def test_each_program_runs_and_prints_its_best(name, tmp_path):
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "RAY_ADDRESS": "local"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0.1 < float(done.stdout.strip().splitlines()[-1].split()[0]) <= 1.0


def test_the_lines_that_change_are_counted(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    migrations = importlib.import_module("migrations")
    for pair in migrations.PAIRS:
        lines, removed, added = migrations.changed_lines(pair)
        assert 0 < removed < lines
        assert 0 < added < lines
