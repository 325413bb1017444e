"""PED-ANOVA importance of parameters: the divergence between the best tenth of the trials and all trials.

Watanabe, Bansal and Hutter, IJCAI 2023, doi 10.24963/ijcai.2023/488. A conditional parameter is judged by the trials in
which it is active.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from aifs_tune._util.scalars import Scalar, coded_params
from aifs_tune.space.distributions import distributions_of
from aifs_tune.space.search_space import Space
from aifs_tune.storage.optuna_logging import quietly

MIN_COMPLETE = 4
"""Complete trials that an importance needs."""


class PedAnova:
    """Importances for any selection, with repetitions, of given configurations, such as a bootstrap sample.

    ``losses`` has a number for each configuration; smaller is better.
    """

    def __init__(self, space: Space, configurations: Sequence[Mapping[str, Scalar]], losses: Sequence[float]) -> None:
        self._space = space
        self._trials = [
            create_trial(params=space.stored(params), distributions=distributions_of(space, params), value=float(loss))
            for params, loss in zip(map(coded_params, configurations), losses, strict=True)
        ]

    def importances(self, chosen: Sequence[int]) -> dict[str, float]:
        """Shares by parameter that sum to one, from the configurations with these indices."""
        with quietly():
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.add_trials([self._trials[index] for index in chosen])
        with warnings.catch_warnings():
            # Optuna warns that small values of the target must be the good ones; here they are
            warnings.simplefilter("ignore")
            importances = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        return {name: float(share) for name, share in importances.items() if self._space[name].type != "fixed"}
