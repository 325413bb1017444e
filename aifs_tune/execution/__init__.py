"""Execution of sweeps: one trial in a worker, and many on Ray.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.execution.sweep import Sweep, SweepResult, load_sweep, resume

__all__ = [
    "Sweep",
    "SweepResult",
    "load_sweep",
    "resume",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Sweep": "sweep",
        "SweepResult": "sweep",
        "load_sweep": "sweep",
        "resume": "sweep",
    },
)
