"""Simulated instruments with noise, whose true values and optima are known: what a closed loop is measured on."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Instrument:
    """``truth`` of a configuration without noise, larger is better; ``noise`` is the standard deviation of one
    measurement; ``optimum`` the largest true value."""

    name: str
    space: dict[str, Any]
    truth: Callable[[Params], float]
    noise: float
    optimum: float
    beside: dict[str, Any] = field(default_factory=dict)
    """What its study has besides a space: mixtures, limits."""


def _unit(n: int) -> dict[str, Any]:
    return {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(n)}


_A6 = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P6 = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_A3 = np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]])
_P3 = 1e-4 * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]])
_C = np.array([1.0, 1.2, 3.0, 3.2])


def hartmann(params: Params) -> float:
    """Of three or six numbers from 0 to 1."""
    x = np.array(list(params.values()))
    a, p = (_A3, _P3) if len(x) == 3 else (_A6, _P6)
    return float(_C @ np.exp(-np.sum(a * (x - p) ** 2, axis=1)))


def branin(params: Params) -> float:
    """Branin's function turned over and moved so that 0 is far and 1 is the optimum's value."""
    x, y = 15 * params["x0"] - 5, 15 * params["x1"]
    b = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    value = b + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10
    return 1.0 - (value - 0.397887) / 50.0


def chromatograph(params: Params) -> float:
    """Separation of two peaks against the time that it takes: a narrow ridge between flow and gradient."""
    flow, gradient, temperature = params["flow"], params["gradient"], params["temperature"]
    ridge = math.log(flow) + 0.8 * math.log(gradient) - 0.3
    column = {"C8": 0.8, "C18": 1.0, "phenyl": 0.9, "cyano": 0.55}[params["column"]]
    ph = math.exp(-(((params["ph"] - 4) / 2.2) ** 2))
    return column * ph * math.exp(-((ridge / 0.6) ** 2)) * math.exp(-(((temperature - 42) / 18) ** 2))


CHROMATOGRAPH = {
    "flow": {"type": "float", "low": 0.1, "high": 5.0, "log": True, "unit": "mL/min"},
    "gradient": {"type": "float", "low": 0.2, "high": 20.0, "log": True, "unit": "%/min"},
    "temperature": {"type": "float", "low": 20, "high": 80, "unit": "°C"},
    "ph": {"type": "int", "low": 2, "high": 9},
    "column": {"type": "choice", "choices": ["C8", "C18", "phenyl", "cyano"]},
}


def beamline(params: Params) -> float:
    """Flux at a sample: two mirrors whose tilts must agree, within a broad background of two hills."""
    a, b, c = params["pitch"], params["bend"], params["slit"]
    main = math.exp(-(((a - 0.62) / 0.16) ** 2) - ((b - a - 0.1) / 0.18) ** 2)
    side = 0.6 * math.exp(-(((a - 0.2) / 0.25) ** 2) - ((b - 0.8) / 0.3) ** 2)
    return (main + side) * math.exp(-(((c - 0.45) / 0.3) ** 2)) * (0.7 + 0.3 * math.exp(-(params["roll"] ** 2) / 0.5))


BEAMLINE = {
    "pitch": {"type": "float", "low": 0.0, "high": 1.0, "unit": "mrad"},
    "bend": {"type": "float", "low": 0.0, "high": 1.0},
    "slit": {"type": "float", "low": 0.0, "high": 1.0, "unit": "mm"},
    "roll": {"type": "float", "low": -1.5, "high": 1.5, "unit": "mrad"},
}


def _furnace() -> Any:
    file = Path(__file__).resolve().parents[2] / "examples" / "furnace.py"
    spec = importlib.util.spec_from_file_location("furnace", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instruments() -> dict[str, Instrument]:
    """By name; the furnace is that of ``examples/furnace.py``. The optima of furnace and beamline were found by 3,000
    steps of local search from each of the best 30 of 40,000 random configurations."""
    furnace = _furnace()
    found = [
        Instrument("furnace", furnace.SPACE, furnace.true_yield, furnace.NOISE, 0.8769),
        Instrument("hartmann3", _unit(3), hartmann, 0.08, 3.86278),
        Instrument("hartmann6", _unit(6), hartmann, 0.07, 3.32237),
        Instrument("branin", _unit(2), branin, 0.02, 1.0),
        Instrument("chromatograph", CHROMATOGRAPH, chromatograph, 0.02, 1.0),
        Instrument("beamline", BEAMLINE, beamline, 0.02, 1.0343),
    ]
    return {each.name: each for each in found}
