"""What a study's results advise, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Recommendation:
    """Whether to ``should_stop``, with the ``reason``.

    ``noise`` is the standard deviation of one measurement, from configurations that were measured several times, with
    ``noise_freedom`` degrees of freedom. ``expected_gain`` is by how much the true value of the next proposal is
    expected to exceed that of the ``recommended`` trial's configuration, in the objective's unit: the mean of the gain,
    losses counted as none. ``expected_value`` is what the model takes the true value of that configuration to be: with
    noise the highest result is the luckiest one, and the model draws on all results near it. None where not known.
    """

    should_stop: bool
    reason: str
    noise: float | None
    noise_freedom: int
    expected_gain: float | None
    recommended: int | None
    expected_value: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
