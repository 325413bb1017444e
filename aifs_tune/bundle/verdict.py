"""Whether a score was reached again: the recorded one against the same seed and fresh ones, within the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aifs_tune.bundle.noise_record import RecordedNoise

CONFIDENCE = 0.95
TOLERANCE = 1e-6
"""Two scores are the same if they differ by less, or by less of the larger one."""


@dataclass(frozen=True)
class ReproductionVerdict:
    """How a configuration did when it was trained again.

    ``same_seed`` is the score with the seed of the recorded trial, None if that training failed; ``fresh`` those of
    other seeds that ended well. ``noise`` is the standard deviation of a single training: the recorded one, else that
    of ``fresh``; None where there is neither.
    """

    metric: str
    recorded: float
    same_seed: float | None
    fresh: Sequence[float]
    noise: RecordedNoise | None

    @property
    def is_exact(self) -> bool:
        """Whether the same seed gave the same score."""
        return self.same_seed is not None and math.isclose(
            self.same_seed, self.recorded, rel_tol=TOLERANCE, abs_tol=TOLERANCE
        )

    @property
    def mean(self) -> float | None:
        """Of the fresh seeds."""
        return float(np.mean(self.fresh)) if self.fresh else None

    def limit(self, n: int) -> float | None:
        """How far the mean of ``n`` trainings lies from one other, as a rule: the 95 % prediction interval of Student's
        t with the degrees of freedom of the noise, t sd sqrt(1 + 1 / n); None without noise."""
        if self.noise is None:
            return None
        from scipy.stats import t

        quantile = float(t.ppf((1 + CONFIDENCE) / 2, self.noise.n - 1))
        return quantile * self.noise.sd * math.sqrt(1 + 1 / n) + TOLERANCE * max(1.0, abs(self.recorded))

    @property
    def is_reproduced(self) -> bool:
        """Whether the same seed gave the same score, or one within the noise, and the fresh ones do on the average."""
        if self.same_seed is None:
            return False
        return (self.is_exact or self._within(self.same_seed, 1)) and (
            self.mean is None or self._within(self.mean, len(self.fresh))
        )

    def _within(self, value: float, n: int) -> bool:
        limit = self.limit(n)
        return limit is not None and abs(value - self.recorded) <= limit

    @property
    def text(self) -> str:
        """In words, a line for each thing that was compared."""
        lines = [f"recorded: {self.metric} {self.recorded:.6g}", f"the same seed: {self._same_text()}"]
        if self.mean is not None:
            limit = self.limit(len(self.fresh))
            each = ", ".join(f"{value:.4g}" for value in self.fresh)
            seeds = "1 fresh seed" if len(self.fresh) == 1 else f"{len(self.fresh)} fresh seeds"
            lines.append(f"{seeds}: mean {self.mean:.4g} ({each}), {self._away(self.mean, limit)}")
        if self.noise is not None:
            lines.append(f"noise: {self.noise.sd:.2g} (standard deviation, {self.noise.n} trainings: {self.noise.of})")
        lines.append(self._conclusion())
        return "\n".join(lines)

    def _same_text(self) -> str:
        if self.same_seed is None:
            return "the training failed"
        if self.is_exact:
            return f"{self.same_seed:.6g}, the same score"
        return f"{self.same_seed:.6g}, {self._away(self.same_seed, self.limit(1))}"

    def _away(self, value: float, limit: float | None) -> str:
        off = f"{value - self.recorded:+.2g} from the recorded one"
        if limit is None:
            return f"{off}; nothing says how much is noise"
        return f"{off}, {'within' if abs(value - self.recorded) <= limit else 'OUTSIDE of'} {limit:.2g}"

    def _conclusion(self) -> str:
        if self.is_reproduced:
            return "REPRODUCED" + (": to the last digit" if self.is_exact else ": within the noise")
        if self.same_seed is None:
            return "NOT REPRODUCED: the training failed"
        if self.is_exact:
            return (
                "NOT REPRODUCED: only with its own seed. Fresh seeds give another score: the recorded one was the best "
                "of many trials, and is partly the luck of its seed"
            )
        if self.noise is None:
            return "NOT REPRODUCED: another score, and no noise to judge it by; allowed: --seeds 2 or more measure it"
        return "NOT REPRODUCED: outside of the noise"

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "metric": self.metric,
            "recorded": self.recorded,
            "same_seed": self.same_seed,
            "is_exact": self.is_exact,
            "fresh": list(self.fresh),
            "mean": self.mean,
            "noise": None if self.noise is None else self.noise.to_json(),
            "limit": None if not self.fresh else self.limit(len(self.fresh)),
            "is_reproduced": self.is_reproduced,
            "text": self.text,
        }


def noise_of_fresh(fresh: Sequence[float]) -> RecordedNoise | None:
    """What fresh seeds alone say of the noise; None for fewer than two."""
    if len(fresh) < 2:
        return None
    return RecordedNoise(float(np.std(fresh, ddof=1)), len(fresh), "these fresh seeds, as none was recorded")
