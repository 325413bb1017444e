"""Which configuration to take, and whether measuring on is worth it."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from aifs_tune.advice import Recommendation
from aifs_tune.ranking import noise_in
from aifs_tune.sampling import Proposer
from aifs_tune.spec import SweepSpec
from aifs_tune.trial import Trial

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
