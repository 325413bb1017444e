"""The time of day, which does not jump while a process runs."""

from __future__ import annotations

import time
from collections.abc import Callable


def _counted() -> float:
    """Seconds since this machine started; where the system counts them, those that it slept too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class MonotonicClock:
    """Seconds since 1970, as ``wall`` says now and ``counted`` counts on: nothing that lasts for days ends because
    somebody sets the clock meanwhile."""

    def __init__(self, wall: Callable[[], float] = time.time, counted: Callable[[], float] = _counted) -> None:
        self._counted = counted
        self._began = wall() - counted()

    def __call__(self) -> float:
        return self._began + self._counted()
