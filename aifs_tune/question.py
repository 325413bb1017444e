"""What a study without a trainer asks, as the document that a sweep file and a service take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal


def spec_document(
    *,
    space: Mapping[str, Any],
    metric: str,
    mode: Literal["max", "min"],
    trade_off: Mapping[str, Literal["max", "min"]] | None,
    sampler: str | None,
    seed: int,
    constraints: Sequence[str],
    mixtures: Sequence[Mapping[str, Any]] = (),
    exclude: Sequence[Mapping[str, Any]] = (),
    limits: Sequence[str] = (),
    initial: Mapping[str, Any] | None = None,
    replicates: int = 1,
) -> dict[str, Any]:
    """The document; see :func:`aifs_tune.studies.open_study` for what each part means."""
    chosen = {} if sampler is None else {"sampler": sampler}
    designed = {} if initial is None else {"initial": dict(initial)}
    return {
        "space": dict(space),
        "constraints": list(constraints),
        "objective": {"metric": metric, "mode": mode},
        "trade_off": [{"metric": name, "mode": wanted} for name, wanted in (trade_off or {}).items()],
        "search": {**chosen, "seed": seed, **designed, "replicates": replicates},
        "mixtures": [dict(mixture) for mixture in mixtures],
        "exclude": [dict(entry) for entry in exclude],
        "limits": list(limits),
    }
