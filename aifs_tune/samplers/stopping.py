"""When a running trial is not worth its next epochs."""

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
"""A trial stops when its continuation_value falls under this."""
N_CURVES_TO_STOP = 10
"""Trials that must have reported before the model decides."""


def is_rung(epoch: int, grace: int) -> bool:
    """Whether trials may stop after this epoch: ``grace``, twice that, four times, ..."""
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
    """What an epoch more of the running trial, whose course so far is ``reported``, is expected to gain, in parts of
    what an epoch of the best new configuration that ``allows`` lets through would; infinite for the trial that is
    expected to end highest and where nothing new is found, None while too little is known.

    Gain is the expected improvement at the last epoch over that trial, divided by the epochs still to train. So where
    first epochs say nothing, a trial that was worth starting goes on; where they tell, it stops as soon as a new one
    is worth more. Newly fitted parameters of the kernel are given to ``store``.
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
