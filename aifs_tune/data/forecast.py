"""Forecast of the disk space and the time that preparing many images takes, made from the first ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from aifs_tune._util.formatting import duration
from aifs_tune.errors import StorageError

SPOKEN_BYTES = 10**9
"""Bytes of disk space from which a forecast is told."""
SPOKEN_S = 60.0
"""Seconds from which a forecast is told."""
TIMED_S = 2.0
"""Seconds after the first image at which a forecast is made."""


class Forecast:
    """Forecast for ``n`` images in the cache at ``root``, told once if it is of much space or time.

    ``advice`` says how less space is needed. ``clock`` returns seconds.
    """

    def __init__(
        self,
        root: Path,
        n: int,
        advice: str,
        tell: Callable[[str], None] | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._n, self._advice, self._tell, self._clock = root, n, advice, tell, clock
        self._checked_bytes, self._first_s, self._first = 0, 0.0, 0
        self.is_told = tell is None

    def update(self, n_done: int, shape: tuple[int, ...], *, most: int, kept: int) -> None:
        """Check the space after ``n_done`` images, of which one has this shape.

        An image needs ``most`` bytes while all are prepared, and ``kept`` bytes afterwards.

        Raises
        ------
        StorageError
            If more space is needed than is free.
        """
        n_bytes, now = self._n * most, self._clock()
        if n_bytes > self._checked_bytes:
            self._checked_bytes = n_bytes
            free = shutil.disk_usage(self._root).free
            if n_bytes > free:
                raise StorageError(
                    f"cache {self._root}: {self._text(shape, n_bytes, kept)}, and {in_bytes(free)} are free; allowed: "
                    f"{self._advice}, or AIFS_TUNE_CACHE on a larger disk"
                )
        if not self._first:  # the processes have started
            self._first, self._first_s = n_done, now
        if self.is_told or self._tell is None or (now - self._first_s < TIMED_S and n_done < self._n):
            return
        self.is_told = True
        seconds = (now - self._first_s) * (self._n - self._first) / max(n_done - self._first, 1)
        if n_bytes >= SPOKEN_BYTES or seconds >= SPOKEN_S:
            free = shutil.disk_usage(self._root).free
            self._tell(f"{self._text(shape, n_bytes, kept)} of {in_bytes(free)} free; about {duration(seconds)}")

    def _text(self, shape: tuple[int, ...], n_bytes: int, kept: int) -> str:
        size = " x ".join(map(str, shape))
        space = f"{in_bytes(n_bytes)} of disk space while they are prepared and {in_bytes(self._n * kept)} afterwards"
        return f"{self._n:,} images of {size} need {space}"


def in_bytes(n: float) -> str:
    """Return a number of bytes as text, such as ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"
