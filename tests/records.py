"""Studies with everything that sweeps and the service need, opened as a user opens them."""

from __future__ import annotations

from typing import Any

from aifs_tune.study.open import open_study
from aifs_tune.study.record import StudyRecord, record_of


def open_record(name: str, **question: Any) -> StudyRecord:
    """:func:`aifs_tune.open_study`, as a record."""
    return record_of(open_study(name, **question))
