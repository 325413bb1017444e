"""Early stopping of running trials by their expected improvement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from aifs_tune.samplers.acquisition import (
    N_BEST,
    candidates,
    chance_of_success,
    log_expected_improvement,
    without_failures,
)
from aifs_tune.samplers.learning_curves import CurveModel, Known, LearningCurve, new_trials, points_of

MIN_CONTINUATION_VALUE = 0.7
"""Continuation value below which a trial is stopped."""
N_CURVES_TO_STOP = 10
"""Number of trials that must have reported before the model stops any."""


def is_rung(epoch: int, grace: int) -> bool:
    """Return whether trials may stop after this epoch: ``grace``, twice that, four times that, and so on."""
    quotient, rest = divmod(epoch, grace)
    return epoch > 0 and rest == 0 and quotient & (quotient - 1) == 0


def continuation_value(
    model: CurveModel,
    known: Known,
    reported: LearningCurve,
    store: Callable[[str], None],
    rng: np.random.Generator,
    *,
    allows: Callable[[Mapping[str, Any]], bool],
) -> float | None:
    """Compute the expected improvement of one more epoch, relative to starting a new trial.

    Both are expected improvements at the last epoch over the trial that is expected to end best, divided by the number
    of epochs still to train. The new trial has the best new configuration that ``allows`` accepts. So a trial that was
    worth starting continues where first epochs are uninformative, and stops as soon as a new trial is worth more where
    they are informative.

    Parameters
    ----------
    model, known
        The model of the study, and its current state.
    reported
        Learning curve of the running trial so far.
    store
        Receives newly fitted kernel parameters as JSON.
    rng
        Random numbers for new candidates.
    allows
        Whether a configuration may be proposed.

    Returns
    -------
    float or None
        Infinity for the trial that is expected to end best, and where no new configuration is found. None while fewer
        than :data:`N_CURVES_TO_STOP` trials have reported.
    """
    others = [i for i, curve in enumerate(known.curves) if curve.trial != reported.trial]
    curves = [known.curves[i] for i in others] + [reported]
    if len(curves) < N_CURVES_TO_STOP:
        return None
    theta = model.fitted(replace(known, curves=curves), store)
    end = model.end(curves)
    posterior = model.posterior(theta, points_of(curves, keep=reported.trial))
    x = np.stack([curve.x for curve in curves])
    numbers = np.array([curve.trial for curve in curves], dtype=np.int64)
    order = np.argsort(-posterior.mean(x, end, numbers), kind="stable")
    best = int(order[0])
    if best == len(curves) - 1:
        return math.inf
    unit_points = np.concatenate([known.unit_points[others], known.running[reported.trial][None]])
    encoding = model.encoding
    new = candidates(encoding, unit_points[order[:N_BEST]], rng)
    features = encoding.features(new)
    over = x[best], int(numbers[best])
    of_new = log_expected_improvement(*posterior.gain(features, end, new_trials(features), *over))
    if len(known.failed):
        failed = encoding.features(known.failed)
        of_new = without_failures(of_new, chance_of_success(features, failed, x, posterior.kernel.scales))
    first = next((i for i in np.argsort(-of_new, kind="stable") if allows(encoding.params(new[i]))), None)
    if first is None:
        return math.inf
    own = log_expected_improvement(*posterior.gain(x[-1:], end, numbers[-1:], *over))[0]
    n_epochs = math.exp(end)
    left = max(1.0, n_epochs - float(reported.epochs[-1]))
    return math.exp(min(700.0, float(own - of_new[first]) + math.log(n_epochs / left)))
