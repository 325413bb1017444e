"""Importance of parameters for the objectives, estimated from the trials so far."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from aifs_tune._util.scalars import Scalar
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.space.distributions import distributions_of
from aifs_tune.space.search_space import Space
from aifs_tune.storage.optuna_logging import quietly

METHOD = "PED-ANOVA"
"""Watanabe, Bansal and Hutter, IJCAI 2023, doi 10.24963/ijcai.2023/488: for each parameter, the divergence between the
best tenth of the trials and all trials. A conditional parameter is judged by the trials in which it is active."""
MIN_COMPLETE = 4
"""Complete trials that an importance needs."""


def importance_in(study: optuna.Study, spec: SweepSpec) -> dict[str, dict[str, float]]:
    """Shares by metric and parameter, the largest first; they sum to one, and fixed parameters have none.

    Without shares while fewer than :data:`MIN_COMPLETE` trials are complete.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < MIN_COMPLETE:
        return {objective.metric: {} for objective in spec.objectives}
    found: dict[str, dict[str, float]] = {}
    for index, objective in enumerate(spec.objectives):
        sign = -1.0 if objective.mode == "max" else 1.0

        def target(trial: FrozenTrial, sign: float = sign, index: int = index) -> float:
            return sign * float(trial.values[index])

        found[objective.metric] = _importances(study, spec.space, target)
    return found


class PedAnova:
    """:data:`METHOD` for any selection, with repetitions, of given configurations, such as a bootstrap sample.

    ``losses`` has a number for each configuration; smaller is better.
    """

    def __init__(self, space: Space, configurations: Sequence[Mapping[str, Scalar]], losses: Sequence[float]) -> None:
        self._space = space
        self._trials = [
            create_trial(params=dict(params), distributions=distributions_of(space, params), value=float(loss))
            for params, loss in zip(configurations, losses, strict=True)
        ]

    def importances(self, chosen: Sequence[int]) -> dict[str, float]:
        """Shares by parameter that sum to one, from the configurations with these indices."""
        with quietly():
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.add_trials([self._trials[index] for index in chosen])
        return _importances(study, self._space)


def _importances(
    study: optuna.Study, space: Space, target: Callable[[FrozenTrial], float] | None = None
) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Optuna warns that small values of the target must be the good ones; here they are
        importances = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)
    return {name: float(share) for name, share in importances.items() if space[name].type != "fixed"}
