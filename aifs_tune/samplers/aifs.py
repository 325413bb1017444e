"""Sampler that models configuration and epoch together."""

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
from optuna.trial import FrozenTrial, TrialState

from aifs_tune.samplers.acquisition import (
    N_BEST,
    candidates,
    chance_of_success,
    log_expected_improvement,
    without_duplicates,
    without_failures,
)
from aifs_tune.samplers.costs import Costs
from aifs_tune.samplers.encoding import Conditions, DescriptorTables, Encoding, MixtureTotals, key_of
from aifs_tune.samplers.learning_curves import KERNEL, CurveModel, Known, extended, new_trials, points_of
from aifs_tune.samplers.multi_objective import MultiObjectiveModel
from aifs_tune.samplers.prior import UserPrior
from aifs_tune.samplers.single_fidelity import SingleFidelityModel, Weigh, measured_in, propose_single_fidelity
from aifs_tune.samplers.thread_limit import single_blas_thread
from aifs_tune.samplers.transfer import source_models_of, source_tasks_of

Array: TypeAlias = NDArray[np.float64]

N_STARTUP_TRIALS = 10
"""Number of first trials that are drawn from a quasi-random sequence."""
N_STARTUP_TRIALS_SINGLE_FIDELITY = 6
"""The same for trials without epochs."""
N_DRAWS = 50_000
"""Maximum number of random draws to find an allowed configuration."""
N_NEW_DRAWS = 3_000
"""Maximum number of random draws to find a configuration that no trial has had."""
N_CURVES = 4
"""Number of trials that must have reported before the model is used."""
RANDOM_SHARE = 0.1
"""Share of later proposals that are uniform and ignore the model."""
N_COMPARED = 200
"""Number of the best trials so far among which the incumbent is chosen."""
MAX_RUNNING = 300
"""Maximum number of running trials on whose expected results the model is conditioned, the most promising first.

The cost of a proposal grows with the third power of it.
"""


class AifsSampler(BaseSampler):
    """Optuna sampler that learns from every epoch of every trial.

    It proposes the configuration with the largest expected improvement at the last epoch, by a Gaussian process over
    configurations and epochs (:mod:`aifs_tune.samplers.multi_fidelity_gp`). Running and pruned trials count too.
    Trials without epochs count as measured at the last one; where no trial has more than one epoch, the model is that
    of :mod:`aifs_tune.samplers.single_fidelity`. Studies with several objectives use the final values of their trials
    and the largest expected hypervolume improvement (:mod:`aifs_tune.samplers.multi_objective`). Configurations near
    failed trials are proposed less often. Values of Optuna's ``constraints`` are modelled as well.

    A proposal depends only on ``seed`` and on the trials of the study. It repeats no configuration of an earlier
    trial, unless it finds no other.

    Parameters
    ----------
    seed : int, default 0
        Seed of all random numbers, 0 or above.
    last_epoch : int, optional
        The epoch at which configurations are compared. By default the largest that was reported.
    space : mapping of str to optuna.distributions.BaseDistribution, optional
        Distributions of all parameters. Parents come before the children of their conditions. By default it is
        inferred from the trials: only parameters that all trials have are modelled, the others are drawn at random.
    conditions : mapping, optional
        For each conditional parameter of ``space``, the values that each of its parents must have.
    user_prior : mapping of str to value, optional
        For some parameters, the value near which you expect the best. Its influence shrinks with each trial.
    allows : callable, optional
        Function of a configuration that returns whether it may be proposed. By default all may.
    ordered : container of str, default ()
        Categorical parameters whose choices have an order.
    mixtures : sequence of (names, total), default ()
        Groups of parameters that sum to a total.
    n_startup_trials : int, optional
        Number of first trials that are drawn from a quasi-random sequence. By default 10, or 6 for trials without
        epochs. Use 0 where the study has an initial design.
    shared : container of str, default ()
        Parameters that all trials of a batch share: while trials run, a proposal takes their values.
    costs : Costs, optional
        Cost of each configuration; the expected improvement is divided by it. By default all cost the same.
    descriptors : mapping, optional
        For some categorical parameters, the numbers that describe the choices, by name of the descriptor and in the
        order of the choices; choices with similar numbers are similar.

    Examples
    --------
    >>> import optuna
    >>> from aifs_tune.samplers import AifsSampler
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=AifsSampler(seed=1))
    >>> study.optimize(lambda trial: (trial.suggest_float("x", -1, 1) - 0.3) ** 2, n_trials=12)
    >>> study.best_value < 0.01
    True
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
        shared: Container[str] = (),
        costs: Costs | None = None,
        descriptors: DescriptorTables | None = None,
    ) -> None:
        self._shared, self._costs, self._descriptors = shared, costs, descriptors
        self._seed, self._last_epoch, self._allows = seed, last_epoch, allows
        self._ordered, self._mixtures, self._n_startup_trials = ordered, mixtures, n_startup_trials
        self._single_fidelity: SingleFidelityModel | None = None
        self._multi_objective: MultiObjectiveModel | None = None
        self._space = None if space is None else {n: d for n, d in space.items() if not d.single()}
        self._fixed = {} if space is None else {n: d for n, d in space.items() if d.single()}
        self._conditions, self._user_prior = conditions or {}, user_prior or {}
        self._models: tuple[dict[str, BaseDistribution], CurveModel] | None = None
        self._independent = RandomSampler(seed=seed)

    def reseed_rng(self) -> None:
        """Reseed the generator of parameters that are not modelled; see :class:`optuna.samplers.BaseSampler`."""
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that the model proposes together; see :class:`optuna.samplers.BaseSampler`.

        Parameters
        ----------
        study : optuna.Study
            The study that asks.
        trial : optuna.trial.FrozenTrial
            The new trial.

        Returns
        -------
        dict of str to optuna.distributions.BaseDistribution
            Their distributions, without parameters that have only one value.
        """
        if self._space is not None:
            return dict(self._space)
        trials = study._get_trials(deepcopy=False, use_cache=True)
        return {n: d for n, d in intersection_search_space(trials, include_pruned=True).items() if not d.single()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a value at random for a parameter that is not modelled; see :class:`optuna.samplers.BaseSampler`.

        Parameters
        ----------
        study : optuna.Study
            The study that asks.
        trial : optuna.trial.FrozenTrial
            The new trial.
        param_name : str
            Name of the parameter.
        param_distribution : optuna.distributions.BaseDistribution
            Its distribution.

        Returns
        -------
        value
            A value of the distribution.
        """
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose the modelled parameters of a new trial; see :class:`optuna.samplers.BaseSampler`.

        Parameters
        ----------
        study : optuna.Study
            The study that asks.
        trial : optuna.trial.FrozenTrial
            The new trial.
        search_space : dict of str to optuna.distributions.BaseDistribution
            What :meth:`infer_relative_search_space` returned.

        Returns
        -------
        dict of str to value
            The proposed configuration. Inactive parameters are absent.

        Raises
        ------
        optuna.exceptions.OptunaError
            If no allowed configuration was found.
        """
        if not search_space:
            return {}
        with single_blas_thread():
            return self._sample(study, trial, search_space)

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        model = self.model(study, search_space)
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, trial.number]))
        trials = study._get_trials(deepcopy=False, use_cache=True)
        known = model.known(trials)
        encoding = model.encoding.pinned_to(self._shared_params(trials, besides=trial.number))
        taken = model.taken(trials, besides=trial.number)
        is_multi_objective = len(study.directions) > 1
        is_single_fidelity = is_multi_objective or self.is_single_fidelity(known)
        n_startup_trials = (
            self._n_startup_trials
            if self._n_startup_trials is not None
            else N_STARTUP_TRIALS_SINGLE_FIDELITY
            if is_single_fidelity
            else N_STARTUP_TRIALS
        )
        store = partial(study._storage.set_trial_system_attr, trial._trial_id, KERNEL)
        is_early = trial.number < n_startup_trials
        # during start-up, at most every other proposal uses the source models of a warm start
        may_transfer = bool(model.source_models) and trial.number % 2 == 1
        if len(known.curves) < N_CURVES or (
            is_early and not (may_transfer and self.weights(study, model, known, trials, store).any())
        ):
            return self._first_new(encoding, self.startup_point(encoding, trial.number)[None], taken, rng)
        if is_single_fidelity:
            measured_model = (self.multi_objective if is_multi_objective else self.single_fidelity)(
                study, model, trials
            )
            weigh = self._weigh(encoding, trials, len(known.curves))
            unit_points = propose_single_fidelity(measured_model, encoding, rng, weigh=weigh, allows=self._allows)
            return self._first_new(encoding, unit_points, taken, rng)
        if not is_early and rng.random() < RANDOM_SHARE:
            return self._first_new(encoding, encoding.spread(rng.random((1, len(encoding)))), taken, rng)
        theta = model.fitted(known, store)
        weigh = self._weigh(encoding, trials, len(known.curves))
        return self._first_new(encoding, propose(model, known, theta, encoding, weigh, rng), taken, rng)

    def _shared_params(self, trials: Sequence[FrozenTrial], *, besides: int) -> dict[str, Any]:
        """Return the values of the shared parameters in the trials that run, the latest one that has each."""
        found: dict[str, Any] = {}
        for trial in trials:
            if trial.state == TrialState.RUNNING and trial.number != besides:
                found |= {name: value for name, value in trial.params.items() if name in self._shared}
        return found

    def _weigh(self, encoding: Encoding, trials: Sequence[FrozenTrial], n_reported: int) -> Weigh:
        """Return a function that adds the user's prior and the costs to log scores."""
        user_prior, costs = UserPrior(encoding, self._user_prior), self._costs
        spent = costs.spent(trials) if costs is not None and costs.budget is not None else 0.0

        def weigh(score: Array, unit_points: Array) -> Array:
            score = user_prior.weighted(score, unit_points, n_reported)
            return score if costs is None else costs.weighted(score, unit_points, encoding, spent)

        return weigh

    def model(self, study: Study, search_space: dict[str, BaseDistribution]) -> CurveModel:
        """Return the model of a study, which is kept until the search space changes.

        Parameters
        ----------
        study : optuna.Study
            The study.
        search_space : dict of str to optuna.distributions.BaseDistribution
            The parameters to model.

        Returns
        -------
        CurveModel
            The model of its learning curves.
        """
        if self._models is None or self._models[0] != search_space:
            space = search_space | self._fixed
            encoding = Encoding(
                space,
                self._conditions,
                ordered=self._ordered,
                mixtures=self._mixtures,
                descriptors=self._descriptors,
            )
            is_max = study.directions[0] == StudyDirection.MAXIMIZE
            self._models = (
                search_space,
                CurveModel(
                    encoding,
                    last_epoch=self._last_epoch,
                    larger_is_better=is_max,
                    source_models=source_models_of(encoding, source_tasks_of(study)),
                ),
            )
            self._single_fidelity = self._multi_objective = None
        return self._models[1]

    def single_fidelity(self, study: Study, model: CurveModel, trials: Sequence[FrozenTrial]) -> SingleFidelityModel:
        """Fit the model that ignores epochs to the final values of trials.

        Parameters
        ----------
        study : optuna.Study
            The study.
        model : CurveModel
            Its model, for the encoding and the source models.
        trials : sequence of optuna.trial.FrozenTrial
            Trials of the study; at least two must have a value.

        Returns
        -------
        SingleFidelityModel
            The fitted model.
        """
        measured = measured_in(trials, model.encoding, study.directions)
        self._single_fidelity = SingleFidelityModel(
            model.encoding, measured, self._single_fidelity, model.source_models
        )
        return self._single_fidelity

    def multi_objective(self, study: Study, model: CurveModel, trials: Sequence[FrozenTrial]) -> MultiObjectiveModel:
        """Fit a model of each objective to the final values of trials.

        Parameters
        ----------
        study : optuna.Study
            The study, with several objectives.
        model : CurveModel
            Its model, for the encoding.
        trials : sequence of optuna.trial.FrozenTrial
            Trials of the study; at least two must have values.

        Returns
        -------
        MultiObjectiveModel
            The fitted model.
        """
        measured = measured_in(trials, model.encoding, study.directions)
        self._multi_objective = MultiObjectiveModel(model.encoding, measured, self._multi_objective)
        return self._multi_objective

    def weights(
        self,
        study: Study,
        model: CurveModel,
        known: Known,
        trials: Sequence[FrozenTrial],
        store: Callable[[str], None],
    ) -> Array:
        """Return the weight of each source model of a warm start, given the results.

        Parameters
        ----------
        study : optuna.Study
            The study.
        model : CurveModel
            Its model, with k source models.
        known : Known
            What the model read from ``trials``.
        trials : sequence of optuna.trial.FrozenTrial
            Trials of the study.
        store : callable
            Receives newly fitted kernel parameters as JSON.

        Returns
        -------
        numpy.ndarray
            The weights (k,), 0 for a source model that is not used.
        """
        if self.is_single_fidelity(known):
            return self.single_fidelity(study, model, trials).weights
        return model.transfer_posterior(model.fitted(known, store), points_of(known.curves)).transfer.weights

    def is_single_fidelity(self, known: Known) -> bool:
        """Return whether no trial has more than one epoch.

        Parameters
        ----------
        known : Known
            What the model read from the trials.

        Returns
        -------
        bool
            True if the model without epochs applies.
        """
        return self._last_epoch in (None, 1) and all(len(curve.epochs) == 1 for curve in known.curves)

    def startup_point(self, encoding: Encoding, number: int) -> Array:
        """Return the point of the quasi-random sequence for one of the first trials.

        Parameters
        ----------
        encoding : Encoding
            Encoding of the d parameters.
        number : int
            Number of the trial, from 0.

        Returns
        -------
        numpy.ndarray
            A point (d,) of the unit cube, NaN where a parameter is inactive.
        """
        sequence = scipy.stats.qmc.Sobol(len(encoding), scramble=True, rng=self._seed)
        if number:
            sequence.fast_forward(number)
        unit_points = np.asarray(sequence.random(1))
        # every other start-up point is drawn from the user's prior, where there is one
        transformed = UserPrior(encoding, self._user_prior).transformed(unit_points) if number % 2 else unit_points
        return np.asarray(encoding.spread(transformed)[0])

    def _first_new(
        self, encoding: Encoding, unit_points: Array, taken: set[bytes], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Return the first configuration of ``unit_points`` that is allowed and not ``taken``.

        If there is none, uniform draws follow. If these give none either, it is the first allowed one.
        """
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
        raise optuna.exceptions.OptunaError(f"No allowed configuration was found in {N_DRAWS:,} random draws.")

    def _drawn(self, encoding: Encoding, rng: np.random.Generator) -> Iterator[Array]:
        for _ in range(N_DRAWS // 100):
            yield from encoding.spread(rng.random((100, len(encoding))))


def propose(
    model: CurveModel, known: Known, theta: Array, encoding: Encoding, weigh: Weigh, rng: np.random.Generator
) -> Array:
    """Return unit points (m, d) of ``encoding`` to try next, the most promising first."""
    end = model.end(known.curves)
    points = points_of(known.curves)
    posterior = model.posterior(theta, points)
    order = sorted(range(len(known.curves)), key=lambda i: (-known.curves[i].values[-1], i))
    compared = order[:N_COMPARED] + [i for i in order[N_COMPARED:] if known.curves[i].trial in known.running]
    x = np.stack([known.curves[i].x for i in compared])
    # compare configurations, not trials: a new trial does not repeat the random offset of an old one
    by_mean = np.argsort(-posterior.mean(x, end, new_trials(x)), kind="stable")
    if known.running:  # assume that running trials end as expected, so their neighbourhood gains less
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
    score = weigh(score, unit_points)
    if known.running:
        score = without_duplicates(score, features, pending_x, scales)
    if len(known.failed):
        succeeded = np.stack([curve.x for curve in known.curves])
        chance = chance_of_success(features, encoding.features(known.failed), succeeded, scales)
        score = without_failures(score, chance)
    return unit_points[np.argsort(-score, kind="stable")]
