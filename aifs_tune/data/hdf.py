"""What an HDF5 file is, before anything in it is read."""

from __future__ import annotations

from typing import Any

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.images.folder import shown
from aifs_tune.errors import DataError


def check_contained(opened: Any, where: str) -> None:
    """Raise DataError if a part of an HDF5 file stands in another file, which could be any of the machine.

    ``opened`` is a ``h5py.File``; the text begins with ``where``.
    """
    with missing_packages_named():
        import h5py

    def link_outside(name: str, link: Any) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    def values_outside(name: str, thing: Any) -> str | None:
        return name if isinstance(thing, h5py.Dataset) and (thing.is_virtual or thing.external) else None

    found = opened.visititems_links(link_outside) or opened.visititems(values_outside)
    if found is not None:
        raise DataError(
            f"{where}: its dataset {shown(found)} is kept in another file; allowed: values in the file itself"
        )


def pandas_key(opened: Any) -> str | None:
    """Key of the first table that ``to_hdf`` of pandas wrote into an HDF5 file; None if there is none.

    Such a table is several arrays, of which some may be Python objects. ``opened`` is a ``h5py.File``.
    """
    found: str | None = opened.visititems(lambda name, thing: name if "pandas_type" in thing.attrs else None)
    return found


def pandas_advice(key: str) -> str:
    """Return the command that converts a table which pandas wrote under ``key``."""
    return f"convert it where you trust it: pandas.read_hdf(file, {shown(key)!r}).to_parquet(...)"
