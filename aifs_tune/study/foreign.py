"""Trials that another program wrote into a study, and what is wrong with them.

Optuna, its dashboard and its command line may write to a study. A result of theirs within the search space counts like
any other. What the study does not allow is marked with a problem: it is listed, and counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.storage.tolerant import UNDECODABLE
from aifs_tune.study.schema import check_trial_attributes
from aifs_tune.study.serialization import SWEEP

QUEUED = "fixed_params"
"""System attribute in which Optuna's ``enqueue_trial`` keeps the parameters."""
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""Errors of reading attributes that are not as this package writes them."""


def problem_of(frozen: FrozenTrial, spec: SweepSpec, earlier: FrozenTrial | None = None) -> str | None:
    """What is wrong with a trial; None if it counts. ``earlier`` is the same trial as it was read before, if it counted
    then: attributes that it still has are not checked again."""
    if (bad := frozen.system_attrs.get(UNDECODABLE)) is not None:
        return f"it cannot be decoded: {'; '.join(f'{what} {_listed(sorted(names))}' for what, names in bad.items())}"
    try:
        check_trial_attributes(
            _new(frozen.user_attrs, earlier.user_attrs if earlier else {}),
            _new(frozen.system_attrs, earlier.system_attrs if earlier else {}),
            "attribute",
        )
    except ValueError as error:
        return f"another program wrote what cannot be read, {error}; set aside by: aifs-tune doctor --repair"
    values = frozen.values or []
    if not all(map(math.isfinite, values)):
        return f"another program told it {_listed(values)}; allowed: finite numbers"
    if not all(map(math.isfinite, frozen.intermediate_values.values())):
        step = next(s for s, value in frozen.intermediate_values.items() if not math.isfinite(value))
        return f"another program reported {frozen.intermediate_values[step]} for epoch {step}; allowed: finite numbers"
    if frozen.state is TrialState.COMPLETE and len(values) != len(spec.objectives):
        return f"another program told it {len(values)} values; allowed: {len(spec.objectives)}"
    is_refused = frozen.state is TrialState.FAIL and not frozen.params
    if SWEEP in frozen.system_attrs or frozen.state is TrialState.WAITING or is_refused:
        return None  # this package proposed it, or has yet to look at it, or nothing of it is left to look at
    try:
        spec.check_params(spec.space.loaded(frozen.params))
    except RequestError as error:
        told = f" (it told {_listed(values)})" if values else ""
        return f"another program wrote it: {error}{told}"
    return None


def problem_of_queued(frozen: FrozenTrial, spec: SweepSpec) -> str | None:
    """What is wrong with a waiting trial; None if it may run. Parameters that are not given are proposed."""
    given: Mapping[str, Any] = spec.space.loaded(frozen.system_attrs.get(QUEUED, frozen.params))
    try:
        if not set(spec.space.root) - set(given):
            spec.check_params(given)
        for name, value in given.items():
            if name not in spec.space:
                return f"another program queued it: {name}: no such parameter; allowed: {', '.join(spec.space.root)}"
            spec.space[name].take(name, value)
    except RequestError as error:
        return f"another program queued it: {error}"
    except UNREADABLE as error:
        return f"another program queued it, with parameters that cannot be read ({type(error).__name__}: {error})"
    return None


def _new(attributes: Mapping[str, Any], earlier: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in attributes.items() if key not in earlier or earlier[key] is not value}


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
