"""Packages that a light installation leaves out, and what to install when one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aifs_tune.errors import MissingPackageError

_REQUIREMENTS = {
    "a2wsgi": "'aifs-tune[service]'",
    "anndata": "'aifs-tune[anndata]'",
    "astropy": "astropy",
    "authlib": "'aifs-tune[openid]'",
    "fastapi": "'aifs-tune[service]'",
    "h11": "'aifs-tune[service]'",
    "h5py": "h5py",
    "httpx": "'aifs-tune[service]'",
    "httpx2": "'aifs-tune[openid]'",
    "joserfc": "'aifs-tune[openid]'",
    "keras": "aifs-tune",
    "mlflow": "'aifs-tune[mlflow]'",
    "obspy": "'aifs-tune[seismology]'",
    "openpyxl": "openpyxl",
    "optuna_dashboard": "'aifs-tune[service]'",
    "optunahub": "'aifs-tune[optunahub]'",
    "PIL": "pillow",
    "pyarrow": "pyarrow",
    "pydicom": "'aifs-tune[dicom]'",
    "pytorch_lightning": "'aifs-tune[torch]'",
    "ray": "aifs-tune",
    "sklearn": "scikit-learn",
    "skops": "'aifs-tune[sklearn]'",
    "starlette": "'aifs-tune[service]'",
    "tensorboardX": "'aifs-tune[tensorboard]'",
    "tensorflow": "aifs-tune",
    "tifffile": "tifffile",
    "wandb": "'aifs-tune[wandb]'",
    "uvicorn": "'aifs-tune[service]'",
}
"""Argument of ``pip install`` for each package, by the name that Python imports."""


@contextmanager
def missing_packages_named() -> Iterator[None]:
    """Translate the failed import of a package that a light installation leaves out.

    Raises
    ------
    MissingPackageError
        If such a package is not installed; its text is the line to type.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _REQUIREMENTS:
            raise
        line = f"pip install {_REQUIREMENTS[package]}"
        raise MissingPackageError(f"{package} is not installed; install it with: {line}", name=package) from error
