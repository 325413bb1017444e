"""HTTP client for studies that a service holds.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.client.client import Client

__all__ = [
    "Client",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Client": "client",
    },
)
