"""Who proposes the next configuration of a study, and what its model believes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from aifs_tune.record import space_distributions
from aifs_tune.sampling.aifs import AifsSampler
from aifs_tune.sampling.by_name import make_foreign
from aifs_tune.sampling.model import KERNEL
from aifs_tune.sampling.obedient import Obedient
from aifs_tune.sampling.stopping import promise
from aifs_tune.sampling.unaware import Unaware
from aifs_tune.spec import SweepSpec


class Proposer:
    """The samplers of one study, all drawn from its seed and its trials alone: a resumed sweep continues as it would
    have."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._space: dict[str, BaseDistribution] = space_distributions(spec.space)

    def sampler(self, n_trials: int, *, unseen: Collection[int] = ()) -> BaseSampler:
        """The sampler for the next proposal of a study that has ``n_trials`` trials, of which it is to know nothing of
        those with the numbers ``unseen``.

        Raises
        ------
        RequestError
            If there is no such sampler, or it cannot search this space.
        """
        sampler = self._sampler(n_trials)
        return Unaware(sampler, unseen) if unseen else sampler

    def _sampler(self, n_trials: int) -> BaseSampler:
        search = self._spec.search
        if search.sampler == "aifs":
            return self._aifs
        draw = int(np.random.SeedSequence([search.seed, n_trials]).generate_state(1)[0])
        foreign = make_foreign(search.sampler, seed=search.seed, draw=draw, space=self._space)
        return Obedient(foreign, self._spec, draw) if self._spec.constraints else foreign

    def promise(self, study: optuna.Study, trial: FrozenTrial, curve: Mapping[int, float]) -> float | None:
        """What an epoch more of a running trial, with these values by epoch, is expected to gain, in parts of what one
        of a new configuration would; see :func:`aifs_tune.sampling.stopping.promise`."""
        model = self._aifs.model(study, self._aifs.infer_relative_search_space(study, trial))
        reported = model.curve(trial.number, trial.params, curve)
        if reported is None:
            return None
        store = partial(study._storage.set_trial_system_attr, trial._trial_id, KERNEL)
        known = model.known(study._get_trials(deepcopy=False, use_cache=True))
        rng = np.random.default_rng([self._spec.search.seed, trial.number, int(reported.epochs[-1])])
        return promise(model, known, reported, store, rng, allows=self._allows)

    @cached_property
    def _aifs(self) -> AifsSampler:
        return AifsSampler(
            seed=self._spec.search.seed,
            last_epoch=self._spec.search.epochs,
            space=self._space,
            conditions={name: parameter.when for name, parameter in self._spec.space.items() if parameter.when},
            guess={name: p.prior for name, p in self._spec.space.items() if p.type != "fixed" and p.prior is not None},
            allows=self._allows if self._spec.constraints else None,
        )

    def _allows(self, params: Mapping[str, Any]) -> bool:
        return all(constraint.holds(params) for constraint in self._spec.constraints)


def check_sampler(spec: SweepSpec) -> None:
    """Refuse early a sampler that could propose nothing.

    Raises
    ------
    RequestError
        If there is no such sampler, it is not installed, or it cannot search this space.
    """
    Proposer(spec).sampler(0)
