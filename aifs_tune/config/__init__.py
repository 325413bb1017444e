"""Sweep files: reading, checking and describing them.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.config.data import DataSpec
    from aifs_tune.config.loading import load_sweep_file
    from aifs_tune.config.sweep import SweepSpec

__all__ = [
    "DataSpec",
    "SweepSpec",
    "load_sweep_file",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "DataSpec": "data",
        "SweepSpec": "sweep",
        "load_sweep_file": "loading",
    },
)
