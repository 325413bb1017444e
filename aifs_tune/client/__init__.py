"""Client: studies and sweeps of a service, used over HTTP.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.client.client import Client, RemoteSweep
    from aifs_tune.client.study import RemoteStudy

__all__ = [
    "Client",
    "RemoteStudy",
    "RemoteSweep",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Client": "client",
        "RemoteStudy": "study",
        "RemoteSweep": "client",
    },
)
