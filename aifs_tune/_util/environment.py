"""Description of the environment: versions of Python and packages, and the hardware of this machine."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

ENVIRONMENT = "environment"
"""Key of a study's record of the machine that ran its newest sweep."""
MAIN = ("aifs-tune", "keras", "numpy", "optuna", "ray", "scikit-learn", "tensorflow")
"""Packages that affect results most."""


def environment(packages: Sequence[str] | None = MAIN) -> dict[str, Any]:
    """Return the environment as JSON values, with the installed ones of ``packages`` (None: all installed; slower)."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": _cpu(),
        "n_cpus": os.cpu_count(),
        "gpus": _gpus(),
        "packages": _installed() if packages is None else _versions(packages),
    }


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _installed() -> dict[str, str]:
    found = {str(one.metadata["Name"]).lower(): one.version for one in distributions() if one.metadata["Name"]}
    return dict(sorted(found.items()))


def _cpu() -> str:
    """Return the name of the processor, on Linux from ``/proc/cpuinfo``."""
    if sys.platform == "linux":
        for line in _lines(Path("/proc/cpuinfo")):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _gpus() -> list[str]:
    """Return the models of the NVIDIA GPUs whose driver is loaded."""
    found = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        found += [line.partition(":")[2].strip() for line in _lines(file) if line.startswith("Model:")]
    return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []
