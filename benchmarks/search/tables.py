"""Tables of learning curves: what a configuration would have scored at each epoch, without training it."""

from __future__ import annotations

import csv
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
        """Values (epochs,). A table of measured curves gives each of its rows to one trial."""


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

    def reference(self) -> tuple[float, float]:
        """The best and the median over 1,000 random configurations of the best value of each."""
        rng = np.random.default_rng(12345)
        best = [float(self.curve(random_params(self.space, rng)).max()) for _ in range(1000)]
        return max(best), float(np.median(best))

    @staticmethod
    def tasks(reader: Path) -> list[str]:
        return list(_loaded(reader).tasks())


class JsonTable:
    """Measured curves of one task in a JSON file: ``{"space": {...}, "mode": "max", "curves": [{"params": {...},
    "values": [...]}]}``.

    A trial gets the curve of the nearest row that no trial of this table has had; if all were had, of the nearest. A
    configuration that is asked for again, as by a method that trains it further, keeps its row.
    """

    TOP = 10
    """Number of best rows of which it is counted how many a method proposed, and how many of these it stopped."""

    def __init__(self, file: Path, task: str) -> None:
        document = json.loads(file.read_text())
        self.name = task
        self.space = Space.model_validate(document["space"])
        sign = 1.0 if document.get("mode", "max") == "max" else -1.0
        self._points = np.array([_point(self.space, row["params"]) for row in document["curves"]])
        self._values = sign * np.array([row["values"] for row in document["curves"]], dtype=float)
        self.epochs = self._values.shape[1]
        best = self._values.max(1)
        self.top = {int(row) for row in np.argsort(-best, kind="stable")[: self.TOP]}
        self.rows: dict[tuple[Any, ...], int] = {}
        """The row of each configuration that was asked for."""

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        key = tuple(sorted(params.items()))
        if key not in self.rows:
            distances = np.sum((self._points - _point(self.space, params)) ** 2, axis=1)
            if len(self.rows) < len(distances):
                distances[list(self.rows.values())] = np.inf
            self.rows[key] = int(np.argmin(distances))
        return np.asarray(self._values[self.rows[key]])

    def reference(self) -> tuple[float, float]:
        """The best and the median over all rows of the best value of each."""
        best = self._values.max(1)
        return float(best.max()), float(np.median(best))


class LabTable:
    """Measured values of a real experiment: a CSV file whose last column is the value, larger is better.

    ``spaces.json`` beside it has the space of each table. A configuration is given the nearest row that was not given
    yet.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.document = json.loads((folder / "spaces.json").read_text())[name]["space"]
        self.space = Space.model_validate(self.document)
        rows = list(csv.reader((folder / f"{name}.csv").read_text().splitlines()))
        params = [dict(zip(rows[0][:-1], row[:-1], strict=True)) for row in rows[1:]]
        self._points = np.array([_point(self.space, _typed(self.space, each)) for each in params])
        self._values = np.array([float(row[-1]) for row in rows[1:]])
        self._is_given = np.zeros(len(self._values), dtype=bool)

    def value(self, params: Mapping[str, Any]) -> float:
        """Measure a configuration."""
        distances = np.sum((self._points - _point(self.space, params)) ** 2, axis=1)
        row = int(np.argmin(np.where(self._is_given, np.inf, distances)))
        self._is_given[row] = True
        return float(self._values[row])

    def reference(self) -> tuple[float, float]:
        """The best and the median value of the table."""
        return float(self._values.max()), float(np.median(self._values))

    @staticmethod
    def names(folder: Path) -> list[str]:
        return list(json.loads((folder / "spaces.json").read_text()))


def _typed(space: Space, texts: Mapping[str, str]) -> dict[str, Any]:
    """The values of a row of a CSV file."""
    found: dict[str, Any] = {}
    for name, parameter in space.items():
        if parameter.type == "choice":
            found[name] = next(c for c in parameter.choices if str(c) == texts[name] or _same(c, texts[name]))
        else:
            found[name] = float(texts[name])
    return found


def _same(choice: Any, text: str) -> bool:
    try:
        return isinstance(choice, int | float) and float(text) == choice
    except ValueError:
        return False


def _point(space: Space, params: Mapping[str, Any]) -> np.ndarray:
    """Coordinates in which two configurations are as far apart as their parameters differ: by the share of a range,
    or by one where choices differ or a parameter is inactive in one of them."""
    found: list[float] = []
    for name, parameter in space.items():
        if parameter.type in ("float", "int"):
            low, high, value = parameter.low, parameter.high, params.get(name)
            if parameter.log:
                low, high = float(np.log(low)), float(np.log(high))
                value = None if value is None else float(np.log(value))
            found += [0.0, 1.0] if value is None else [(value - low) / (high - low), 0.0]
        elif parameter.type == "choice":
            found += [np.sqrt(0.5) * (name in params and params[name] == choice) for choice in parameter.choices]
    return np.array(found)


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
