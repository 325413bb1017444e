"""Importances that were computed: again only when more trials are complete, and one at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TypeAlias

from aifs_tune.errors import ServiceError
from aifs_tune.study import Study

MAX_STUDIES = 100
WAIT_TIMEOUT_S = 2.0
"""How long somebody waits for another study's, before what was known is told, or that it takes a while."""
Shares: TypeAlias = Mapping[str, Mapping[str, float]]


class Importances:
    """Those of the studies that were asked for last."""

    def __init__(self, *, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        self._computing, self._timeout_s = threading.Lock(), timeout_s
        self._known: dict[int, tuple[int, Shares]] = {}

    def of(self, study: Study) -> tuple[int, Shares]:
        """As :meth:`~aifs_tune.study.Study.importance`, after the number of complete trials that it is from.

        Raises
        ------
        ServiceError
            If others are being computed, which may take a while for a very large study.
        """
        known = self._known.get(study.id)
        if known is not None and known[0] == study.counts()["complete"]:
            return known
        if not self._computing.acquire(timeout=self._timeout_s):
            if known is not None:
                return known
            raise ServiceError("the importance of another study is being computed; try again")
        try:
            self._known.pop(study.id, None)
            self._known[study.id] = study.counts()["complete"], study.importance()
            while len(self._known) > MAX_STUDIES:
                del self._known[next(iter(self._known))]
            return self._known[study.id]
        finally:
            self._computing.release()
