"""Code that sweep files name, and which of it a person has allowed to run.

A sweep file may name a function as its trainer and a class as its sampler, both as ``module:name``. What a person names
here, in a sweep file or in Python, runs. What a study of a storage or a bundle names may come from somebody else, so it
runs only once a person has said so with its name: then it is remembered for this study, in a file of this account.
An estimator class of scikit-learn, XGBoost or LightGBM runs without that.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import inspect
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from aifs_tune._util.atomic_files import write_file
from aifs_tune.config.search import OPTUNAHUB
from aifs_tune.config.sweep import LIBRARIES, SweepSpec
from aifs_tune.errors import RequestError, UntrustedCodeError

BUNDLE_METADATA = "ro-crate-metadata.json"
"""File that every bundle has; a sweep file beside it is not of the person who runs it."""

_allowed: set[str] = set()
"""What may be imported in this process."""
_said: set[str] = set()
"""What a person has named with ``--trust-code`` or ``trust_code``: it is remembered for the studies that name it."""


def code_in(spec: SweepSpec) -> tuple[str, ...]:
    """The code that a sweep file names: its trainer and its sampler, where they are not this package's own."""
    named = (None if spec.trainer is None else spec.trainer.code, spec.search.sampler.name)
    return tuple(name for name in named if name is not None and ":" in name)


def allow(spec: SweepSpec) -> None:
    """Allow the code of a sweep file that a person has named, or of a driver that has checked it."""
    _allowed.update(code_in(spec))


def trust(names: Iterable[str]) -> None:
    """Allow code by its names, and remember it for each study that names it and is opened in this process."""
    for name in names:
        if ":" not in name:
            raise RequestError(f"--trust-code: {name!r} is not the name of code; allowed: module:function")
        _allowed.add(name)
        _said.add(name)


def allowed_code() -> tuple[str, ...]:
    """The code that this process may import, to allow it in a process that continues its work."""
    return tuple(sorted(_allowed))


def allow_remembered(storage: str, study: str, spec: SweepSpec) -> None:
    """Allow the code of a study as far as a person has trusted it for this study."""
    names = code_in(spec)
    if not names:
        return
    _allowed.update(set(names) & set(_remembered().get(f"{storage} {study}", ())))
    if _said & set(names):
        remember(storage, study, spec)


def remember(storage: str, study: str, spec: SweepSpec) -> None:
    """Remember that the code of a study was allowed here, as far as it was, so that the study can be continued."""
    names = sorted(set(code_in(spec)) & _allowed)
    entries, key = _remembered(), f"{storage} {study}"
    if not names or set(names) <= set(entries.get(key, ())):
        return
    entries[key] = sorted({*entries.get(key, ()), *names})
    with suppress(OSError):  # without a home folder, the person is asked again
        folder = _file().parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(_file(), json.dumps(entries, indent=1).encode())


def check_allowed(name: str) -> None:
    """Check that code may be imported.

    Raises
    ------
    UntrustedCodeError
        If nobody has allowed it; the text says from where it would be imported.
    """
    if name not in _allowed:
        module = name.partition(":")[0]
        raise UntrustedCodeError(
            f"{name} is code that a study or a bundle names, and nobody has allowed it here. It would be imported from "
            f"{_origin(module)}. If you trust it, add: --trust-code {name} (in Python: trust_code=[{name!r}])",
            name,
        )


def import_code(name: str, kind: str) -> Any:
    """Import what ``module:name`` names.

    Parameters
    ----------
    name
        The name.
    kind
        The key of the sweep file, for messages.

    Raises
    ------
    UntrustedCodeError
        If nobody has allowed it, and it is no estimator of scikit-learn, XGBoost or LightGBM.
    RequestError
        If it cannot be imported, or is not meant to be named in a sweep file: Python's own modules and what is only
        passed on from elsewhere.
    """
    module_name, _, attribute = name.partition(":")
    if _is_pythons(module_name):
        raise RequestError(
            f"{kind}: {name} is of Python itself, not made for this; allowed: {'cnn, or ' if kind == 'trainer' else ''}"
            "module:name of a module of yours"
        )
    is_library = name not in _allowed and module_name.partition(".")[0] in LIBRARIES
    if not is_library:
        check_allowed(name)
    if not is_library and (here := os.getcwd()) not in sys.path:  # a lab's own modules lie where the command is typed
        sys.path.insert(0, here)  # not before: any other import would look there too, also in a stranger's folder
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RequestError(
            f"{kind}: cannot import {module_name!r} ({error}); allowed: {'cnn, or ' if kind == 'trainer' else ''}"
            "module:name that can be imported from the current folder or the environment"
        ) from error
    found = getattr(module, attribute, None)
    if is_library and not is_estimator_class(found):
        check_allowed(name)
    if found is None:
        functions = ", ".join(n for n, f in vars(module).items() if inspect.isfunction(f) and not n.startswith("_"))
        raise RequestError(f"{kind}: {module_name} has no {attribute!r}; its functions: {functions or 'none'}")
    home = _home(found)
    if home is not None and (_is_pythons(home) or home.partition(".")[0] != module_name.partition(".")[0]):
        raise RequestError(
            f"{kind}: {name} is defined in {home}, not in {module_name}; allowed: a function that {module_name} "
            f"defines{'' if _is_pythons(home) else f', or its own name, {home}:{attribute}'}"
        )
    return found


def is_estimator_class(found: Any) -> bool:
    """Whether ``found`` is a class of scikit-learn's estimators; does not load scikit-learn."""
    if not inspect.isclass(found) or not all(callable(getattr(found, name, None)) for name in ("fit", "get_params")):
        return False
    return any((base.__module__, base.__name__) == ("sklearn.base", "BaseEstimator") for base in found.__mro__)


def _home(found: Any) -> str | None:
    """The module that defines a function or class; None for other objects, and for what a decorator has made."""
    while isinstance(found, functools.partial):
        found = found.func
    if inspect.isbuiltin(found) or inspect.ismethoddescriptor(found):
        return str(getattr(found, "__module__", None) or builtins.__name__)
    if inspect.isclass(found) or (inspect.isfunction(found) and found.__closure__ is None):
        return str(found.__module__)
    return None


def _is_pythons(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names and module.partition(".")[0] != "__main__"


def _origin(module: str) -> str:
    """Where a module would be imported from; nothing is executed for that."""
    if module == OPTUNAHUB.rstrip(":"):
        return "OptunaHub"
    top = module.partition(".")[0]
    if top in sys.builtin_module_names:
        return "Python itself"
    with suppress(ImportError, ValueError, AttributeError):
        found = PathFinder.find_spec(top, [os.getcwd(), *sys.path])
        if found is not None:
            return str(found.origin or next(iter(found.submodule_search_locations or ()), "an unknown place"))
    return f"nowhere: there is no module {top} here"


def _file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "aifs_tune" / "trusted_code.json"


def _remembered() -> dict[str, list[str]]:
    try:
        found = json.loads(_file().read_bytes())
        return {str(key): [str(name) for name in names] for key, names in found.items()}
    except (OSError, ValueError, AttributeError, TypeError, RuntimeError):  # RuntimeError: there is no home folder
        return {}
