"""What the course of a whole search suggests: more trials or no more, repeats, longer trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aifs_tune.analysis.evidence import at_least, at_most, lucky_gain, repeated
from aifs_tune.analysis.scores import Array
from aifs_tune.analysis.suggestion import ALPHA, Suggestion, n_best, oriented, shown
from aifs_tune.spec import SweepSpec
from aifs_tune.trial import Trial

_LEAST_GAIN = 0.05


@dataclass(frozen=True, eq=False)
class ScoreHistory:
    """Scores of the complete trials in the order of their numbers, the larger the better: (n,)."""

    scores: Array

    @staticmethod
    def of(spec: SweepSpec, best_first: Sequence[Trial]) -> ScoreHistory:
        return ScoreHistory(oriented(sorted(best_first, key=lambda t: t.number), spec))

    @property
    def _n_late(self) -> int:
        return len(self.scores) // 3

    def _late_best(self) -> tuple[int, int]:
        """How many of the best trials are in the last third, and how many the best are."""
        n, k = len(self.scores), n_best(len(self.scores))
        best = np.argsort(-self.scores, kind="stable")[:k]
        return int((best >= n - self._n_late).sum()), k

    def still_gains(self) -> list[Suggestion]:
        n, late = len(self.scores), self._n_late
        (hits, k), spread = self._late_best(), float(self.scores.max() - np.median(self.scores)) if n else 0.0
        if n <= k or late == 0:
            return []
        gain = float(self.scores[-late:].max() - self.scores[:-late].max())
        p = at_least(hits, n=n, n_marked=late, n_best=k) * 2
        if p > ALPHA or gain <= _LEAST_GAIN * spread:
            return []
        told = f"{hits} of the best {k} trials are among the last {late}, and the best gained {gain:.3g}; {shown(p)}"
        return [Suggestion(None, "trials", "the last third was still gaining: make more trials", told)]

    def has_stopped(self) -> list[Suggestion]:
        n, late = len(self.scores), self._n_late
        hits, k = self._late_best()
        if n <= k or hits:
            return []
        p = at_most(0, n=n, n_marked=late, n_best=k) * 2
        if p > ALPHA:
            return []
        told = f"0 of the best {k} trials are among the last {late}; {shown(p)}"
        text = "the last third gained nothing: more of the same search will hardly help"
        return [Suggestion(None, "search", text, told)]

    def is_within(self, noise: float | None) -> list[Suggestion]:
        n = len(self.scores)
        if noise is None or n < 5:
            return []
        gain, luck = float(self.scores.max() - np.median(self.scores)), lucky_gain(noise, n, 0.05)
        if gain > luck:
            return []
        text = "what the best gained is within the noise: repeat it, measure more exactly, or widen the space"
        told = f"the best is {gain:.3g} above the middle trial; luck alone gives the best of {n} up to {luck:.3g}"
        return [Suggestion(None, "noise", text, told)]


def train_longer(best_first: Sequence[Trial], n_epochs: int) -> list[Suggestion]:
    whole = [t for t in best_first if t.epochs >= n_epochs and t.epoch is not None]
    k = min(n_best(len(whole)), len(whole))
    last = max(1, round(0.1 * n_epochs))
    if n_epochs <= 1 or k == 0:
        return []
    hits = sum((t.epoch or 0) > n_epochs - last for t in whole[:k])
    p = repeated(hits, k, last / n_epochs)
    if p > ALPHA or 2 * hits <= k:
        return []
    when = "the last epoch" if last == 1 else f"the last {last} epochs"
    told = f"in {hits} of the best {k} trials the best of {n_epochs} epochs is one of {when}; {shown(p)}"
    told = told.replace("is one of the last epoch", "is the last one")
    return [Suggestion(None, "epochs", "trials still get better at the end: train longer", told)]
