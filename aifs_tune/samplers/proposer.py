"""Proposals for one study, and predictions of the model behind them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property, partial

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from aifs_tune._util.float_errors import usual_float_errors
from aifs_tune._util.scalars import Scalar
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.samplers.aifs import N_CURVES, AifsSampler
from aifs_tune.samplers.constrained import ConstrainedSampler
from aifs_tune.samplers.costs import Costs
from aifs_tune.samplers.learning_curves import KERNEL, points_of
from aifs_tune.samplers.masked import MaskedSampler
from aifs_tune.samplers.optuna_samplers import make_optuna_sampler
from aifs_tune.samplers.search_space import SearchSpace, configuration
from aifs_tune.samplers.single_fidelity import propose_single_fidelity
from aifs_tune.samplers.stopping import continuation_value
from aifs_tune.samplers.thread_limit import single_blas_thread

N_GAIN_CANDIDATES = 50
"""Number of the most promising configurations among which the largest expected gain is computed."""


class Proposer:
    """Samplers and models of one study.

    They depend only on the seed and the trials of the study, so that a resumed sweep continues as it would have.
    """

    def __init__(self, spec: SweepSpec) -> None:
        self._spec, self._search_space = spec, SearchSpace.of(spec)

    def sampler(self, n_trials: int, *, masked: Collection[int] = ()) -> BaseSampler:
        """Return the sampler for the next proposal of a study with ``n_trials`` trials.

        The trials with the numbers ``masked`` are hidden from it.

        Raises
        ------
        RequestError
            If there is no such sampler, or it cannot search this space.
        """
        sampler = self._sampler(n_trials)
        return MaskedSampler(sampler, masked) if masked else sampler

    def _sampler(self, n_trials: int) -> BaseSampler:
        search = self._spec.search
        if search.sampler.name == "aifs":
            return self._aifs
        draw = int(np.random.SeedSequence([search.seed, n_trials]).generate_state(1)[0])
        sampler = make_optuna_sampler(
            search.sampler.name,
            options=search.sampler.options,
            seed=search.seed,
            draw=draw,
            search_space=self._search_space,
        )
        if not (self._spec.constraints or self._spec.mixtures or self._spec.exclude or self._repeats):
            return sampler
        return ConstrainedSampler(sampler, self._spec, draw, is_even=search.sampler.name in ("random", "qmc"))

    @cached_property
    def _repeats(self) -> bool:
        """Whether the sampler may propose a configuration twice, because no parameter is continuous."""
        ranges = [p for p in self._spec.space.root.values() if p.type == "float" and p.step is None and not p.when]
        return not ranges and self._spec.search.sampler.name not in ("grid", "brute_force")

    @usual_float_errors()
    @single_blas_thread()
    def continuation_value(self, study: optuna.Study, trial: FrozenTrial, curve: Mapping[int, float]) -> float | None:
        """Return the expected improvement of one more epoch of a running trial, relative to starting a new trial.

        ``curve`` has the values of the trial by epoch; see :func:`aifs_tune.samplers.stopping.continuation_value`.
        """
        model = self._aifs.model(study, self._aifs.infer_relative_search_space(study, trial))
        reported = model.curve(trial.number, trial.params, curve)
        if reported is None:
            return None
        store = partial(study._storage.set_trial_system_attr, trial._trial_id, KERNEL)
        known = model.known(study._get_trials(deepcopy=False, use_cache=True))
        rng = np.random.default_rng([self._spec.search.seed, trial.number, int(reported.epochs[-1])])
        return continuation_value(model, known, reported, store, rng, allows=self._allows)

    @usual_float_errors()
    @single_blas_thread()
    def best_and_gain(self, study: optuna.Study) -> tuple[float, int, float] | None:
        """Return the largest expected improvement, and the number and the estimated value of the best trial.

        It uses all results, whichever sampler proposed them. None while fewer than
        :data:`~aifs_tune.samplers.aifs.N_CURVES` trials are complete, or while none probably satisfies the limits.
        """
        space = {name: d for name, d in self._search_space.space.items() if not d.single()}
        trials = study.get_trials(deepcopy=False)  # includes results since the last proposal
        if not space or sum(trial.state == TrialState.COMPLETE for trial in trials) < N_CURVES:
            return None
        single_fidelity = self._aifs.single_fidelity(study, self._aifs.model(study, space), trials)
        if single_fidelity.best is None:
            return None
        number = int(single_fidelity.measured.numbers[single_fidelity.best])
        rng = np.random.default_rng([self._spec.search.seed, len(trials)])
        unit_points = propose_single_fidelity(single_fidelity, single_fidelity.encoding, rng, allows=self._allows)[
            :N_GAIN_CANDIDATES
        ]
        gain = float(single_fidelity.expected_gain(unit_points).max()) if len(unit_points) else 0.0
        sign = 1.0 if self._spec.objective.mode == "max" else -1.0
        return gain, number, sign * float(single_fidelity.warp.inverse(single_fidelity.means[single_fidelity.best]))

    def startup_params(self, number: int) -> dict[str, Scalar] | None:
        """Return the start-up configuration of trial ``number``.

        None if the sampler has no start-up sequence, or if the configuration is not allowed.
        """
        if self._spec.search.sampler.name != "aifs" or self._spec.search.initial is not None:
            return None
        encoding = self._search_space.encoding()
        params = configuration(self._spec, encoding, self._aifs.startup_point(encoding, number))
        return params if self._spec.allows(params) else None

    def posterior_means(self, study: optuna.Study) -> dict[int, float]:
        """Return the posterior mean at the last epoch of each complete or pruned trial, by its number.

        Larger is better. It is empty while fewer than two trials have reported.
        """
        space = {name: d for name, d in self._search_space.space.items() if not d.single()}
        if not space:
            return {}
        trials = [t for t in study.get_trials(deepcopy=False) if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        model = self._aifs.model(study, space)
        known = model.known(trials)
        if len(known.curves) < 2:
            return {}
        if self._aifs.is_single_fidelity(known):
            single_fidelity = self._aifs.single_fidelity(study, model, trials)
            return dict(zip(single_fidelity.measured.numbers.tolist(), single_fidelity.means.tolist(), strict=True))
        posterior = model.posterior(model.fitted(known, _discard), points_of(known.curves))
        numbers = np.array([curve.trial for curve in known.curves], dtype=np.int64)
        means = posterior.mean(np.stack([curve.x for curve in known.curves]), model.end(known.curves), numbers)
        return dict(zip(numbers.tolist(), means.tolist(), strict=True))

    def transfer_weights(self, study: optuna.Study) -> dict[str, float]:
        """Return the weight of each earlier study of a warm start, 0 for one that is not used.

        It is empty while fewer than :data:`~aifs_tune.samplers.aifs.N_CURVES` trials have reported.
        """
        space = {name: d for name, d in self._search_space.space.items() if not d.single()}
        if self._spec.search.sampler.name != "aifs" or not space:
            return {}
        trials = study.get_trials(deepcopy=False)
        model = self._aifs.model(study, space)
        known = model.known(trials if model.source_models else [])
        if len(known.curves) < N_CURVES:
            return {}
        weights = self._aifs.weights(study, model, known, trials, _discard)
        return {
            source_model.study: weight
            for source_model, weight in zip(model.source_models, weights.tolist(), strict=True)
        }

    @cached_property
    def _fixed(self) -> dict[str, Scalar]:
        """Parameters with one value in all configurations, which samplers leave out."""
        return {name: p.value for name, p in self._spec.space.items() if p.type == "fixed" and not p.when}

    def _allows(self, params: Mapping[str, Scalar]) -> bool:
        return self._spec.allows({**self._fixed, **params})

    def _cost_of(self, params: Mapping[str, Scalar]) -> float:
        assert self._spec.search.cost is not None
        return self._spec.search.cost.value({**self._fixed, **params})

    @cached_property
    def _aifs(self) -> AifsSampler:
        return AifsSampler(
            seed=self._spec.search.seed,
            last_epoch=None if self._spec.trainer is None else self._spec.search.last_epoch,
            space=self._search_space.space,
            conditions=self._search_space.conditions,
            user_prior={
                name: p.prior for name, p in self._spec.space.items() if p.type != "fixed" and p.prior is not None
            },
            allows=self._allows if self._spec.constraints or self._spec.exclude else None,
            ordered=self._search_space.ordered,
            mixtures=self._search_space.mixtures,
            descriptors=self._search_space.descriptors,
            n_startup_trials=None if self._spec.search.initial is None else 0,
            shared=self._spec.search.shared,
            costs=None if self._spec.search.cost is None else Costs(self._cost_of, self._spec.search.budget),
        )


def _discard(_fitted: str) -> None:
    """Store nothing: callers that only read a study must not write to it."""


def check_sampler(spec: SweepSpec) -> None:
    """Check that the sampler of a sweep exists and can search its space.

    Raises
    ------
    RequestError
        If there is no such sampler, it is not installed, or it cannot search this space.
    """
    Proposer(spec).sampler(0)
