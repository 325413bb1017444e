"""Tables of learning curves: what a configuration would have scored at each epoch, without training it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aifs_tune.space.search_space import Space


class CurveTable(Protocol):
    """One task: a space, and the objective (larger is better) of any of its configurations at epochs 1 to
    ``epochs``."""

    name: str
    epochs: int
    space: Space

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        """Values (epochs,)."""


class LCBenchTable:
    """One OpenML task of the LCBench surrogate: validation accuracy in per cent, 52 epochs, 7 parameters.

    ``reader`` is the surrogate's ``lcbench.py``.
    """

    def __init__(self, reader: Path, task: str) -> None:
        self._module = _loaded(reader)
        self.name, self.epochs = task, self._module.EPOCHS
        self.space = Space.model_validate(
            {
                name: {"type": "int" if whole else "float", "low": low, "high": high, "log": log}
                for name, (low, high, log, whole) in self._module.SPACE.items()
            }
        )

    @cached_property
    def _bench(self) -> Any:
        return self._module.LCBench(self.name)

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        return self._bench.curve(dict(params))["val_accuracy"].astype(float)

    @staticmethod
    def tasks(reader: Path) -> list[str]:
        return list(_loaded(reader).tasks())


class JsonTable:
    """Measured curves of one task in a JSON file: ``{"space": {...}, "mode": "max", "curves": [{"params": {...},
    "values": [...]}]}``. A configuration that was not measured gets the curve of the nearest one that was: choose
    among the rows."""

    def __init__(self, file: Path, task: str) -> None:
        document = json.loads(file.read_text())
        self.name = task
        self.space = Space.model_validate(document["space"])
        sign = 1.0 if document.get("mode", "max") == "max" else -1.0
        self._rows = [row["params"] for row in document["curves"]]
        self._values = sign * np.array([row["values"] for row in document["curves"]], dtype=float)
        self.epochs = self._values.shape[1]

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        return self._values[min(range(len(self._rows)), key=lambda i: _distance(self.space, params, self._rows[i]))]


def _distance(space: Space, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    total = 0.0
    for name, parameter in space.items():
        if name not in one or name not in other:
            total += float((name in one) != (name in other))
            continue
        a, b = one[name], other[name]
        if parameter.type in ("float", "int"):
            low, high = parameter.low, parameter.high
            if parameter.log:
                a, b, low, high = (float(np.log(v)) for v in (a, b, low, high))
            total += ((a - b) / (high - low)) ** 2
        else:
            total += float(a != b)
    return total


def reference(table: CurveTable, *, n: int = 1000, seed: int = 12345) -> tuple[float, float]:
    """The best and the median over ``n`` random configurations of the best value of each."""
    rng = np.random.default_rng(seed)
    best = [float(table.curve(random_params(table.space, rng)).max()) for _ in range(n)]
    return max(best), float(np.median(best))


class _Uniform:
    """Answers a space's questions at random, evenly over each range (its logarithm where the range is log)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            return low + step * int(self._rng.integers(round((high - low) / step) + 1))
        if log:
            return float(np.clip(np.exp(self._rng.uniform(np.log(low), np.log(high))), low, high))
        return float(self._rng.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return int(np.clip(round(np.exp(self._rng.uniform(np.log(low - 0.5), np.log(high + 0.5)))), low, high))
        return low + step * int(self._rng.integers((high - low) // step + 1))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[int(self._rng.integers(len(choices)))]


def random_params(space: Space, rng: np.random.Generator) -> dict[str, Any]:
    """A configuration drawn evenly from ``space``."""
    return dict(space.suggest(_Uniform(rng)))


def _loaded(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
