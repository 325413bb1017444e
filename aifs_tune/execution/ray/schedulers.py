"""Schedulers by the names in a sweep file: Ray Tune's, and one that asks the sampler's model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from scipy.special import ndtri

from aifs_tune.config.search import SearchSpec
from aifs_tune.samplers.stopping import MIN_CONTINUATION_VALUE, is_rung
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

GRACE_EPOCHS = 4
"""Default epochs before a percentile may stop a trial: the first says little of the end, and a percentile of what a
sampler itself proposed soon lets nothing else pass."""

PROTECTED, HOPELESS = 0.125, 0.5
"""Shares of better trials at the same epoch below which a trial continues, and from which it is stopped."""
MIN_RANKED = 4
"""Trials at the same epoch, the trial itself included, that must be known before one is stopped for its rank."""
PREDICTIVE = 0.6
"""Correlation of ranks with later ones from which the worse half is stopped earlier than after
:data:`GRACE_EPOCHS`."""
MIN_PAIRS = 6
"""Trials with both epochs that must be known for a correlation."""

History: TypeAlias = list[tuple[Trial, list[tuple[int, float]]]]
"""Finished trials of a study with their objective by epoch."""

ContinuationValue: TypeAlias = Callable[[str, int, float], float | None]
"""Expected improvement of one more epoch of a trial of Tune, with this objective at this epoch, relative to starting a
new trial; None while too little is known."""


class Incumbent:
    """Running trials with an epoch that is better than every complete trial."""

    def __init__(self, mode: str, complete: Iterable[float] = ()) -> None:
        self._sign = 1 if mode == "max" else -1
        self._best = max((self._sign * value for value in complete if math.isfinite(value)), default=math.inf)
        self._running: dict[str, float] = {}

    def reported(self, trial_id: str, value: float) -> bool:
        """Record a value of a running trial; return whether it leads. None leads while no trial is complete."""
        best = self._running.get(trial_id, -math.inf)
        if math.isfinite(value):
            best = self._running[trial_id] = max(best, self._sign * value)
        return best > self._best

    def complete(self, trial_id: str, value: float | None) -> None:
        """Record that a trial has ended, with the value of its last epoch if it reported one."""
        self.reported(trial_id, math.nan if value is None else value)
        best = self._running.pop(trial_id, -math.inf)
        if math.isfinite(best):
            self._best = best if self._best == math.inf else max(best, self._best)


class Ranks:
    """Ranks of trials among those that reached the same epoch; of each trial the latest value counts once."""

    def __init__(self, mode: str) -> None:
        self._sign = 1 if mode == "max" else -1
        self._values: dict[int, dict[str, float]] = {}

    def reported(self, trial_id: str, epoch: int, value: float) -> tuple[float, int]:
        """Record a value; return the share of trials that are better at this epoch, and how many there are.

        Trials with an equal value count half.
        """
        values = self._values.setdefault(epoch, {})
        own = values[trial_id] = self._sign * value if math.isfinite(value) else -math.inf
        n_better = sum(other > own for other in values.values())
        n_equal = sum(other == own for other in values.values()) - 1
        return (n_better + n_equal / 2) / len(values), len(values)

    def correlation_with_later(self, epoch: int) -> float | None:
        """Estimate the correlation of values at ``epoch`` with those at the latest epoch that enough trials reached.

        It is that of normal scores of the ranks. Trials that went on are a selection of those that reached ``epoch``,
        so it is corrected for their smaller range (Thorndike's case 2). None while too few trials have both epochs.
        """
        here = self._values.get(epoch, {})
        later = (self._values[e] for e in sorted(self._values, reverse=True) if e > epoch)
        there = next((values for values in later if len(values.keys() & here.keys()) >= MIN_PAIRS), None)
        if there is None:
            return None
        scores = dict(zip(here, _normal_scores(list(here.values())), strict=True))
        both = [trial_id for trial_id in there if trial_id in here]
        early = np.array([scores[trial_id] for trial_id in both])
        late = _normal_scores([there[trial_id] for trial_id in both])
        if not early.std() or not late.std():
            return None
        r = float(np.corrcoef(early, late)[0, 1])
        wider = max(1.0, float(np.std(list(scores.values())) / early.std()))
        return r * wider / math.sqrt(1.0 - r * r + r * r * wider * wider)


def _normal_scores(values: list[float]) -> NDArray[np.float64]:
    """Return the quantiles (n,) of a normal distribution at the ranks of ``values``; equal values have equal ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(ndtri((ranks[place] - 0.5) / len(values)))


class ModelScheduler(FIFOScheduler):  # type: ignore[misc]
    """Stops a trial by its rank at the same epoch, and where that is inconclusive by the model of the sampler.

    It decides after ``grace`` epochs, twice that, four times and so on. The best eighth continues. The worse half is
    stopped from :data:`GRACE_EPOCHS` epochs on, and earlier where ranks have been seen to predict later ones, once
    there are :data:`MIN_RANKED` trials. The others continue unless
    the model of configurations and epochs expects more of a new trial; until it knows enough, ``until_known`` decides,
    which sees all results. A trial one of whose epochs was better than all complete trials goes on in any case: a trial
    is worth its best epoch, and only one that is complete can be the best.
    """

    def __init__(
        self,
        continuation_value: ContinuationValue,
        *,
        grace: int,
        epochs: int,
        incumbent: Incumbent,
        ranks: Ranks,
        until_known: TrialScheduler,
    ) -> None:
        super().__init__()
        self._continuation_value, self._grace, self._epochs = continuation_value, grace, epochs
        self._incumbent, self._ranks, self._until_known = incumbent, ranks, until_known
        self._knows = False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._until_known.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = str(self._until_known.on_trial_result(tune_controller, trial, result))
        epoch, value = result["epoch"], result.get("objective")
        if value is None or epoch >= self._epochs:
            return decision
        leads = self._incumbent.reported(trial.trial_id, value)
        if is_rung(epoch, self._grace):
            continues = self._is_promising(trial.trial_id, epoch, value, leads)
        else:
            continues = True if self._knows or leads else None
        return {True: str(TrialScheduler.CONTINUE), False: str(TrialScheduler.STOP), None: decision}[continues]

    def _is_promising(self, trial_id: str, epoch: int, value: float, leads: bool) -> bool | None:
        """Whether a trial continues at a rung; None if neither its rank nor the model says."""
        share_better, n_ranked = self._ranks.reported(trial_id, epoch, value)
        if leads or share_better < PROTECTED:
            return True
        if n_ranked >= MIN_RANKED and share_better >= HOPELESS and self._is_predictive(epoch):
            return False
        worth = self._continuation_value(trial_id, epoch, value)
        self._knows = self._knows or worth is not None
        return None if worth is None else worth >= MIN_CONTINUATION_VALUE

    def _is_predictive(self, epoch: int) -> bool:
        return epoch >= GRACE_EPOCHS or (self._ranks.correlation_with_later(epoch) or 0.0) >= PREDICTIVE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._until_known.on_trial_complete(tune_controller, trial, result)
        if result.get("ended") == "complete":
            self._incumbent.complete(trial.trial_id, result.get("objective"))

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._until_known.on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        return "stopping by rank and by the model of configurations and epochs"


class _Hyperband(ASHAScheduler):  # type: ignore[misc]
    """ASHA with several grace periods; which one a trial gets is drawn from ``seed``, not from NumPy's global state."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._rng = np.random.default_rng(seed)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        weights = np.exp([len(bracket._rungs) for bracket in self._brackets])
        drawn = self._rng.choice(len(self._brackets), p=weights / weights.sum())
        self._trial_info[trial.trial_id] = self._brackets[drawn]


def make_scheduler(search: SearchSpec, mode: str, history: History, continuation_value: ContinuationValue) -> Any:
    """The scheduler that ``search`` names, already told the curves of the study's finished trials."""
    grace = search.grace_epochs or (1 if search.scheduler == "aifs" else GRACE_EPOCHS)
    if search.scheduler == "none" or grace >= search.epochs:
        return FIFOScheduler()
    scheduler = _percentiles(search, mode, grace)
    for trial, curve in history:
        _replay(scheduler, trial, curve)
    if search.scheduler != "aifs":
        return scheduler
    ranks = Ranks(mode)
    for trial, curve in history:
        for epoch, value in curve:
            ranks.reported(f"earlier-{trial.number}", epoch, value)
    return ModelScheduler(
        continuation_value,
        grace=grace,
        epochs=search.epochs,
        incumbent=Incumbent(mode, (v for trial, curve in history if trial.state == "complete" for _, v in curve)),
        ranks=ranks,
        until_known=scheduler,
    )


def finished_curves(study: StudyRecord) -> History:
    """The curves of the finished trials of ``study`` that a scheduler learns from."""
    metric = study.spec.objective.metric
    return [
        (trial, [(m.epoch, value) for m in study.curve(trial) if (value := m.metrics[metric]) is not None])
        for trial in study.all_trials()
        if trial.state in ("complete", "pruned") and trial.epochs
    ]


def _percentiles(search: SearchSpec, mode: str, grace: int) -> TrialScheduler:
    measured: dict[str, Any] = {"time_attr": "epoch", "metric": "objective", "mode": mode}
    if search.scheduler == "median":
        # a trial is never paused to wait for others: that would give its worker away
        return MedianStoppingRule(**measured, grace_period=grace, min_time_slice=float("inf"))
    if search.scheduler == "aifs":
        grace = max(grace, min(GRACE_EPOCHS, search.epochs))
    measured |= {"max_t": search.epochs, "grace_period": grace, "reduction_factor": search.reduction_factor}
    if search.scheduler == "hyperband":
        return _Hyperband(search.seed, brackets=3, **measured)
    return ASHAScheduler(**measured)


@dataclass(frozen=True)
class _Earlier:
    """Stands in for a Tune trial that finished in an earlier sweep."""

    trial_id: str


def _replay(scheduler: TrialScheduler, trial: Trial, curve: list[tuple[int, float]]) -> None:
    earlier = _Earlier(f"earlier-{trial.number}")
    scheduler.on_trial_add(None, earlier)
    for epoch, value in curve:
        scheduler.on_trial_result(None, earlier, {"epoch": epoch, "objective": value})
        if isinstance(scheduler, MedianStoppingRule):  # it takes no more of a trial that it would have stopped
            scheduler._stopped_trials.discard(earlier)
    scheduler.on_trial_remove(None, earlier)
