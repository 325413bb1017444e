"""Importances that were computed: again only when more trials are complete, and one at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from aifs_tune.study import Study

MOST_STUDIES = 100


class Importances:
    """Those of the studies that were asked for last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[int, Mapping[str, Mapping[str, float]]]] = {}

    def of(self, study: Study) -> Mapping[str, Mapping[str, float]]:
        """As :meth:`~aifs_tune.study.Study.importance`."""
        with self._lock:
            n_complete = study.counts()["complete"]
            known = self._known.pop(study.id, None)
            if known is None or known[0] != n_complete:
                known = n_complete, study.importance()
            self._known[study.id] = known
            while len(self._known) > MOST_STUDIES:
                del self._known[next(iter(self._known))]
            return known[1]
