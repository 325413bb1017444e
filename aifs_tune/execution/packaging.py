"""Packaging of a sweep for another machine: its files, the modules it names, the versions it needs."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError

PINS_VARIABLE = "AIFS_TUNE_PINS"
PINNED = ("aifs-tune", "keras", "numpy", "optuna", "ray", "tensorflow")


def pack(folder: Path, spec: SweepSpec, files: Sequence[Path]) -> None:
    """Fill ``folder`` with ``files`` and with the modules that ``spec`` names, if they lie in the current folder.

    Raises
    ------
    RequestError
        If a file does not exist, or two have the same name.
    """
    named = [spec.trainer.name if spec.trainer else "", spec.search.sampler]
    modules = {name.partition(":")[0].partition(".")[0] for name in named if ":" in name}
    wanted = [*files, *(path for module in sorted(modules) if (path := _own(module)) is not None)]
    for path in wanted:
        target = folder / path.name
        if target.exists():
            raise RequestError(f"two files to send have the name {path.name!r}")
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file():
            shutil.copyfile(path, target)
        else:
            raise RequestError(f"{path}: no such file to send")


def pins() -> str:
    """The versions of Python and of the packages that results depend on, as ``name==version`` with commas."""
    found = [f"python=={'.'.join(platform.python_version_tuple()[:2])}"]
    for name in PINNED:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return ",".join(found)


def check_pins() -> None:
    """Refuse to run with other versions than those in ``$AIFS_TUNE_PINS``, where a submitted job has them.

    Raises
    ------
    RequestError
        Naming each that differs.
    """
    wanted = os.environ.get(PINS_VARIABLE)
    if not wanted:
        return
    here = dict(pin.split("==") for pin in pins().split(","))
    differing = [
        f"{name} {here.get(name, 'absent')} instead of {number}"
        for name, number in (pin.split("==") for pin in wanted.split(","))
        if here.get(name) != number
    ]
    if differing:
        raise RequestError(
            f"the cluster's environment is not the one the sweep was submitted from: {', '.join(differing)}; "
            "install the same versions there, or submit with --any-versions"
        )


def _own(module: str) -> Path | None:
    """The file or folder of a module that lies in the current folder; None for an installed one."""
    try:
        found = find_spec(module)
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).resolve()
    path = path.parent if found.submodule_search_locations else path
    return path if path.parent == Path.cwd().resolve() else None
