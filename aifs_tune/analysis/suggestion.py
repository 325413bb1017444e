"""One suggestion, and what all kinds of it go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aifs_tune.analysis.scores import Array
from aifs_tune.results import scores_of
from aifs_tune.spec import SweepSpec
from aifs_tune.trial import Trial

ALPHA = 0.02
"""The chance, at most, with which luck gives the evidence of a kind."""


@dataclass(frozen=True)
class Suggestion:
    """``parameter`` is None where it is of the whole study."""

    parameter: str | None
    kind: str
    text: str
    evidence: str


def n_best(n: int) -> int:
    """How many of ``n`` trials are the best ones."""
    return max(5, n // 4)


def oriented(trials: Sequence[Trial], spec: SweepSpec) -> Array:
    """Of the first objective, the larger the better: (n,)."""
    return np.array([scores_of(t, spec.objectives)[0] for t in trials], dtype=float)


def shown(p: float) -> str:
    """A probability in words."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.1g}"
