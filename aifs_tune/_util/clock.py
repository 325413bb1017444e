"""Clock that shows the time of day and never jumps while a process runs."""

from __future__ import annotations

import time
from collections.abc import Callable


def _counted() -> float:
    """Return seconds since this machine started, including sleep if the system counts it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class MonotonicClock:
    """Seconds since 1970, read from ``wall`` once and continued by ``counted``.

    Changes of the system clock have no effect on it, so they cannot end a lease.
    """

    def __init__(self, wall: Callable[[], float] = time.time, counted: Callable[[], float] = _counted) -> None:
        self._counted = counted
        self._began = wall() - counted()

    def __call__(self) -> float:
        return self._began + self._counted()
