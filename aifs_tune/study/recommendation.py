"""Which configuration to take, and whether measuring on is worth it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from aifs_tune.config.sweep import SweepSpec
from aifs_tune.samplers.proposer import Proposer
from aifs_tune.study.ranking import noise_in
from aifs_tune.study.trial import Trial


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


LEAST_FREEDOM = 3
"""Degrees of freedom that the noise must have been measured with."""
LEAST_RESULTS = 5
"""Complete trials before measuring on is advised against, for each parameter that varies and once more: earlier the
model knows too little to say what may be gained."""


def recommend(
    spec: SweepSpec, study: optuna.Study, trials: Sequence[Trial], floor: tuple[float, int] | None = None
) -> Recommendation:
    """The advice for ``study``, whose trials are ``trials``. ``floor`` is a standard deviation of one measurement that
    was measured elsewhere, with its degrees of freedom: it counts while the study's own repetitions say too little.

    It says stop once the expected gain is below the measured noise, after enough complete trials and
    with noise of :data:`LEAST_FREEDOM` degrees of freedom.
    """
    n_varied = sum(parameter.type != "fixed" for _, parameter in spec.space.items())
    least = LEAST_RESULTS * (1 + n_varied)
    n_complete = sum(trial.state == "complete" for trial in trials)
    noise, freedom = known_noise(trials, floor) or (None, 0)
    best_and_gain = None if spec.trade_off else Proposer(spec).best_and_gain(study)
    gain, recommended, value = best_and_gain if best_and_gain is not None else (None, None, None)
    stop = False
    if spec.trade_off:
        reason = "several objectives are traded off: the gain in one of them says little"
    elif best_and_gain is None:
        reason = "too few results are known"
    elif noise is None or freedom < LEAST_FREEDOM:
        reason = f"the noise is not known: {freedom} of {LEAST_FREEDOM} repeated measurements"
    elif n_complete < least:
        reason = f"{n_complete} of at least {least} results are known"
    else:
        assert gain is not None
        stop = gain < noise
        reason = f"expected gain {gain:.3g} is {'below' if stop else 'not below'} the measured noise {noise:.3g}"
    return Recommendation(stop, reason, noise, freedom, gain, recommended, value)


def known_noise(trials: Sequence[Trial], floor: tuple[float, int] | None) -> tuple[float, int] | None:
    """The standard deviation of one measurement and its degrees of freedom: of the repetitions among ``trials``, where
    these have :data:`LEAST_FREEDOM`, else ``floor`` where that has; else what is known of the first."""
    own = noise_in(trials)
    if floor is not None and floor[1] >= LEAST_FREEDOM and (own is None or own[1] < LEAST_FREEDOM):
        return floor
    return own
