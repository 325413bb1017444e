"""Storages: the SQLite file or PostgreSQL database that holds studies.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.storage.storage import Storage

__all__ = [
    "Storage",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Storage": "storage",
    },
)
