"""Spaces of few configurations: how many there are, and whether all were tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from aifs_tune._util.scalars import Scalar
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.space.parameters import ChoiceParameter, FixedParameter, IntParameter, Parameter
from aifs_tune.study.trial import Trial

MAX_COUNTED = 2_000
"""Largest number of configurations that are counted, one by one as conditions and constraints decide."""


def n_configurations(spec: SweepSpec) -> int | None:
    """Return the number of configurations that ``spec`` allows; None if a parameter is continuous or there are more
    than :data:`MAX_COUNTED` without constraints and exclusions."""
    return _counted(spec.model_dump_json(include={"name", "space", "constraints", "mixtures", "exclude"}))


@lru_cache(maxsize=64)
def _counted(document: str) -> int | None:
    spec = SweepSpec.model_validate_json(document)
    if not is_countable(spec):
        return None
    n_allowed = 0
    for i, params in enumerate(_configurations(spec)):
        if i >= MAX_COUNTED:
            return None
        n_allowed += spec.allows(params)
    return n_allowed


def is_countable(spec: SweepSpec) -> bool:
    """Whether no parameter is continuous."""
    return not spec.mixtures and all(_n_values(parameter) is not None for _, parameter in spec.space.items())


def used_up(spec: SweepSpec, trials: Sequence[Trial]) -> str | None:
    """Return a sentence if every configuration was tried and one again, so that more trials bring nothing new; else
    None. One configuration alone is no search, and repeated by intent."""
    if spec.cross_validation is not None or len(trials) < 2:
        return None
    tried = {frozenset(trial.coded_params.items()) for trial in trials if trial.params and trial.problem is None}
    if len(tried) in (1, len(trials)) or len(tried) > MAX_COUNTED:
        return None
    n = n_configurations(spec)
    if n is None or len(tried) < n:
        return None
    return (
        f"All {n} configurations of the search space have been tried: further trials repeat them, which is of use only "
        "if repeated results differ. Widen the space in a new study to search on"
    )


def _n_values(parameter: Parameter) -> int | None:
    if isinstance(parameter, ChoiceParameter):
        return len(parameter.choices)
    if isinstance(parameter, IntParameter):
        return (parameter.high - parameter.low) // parameter.step + 1
    if isinstance(parameter, FixedParameter):
        return 1
    return None if parameter.step is None else len(parameter.steps)


def _values(parameter: Parameter) -> Iterator[Scalar]:
    if isinstance(parameter, ChoiceParameter):
        yield from parameter.choices
    elif isinstance(parameter, IntParameter):
        yield from range(parameter.low, parameter.high + 1, parameter.step)
    elif isinstance(parameter, FixedParameter):
        yield parameter.value
    else:
        yield from parameter.steps


def _configurations(spec: SweepSpec) -> Iterator[dict[str, Scalar]]:
    """Iterate over the configurations of the space, allowed or not."""
    entries = list(spec.space.items())

    def extended(i: int, params: dict[str, Scalar]) -> Iterator[dict[str, Scalar]]:
        if i == len(entries):
            yield params
            return
        name, parameter = entries[i]
        if not spec.space.is_active(name, params):
            yield from extended(i + 1, params)
            return
        for value in _values(parameter):
            yield from extended(i + 1, {**params, name: value})

    return extended(0, {})
