"""The benchmark of the search on a table of measured curves in a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SPACE = {
    "rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "kind": {"type": "choice", "choices": ["a", "b"]},
}


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    """A file of 60 courses of an error in per cent that falls over nine epochs."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        rate, kind = float(10 ** rng.uniform(-4, 0)), str(rng.choice(["a", "b"]))
        level = 10 + 8 * abs(np.log10(rate) + 2) + (3 if kind == "b" else 0)
        rows.append({"params": {"rate": rate, "kind": kind}, "values": [level + 40 / epoch for epoch in range(1, 10)]})
    file = tmp_path / "errors.json"
    file.write_text(json.dumps({"space": SPACE, "mode": "min", "curves": rows}))
    return file


def test_a_configuration_gets_the_curve_of_the_nearest_measured_one(curves, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from search.tables import JsonTable

    table, rows = JsonTable(curves, "errors"), json.loads(curves.read_text())["curves"]
    assert (table.name, table.epochs) == ("errors", 9)
    for row in rows:
        near = row["params"] | {"rate": min(1.0, row["params"]["rate"] * 1.0001)}
        assert (-JsonTable(curves, "errors").curve(near)).tolist() == row["values"]
    best, median = table.reference()
    assert best == max(-min(row["values"]) for row in rows)
    assert median < best


def test_each_row_is_given_to_one_trial(curves, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from search.tables import JsonTable

    table = JsonTable(curves, "errors")
    asked = [{"rate": 0.01 * 1.001**i, "kind": "a"} for i in range(60)]
    given = [tuple(table.curve(params)) for params in asked]
    assert len(set(given)) == 60
    assert [tuple(table.curve(params)) for params in asked] == given
    assert tuple(table.curve({"rate": 0.3, "kind": "b"})) in given, "all rows are given away"


def test_the_benchmark_reads_such_a_file(curves):
    command = [sys.executable, str(BENCHMARKS / "search_quality.py"), str(curves), "--json", "--processes", "1"]
    words = ["--methods", "aifs", "random+asha", "--seeds", "1", "--workers", "2", "--budgets", "1", "4"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["tasks"], answer["workers"]) == (["errors"], 2)
    ours, random = answer["families"]["errors"]
    assert (ours["method"], random["method"]) == ("aifs", "random+asha")
    for entry in (ours, random):
        assert entry["budgets"] == [1, 4]
        first, last = entry["regret"]
        assert 0 <= last <= first, "of a table the best cannot be passed"
    assert random["speed_up"] is not None
