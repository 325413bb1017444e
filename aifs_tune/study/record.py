"""StudyRecord: a study as sweeps, the service, bundles and analyses use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import optuna

from aifs_tune._util.hashing import Hashes
from aifs_tune._util.scalars import Scalar, decoded_params
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, RequestError, StorageBusyError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.lease import new_lease
from aifs_tune.study.serialization import (
    ARCHIVED,
    CHANGE,
    DATA,
    FACT,
    FROM_OPTUNA,
    LEADER,
    REQUESTED,
    SPEC,
    SWEEP,
    TO_OPTUNA,
    best_of,
    change_record,
    read_progress,
    read_weights_curve,
)
from aifs_tune.study.study import Study, transactional
from aifs_tune.study.trial import Change, Checkpoint, Measurement, ToldState, Trial, TrialProgress, check_transition

if TYPE_CHECKING:
    from aifs_tune.samplers.transfer import SourceTask

T = TypeVar("T")

_MOST_NOTICES = 20


class StudyRecord(Study):
    """A study with everything that the package stores in it: facts, the data's fingerprint, requested trials, changes.

    :func:`~aifs_tune.study.index.get_study` and :func:`~aifs_tune.study.open.start_study` return one. Users get a
    plain :class:`~aifs_tune.study.study.Study`; see :meth:`as_study` and :func:`record_of`.
    """

    def __init__(self, storage: Storage, spec: SweepSpec, study: optuna.Study) -> None:
        super().__init__(storage, spec, study)
        self._leader: str | None = None
        self._n_acquired = 0

    def as_study(self) -> Study:
        """The same study with the user's methods alone; it shares storage and Optuna study with this one."""
        study = Study(self.storage, self.spec, self._optuna)
        study._finished = self._finished
        return study

    @property
    def id(self) -> int:
        """Number of the study in its storage."""
        return int(self._optuna._study_id)

    # -- transactions and the lead ------------------------------------------------------------

    def transact(self, body: Callable[[], T]) -> T:
        """Run ``body`` as one transaction on this study; see :meth:`Storage.transact`.

        Raises
        ------
        StorageBusyError
            If this process led the study and another one has taken the lead since.
        """
        return self._transact(body)

    def _transact(self, body: Callable[[], T]) -> T:
        return self.storage.transact(partial(self._led, body), self.name, check=self._check_file)

    def _led(self, body: Callable[[], T]) -> T:
        if self._leader is not None and self._n_acquired != self.storage.n_acquired:
            if self._attributes.get(LEADER) != self._leader:
                raise StorageBusyError(
                    f"study {self.name!r} in {self.storage.shown} was taken over by another sweep while this sweep was "
                    "disconnected or stopped; results of its running trials are not stored"
                )
            self._n_acquired = self.storage.n_acquired
        return body()

    @transactional
    def take_lead(self, leader: str) -> list[Trial]:
        """Record that the sweep ``leader`` runs the study from now on, and requeue the trials that an earlier sweep
        left running. An earlier sweep that comes back is refused.

        Call it under :meth:`Storage.writing`, by a process that keeps the writer lock until its sweep ends.
        """
        self._optuna.set_user_attr(LEADER, leader)
        self._leader, self._n_acquired = leader, self.storage.n_acquired
        orphans = [
            frozen.number
            for frozen in self._frozen()
            if FROM_OPTUNA[frozen.state] == "running" and isinstance(frozen.system_attrs.get(SWEEP), str)
        ]
        return [self.requeue(number) for number in orphans]

    # -- trials of a sweep --------------------------------------------------------------------

    @transactional
    def ask(
        self,
        *,
        label: str | None = None,
        owner: str | None = None,
        lease_s: float | None = None,
        sweep: str | None = None,
    ) -> Trial:
        """As :meth:`Study.ask`. ``sweep`` names the sweep that runs the trial; :meth:`take_lead` requeues those."""
        return self._ask(new_lease(label, owner, lease_s), sweep)

    @transactional
    def enqueue(self, params: Mapping[str, Scalar], *, seed: int | None = None) -> Trial:
        """As :meth:`Study.enqueue`. ``seed`` is the seed of a trial that is run again; None for a new one."""
        return self._enqueue(params, seed)

    @transactional
    def report(
        self,
        trial: Trial | int,
        epoch: int,
        metrics: float | Mapping[str, float | None],
        *,
        seconds: float | None = None,
        worker: str | None = None,
        checkpoint: Hashes | None = None,
    ) -> Trial:
        """As :meth:`Study.report`, but one objective may be None: an epoch that did not measure it.

        ``checkpoint`` has the hashes of the checkpoint that was written after the epoch.
        """
        return self._report(trial, Measurement(epoch, cast(Any, metrics), seconds, checkpoint), worker, is_partial=True)

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
        notes: Mapping[str, Any] | None = None,
    ) -> Trial:
        """As :meth:`Study.tell`. ``weights`` has the hashes of the weights that the trial wrote, ``notes`` what it said
        beside numbers."""
        beside = {"seconds": seconds, "weights": weights and dict(weights), "notes": dict(notes or {}) or None}
        return self._tell(trial, value, state, reason, beside)

    @transactional
    def requeue(self, trial: Trial | int) -> Trial:
        """Put a running trial back to waiting, with its parameters, seed and reported epochs."""
        current = self.trial(trial)
        check_transition(current.number, current.state, "waiting")
        self.storage.optuna.set_trial_state_values(self._trial_id(current.number), TO_OPTUNA["waiting"])
        return self.trial(current.number)

    @transactional
    def change(self, trial: Trial | int, *, epoch: int, params: Mapping[str, Scalar], source: Trial | int) -> Trial:
        """Record that a running trial trains with ``params`` from ``epoch`` on, from the weights that trial ``source``
        had before that epoch. The same change again changes nothing.

        Raises
        ------
        RequestError
            If the parameters are not allowed, if ``source`` has not measured the epoch before, or if the trial changed
            at this epoch or later already.
        ConflictError
            If the trial is not running.
        """
        current, donor = self._running(trial), self.trial(source)
        wanted = Change(epoch, decoded_params(self.spec.check_params(params)), donor.number)
        if wanted in current.schedule:
            return current
        frozen = self.storage.optuna.get_trial(self._trial_id(donor.number))
        earlier = current.schedule[-1].epoch if current.schedule else 1
        if donor.number == current.number or epoch <= earlier or epoch - 1 not in frozen.intermediate_values:
            what = f"trial {current.number} cannot continue from trial {donor.number} at epoch {epoch}"
            raise RequestError(
                f"{what}; allowed: a trial that has measured the epoch before, and an epoch after {earlier}"
            )
        record = change_record(wanted.params, donor.number, best_of(read_weights_curve(frozen), self.spec.objective))
        self.storage.optuna.set_trial_system_attr(self._trial_id(current.number), f"{CHANGE}{epoch:05d}", record)
        return self.trial(current.number)

    @transactional
    def continuation_value(self, trial: Trial | int, epoch: int, value: float) -> float | None:
        """Expected improvement of one more epoch of a running trial, relative to one epoch of a new configuration.

        ``value`` is the first objective at ``epoch``, the trial's next one; it is not stored. Infinite for the trial
        that is expected to end best, None while too few results are known.

        Raises
        ------
        ConflictError
            If the trial is not running.
        """
        current = self._running(trial)
        frozen = self.storage.optuna.get_trial(self._trial_id(current.number))
        return self._proposer.continuation_value(self._counted(), frozen, {**frozen.intermediate_values, epoch: value})

    def checkpoint(self, trial: Trial | int) -> Checkpoint | None:
        """The newest reported checkpoint of a trial, or of the trial whose weights it took over since; None if none."""
        current = self.trial(trial)
        written = [m for m in self.curve(current) if m.checkpoint is not None]
        if current.schedule:
            change = current.schedule[-1]
            taken = [m for m in self.curve(change.source) if m.epoch == change.epoch - 1 and m.checkpoint is not None]
            written = taken + [m for m in written if m.epoch >= change.epoch]
        return Checkpoint(written[-1].epoch, written[-1].checkpoint or {}) if written else None

    def find_best(self) -> Trial | None:
        """:attr:`best`; None while no trial is complete."""
        return next(iter(self._ranked()), None)

    def trial_progress(self) -> list[TrialProgress]:
        """Progress of every trial, in the order of their numbers."""
        now = self.storage.clock()
        return [read_progress(frozen, now) for frozen in self._frozen()]

    def objective_curves(self) -> dict[int, dict[int, float]]:
        """The first objective by epoch, by number of the trial; for many trials faster than :meth:`curve`."""
        return {f.number: f.intermediate_values for f in self._frozen() if self._problem(f) is None}

    # -- what a study records besides its trials ----------------------------------------------

    @property
    def n_requested(self) -> int:
        """Number of finished trials that the sweeps so far were asked for."""
        return int(self._attributes.get(REQUESTED, 0))

    @transactional
    def request_trials(self, n_trials: int) -> None:
        """Record that the study is to have ``n_trials`` finished trials in all."""
        self._optuna.set_user_attr(REQUESTED, n_trials)

    def replace_spec(self, spec: SweepSpec) -> None:
        """Record ``spec`` as the study's own from now on; its space and objectives must stay the same."""
        self._transact(lambda: self._optuna.set_user_attr(SPEC, spec.model_dump(mode="json")))
        self.spec = spec
        self._proposer = self._new_proposer()

    @property
    def is_archived(self) -> bool:
        """Whether somebody put the study aside; it is listed and works as before."""
        return self.fact(ARCHIVED) is True

    def set_archived(self, is_archived: bool) -> None:
        """Put the study aside, or take it back."""
        self.record_fact(ARCHIVED, is_archived)

    @transactional
    def delete_record(self) -> None:
        """Delete the study and its trials from the storage; its files stay."""
        self.storage.optuna.delete_study(self.id)

    def fact(self, name: str) -> Any:
        """The JSON value that :meth:`record_fact` stored under this name; None if there is none."""
        return self._attributes.get(f"{FACT}{name}")

    @transactional
    def record_fact(self, name: str, value: Any) -> None:
        """Store a JSON value that :meth:`fact` returns."""
        self._optuna.set_user_attr(f"{FACT}{name}", value)

    @property
    def notices(self) -> list[dict[str, str]]:
        """What :meth:`add_notice` added last, at most 20, the newest last: ``at``, an ISO time, and ``text``."""
        return self._notices

    @transactional
    def add_notice(self, text: str) -> None:
        """Keep a sentence about the sweep that is no trial's result: a node that was lost, trials that wait."""
        self._add_notice(text)

    @transactional
    def set_source_tasks(self, source_tasks: Sequence[SourceTask]) -> None:
        """Record which results of earlier studies the sampler learns from."""
        from aifs_tune.samplers.transfer import SOURCE_TASKS

        self._optuna.set_user_attr(SOURCE_TASKS, [each.to_json() for each in source_tasks if each.params])
        self._proposer = self._new_proposer()

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the study's data; None before the first sweep, and for a study without data."""
        found: str | None = self._attributes.get(DATA)
        return found

    @transactional
    def match_data(self, fingerprint: str | None) -> None:
        """Record the fingerprint of the study's data; :class:`ConflictError` if it had other data before."""
        recorded = self.fingerprint
        if recorded is not None and recorded != fingerprint:
            raise ConflictError(
                f"study {self.name!r} was run on other data (fingerprint {recorded[:12]}, now "
                f"{(fingerprint or 'none')[:12]}): its content, labels or split changed; start a new study with --study"
            )
        if recorded is None and fingerprint is not None:
            self._optuna.set_user_attr(DATA, fingerprint)


def record_of(study: Study) -> StudyRecord:
    """The record of a study that a user passed; it shares storage and Optuna study with it."""
    if isinstance(study, StudyRecord):
        return study
    record = StudyRecord(study.storage, study.spec, study._optuna)
    record._finished = study._finished
    return record
