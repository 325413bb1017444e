"""Recommendation: which configuration to take, and whether more trials are worth their cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from aifs_tune.config.sweep import SweepSpec
from aifs_tune.study.ranking import noise_in
from aifs_tune.study.trial import Trial


@dataclass(frozen=True)
class Recommendation:
    """Recommended configuration of a study, and whether to stop.

    Parameters
    ----------
    should_stop
        True once the expected gain is below the measured noise.
    reason
        Why, in one sentence.
    noise
        Standard deviation of one measurement, from configurations that were measured several times; None if unknown.
    noise_freedom
        Degrees of freedom of ``noise``; 0 if unknown.
    expected_gain
        Expected improvement of the next proposal over the recommended configuration, in the objective's unit; None if
        unknown.
    recommended
        Number of the trial whose configuration to take; None if unknown.
    expected_value
        Posterior mean of that configuration; None if unknown. With noise the best result is partly luck; the
        posterior mean also uses the results near it.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> recommendation = study.recommendation()
    >>> recommendation.should_stop, recommendation.reason
    (False, 'Too few results are known.')
    """

    should_stop: bool
    reason: str
    noise: float | None
    noise_freedom: int
    expected_gain: float | None
    recommended: int | None
    expected_value: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the recommendation as a JSON object.

        Returns
        -------
        dict
            The attributes by name.
        """
        return asdict(self)


MIN_FREEDOM = 3
"""Degrees of freedom that the noise needs before it counts as known."""
MIN_RESULTS = 5
"""Complete trials that are needed before stopping is recommended: so many for each parameter that varies, and once
more. Before that the model knows too little about the possible gain."""


def recommend(
    spec: SweepSpec, study: optuna.Study, trials: Sequence[Trial], floor: tuple[float, int] | None = None
) -> Recommendation:
    """Recommend a configuration of ``study``, whose trials are ``trials``.

    ``floor`` is a standard deviation of one measurement that was measured elsewhere, with its degrees of freedom. It
    is used while the repetitions in ``trials`` are too few. Stopping is recommended once the expected gain is below
    the noise, which needs enough complete trials and noise with :data:`MIN_FREEDOM` degrees of freedom.
    """
    from aifs_tune.samplers.proposer import Proposer  # loads SciPy, which reading a study does not need

    n_varied = sum(parameter.type != "fixed" for _, parameter in spec.space.items())
    n_needed = MIN_RESULTS * (1 + n_varied)
    n_complete = sum(trial.state == "complete" for trial in trials)
    noise, freedom = known_noise(trials, floor) or (None, 0)
    best_and_gain = None if spec.trade_off else Proposer(spec).best_and_gain(study)
    gain, recommended, value = best_and_gain if best_and_gain is not None else (None, None, None)
    stop = False
    if spec.trade_off:
        reason = "The study has several objectives, and the gain in one of them says little."
    elif gain is None:
        reason = "Too few results are known."
    elif noise is None or freedom < MIN_FREEDOM:
        reason = f"Noise unknown: repeat a configuration {MIN_FREEDOM} times ({freedom} of {MIN_FREEDOM} so far)."
    elif n_complete < n_needed:
        reason = f"Too few results are known: {n_complete} of {n_needed}."
    else:
        stop = gain < noise
        reason = f"The expected gain {gain:.3g} is {'below' if stop else 'not below'} the measured noise {noise:.3g}."
    return Recommendation(stop, reason, noise, freedom, gain, recommended, value)


def known_noise(trials: Sequence[Trial], floor: tuple[float, int] | None) -> tuple[float, int] | None:
    """The standard deviation of one measurement and its degrees of freedom.

    It comes from the repetitions among ``trials`` if they have :data:`MIN_FREEDOM`, otherwise from ``floor`` if that
    has, otherwise from the repetitions again.
    """
    own = noise_in(trials)
    if floor is not None and floor[1] >= MIN_FREEDOM and (own is None or own[1] < MIN_FREEDOM):
        return floor
    return own
