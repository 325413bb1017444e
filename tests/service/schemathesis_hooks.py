"""Makes valid requests of Schemathesis those of one client: a new key for each, and the project of its token."""

from __future__ import annotations

import uuid
from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    if case.meta is not None and case.meta.generation.mode.is_positive:
        for header, value in (("Idempotency-Key", uuid.uuid4().hex), ("Aifs-Tune-Project", "default")):
            if header in (case.headers or {}):
                case.headers[header] = value
