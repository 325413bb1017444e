"""What benchmarks/event_forecasts.py compares the probabilities of a network with."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, list[int]]:
    """The benchmark, and the examples of a noisy wave with their blocks of time."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    benchmark = import_module("event_forecasts")
    wave = np.sin(np.arange(600) / 3) + 0.05 * np.random.default_rng(0).normal(size=600)
    return benchmark, *benchmark.Task("wave", wave, 12, 4, 0.7, 19).prepared()


def test_blocks_are_of_time(made: tuple[Any, Any, list[int]]) -> None:
    _, examples, blocks = made
    assert blocks == sorted(blocks)
    assert max(blocks) == (600 - 16) // 19
    assert len(blocks) == len(examples.y_true)


def test_more_of_the_past_foretells_a_wave_better(made: tuple[Any, Any, list[int]]) -> None:
    benchmark, examples, _ = made
    found = benchmark.forecasts(examples, seeds=0)
    y_true = examples.y_true[examples.test]
    brier = {name: np.mean((given - y_true) ** 2) for name, given in found.items()}
    assert brier["logistic regression"] < 0.5 * brier["persistence"]
    assert brier["persistence"] < brier["climatology"]
    assert set(found["climatology"]) == {examples.y_true[benchmark.known(examples)].mean()}
