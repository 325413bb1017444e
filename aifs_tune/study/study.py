"""Study: ask for a configuration, report its epochs, tell its result, and read what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, wraps
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from aifs_tune._util.float_errors import usual_float_errors
from aifs_tune._util.object_store import below
from aifs_tune._util.scalars import Scalar, brief
from aifs_tune._util.seeds import trial_seed
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, NotFoundError, RequestError, StorageError
from aifs_tune.samplers.masked import MaskedStudy
from aifs_tune.space.distributions import distributions_of
from aifs_tune.storage.session import translated_study_errors
from aifs_tune.storage.storage import Storage
from aifs_tune.study.failures import commonest_failure
from aifs_tune.study.foreign import QUEUED, UNREADABLE, problem_of, problem_of_queued
from aifs_tune.study.lease import Lease, check_lease_s, new_lease
from aifs_tune.study.leases import Leases
from aifs_tune.study.ranking import front, ranked
from aifs_tune.study.recommendation import Recommendation, recommend
from aifs_tune.study.results import Result, objectives_in, reported_metrics, result_of, values_of
from aifs_tune.study.schema import MAX_REASON, check_trial_attributes
from aifs_tune.study.serialization import (
    CANCELLED,
    EPOCH,
    FACT,
    FROM_OPTUNA,
    LIMIT,
    NOTICES,
    STUDY_NOTE,
    SWEEP,
    TO_OPTUNA,
    TRIAL_NOTES,
    epoch_record,
    finite_or_none,
    read_curve,
    read_marked,
    read_trial,
    read_weights_curve,
)
from aifs_tune.study.trial import STATES, Measurement, State, ToldState, Trial, check_transition
from aifs_tune.study.used_up import is_countable, used_up

if TYPE_CHECKING:
    import pandas

    from aifs_tune.samplers.proposer import Proposer

NOISE = "noise"
"""Fact of a study: the noise floor that counts for it, ``sd``, ``freedom`` and the ``study`` that measured it."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Study")


def transactional(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Make everything that a method of a study reads and writes one transaction."""

    @wraps(method)
    def transacted(study: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return study._transact(lambda: method(study, *args, **kwargs))

    return transacted


_MOST_NOTICES = 20
MAX_NOTE = 2_000
"""Largest length of a note in characters."""
MAX_BATCH = 1000
"""Maximum number of trials that are asked for at once."""


class Study:
    """Trials of one optimisation problem, kept in a storage.

    :func:`aifs_tune.open_study` starts or continues a study and :func:`aifs_tune.load_study` opens an existing one.
    Each method that writes is one transaction: it is on disk before the method returns.

    Parameters
    ----------
    storage
        Storage that holds the study.
    spec
        What the study optimises: its search space, objectives and search settings.
    study
        The Optuna study in that storage.

    Examples
    --------
    >>> space = {"heat": {"type": "float", "low": 600, "high": 1400, "unit": "K"}}
    >>> study = aifs_tune.open_study("furnace", space=space, storage="sqlite:///lab.db")
    >>> for _ in range(3):
    ...     trial = study.ask()
    ...     _ = study.tell(trial, -abs(trial.params["heat"] - 1000))
    >>> study.counts()["complete"]
    3
    >>> study.best.value == max(trial.value for trial in study.all_trials())
    True
    """

    def __init__(self, storage: Storage, spec: SweepSpec, study: optuna.Study) -> None:
        self.storage = storage
        self.spec = spec
        self._optuna = study
        self._finished: dict[int, tuple[FrozenTrial, Trial]] = {}
        self._problems: dict[int, tuple[FrozenTrial, str | None]] = {}
        self._leases = Leases(storage)

    @cached_property
    def _proposer(self) -> Proposer:
        """What proposes configurations, made at its first use."""
        return self._new_proposer()

    def _new_proposer(self) -> Proposer:
        from aifs_tune.samplers.proposer import Proposer  # loads SciPy, which reading a study does not need

        return Proposer(self.spec)

    @property
    def name(self) -> str:
        """Name of the study in its storage."""
        return self._optuna.study_name

    def _repr_html_(self) -> str:
        from aifs_tune.study.html import study_html

        return study_html(self)

    @property
    def trainer(self) -> str | None:
        """Name of the trainer; None for a study without one, such as an instrument's."""
        return None if self.spec.trainer is None else self.spec.trainer.name

    @property
    def artifacts(self) -> Path | str:
        """Folder of this study's checkpoints and weights, or its URL in an object store. It need not exist."""
        return below(self.storage.artifacts, f"study-{self._optuna._study_id}")

    # -- ask and tell -------------------------------------------------------------------------

    @transactional
    def ask(self, *, label: str | None = None, owner: str | None = None, lease_s: float | None = None) -> Trial:
        """Return the next trial to run. Its state is running.

        The oldest waiting trial comes first. If none waits, the oldest overdue trial is superseded by a new trial with
        its configuration. Otherwise the sampler proposes a new configuration.

        Parameters
        ----------
        label
            Name of the sample, 1 to 200 characters. Default: none.
        owner
            Name of the instrument or person that runs the trial, 1 to 200 characters. Default: none.
        lease_s
            Seconds until the trial is overdue, 1 to 31,622,400 (366 days). Default: it never is.

        Returns
        -------
        Trial
            The trial, with its ``params``.

        Raises
        ------
        RequestError
            If the label, the owner or the lease is not allowed.
        StorageBusyError
            If another process keeps the study locked.

        Examples
        --------
        >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
        >>> trial = study.ask(label="A-17", owner="furnace-2", lease_s=3 * 86_400)
        >>> trial.number, trial.state, trial.lease.label
        (0, 'running', 'A-17')
        """
        return self._ask(new_lease(label, owner, lease_s), sweep=None)

    @transactional
    def ask_batch(
        self,
        n_trials: int,
        *,
        labels: Sequence[str] = (),
        owner: str | None = None,
        lease_s: float | None = None,
    ) -> list[Trial]:
        """Return several trials to run at the same time.

        Each is proposed while those before it are pending, so that their configurations differ.

        Parameters
        ----------
        n_trials
            Number of trials, from 1 to 1,000.
        labels
            Names of the samples, one for each trial. Default: none.
        owner, lease_s
            As in :meth:`ask`.

        Returns
        -------
        list of Trial
            The trials, in state running.

        Raises
        ------
        RequestError
            If ``n_trials`` is out of range, there is not one label for each trial, or as :meth:`ask`.

        Examples
        --------
        >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
        >>> [trial.number for trial in study.ask_batch(3)]
        [0, 1, 2]
        """
        if not isinstance(n_trials, int) or isinstance(n_trials, bool) or not 1 <= n_trials <= MAX_BATCH:
            raise RequestError(f"n_trials: {n_trials!r} is not a number of trials; allowed: 1 to {MAX_BATCH}")
        named: Sequence[str | None] = labels or [None] * n_trials
        if len(named) != n_trials:
            raise RequestError(f"labels: {len(labels)} for {n_trials} trials; allowed: one for each, or none")
        return [self.ask(label=label, owner=owner, lease_s=lease_s) for label in named]

    @transactional
    def enqueue(self, params: Mapping[str, Scalar]) -> Trial:
        """Add a waiting trial with these parameters. :meth:`ask` returns it before any new proposal.

        Parameters
        ----------
        params
            A value for each parameter of the space.

        Returns
        -------
        Trial
            The new trial, in state waiting.

        Raises
        ------
        RequestError
            If the search space does not allow the parameters.

        Examples
        --------
        >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
        >>> study.enqueue({"heat": 900.0}).state
        'waiting'
        >>> study.ask().params
        {'heat': 900.0}
        """
        return self._enqueue(params, None)

    @transactional
    def renew(self, trial: Trial | int, lease_s: float | None = None) -> Trial:
        """Extend the lease of a running trial: it starts again now. An overdue trial is no longer overdue.

        Parameters
        ----------
        trial
            The trial or its number.
        lease_s
            New length of the lease in seconds, 1 to 31,622,400 (366 days). Default: the length that it had.

        Returns
        -------
        Trial
            The trial with its new lease.

        Raises
        ------
        NotFoundError
            If there is no such trial.
        RequestError
            If the lease is too short or too long.
        ConflictError
            If the trial is not running or was superseded, or if it has no lease and ``lease_s`` is not given.

        Examples
        --------
        >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
        >>> trial = study.ask(lease_s=3600)
        >>> study.renew(trial, 7200).lease.lease_s
        7200.0
        """
        current = self._running(trial)
        lease = current.lease or Lease()
        length = lease.lease_s if lease_s is None else check_lease_s(lease_s)
        if length is None:
            raise ConflictError(f"trial {current.number} has no lease to extend; give its length, such as 3d")
        self._leases.set(self._trial_id(current.number), replace(lease, lease_s=length))
        return self.trial(current.number)

    @transactional
    def report(
        self,
        trial: Trial | int,
        epoch: int,
        metrics: float | Mapping[str, float | None],
        *,
        seconds: float | None = None,
        worker: str | None = None,
    ) -> Trial:
        """Store the metrics of one epoch of a running trial.

        A second report of an epoch replaces the first. If the trial has a lease, the lease starts again.

        Parameters
        ----------
        trial
            The trial or its number.
        epoch
            Number of the epoch, from 1.
        metrics
            Metrics by name, with every objective as a finite number; or the value of the only objective.
        seconds
            Time spent on this epoch. Default: not known.
        worker
            Name of the process that runs the trial. Default: as before.

        Returns
        -------
        Trial
            The trial with its best epoch so far.

        Raises
        ------
        NotFoundError
            If there is no such trial.
        RequestError
            If an objective is missing or not finite, or if the epoch is below 1.
        ConflictError
            If the trial is not running.

        Examples
        --------
        >>> rate = {"type": "float", "low": 0.001, "high": 0.1}
        >>> study = aifs_tune.open_study("net", space={"rate": rate}, metric="accuracy")
        >>> trial = study.ask()
        >>> study.report(trial, 1, {"accuracy": 0.7, "loss": 0.9}).value
        0.7
        >>> study.report(trial, 2, {"accuracy": 0.6, "loss": 1.1}).epoch  # the best epoch so far
        1
        """
        return self._report(trial, Measurement(epoch, cast(Any, metrics), seconds), worker)

    @transactional
    def tell(
        self,
        trial: Trial | int,
        value: float | Mapping[str, float | None] | None = None,
        *,
        state: ToldState = "complete",
        reason: str | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Store the final result of a trial.

        A complete trial whose value is missing or not finite is stored as failed, with the reason. The first result
        stands; the same result again changes nothing.

        Parameters
        ----------
        trial
            The trial or its number.
        value
            The objective, or metrics by name that contain all objectives. Default: the best reported epoch.
        state
            ``complete``, ``pruned``, ``failed``, or ``infeasible`` for a trial that broke a limit and has no value.
        reason
            Why the trial was pruned or failed. Default: none.
        seconds
            Time spent on the trial. Default: the sum over its epochs.

        Returns
        -------
        Trial
            The finished trial.

        Raises
        ------
        NotFoundError
            If there is no such trial.
        RequestError
            If ``value`` is one number and the study has several objectives or limits, or if it has a metric of nearly
            the name of a needed one that is missing; nothing is stored.
        ConflictError
            If the trial has another final result already, or was superseded.

        Examples
        --------
        >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
        >>> study.tell(study.ask(), 0.8).state
        'complete'
        >>> study.tell(study.ask(), float("nan")).reason
        'value nan for value'
        >>> study.tell(study.ask(), state="failed", reason="the lid was open").state
        'failed'
        """
        return self._tell(trial, value, state, reason, {"seconds": seconds})

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
        """Store a result that was measured elsewhere, as a new trial.

        Parameters
        ----------
        params
            A value for each parameter of the space.
        value, state, reason, seconds
            As in :meth:`tell`.

        Returns
        -------
        Trial
            The new, finished trial.

        Raises
        ------
        RequestError
            If the search space does not allow the parameters, or as :meth:`tell`.

        Examples
        --------
        >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
        >>> study.attach({"heat": 950.0}, 0.7).state
        'complete'
        """
        number = self.enqueue(params).number
        self.storage.optuna.set_trial_state_values(self._trial_id(number), TO_OPTUNA["running"])
        return self.tell(number, value, state=state, reason=reason, seconds=seconds)

    @transactional
    def cancel(self, trial: Trial | int, reason: str = "cancelled") -> Trial:
        """Cancel a waiting or running trial: it becomes failed.

        The sampler learns nothing from it, and may propose its configuration again.

        Parameters
        ----------
        trial
            The trial or its number.
        reason
            Why it was cancelled. Default: ``cancelled``.

        Returns
        -------
        Trial
            The failed trial.

        Raises
        ------
        ConflictError
            If the trial has ended already.

        Examples
        --------
        >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
        >>> study.cancel(study.enqueue({"heat": 900.0}), "no sample left").reason
        'no sample left'
        """
        current = self.trial(trial)
        check_transition(current.number, current.state, "failed")
        return self._tell(current, None, "failed", reason, {CANCELLED: True})

    # -- notes --------------------------------------------------------------------------------

    @property
    def note(self) -> str | None:
        """What was noted of the study; None without a note."""
        told = self._attributes.get(f"{FACT}{STUDY_NOTE}")
        return told or None

    @property
    def trial_notes(self) -> dict[int, str]:
        """What was noted of trials, by their number."""
        told = self._attributes.get(f"{FACT}{TRIAL_NOTES}", {})
        return {int(number): text for number, text in sorted(told.items(), key=lambda entry: int(entry[0]))}

    @transactional
    def set_note(self, text: str, trial: Trial | int | None = None) -> None:
        """Note something of the study or of one of its trials, in place of an earlier note.

        Parameters
        ----------
        text
            The note, at most 2,000 characters. An empty text removes it.
        trial : Trial or int, optional
            The trial or its number. Default: the note is of the study.

        Raises
        ------
        NotFoundError
            If there is no such trial.
        RequestError
            If the note is too long.

        Examples
        --------
        >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
        >>> study.set_note("first run with the new crucible")
        >>> study.set_note("the lid was open", study.ask())
        >>> study.note, study.trial_notes
        ('first run with the new crucible', {0: 'the lid was open'})
        """
        if not isinstance(text, str) or len(text) > MAX_NOTE:
            raise RequestError(f"note: {brief(text)} is not a note; allowed: text of at most {MAX_NOTE:,} characters")
        if trial is None:
            self._optuna.set_user_attr(f"{FACT}{STUDY_NOTE}", text or None)
            return
        notes = {**self.trial_notes, self.trial(trial).number: text}
        self._optuna.set_user_attr(f"{FACT}{TRIAL_NOTES}", {str(n): each for n, each in notes.items() if each})

    # -- trials -------------------------------------------------------------------------------

    def trial(self, trial: Trial | int) -> Trial:
        """Return a trial as it is stored now.

        Parameters
        ----------
        trial
            The trial or its number.

        Returns
        -------
        Trial
            The stored trial.

        Raises
        ------
        NotFoundError
            If there is no such trial.
        """
        number = trial.number if isinstance(trial, Trial) else trial
        with translated_study_errors(self.storage.shown):
            return self._read_now(self.storage.optuna.get_trial(self._trial_id(number)))

    def all_trials(self) -> list[Trial]:
        """Return all trials in the order of their numbers.

        Returns
        -------
        list of Trial
            The trials in every state.
        """
        return [self._read(frozen) for frozen in self._frozen()]

    def curve(self, trial: Trial | int) -> list[Measurement]:
        """Return the learning curve of a trial: what it reported, epoch by epoch.

        Parameters
        ----------
        trial
            The trial or its number.

        Returns
        -------
        list of Measurement
            The reported epochs in their order; empty where none was reported.

        Raises
        ------
        NotFoundError
            If there is no such trial.
        """
        number = trial.number if isinstance(trial, Trial) else trial
        frozen = self.storage.optuna.get_trial(self._trial_id(number))
        return [] if self._problem(frozen) else read_curve(frozen)

    def counts(self) -> dict[State, int]:
        """Count the trials in each state.

        Returns
        -------
        dict
            Number of trials by state: complete, pruned, failed, running and waiting.
        """
        states = [FROM_OPTUNA[frozen.state] for frozen in self._frozen()]
        return {state: states.count(state) for state in STATES}

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials as a pandas table; its columns are listed in :mod:`aifs_tune.study.dataframe`."""
        from aifs_tune.study.dataframe import trials_table

        return trials_table(self.all_trials(), list(self.spec.space.root), self.trial_notes)

    @property
    def best(self) -> Trial:
        """Best complete trial, in the first objective where there are several. See :meth:`best_trials`."""
        return self.best_trials(1)[0]

    @property
    def front(self) -> list[Trial]:
        """Pareto front: the complete trials that no other trial beats in all objectives, the best in the first
        objective first. With one objective: the trials with the best value."""
        return front(self._ranked(), self.spec)

    def best_trials(self, top: int) -> list[Trial]:
        """Return the best complete trials, the best first.

        Trials are ranked by the first objective; of equal trials the earlier one comes first. Where configurations
        were repeated, they are ranked by their mean (:mod:`aifs_tune.study.ranking`).

        Parameters
        ----------
        top
            Largest number of trials to return.

        Returns
        -------
        list of Trial
            At least one trial.

        Raises
        ------
        NotFoundError
            If no trial is complete, or none is within the limits.
        """
        found = self._ranked()
        if not found:
            counts = ", ".join(f"{n} {state}" for state, n in self.counts().items() if n) or "none"
            within = f" within {', '.join(map(str, self.spec.limits))}" if self.spec.limits else ""
            why = commonest_failure(self.all_trials())
            raise NotFoundError(
                f"study {self.name!r} has no complete trial{within} yet; its trials: {counts}"
                + (f"; {why}" if why else "")
            )
        return found[:top]

    # -- models -------------------------------------------------------------------------------

    def recommendation(self) -> Recommendation:
        """Recommend a configuration, and whether to stop.

        Returns
        -------
        Recommendation
            The recommended trial, the expected gain of another trial, the noise, and whether to stop.
        """
        with translated_study_errors(self.storage.shown):
            return recommend(self.spec, self._counted(), self.all_trials(), self.noise_floor)

    def posterior_means(self) -> dict[int, float]:
        """Return what the model of the ``aifs`` sampler expects each trial to be worth at the last epoch.

        Returns
        -------
        dict
            Posterior mean by the number of each complete or pruned trial: larger is better, without a unit. Empty
            while too few results are known, or with several objectives.
        """
        with translated_study_errors(self.storage.shown):
            return {} if self.spec.trade_off else self._new_proposer().posterior_means(self._counted())

    def transfer_weights(self) -> dict[str, float]:
        """Return how much the sampler uses each earlier study of the warm start.

        Returns
        -------
        dict
            Weight by name of the earlier study, about 0 to 1; 0 where the results of this study contradict it. Empty
            without a warm start and while too few results are known.
        """
        with translated_study_errors(self.storage.shown):
            return self._new_proposer().transfer_weights(self._counted())

    @property
    def noise_floor(self) -> tuple[float, int] | None:
        """Standard deviation of one measurement that ``aifs-tune noise`` found, and its degrees of freedom; None if
        the last sweep knew of none."""
        told = self._attributes.get(f"{FACT}{NOISE}")
        return None if told is None else (float(told["sd"]), int(told["freedom"]))

    # -- inside -------------------------------------------------------------------------------

    def _transact(self, body: Callable[[], T]) -> T:
        """Run ``body`` as one transaction on this study; see :meth:`Storage.transact`."""
        return self.storage.transact(body, self.name, check=self._check_file)

    def _check_file(self) -> None:
        """As :meth:`Storage.check_file`; what this process has of the study is written to a file before it raises."""
        try:
            self.storage.check_file()
        except StorageError as error:
            from aifs_tune.study.rescue import rescued

            raise StorageError(f"{error}. {rescued(self)}") from error

    def _ask(self, lease: Lease | None, sweep: str | None) -> Trial:
        self._refuse_queued()
        trials = self._optuna.get_trials(deepcopy=False)
        marked = self._marked(trials)
        # most trials of a long study are complete; leases concern the few others
        incomplete = [t for t in trials if t.state is not TrialState.COMPLETE and t.number not in marked]
        overdue = self._leases.next_overdue(incomplete)
        if overdue is not None:
            self._enqueue(self.spec.space.loaded(overdue.params), None)
        self._optuna.sampler = self._proposer.sampler(len(trials), masked=self._leases.not_pending(incomplete) | marked)
        with usual_float_errors():
            asked = self._optuna.ask()
            params = self.spec.space.suggest(asked)
        queued = QUEUED in self.storage.optuna.get_trial(asked._trial_id).system_attrs
        if queued and not self.spec.allows(params):
            self._fail(asked._trial_id, f"another program queued it, and {self._refusal(params)}")
            return self._ask(lease, sweep)
        if "seed" not in asked.user_attrs:
            asked.set_user_attr("seed", trial_seed(self.spec.search.seed, asked.number))
            for _ in range(self.spec.search.replicates - 1):
                self._enqueue(params, None)
            self._notice_used_up(params)
        self.storage.optuna.set_trial_system_attr(asked._trial_id, SWEEP, sweep)
        if overdue is not None:
            self._leases.supersede(overdue, asked._trial_id, asked.number, lease)
        else:
            self._leases.set(asked._trial_id, lease)
        return self.trial(asked.number)

    def _notice_used_up(self, params: Mapping[str, Scalar]) -> None:
        """Add a notice when a proposal repeats a configuration for the first time since all were tried."""
        if not is_countable(self.spec):
            return
        known = [trial.coded_params for trial in self.all_trials()]
        if known.count(dict(params)) < 2:
            return
        text = used_up(self.spec, self.all_trials())
        if text is not None and all(notice["text"] != text for notice in self._notices):
            self._add_notice(text)

    @property
    def _notices(self) -> list[dict[str, str]]:
        found = self._attributes.get(f"{FACT}{NOTICES}")
        stored = found if isinstance(found, list) else []
        return [{"at": str(each["at"]), "text": str(each["text"])} for each in stored if _is_notice(each)]

    def _add_notice(self, text: str) -> None:
        notice = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "text": text}
        self._optuna.set_user_attr(f"{FACT}{NOTICES}", [*self._notices, notice][-_MOST_NOTICES:])

    def _refuse_queued(self) -> None:
        """End each waiting trial that another program queued and the study does not allow, with the reason."""
        for frozen in self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            if (problem := problem_of_queued(frozen, self.spec)) is not None:
                self._fail(frozen._trial_id, problem)

    def _refusal(self, params: Mapping[str, Scalar]) -> str:
        try:
            self.spec.check_params(params)
        except RequestError as error:
            return str(error)
        return "its configuration is not allowed"

    def _fail(self, trial_id: int, reason: str) -> None:
        self.storage.optuna.set_trial_user_attr(trial_id, "reason", reason)
        self.storage.optuna.set_trial_state_values(trial_id, TrialState.FAIL)

    def _enqueue(self, params: Mapping[str, Scalar], seed: int | None) -> Trial:
        checked = self.spec.check_params(params)
        waiting = optuna.trial.create_trial(
            state=optuna.trial.TrialState.WAITING,
            params=self.spec.space.stored(checked),
            distributions=distributions_of(self.spec.space, checked),
        )
        trial_id = self.storage.optuna.create_new_trial(self._optuna._study_id, waiting)
        number = self.storage.optuna.get_trial(trial_id).number
        own = trial_seed(self.spec.search.seed, number) if seed is None else seed
        self.storage.optuna.set_trial_user_attr(trial_id, "seed", own)
        return self.trial(number)

    def _report(
        self, trial: Trial | int, measured: Measurement, worker: str | None, *, is_partial: bool = False
    ) -> Trial:
        current, epoch = self._running(trial), measured.epoch
        given: Any = epoch
        if isinstance(given, bool) or not isinstance(given, Integral) or int(given) < 1:
            raise RequestError(f"trial {current.number}: epoch {brief(given)} is not an epoch; allowed: 1, 2, ...")
        metrics = reported_metrics(measured.metrics, self.spec.objectives, current.number)
        measured = replace(measured, epoch=int(epoch), metrics=metrics)
        epoch = measured.epoch
        is_unmeasured = is_partial and measured.metrics.get(self.spec.objective.metric, 0.0) is None
        values = [] if is_unmeasured else objectives_in(measured.metrics, self.spec.objectives, current.number)
        trial_id = self._trial_id(current.number)
        record = epoch_record(measured.metrics, measured.seconds, measured.checkpoint)
        told = {} if worker is None or worker == current.worker else {"worker": worker}
        _check_told(current.number, told, {f"{EPOCH}{epoch:05d}": record})
        self.storage.optuna.set_trial_system_attr(trial_id, f"{EPOCH}{epoch:05d}", record)
        if values:
            self.storage.optuna.set_trial_intermediate_value(trial_id, epoch, values[0])
        if current.lease is not None and current.lease.lease_s is not None:
            self._leases.set(trial_id, current.lease)  # who reports is at work: the lease starts again
        for key, entry in told.items():
            self.storage.optuna.set_trial_user_attr(trial_id, key, entry)
        return self.trial(current.number)

    def _tell(
        self,
        trial: Trial | int,
        value: float | Mapping[str, float | None] | None,
        state: ToldState,
        reason: str | None,
        beside: Mapping[str, Any],
    ) -> Trial:
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
                f"the first result stands, and {result.state} with value {_listed(result.values)} was not stored"
            )
        check_transition(current.number, current.state, result.state)
        self._store_result(current, result, beside)
        return self.trial(current.number)

    def _store_result(self, current: Trial, result: Result, beside: Mapping[str, Any]) -> None:
        trial_id = self._trial_id(current.number)
        told = {
            "metrics": finite_or_none(result.metrics) or None,
            "epochs": current.epochs or None,
            "reason": result.reason and result.reason[:MAX_REASON],
            "feasible": result.feasible,
            **beside,
        }
        summary = {key: entry for key, entry in told.items() if entry is not None}
        excess = {f"{LIMIT}{limit}": by for limit, by in result.excess.items()}
        _check_told(current.number, summary, excess)
        for key, entry in summary.items():
            self.storage.optuna.set_trial_user_attr(trial_id, key, entry)
        for key, entry in excess.items():
            self.storage.optuna.set_trial_system_attr(trial_id, key, entry)
        self.storage.optuna.set_trial_state_values(trial_id, TO_OPTUNA[result.state], result.values or None)

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
                f"nothing was stored. To keep the result, attach it as a new trial with the params {params}"
            )

    def _ranked(self) -> list[Trial]:
        return ranked(self.all_trials(), self.spec)

    def _frozen(self) -> list[FrozenTrial]:
        self.storage.check_file()
        with translated_study_errors(self.storage.shown):
            return self._optuna.get_trials(deepcopy=False)

    def _read(self, frozen: FrozenTrial) -> Trial:
        """As :func:`read_trial`; a finished trial from the same cached storage is read once."""
        found = self._finished.get(frozen.number)
        if found is not None and found[0] is frozen:
            return found[1]
        trial = self._read_now(frozen)
        if trial.is_finished:
            self._finished[frozen.number] = frozen, trial
        return trial

    def _read_now(self, frozen: FrozenTrial) -> Trial:
        problem = self._problem(frozen)
        if problem is None:
            try:
                return read_trial(frozen, self.spec, self.storage.clock())
            except UNREADABLE as error:
                problem = f"another program wrote attributes that cannot be read ({type(error).__name__}: {error})"
                self._problems[frozen.number] = frozen, problem
        return read_marked(frozen, problem)

    def _problem(self, frozen: FrozenTrial) -> str | None:
        """What is wrong with a trial that another program wrote; None if it counts."""
        found = self._problems.get(frozen.number)
        if found is not None and found[0] is frozen:
            return found[1]
        earlier = found[0] if found is not None and found[1] is None else None
        problem = problem_of(frozen, self.spec, earlier)
        self._problems[frozen.number] = frozen, problem
        return problem

    def _marked(self, trials: Sequence[FrozenTrial]) -> frozenset[int]:
        """Numbers of the trials that count for nothing: another program's that are not allowed, and cancelled ones."""
        return frozenset(t.number for t in trials if self._problem(t) is not None or t.user_attrs.get(CANCELLED))

    def _counted(self) -> optuna.Study:
        """The study in Optuna without the trials that count for nothing."""
        marked = self._marked(self._frozen())
        return MaskedStudy(self._optuna, marked) if marked else self._optuna

    def _trial_id(self, number: int) -> int:
        try:
            return self.storage.optuna.get_trial_id_from_study_id_trial_number(self._optuna._study_id, number)
        except KeyError:
            with translated_study_errors(self.storage.shown):
                self.storage.rdb.get_study_name_from_id(self._optuna._study_id)  # raises if the study was deleted
            raise NotFoundError(f"study {self.name!r} has no trial {number!r}") from None

    @property
    def _attributes(self) -> dict[str, Any]:
        """The attributes of the study, as they are stored now."""
        with translated_study_errors(self.storage.shown):
            return self._optuna.user_attrs


def _is_notice(stored: object) -> bool:
    """Whether it is one, and not what another program put there."""
    return isinstance(stored, dict) and {"at", "text"} <= set(stored)


def _check_told(number: int, user: Mapping[str, Any], system: Mapping[str, Any]) -> None:
    """Refuse what a reader of the study would not take."""
    try:
        check_trial_attributes(user, system, f"trial {number}")
    except ValueError as error:
        raise RequestError(str(error)) from None


def _listed(values: Sequence[float]) -> str:
    return ", ".join(map(str, values)) or "None"
