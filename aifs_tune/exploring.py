"""What a trial of a population tries after it took over another one: the same parameters, varied."""

from __future__ import annotations

import random
from collections.abc import Container, Mapping

from aifs_tune.constraints import RandomTrial
from aifs_tune.errors import RequestError
from aifs_tune.scalars import Scalar
from aifs_tune.space import FloatParameter, IntParameter, Parameter
from aifs_tune.spec import SweepSpec

RESAMPLED = 0.25
"""Share of the parameters that are drawn from the space anew."""
FACTORS = (0.8, 1.2)
"""Of a number that is not drawn anew, one of these; both as in Jaderberg et al. 2017, arXiv 1711.09846, and in Ray."""
_MOST_TRIES = 100


def explore(
    spec: SweepSpec, params: Mapping[str, Scalar], *, static_params: Container[str], rng: random.Random
) -> dict[str, Scalar]:
    """A full configuration near ``params``, one that breaks no condition and no constraint.

    Each tuned parameter is drawn anew with a probability of a quarter; else a number is multiplied by 0.8 or 1.2, kept
    within its range and moved by one step at least if it has steps, and a choice stays. Those of ``kept`` stay, and so
    does whether they are active. ``params`` themselves, if no such configuration is found in a hundred draws.
    """
    for _ in range(_MOST_TRIES):
        varied = _varied(spec, params, static_params, rng)
        if {name for name in varied if name in static_params} != {name for name in params if name in static_params}:
            continue
        try:
            return spec.check_params(spec.projected(varied))
        except RequestError:
            continue
    return spec.check_params(params)


def _varied(
    spec: SweepSpec, params: Mapping[str, Scalar], static_params: Container[str], rng: random.Random
) -> dict[str, Scalar]:
    source, varied = RandomTrial(rng), dict[str, Scalar]()
    for name, parameter in spec.space.items():
        if not spec.space.is_active(name, varied):
            continue
        if name in params and name in static_params:
            varied[name] = params[name]
        elif name not in params or rng.random() < RESAMPLED:
            varied[name] = parameter.take(name, parameter.suggest(name, source))
        else:
            varied[name] = _moved(parameter, params[name], rng)
    return varied


def _moved(parameter: Parameter, value: Scalar, rng: random.Random) -> Scalar:
    factor = rng.choice(FACTORS)
    if isinstance(parameter, FloatParameter) and parameter.step is None:
        return min(max(float(value) * factor, parameter.low), parameter.high)
    if isinstance(parameter, FloatParameter | IntParameter):
        low, step = parameter.low, parameter.step or 1
        here, last = round((float(value) - low) / step), round((parameter.high - low) / step)
        change = float(value) * (factor - 1)
        n_steps = max(1, round(abs(change) / step))
        moved = min(max(here + (n_steps if (change or factor - 1) > 0 else -n_steps), 0), last)
        return min(low + step * moved, parameter.high)
    return value
