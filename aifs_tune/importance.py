"""Which parameters the objectives depend on, as far as the trials so far can tell."""

from __future__ import annotations

import warnings

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from aifs_tune.spec import SweepSpec

METHOD = "PED-ANOVA"
"""Watanabe, Bansal and Hutter, IJCAI 2023, doi 10.24963/ijcai.2023/488: how far the best tenth of the trials is from
all of them, parameter by parameter."""
FEWEST = 4
"""Complete trials, below which nothing can be said."""


def importance_in(study: optuna.Study, spec: SweepSpec) -> dict[str, dict[str, float]]:
    """By metric and parameter, shares that sum to one, the largest first; fixed parameters have none.
    Empty where fewer than :data:`FEWEST` trials are complete.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST:
        return {objective.metric: {} for objective in spec.objectives}
    found: dict[str, dict[str, float]] = {}
    for index, objective in enumerate(spec.objectives):
        sign = -1.0 if objective.mode == "max" else 1.0

        def target(trial: FrozenTrial, sign: float = sign, index: int = index) -> float:
            return sign * float(trial.values[index])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that small values of the target are the good ones, which they are here
            shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)
        found[objective.metric] = {name: share for name, share in shares.items() if spec.space[name].type != "fixed"}
    return found
