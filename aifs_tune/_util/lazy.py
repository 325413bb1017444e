"""Lazy imports: a module is imported when one of its names is first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from aifs_tune._util.packages import missing_packages_named


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Build ``__getattr__`` and ``__dir__`` of a package whose public names are in its modules (PEP 562).

    Parameters
    ----------
    package
        ``__name__`` of the package.
    homes
        Module of each public name, relative to the package.

    Returns
    -------
    tuple
        The two functions, to be assigned to ``__getattr__`` and ``__dir__`` of the package.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with missing_packages_named():
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(homes)
