"""The sampler that models configuration and epoch together."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import optuna
import scipy
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from aifs_tune.samplers.acquisition import (
    N_BEST,
    candidates,
    chance_of_success,
    log_expected_improvement,
    without_duplicates,
    without_failures,
)
from aifs_tune.samplers.encoding import Conditions, Encoding, MixtureTotals
from aifs_tune.samplers.learning_curves import KERNEL, CurveModel, Known, extended, key_of, new_trials, points_of
from aifs_tune.samplers.prior import UserPrior
from aifs_tune.samplers.single_fidelity import SingleFidelityModel, measured_in, propose_single_fidelity
from aifs_tune.samplers.thread_limit import single_blas_thread
from aifs_tune.samplers.transfer import source_models_of, source_tasks_of

Array: TypeAlias = NDArray[np.float64]

N_STARTUP_TRIALS = 10
"""Trials that start from a quasi-random sequence."""
N_STARTUP_TRIALS_SINGLE_FIDELITY = 6
"""As many, where trials have no epochs."""
N_DRAWS = 50_000
"""Random configurations that are drawn to find one that is allowed."""
N_NEW_DRAWS = 3_000
"""And to find one that no trial has had."""
N_CURVES = 4
"""Trials that must have reported before the model is asked."""
RANDOM_SHARE = 0.1
"""Of later proposals that are uniform, whatever the model believes."""
N_COMPARED = 200
"""Trials, the best so far, that can be the best at the end."""
MAX_RUNNING = 300
"""Running trials, the most promising, that count as if they had ended: a proposal's cost grows with the third power."""


class AifsSampler(BaseSampler):
    """Proposes the configuration with the largest expected improvement at the last epoch, by a Gaussian process over
    configurations and epochs (:mod:`aifs_tune.samplers.multi_fidelity_gp`).

    It learns from each epoch that any trial reported, of running and of stopped trials too. Trials without epochs
    count as measured at the last one; where no trial has more than one, the model is that of
    :mod:`aifs_tune.samplers.single_fidelity`. Failed trials make what is near them less likely to be proposed. What a
    trial has
    as Optuna's ``constraints`` is modelled too. A proposal depends on ``seed`` and the study's trials alone, and is a
    configuration that no trial has had while one is found.

    Parameters
    ----------
    seed
        0 or above.
    last_epoch
        The epoch at which configurations are compared; None for the largest that was reported.
    space
        Distributions of all parameters, parents before the children of their conditions. None to learn it from the
        trials: then only parameters that all trials have are modelled, the others are drawn at random.
    conditions
        For conditional parameters of ``space``, the values that each parent must have.
    user_prior
        For some parameters, the value near which the best is expected; it counts less with each trial.
    allows
        Whether a configuration may be proposed; None if all may.
    ordered
        Parameters whose choices stand in an order.
    mixtures
        Parameters that sum to a total, with it.
    n_startup_trials
        Trials that start from a quasi-random sequence; None for as many as suit the study, 0 where it has a design.

    Raises
    ------
    ValueError
        When asked in a study of several objectives.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        last_epoch: int | None = None,
        space: Mapping[str, BaseDistribution] | None = None,
        conditions: Conditions | None = None,
        user_prior: Mapping[str, Any] | None = None,
        allows: Callable[[Mapping[str, Any]], bool] | None = None,
        ordered: Container[str] = (),
        mixtures: MixtureTotals = (),
        n_startup_trials: int | None = None,
    ) -> None:
        self._seed, self._last_epoch, self._allows = seed, last_epoch, allows
        self._ordered, self._mixtures, self._n_startup_trials = ordered, mixtures, n_startup_trials
        self._single_fidelity: SingleFidelityModel | None = None
        self._space = None if space is None else {n: d for n, d in space.items() if not d.single()}
        self._fixed = {} if space is None else {n: d for n, d in space.items() if d.single()}
        self._conditions, self._user_prior = conditions or {}, user_prior or {}
        self._models: tuple[dict[str, BaseDistribution], CurveModel] | None = None
        self._independent = RandomSampler(seed=seed)

    def reseed_rng(self) -> None:
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._space is not None:
            return dict(self._space)
        trials = study._get_trials(deepcopy=False, use_cache=True)
        return {n: d for n, d in intersection_search_space(trials, include_pruned=True).items() if not d.single()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        self._raise_error_if_multi_objective(study)
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        if not search_space:
            return {}
        with single_blas_thread():
            return self._sample(study, trial, search_space)

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        model = self.model(study, search_space)
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, trial.number]))
        trials = study._get_trials(deepcopy=False, use_cache=True)
        known = model.known(trials)
        encoding = model.encoding
        user_prior = UserPrior(encoding, self._user_prior)
        taken = model.taken(trials, besides=trial.number)
        is_single_fidelity = self.is_single_fidelity(known)
        n_startup_trials = (
            self._n_startup_trials
            if self._n_startup_trials is not None
            else N_STARTUP_TRIALS_SINGLE_FIDELITY
            if is_single_fidelity
            else N_STARTUP_TRIALS
        )
        store = partial(study._storage.set_trial_system_attr, trial._trial_id, KERNEL)
        is_early = trial.number < n_startup_trials
        # while a study begins, at most every other proposal follows what was inherited
        may_transfer = bool(model.source_models) and trial.number % 2 == 1
        if len(known.curves) < N_CURVES or (
            is_early and not (may_transfer and self.weights(study, model, known, trials, store).any())
        ):
            return self._first_new(encoding, self.startup_point(encoding, trial.number)[None], taken, rng)
        if is_single_fidelity:
            unit_points = propose_single_fidelity(
                self.single_fidelity(study, model, trials), user_prior, rng, self._allows
            )
            return self._first_new(encoding, unit_points, taken, rng)
        if not is_early and rng.random() < RANDOM_SHARE:
            return self._first_new(encoding, encoding.spread(rng.random((1, len(encoding)))), taken, rng)
        theta = model.fitted(known, store)
        return self._first_new(encoding, propose(model, known, theta, user_prior, rng), taken, rng)

    def model(self, study: Study, search_space: dict[str, BaseDistribution]) -> CurveModel:
        """The model of this study; kept until the space changes."""
        if self._models is None or self._models[0] != search_space:
            space = search_space | self._fixed
            encoding = Encoding(space, self._conditions, ordered=self._ordered, mixtures=self._mixtures)
            is_max = study.direction == StudyDirection.MAXIMIZE
            self._models = (
                search_space,
                CurveModel(
                    encoding,
                    last_epoch=self._last_epoch,
                    larger_is_better=is_max,
                    source_models=source_models_of(encoding, source_tasks_of(study)),
                ),
            )
            self._single_fidelity = None
        return self._models[1]

    def single_fidelity(self, study: Study, model: CurveModel, trials: Sequence[FrozenTrial]) -> SingleFidelityModel:
        """What the values of ``trials`` say, whatever their courses; of two of them at least."""
        is_max = study.direction == StudyDirection.MAXIMIZE
        measured = measured_in(trials, model.encoding, larger_is_better=is_max)
        self._single_fidelity = SingleFidelityModel(
            model.encoding, measured, self._single_fidelity, model.source_models
        )
        return self._single_fidelity

    def weights(
        self,
        study: Study,
        model: CurveModel,
        known: Known,
        trials: Sequence[FrozenTrial],
        store: Callable[[str], None],
    ) -> Array:
        """How far the results bear out each of the model's experts (k,): 0 for one that is not heard."""
        if self.is_single_fidelity(known):
            return self.single_fidelity(study, model, trials).weights
        return model.transfer_posterior(model.fitted(known, store), points_of(known.curves)).transfer.weights

    def is_single_fidelity(self, known: Known) -> bool:
        """Whether no trial has a course of epochs."""
        return self._last_epoch in (None, 1) and all(len(curve.epochs) == 1 for curve in known.curves)

    def startup_point(self, encoding: Encoding, number: int) -> Array:
        """The place (d,) at which the trial ``number`` begins a study: of a quasi-random sequence."""
        sequence = scipy.stats.qmc.Sobol(len(encoding), scramble=True, rng=self._seed)
        if number:
            sequence.fast_forward(number)
        unit_points = np.asarray(sequence.random(1))
        # every other start is drawn from the guess, where there is one
        transformed = UserPrior(encoding, self._user_prior).transformed(unit_points) if number % 2 else unit_points
        return np.asarray(encoding.spread(transformed)[0])

    def _first_new(
        self, encoding: Encoding, unit_points: Array, taken: set[bytes], rng: np.random.Generator
    ) -> dict[str, Any]:
        """The first of ``unit_points`` whose configuration is allowed and not ``taken``, or of uniform draws that
        follow
        them; where none is found, the first that is allowed."""
        repeated: dict[str, Any] | None = None
        for n_drawn, unit_point in enumerate(chain(unit_points, self._drawn(encoding, rng))):
            if n_drawn >= len(unit_points) + N_NEW_DRAWS and repeated is not None:
                return repeated
            is_new = key_of(unit_point) not in taken
            if not is_new and repeated is not None:
                continue
            params = encoding.params(unit_point)
            if self._allows is None or self._allows(params):
                if is_new:
                    return params
                repeated = params
        raise optuna.exceptions.OptunaError(f"no configuration was found that is allowed, in {N_DRAWS:,} draws")

    def _drawn(self, encoding: Encoding, rng: np.random.Generator) -> Iterator[Array]:
        for _ in range(N_DRAWS // 100):
            yield from encoding.spread(rng.random((100, len(encoding))))


def propose(model: CurveModel, known: Known, theta: Array, user_prior: UserPrior, rng: np.random.Generator) -> Array:
    """Places (m, d) to try next, the most promising first."""
    encoding, end = model.encoding, model.end(known.curves)
    points = points_of(known.curves)
    posterior = model.posterior(theta, points)
    order = sorted(range(len(known.curves)), key=lambda i: (-known.curves[i].values[-1], i))
    compared = order[:N_COMPARED] + [i for i in order[N_COMPARED:] if known.curves[i].trial in known.running]
    x = np.stack([known.curves[i].x for i in compared])
    # configurations are compared, not trials: what was the luck of one trial is not expected again
    by_mean = np.argsort(-posterior.mean(x, end, new_trials(x)), kind="stable")
    if known.running:  # what runs is taken to end as expected: its surroundings promise less
        pending = np.array(list(known.running), dtype=np.int64)
        pending_x = encoding.features(np.array(list(known.running.values())))
        pending_order = np.arange(len(pending))
        if len(pending) > MAX_RUNNING:
            improvement = log_expected_improvement(*posterior.gain(pending_x, end, pending, x[by_mean[0]], -1))
            pending_order = np.argsort(-improvement, kind="stable")[:MAX_RUNNING]
        at, who = pending_x[pending_order], pending[pending_order]
        posterior = posterior.condition_on_observations(extended(points, at, end, who, posterior.mean(at, end, who)))
    unit_points = candidates(encoding, known.unit_points[[compared[i] for i in by_mean[:N_BEST]]], rng)
    features = encoding.features(unit_points)
    gain, variance = posterior.gain(features, end, new_trials(features), x[by_mean[0]], -1)
    score, scales = log_expected_improvement(gain, variance), posterior.kernel.scales
    score = user_prior.weighted(score, unit_points, len(known.curves))
    if known.running:
        score = without_duplicates(score, features, pending_x, scales)
    if len(known.failed):
        succeeded = np.stack([curve.x for curve in known.curves])
        chance = chance_of_success(features, encoding.features(known.failed), succeeded, scales)
        score = without_failures(score, chance)
    return unit_points[np.argsort(-score, kind="stable")]
