"""The durable study: ask for a configuration, report its epochs, tell what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from aifs_tune.errors import ConflictError, RequestError
from aifs_tune.hashes import Hashes
from aifs_tune.record import (
    CHANGE,
    EPOCH,
    FROM_OPTUNA,
    LIMIT,
    SWEEP,
    TO_OPTUNA,
    best_of,
    change_record,
    distributions_of,
    epoch_record,
    finite_or_none,
    read_weights_curve,
)
from aifs_tune.results import Result, objectives_in, result_of, values_of
from aifs_tune.sampling import SOURCE_TASKS, Proposer, SourceTask
from aifs_tune.seeds import trial_seed
from aifs_tune.space import Scalar
from aifs_tune.spec import SweepSpec
from aifs_tune.storage import Storage
from aifs_tune.study_lending import StudyLending
from aifs_tune.study_reading import DATA, FACT, REQUESTED
from aifs_tune.study_writing import LEADER, transactional
from aifs_tune.trial import Change, ToldState, Trial, check_transition

SPEC = "aifs_tune:spec"


class Study(StudyLending):
    """All trials of one question, in a storage.

    Every write is one transaction that is on disk before the call returns. Made by
    :mod:`aifs_tune.studies`.
    """

    def __init__(self, storage: Storage, spec: SweepSpec, study: optuna.Study) -> None:
        super().__init__(storage, spec, study)
        self._proposer = Proposer(spec)

    # -- asking and telling -------------------------------------------------------------------

    @transactional
    def ask(
        self,
        *,
        label: str | None = None,
        owner: str | None = None,
        lease_s: float | None = None,
        sweep: str | None = None,
    ) -> Trial:
        """The next trial to run: the oldest waiting one, else the configuration of the oldest overdue one, as a new
        trial that supersedes it, else a new proposal. It is running when this returns.

        ``label``, ``owner`` and ``lease_s`` say who has it, see :class:`~aifs_tune.loan.Lease`. ``sweep`` marks the
        sweep that runs it; None for an instrument, whose trial no sweep takes over.
        """
        lease, trials = self._new_lease(label, owner, lease_s), self._optuna.get_trials(deepcopy=False)
        unsettled = self._incomplete(trials)
        overdue = self._next_overdue(unsettled)
        if overdue is not None:
            self.enqueue(overdue.params)
        self._optuna.sampler = self._proposer.sampler(len(trials), masked=self._not_pending(unsettled))
        asked = self._optuna.ask()
        self.spec.space.suggest(asked)
        if "seed" not in asked.user_attrs:
            asked.set_user_attr("seed", trial_seed(self.spec.search.seed, asked.number))
            for _ in range(self.spec.search.replicates - 1):
                self.enqueue(asked.params)
        self.storage.optuna.set_trial_system_attr(asked._trial_id, SWEEP, sweep)
        if overdue is not None:
            self._supersede(overdue, asked.number, lease)
        else:
            self._set_lease(asked.number, lease)
        return self.trial(asked.number)

    @transactional
    def ask_batch(
        self,
        n_trials: int,
        *,
        labels: Sequence[str] = (),
        owner: str | None = None,
        lease_s: float | None = None,
    ) -> list[Trial]:
        """The next trials to run, each proposed while those before it are pending, so that they differ; ``labels`` has
        one for each of them, or none at all."""
        named: Sequence[str | None] = labels or [None] * n_trials
        if len(named) != n_trials:
            raise RequestError(f"labels: {len(labels)} for {n_trials} trials; allowed: one for each, or none")
        return [self.ask(label=label, owner=owner, lease_s=lease_s) for label in named]

    @transactional
    def enqueue(self, params: Mapping[str, Scalar], *, seed: int | None = None) -> Trial:
        """Add a waiting trial with these parameters; it is asked for before any new proposal. ``seed`` is that of a
        trial which is to be run again; None for its own."""
        checked = self.spec.check_params(params)
        self._optuna.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.WAITING,
                params=checked,
                distributions=distributions_of(self.spec.space, checked),
            )
        )
        number = len(self._optuna.get_trials(deepcopy=False)) - 1
        own = trial_seed(self.spec.search.seed, number) if seed is None else seed
        self.storage.optuna.set_trial_user_attr(self._trial_id(number), "seed", own)
        return self.trial(number)

    @transactional
    def report(
        self,
        trial: Trial | int,
        epoch: int,
        metrics: Mapping[str, float | None],
        *,
        seconds: float | None = None,
        worker: str | None = None,
        checkpoint: Hashes | None = None,
    ) -> Trial:
        """Store the measurement of one epoch of a running trial, with the hashes of the ``checkpoint`` that was written
        after it; the same epoch again replaces it. If the trial has a lease, that begins anew.

        Raises
        ------
        RequestError
            If an objective is missing or not finite, or the epoch is below 1.
        ConflictError
            If the trial is not running.
        """
        current = self._running(trial)
        if epoch < 1:
            raise RequestError(f"trial {current.number}: epoch {epoch!r} is not an epoch; allowed: 1, 2, ...")
        value = objectives_in(metrics, self.spec.objectives, current.number)[0]
        trial_id = self._trial_id(current.number)
        record = epoch_record(metrics, seconds, checkpoint)
        self.storage.optuna.set_trial_system_attr(trial_id, f"{EPOCH}{epoch:05d}", record)
        self.storage.optuna.set_trial_intermediate_value(trial_id, epoch, value)
        self._extend_lease(current)
        if worker is not None and worker != current.worker:
            self.storage.optuna.set_trial_user_attr(trial_id, "worker", worker)
        return self.trial(current.number)

    @transactional
    def tell(
        self,
        trial: Trial | int,
        value: float | Mapping[str, float | None] | None = None,
        *,
        state: ToldState = "complete",
        reason: str | None = None,
        seconds: float | None = None,
        weights: Hashes | None = None,
    ) -> Trial:
        """Store the final result of a trial, with the hashes of the ``weights`` that it has written.

        ``value`` is the objective, or metrics that contain it, or all objectives where there are several; None
        takes the best reported epoch. A value that is missing or not finite makes the trial failed, with the
        reason. The state ``infeasible`` says that it broke a limit and has no value. Telling the same again changes
        nothing.

        Raises
        ------
        RequestError
            If one number is told of several objectives.
        ConflictError
            If the trial has another final result already: the first one stands. If it was superseded.
        """
        current = self.trial(trial)
        result = result_of(
            current,
            value,
            state=state,
            reason=reason,
            curve=read_weights_curve(self.storage.optuna.get_trial(self._trial_id(current.number))),
            objectives=self.spec.objectives,
            limits=self.spec.limits,
        )
        if current.is_finished:
            if result.is_that_of(current):
                return current
            self._refuse_superseded(current)
            raise ConflictError(
                f"trial {current.number} is {current.state} with value {_listed(values_of(current))}; "
                f"the first result stands, {result.state} with value {_listed(result.values)} was not stored"
            )
        check_transition(current.number, current.state, result.state)
        self._store_result(current, result, {"seconds": seconds, "weights": weights and dict(weights)})
        return self.trial(current.number)

    @transactional
    def attach(
        self,
        params: Mapping[str, Scalar],
        value: float | Mapping[str, float | None] | None = None,
        *,
        state: ToldState = "complete",
        reason: str | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Store what was measured elsewhere with these parameters, as a trial of its own; see :meth:`tell`."""
        number = self.enqueue(params).number
        self.storage.optuna.set_trial_state_values(self._trial_id(number), TO_OPTUNA["running"])
        return self.tell(number, value, state=state, reason=reason, seconds=seconds)

    @transactional
    def continuation_value(self, trial: Trial | int, epoch: int, value: float) -> float | None:
        """What an epoch more of a running trial, with this objective at its next ``epoch``, is expected to gain, in
        parts of what an epoch of a new configuration would, by the model of configurations and epochs; infinite for
        the trial that is expected to end highest, None while too little is known. The value is not stored.

        Raises
        ------
        ConflictError
            If the trial is not running.
        """
        current = self._running(trial)
        frozen = self.storage.optuna.get_trial(self._trial_id(current.number))
        return self._proposer.continuation_value(self._optuna, frozen, {**frozen.intermediate_values, epoch: value})

    @transactional
    def change(self, trial: Trial | int, *, epoch: int, params: Mapping[str, Scalar], source: Trial | int) -> Trial:
        """Store that a running trial trains with ``params`` from ``epoch`` on, from the weights that another trial,
        ``source``, had before it. The same change again changes nothing.

        Raises
        ------
        RequestError
            If the parameters are not allowed, ``source`` has not measured the epoch before, or the trial changed at
            this epoch or later already; ConflictError if the trial is not running.
        """
        current, donor = self._running(trial), self.trial(source)
        wanted = Change(epoch, self.spec.check_params(params), donor.number)
        if wanted in current.schedule:
            return current
        frozen = self.storage.optuna.get_trial(self._trial_id(donor.number))
        earlier = current.schedule[-1].epoch if current.schedule else 1
        if donor.number == current.number or epoch <= earlier or epoch - 1 not in frozen.intermediate_values:
            what = f"trial {current.number} cannot go on from trial {donor.number} at epoch {epoch}"
            raise RequestError(f"{what}; allowed: another trial that measured the epoch before, after epoch {earlier}")
        record = change_record(wanted.params, donor.number, best_of(read_weights_curve(frozen), self.spec.objective))
        self.storage.optuna.set_trial_system_attr(self._trial_id(current.number), f"{CHANGE}{epoch:05d}", record)
        return self.trial(current.number)

    @transactional
    def requeue(self, trial: Trial | int) -> Trial:
        """Put a running trial back to waiting, with its parameters, seed and reported epochs."""
        current = self.trial(trial)
        check_transition(current.number, current.state, "waiting")
        self.storage.optuna.set_trial_state_values(self._trial_id(current.number), TO_OPTUNA["waiting"])
        return self.trial(current.number)

    @transactional
    def take_lead(self, leader: str) -> list[Trial]:
        """Record that the sweep ``leader`` runs the study from now on, and put back every trial that an earlier one
        left running; an earlier one that is not dead is refused when it comes back.

        Only a process that keeps the writer lock until its sweep ends may do that: call it under
        :meth:`Storage.writing`.
        """
        self._optuna.set_user_attr(LEADER, leader)
        self._leader, self._n_acquired = leader, self.storage.n_acquired
        orphans = [
            frozen.number
            for frozen in self._frozen()
            if FROM_OPTUNA[frozen.state] == "running" and frozen.system_attrs.get(SWEEP)
        ]
        return [self.requeue(number) for number in orphans]

    @transactional
    def request_trials(self, n_trials: int) -> None:
        """Record that the study is to have ``n_trials`` finished trials in all."""
        self._optuna.set_user_attr(REQUESTED, n_trials)

    def replace_spec(self, spec: SweepSpec) -> None:
        """Record ``spec`` as what the study asks from now on; its space and objective stay what they were."""
        self.transact(lambda: self._optuna.set_user_attr(SPEC, spec.model_dump(mode="json")))
        self.spec, self._proposer = spec, Proposer(spec)

    @transactional
    def record_fact(self, name: str, value: Any) -> None:
        """Store a JSON value that :meth:`fact` gives back."""
        self._optuna.set_user_attr(f"{FACT}{name}", value)

    @transactional
    def set_source_tasks(self, source_tasks: Sequence[SourceTask]) -> None:
        """Record what the sampler learns from earlier studies from now on."""
        self._optuna.set_user_attr(SOURCE_TASKS, [each.to_json() for each in source_tasks if each.params])
        self._proposer = Proposer(self.spec)

    @transactional
    def match_data(self, fingerprint: str | None) -> None:
        """Record what data the study is about; :class:`ConflictError` if it was other data before."""
        recorded = self.fingerprint
        if recorded is not None and recorded != fingerprint:
            raise ConflictError(
                f"study {self.name!r} was run on other data (fingerprint {recorded[:12]}, now "
                f"{(fingerprint or 'none')[:12]}): its content, labels or split changed; start a new study with --study"
            )
        if recorded is None and fingerprint is not None:
            self._optuna.set_user_attr(DATA, fingerprint)

    # -- inside -------------------------------------------------------------------------------

    def _store_result(self, current: Trial, result: Result, beside: Mapping[str, Any]) -> None:
        trial_id = self._trial_id(current.number)
        summary = {
            "metrics": finite_or_none(result.metrics) or None,
            "epochs": current.epochs or None,
            "reason": result.reason,
            "feasible": result.feasible,
            **beside,
        }
        for key, entry in summary.items():
            if entry is not None:
                self.storage.optuna.set_trial_user_attr(trial_id, key, entry)
        for limit, excess in result.excess.items():
            self.storage.optuna.set_trial_system_attr(trial_id, f"{LIMIT}{limit}", excess)
        self.storage.optuna.set_trial_state_values(trial_id, TO_OPTUNA[result.state], result.values or None)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(map(str, values)) or "None"
