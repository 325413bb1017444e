"""Packaging of a sweep for another machine: its files, the modules it names, the versions it needs."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from functools import partial
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError

PINS_VARIABLE = "AIFS_TUNE_PINS"
PINNED = ("aifs-tune", "keras", "numpy", "optuna", "ray", "tensorflow")
MAX_BYTES = 100_000_000
"""Most that is sent with a job."""


def pack(folder: Path, spec: SweepSpec, files: Sequence[Path]) -> None:
    """Fill ``folder`` with ``files`` and with the modules that ``spec`` names, if they lie in the current folder.

    Of folders, hidden files and what Python compiled stay here: whoever may see jobs can read what was sent, and
    ``.env`` or ``.git`` hold secrets.

    Raises
    ------
    RequestError
        If a file does not exist, is not a plain one or a link that leads out of its folder, if two have the same name,
        or all are larger than 100 MB.
    """
    named = [(spec.trainer.code or "") if spec.trainer else "", spec.search.sampler.name]
    modules = {name.partition(":")[0].partition(".")[0] for name in named if ":" in name}
    wanted = [*files, *(path for module in sorted(modules) if (path := _own(module)) is not None)]
    for path in wanted:
        target = folder / path.name
        if target.exists():
            raise RequestError(f"two files to send have the name {path.name!r}")
        if path.is_dir():
            shutil.copytree(path, target, ignore=_kept_here, copy_function=partial(_copy_within, path.resolve()))
        elif path.is_file():
            shutil.copyfile(path, target)
        else:
            raise RequestError(f"{path}: no such file to send")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > MAX_BYTES:
        raise RequestError(
            f"the files to send have {size / 1e6:.0f} MB; allowed: at most {MAX_BYTES / 1e6:.0f} MB; put data where "
            "all nodes see them, and name the place with --data"
        )


def _kept_here(folder: str, names: list[str]) -> list[str]:
    """What of a folder is not sent; links to folders are refused, because they may lead anywhere or in a circle."""
    sent = [name for name in names if not name.startswith(".") and name != "__pycache__"]
    for name in sent:
        if Path(folder, name).is_dir() and Path(folder, name).is_symlink():
            raise RequestError(f"{Path(folder, name)}: a link to a folder is not sent; allowed: files and folders")
    return [name for name in names if name not in sent]


def _copy_within(root: Path, source: str, target: str) -> None:
    """Copy a plain file that lies in ``root``."""
    found = Path(source).resolve()
    is_hidden = found.is_relative_to(root) and any(part.startswith(".") for part in found.relative_to(root).parts)
    if not found.is_file() or not found.is_relative_to(root) or is_hidden:
        raise RequestError(
            f"{source}: is not a plain file in the folder to send; allowed: files, and links to others in that "
            "folder that are not hidden"
        )
    shutil.copyfile(found, target)


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
    here = Path.cwd().resolve()
    found = PathFinder.find_spec(module, [str(here)])
    if found is None:
        return None
    if found.submodule_search_locations is not None:
        return here / module
    return None if found.origin is None else here / Path(found.origin).name
