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
TIMED = 64
"""Number of images from whose time that of all is forecast."""


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
        self._checked_bytes, self._started = 0, clock()

    def update(self, n_done: int, shape: tuple[int, ...], *, most: int, kept: int) -> None:
        """Check the space after ``n_done`` images, of which one has this shape.

        An image needs ``most`` bytes while all are prepared, and ``kept`` bytes afterwards.

        Raises
        ------
        StorageError
            If more space is needed than is free.
        """
        n_bytes = self._n * most
        if n_bytes > self._checked_bytes:
            self._checked_bytes = n_bytes
            free = shutil.disk_usage(self._root).free
            if n_bytes > free:
                raise StorageError(
                    f"cache {self._root}: {self._text(shape, n_bytes, kept)}, and {in_bytes(free)} are free; allowed: "
                    f"{self._advice}, or AIFS_TUNE_CACHE on a larger disk"
                )
        if n_done == min(TIMED, self._n) and self._tell is not None:
            seconds = (self._clock() - self._started) * self._n / n_done
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
