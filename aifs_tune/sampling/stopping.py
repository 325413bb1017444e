"""When a running trial is not worth its next epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from aifs_tune.sampling.curves import Curve, points_of
from aifs_tune.sampling.model import CurveModel, Known

CHANCE = 0.25
"""A trial stops when its chance to end above the best falls under this."""
N_CURVES = 10
"""Trials that must have reported before the model decides."""


def is_rung(epoch: int, grace: int) -> bool:
    """Whether trials may stop after this epoch: ``grace``, twice that, four times, ..."""
    quotient, rest = divmod(epoch, grace)
    return epoch > 0 and rest == 0 and quotient & (quotient - 1) == 0


def chance_to_win(model: CurveModel, known: Known, reported: Curve, store: Callable[[str], None]) -> float | None:
    """The probability that the running trial whose course so far is ``reported`` ends above the trial that is
    expected to end highest; 1 if it is that one, None while too little is known. Newly fitted parameters of the
    kernel are given to ``store``."""
    curves = [curve for curve in known.curves if curve.trial != reported.trial] + [reported]
    if len(curves) < N_CURVES:
        return None
    theta = model.fitted(replace(known, curves=curves), store)
    end = model.end(curves)
    posterior = model.posterior(theta, points_of(curves, keep=reported.trial))
    x = np.stack([curve.x for curve in curves])
    numbers = np.array([curve.trial for curve in curves], dtype=np.int64)
    mean = posterior.mean(x, end, numbers)
    best = int(np.argmax(mean))
    if best == len(curves) - 1:
        return 1.0
    gain, variance = posterior.gain(x[-1:], end, numbers[-1:], x[best], int(numbers[best]))
    return float(ndtr(gain[0] / np.sqrt(max(variance[0], 1e-12))))
