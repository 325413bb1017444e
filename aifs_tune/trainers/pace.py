"""How much work goes into one call that nothing can interrupt."""

from __future__ import annotations

import time
from collections.abc import Iterator

CALL_S = 0.25
"""What one call should take: a signal is answered after it, and its own cost is small beside it."""

_MOST_GROWTH = 4


class ChunkSizer:
    """Cuts batches into calls of about :data:`CALL_S` seconds each, by how long the calls before took."""

    def __init__(self) -> None:
        self._at_once = 1

    def slices(self, n: int) -> Iterator[tuple[int, int]]:
        """First and last (exclusive) of each call, from 0 to ``n``; the caller works on one before it asks for more."""
        first = 0
        while first < n:
            last = min(n, first + self._at_once)
            began = time.perf_counter()
            yield first, last
            a_batch_s = max(1e-9, (time.perf_counter() - began) / (last - first))
            self._at_once = max(1, min(int(CALL_S / a_batch_s), _MOST_GROWTH * self._at_once))
            first = last
