"""The durable study: ask for a configuration, report its epochs, tell what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from aifs_tune._util.hashing import Hashes
from aifs_tune._util.object_store import below
from aifs_tune._util.scalars import Scalar
from aifs_tune._util.seeds import trial_seed
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, NotFoundError, RequestError, StorageBusyError
from aifs_tune.samplers.proposer import Proposer
from aifs_tune.samplers.transfer import SOURCE_TASKS, SourceTask
from aifs_tune.space.distributions import distributions_of
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage
from aifs_tune.study.advice import Recommendation, recommend
from aifs_tune.study.lease import MOST_LEASES, Lease, check_lease_s, check_name
from aifs_tune.study.ranking import front, ranked
from aifs_tune.study.results import Result, objectives_in, result_of, values_of
from aifs_tune.study.serialization import (
    CHANGE,
    EPOCH,
    FROM_OPTUNA,
    LEASE,
    LIMIT,
    SUPERSEDED,
    SWEEP,
    TO_OPTUNA,
    best_of,
    change_record,
    epoch_record,
    finite_or_none,
    is_overdue,
    lease_record,
    read_curve,
    read_progress,
    read_trial,
    read_weights_curve,
)
from aifs_tune.study.trial import (
    STATES,
    Change,
    Checkpoint,
    Measurement,
    State,
    ToldState,
    Trial,
    TrialProgress,
    check_transition,
)

if TYPE_CHECKING:
    import pandas


REQUESTED = "aifs_tune:requested"
DATA = "aifs_tune:data"
FACT = "aifs_tune:fact:"
NOISE = "noise"
"""Fact of a study: the noise floor that counts for it, ``sd``, ``freedom`` and the ``study`` that measured it."""


class StudyReading:
    """All trials of one question, in a storage, to look at; see :class:`~aifs_tune.study.study.Study`."""

    def __init__(self, storage: Storage, spec: SweepSpec, study: optuna.Study) -> None:
        self.storage = storage
        self.spec = spec
        self._optuna = study
        self._finished: dict[int, tuple[optuna.trial.FrozenTrial, Trial]] = {}

    @property
    def name(self) -> str:
        return self._optuna.study_name

    @property
    def id(self) -> int:
        """Its number in the storage."""
        return int(self._optuna._study_id)

    @property
    def trainer(self) -> str | None:
        """The name of its trainer; None for an instrument."""
        return None if self.spec.trainer is None else self.spec.trainer.name

    def trial(self, trial: Trial | int) -> Trial:
        """The trial as it is stored now; :class:`NotFoundError` if there is none of that number."""
        number = trial.number if isinstance(trial, Trial) else trial
        with translated_database_errors(self.storage.shown):
            return self._read_now(self.storage.optuna.get_trial(self._trial_id(number)))

    def all_trials(self) -> list[Trial]:
        """All trials in the order of their numbers."""
        return [self._read(frozen) for frozen in self._frozen()]

    def curve(self, trial: Trial | int) -> list[Measurement]:
        """What the trial reported, epoch by epoch."""
        number = trial.number if isinstance(trial, Trial) else trial
        return read_curve(self.storage.optuna.get_trial(self._trial_id(number)))

    def checkpoint(self, trial: Trial | int) -> Checkpoint | None:
        """The newest checkpoint of a trial that a report told of, or that of the trial it has taken over since."""
        current = self.trial(trial)
        written = [m for m in self.curve(current) if m.checkpoint is not None]
        if current.schedule:
            change = current.schedule[-1]
            taken = [m for m in self.curve(change.source) if m.epoch == change.epoch - 1 and m.checkpoint is not None]
            written = taken + [m for m in written if m.epoch >= change.epoch]
        return Checkpoint(written[-1].epoch, written[-1].checkpoint or {}) if written else None

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials as a tidy table; columns and dtypes in :mod:`aifs_tune.study.dataframe`."""
        from aifs_tune.study.dataframe import trials_table

        return trials_table(self.all_trials(), list(self.spec.space.root))

    @property
    def best(self) -> Trial:
        """The complete trial with the best value, of the first objective where there are several, by
        :mod:`aifs_tune.study.ranking`; :class:`NotFoundError` while there is none."""
        return self.best_trials(1)[0]

    def find_best(self) -> Trial | None:
        """:attr:`best`; None while there is none."""
        return next(iter(self._ranked()), None)

    @property
    def front(self) -> list[Trial]:
        """The complete trials that no other one is better than in all objectives, the best in the first objective
        first; of one objective those with the best value."""
        return front(self._ranked(), self.spec)

    def best_trials(self, top: int) -> list[Trial]:
        """Up to ``top`` complete trials, the best in the first objective first; earlier trials before later ones of
        equal value."""
        found = self._ranked()
        if not found:
            counts = ", ".join(f"{n} {state}" for state, n in self.counts().items() if n) or "none"
            within = f" within {', '.join(map(str, self.spec.limits))}" if self.spec.limits else ""
            raise NotFoundError(f"study {self.name!r} has no complete trial{within} yet; its trials: {counts}")
        return found[:top]

    def _ranked(self) -> list[Trial]:
        return ranked(self.all_trials(), self.spec)

    def recommendation(self) -> Recommendation:
        """Which configuration to take, and whether measuring on is worth it."""
        with translated_database_errors(self.storage.shown):
            return recommend(self.spec, self._optuna, self.all_trials(), self.noise_floor)

    def posterior_means(self) -> dict[int, float]:
        """By the number of each trial that ended well or was stopped early, what the sampler ``aifs`` expects it to be
        worth at the last epoch: larger is better, in no unit. Empty while too little is known, or with several
        objectives."""
        with translated_database_errors(self.storage.shown):
            return {} if self.spec.trade_off else Proposer(self.spec).posterior_means(self._optuna)

    def transfer_weights(self) -> dict[str, float]:
        """By each earlier study of its warm start, how far the results bear it out, about 0 to 1: 0 where they do
        not and it is dropped. Empty without a warm start and while too little is known."""
        with translated_database_errors(self.storage.shown):
            return Proposer(self.spec).transfer_weights(self._optuna)

    @property
    def noise_floor(self) -> tuple[float, int] | None:
        """The standard deviation of one measurement that ``aifs-tune noise`` found for this sweep, and its degrees of
        freedom; None where its last sweep knew of none."""
        told = self.fact(NOISE)
        return None if told is None else (float(told["sd"]), int(told["freedom"]))

    def trial_progress(self) -> list[TrialProgress]:
        """Of every trial, in the order of their numbers, how far it is."""
        now = self.storage.clock()
        return [read_progress(frozen, now) for frozen in self._frozen()]

    def objective_curves(self) -> dict[int, dict[int, float]]:
        """The first objective by epoch of each trial, by its number; of many trials sooner than their :meth:`curve`."""
        return {frozen.number: frozen.intermediate_values for frozen in self._frozen()}

    def importance(self) -> dict[str, dict[str, float]]:
        """By metric and parameter, what part of it depends on that; see :mod:`aifs_tune.study.importance`."""
        from aifs_tune.study.importance import importance_in

        with translated_database_errors(self.storage.shown):
            return importance_in(self._optuna, self.spec)

    def counts(self) -> dict[State, int]:
        """How many trials are in each state."""
        states = [FROM_OPTUNA[frozen.state] for frozen in self._frozen()]
        return {state: states.count(state) for state in STATES}

    @property
    def n_requested(self) -> int:
        """How many finished trials the sweeps so far were asked for."""
        return int(self._optuna.user_attrs.get(REQUESTED, 0))

    @property
    def fingerprint(self) -> str | None:
        """Of the data that the study is about; None before its first sweep, and where there are none."""
        found: str | None = self._optuna.user_attrs.get(DATA)
        return found

    def fact(self, name: str) -> Any:
        """The JSON value that was recorded under this name; None if none was."""
        return self._optuna.user_attrs.get(f"{FACT}{name}")

    @property
    def artifacts(self) -> Path | str:
        """The folder that holds checkpoints and weights of this study's trials, or its URL in an object store; it may
        not exist."""
        return below(self.storage.artifacts, f"study-{self.id}")

    def _frozen(self) -> list[optuna.trial.FrozenTrial]:
        with translated_database_errors(self.storage.shown):
            return self._optuna.get_trials(deepcopy=False)

    def _read(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        """As :func:`read_trial`; what is finished, and comes from the same memory, is read once."""
        found = self._finished.get(frozen.number)
        if found is not None and found[0] is frozen:
            return found[1]
        trial = self._read_now(frozen)
        if trial.is_finished:
            self._finished[frozen.number] = frozen, trial
        return trial

    def _read_now(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        return read_trial(frozen, self.spec.objectives, self.storage.clock())

    def _trial_id(self, number: int) -> int:
        try:
            return self.storage.optuna.get_trial_id_from_study_id_trial_number(self._optuna._study_id, number)
        except KeyError:
            raise NotFoundError(f"study {self.name!r} has no trial {number!r}") from None


LEADER = "aifs_tune:leader"
P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="StudyWriting")


def transactional(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Make all that a method of a study reads and writes one transaction; see :meth:`StudyWriting.transact`."""

    @wraps(method)
    def transacted(study: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return study.transact(lambda: method(study, *args, **kwargs))

    return transacted


class StudyWriting(StudyReading):
    """All trials of one question, in a storage, to be written to; see :class:`~aifs_tune.study.study.Study`."""

    def __init__(self, storage: Storage, spec: SweepSpec, study: optuna.Study) -> None:
        super().__init__(storage, spec, study)
        self._leader: str | None = None
        self._n_acquired = 0

    def transact(self, body: Callable[[], T]) -> T:
        """As :meth:`Storage.transact`, for this study.

        Raises
        ------
        StorageBusyError
            If this process led the study and another one has taken the lead since.
        """
        return self.storage.transact(partial(self._led, body), self.name)

    def _led(self, body: Callable[[], T]) -> T:
        if self._leader is not None and self._n_acquired != self.storage.n_acquired:
            if self._optuna.user_attrs.get(LEADER) != self._leader:
                raise StorageBusyError(
                    f"study {self.name!r} in {self.storage.shown} was taken over by another sweep while this one was "
                    "away or stopped; what this one had in flight is not stored"
                )
            self._n_acquired = self.storage.n_acquired
        return body()


class StudyLending(StudyWriting):
    """All trials of one question, in a storage, to be handed out; see :class:`~aifs_tune.study.study.Study`."""

    @transactional
    def renew(self, trial: Trial | int, lease_s: float | None = None) -> Trial:
        """Let the lease of a running trial begin anew, for ``lease_s`` or as long as it was; a trial that had none gets
        one. It is not overdue any more.

        Raises
        ------
        RequestError
            If the lease is too short or too long.
        ConflictError
            If the trial is not running, because it was superseded or ended, or has no lease and ``lease_s`` is None.
        """
        current = self._running(trial)
        lease = current.lease or Lease()
        length = lease.lease_s if lease_s is None else check_lease_s(lease_s)
        if length is None:
            raise ConflictError(f"trial {current.number} has no lease to renew; give one, such as 3d")
        self._set_lease(current.number, replace(lease, lease_s=length))
        return self.trial(current.number)

    def _new_lease(self, label: str | None, owner: str | None, lease_s: float | None) -> Lease | None:
        """What an asker said of itself; None if nothing."""
        if label is None and owner is None and lease_s is None:
            return None
        checked = None if lease_s is None else check_lease_s(lease_s)
        return Lease(check_name("label", label), check_name("owner", owner), checked)

    def _set_lease(self, number: int, lease: Lease | None, *, n_leases: int | None = None) -> None:
        """Note who has a trial from now on, None for nobody in particular; ``n_leases``, how often its configuration
        was handed out, stays what it was where it is None."""
        trial_id = self._trial_id(number)
        before = self.storage.optuna.get_trial(trial_id).system_attrs.get(LEASE)
        if lease is None:
            if before is not None:  # it waits again, and somebody else took it
                self.storage.optuna.set_trial_system_attr(trial_id, LEASE, None)
            return
        until = None if lease.lease_s is None else self.storage.clock() + lease.lease_s
        record = lease_record(lease, until, n_leases or (before or {}).get("n_leases", 1))
        self.storage.optuna.set_trial_system_attr(trial_id, LEASE, record)

    def _extend_lease(self, current: Trial) -> None:
        """What is reported shows that a trial is being measured: its lease begins anew."""
        if current.lease is not None and current.lease.lease_s is not None:
            self._set_lease(current.number, current.lease)

    def _incomplete(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those that are not complete, which are few of many: only of them is asked what became of them."""
        return [trial for trial in trials if trial.state is not TrialState.COMPLETE]

    def _next_overdue(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """The oldest trial to hand out again; None if any waits or none is overdue. One of which several leases ran out
        is left to whoever has it."""
        if any(trial.state is TrialState.WAITING for trial in trials):
            return None
        again = (t for t in self._overdue(trials) if t.system_attrs[LEASE]["n_leases"] < MOST_LEASES)
        return next(again, None)

    def _overdue(self, trials: Sequence[FrozenTrial]) -> Iterator[FrozenTrial]:
        now = self.storage.clock()
        return (t for t in trials if t.state is TrialState.RUNNING and is_overdue(t, now))

    def _supersede(self, old: FrozenTrial, number: int, lease: Lease | None) -> None:
        """End ``old``, whose configuration trial ``number`` has from now on."""
        n_leases = old.system_attrs[LEASE]["n_leases"] + 1
        self._set_lease(number, replace(lease or Lease(), supersedes=old.number), n_leases=n_leases)
        self.storage.optuna.set_trial_system_attr(old._trial_id, SUPERSEDED, number)
        reason = f"its lease ran out; superseded by trial {number}"
        self.storage.optuna.set_trial_user_attr(old._trial_id, "reason", reason)
        self.storage.optuna.set_trial_state_values(old._trial_id, TrialState.FAIL)

    def _not_pending(self, trials: Sequence[FrozenTrial]) -> frozenset[int]:
        """The trials that nobody is expected to measure: no proposal is to keep away from them."""
        superseded = [t for t in trials if t.state is TrialState.FAIL and SUPERSEDED in t.system_attrs]
        return frozenset(t.number for t in (*superseded, *self._overdue(trials)))

    def _running(self, trial: Trial | int) -> Trial:
        """The trial; :class:`ConflictError` unless it is running."""
        current = self.trial(trial)
        self._refuse_superseded(current)
        if current.state != "running":
            raise ConflictError(f"trial {current.number} is {current.state}; only a running trial can report")
        return current

    def _refuse_superseded(self, current: Trial) -> None:
        if current.superseded_by is not None:
            params = json.dumps(dict(current.params))
            raise ConflictError(
                f"trial {current.number} was superseded by trial {current.superseded_by} after its lease had run out; "
                f"nothing was stored. Keep what was measured as a trial of its own: attach it with the params {params}"
            )


SPEC = "aifs_tune:spec"


class Study(StudyLending):
    """All trials of one question, in a storage.

    Every write is one transaction that is on disk before the call returns. Made by
    :mod:`aifs_tune.study.open`.
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

        ``label``, ``owner`` and ``lease_s`` say who has it, see :class:`~aifs_tune.study.lease.Lease`. ``sweep``
        marks the
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
