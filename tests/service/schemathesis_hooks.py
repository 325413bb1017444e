"""Hooks of Schemathesis that give valid requests a new key and the token's project, and let event streams end."""

from __future__ import annotations

import uuid
from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    is_positive = case.meta is not None and case.meta.generation.mode.is_positive
    if case.path.endswith("/events") and (is_positive or "for_s" not in (case.query or {})):
        case.query = {**(case.query or {}), "for_s": 0}
    if is_positive:
        for header, value in (("Idempotency-Key", uuid.uuid4().hex), ("Aifs-Tune-Project", "default")):
            if header in (case.headers or {}):
                case.headers[header] = value
