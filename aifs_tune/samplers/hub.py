"""Samplers of OptunaHub: from the network, from what was downloaded before, or from a copy of its registry."""

from __future__ import annotations

import inspect
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from optuna.samplers import BaseSampler

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.config.search import OPTUNAHUB
from aifs_tune.config.trusted_code import check_allowed
from aifs_tune.errors import RequestError

REGISTRY = "AIFS_TUNE_OPTUNAHUB"
"""Environment variable with the folder of a copy of the registry, which is used instead of the network."""


def hub_sampler(name: str) -> type[BaseSampler]:
    """Return the class of a sampler of OptunaHub.

    Parameters
    ----------
    name
        ``optunahub:samplers/NAME``, or ``optunahub:samplers/NAME:Class`` for a package with several samplers.

    Raises
    ------
    UntrustedCodeError
        If a study or a bundle names it, and nobody has allowed it here.
    MissingPackageError
        If the package ``optunahub`` is not installed.
    RequestError
        If there is no such sampler, or it cannot be downloaded or imported.
    """
    check_allowed(name)
    return _loaded(name, os.environ.get(REGISTRY))


@lru_cache(maxsize=16)
def _loaded(name: str, registry: str | None) -> type[BaseSampler]:
    package, _, wanted = name.removeprefix(OPTUNAHUB).partition(":")
    found = _samplers_in(_module(name, package, registry))
    if not wanted and len(found) == 1:
        return next(iter(found.values()))
    if wanted not in found:
        what = f"has no sampler {wanted}" if wanted else f"has {'several samplers' if found else 'no sampler'}"
        allowed = ", ".join(f"{OPTUNAHUB}{package}:{each}" for each in found) or "a package with a sampler"
        raise RequestError(f"search.sampler: {package} of OptunaHub {what}; allowed: {allowed}")
    return found[wanted]


def _module(name: str, package: str, registry: str | None) -> Any:
    with missing_packages_named():
        import optunahub
    try:
        if registry is None:
            return optunahub.load_module(package)
        if not (Path(registry) / "package" / package / "__init__.py").is_file():
            raise RequestError(
                f"search.sampler: there is no {name} in ${REGISTRY}; allowed: the name of a folder below "
                f"{Path(registry) / 'package'} with a sampler in its __init__.py"
            )
        return optunahub.load_local_module(package, registry_root=str(Path(registry) / "package"))
    except ModuleNotFoundError as error:
        raise RequestError(
            f"search.sampler: {name} needs the package {error.name}, which is not installed; install it with: "
            f"pip install {(error.name or '').partition('.')[0]}"
        ) from error
    except RequestError:
        raise
    except Exception as error:  # of git, of the API of GitHub, of the network, or of the downloaded code
        raise RequestError(
            f"search.sampler: {name} cannot be loaded ({type(error).__name__}: {_last_line(error)}); allowed: a "
            "package that hub.optuna.org lists, with a connection to github.com the first time; without one, a copy of "
            f"the repository optuna/optunahub-registry, whose folder ${REGISTRY} names"
        ) from error


def _last_line(error: Exception) -> str:
    lines = [line.strip(" '") for line in str(error).splitlines() if line.strip(" '")]
    return lines[-1][:300] if lines else "no reason is given"


def _samplers_in(module: Any) -> dict[str, type[BaseSampler]]:
    """The classes of samplers that a package of OptunaHub offers, by name."""
    offered = getattr(module, "__all__", None) or [each for each in vars(module) if not each.startswith("_")]
    classes = {each: getattr(module, each, None) for each in offered}
    return {
        each: made
        for each, made in classes.items()
        if inspect.isclass(made) and issubclass(made, BaseSampler) and made.__module__.startswith(module.__name__)
    }
