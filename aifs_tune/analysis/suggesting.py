"""What a study's results suggest to change before more is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aifs_tune.analysis.explained import Explained
from aifs_tune.spec import SweepSpec
from aifs_tune.trial import Trial


@dataclass(frozen=True)
class Suggestion:
    """``parameter`` is None where it is of the whole study."""

    parameter: str | None
    kind: str
    text: str
    evidence: str


def suggestions_of(
    spec: SweepSpec, trials: Sequence[Trial], explained: Explained, *, noise: float | None
) -> list[Suggestion]:
    """What stands out."""
    return []
