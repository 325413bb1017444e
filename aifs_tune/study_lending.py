"""How a study hands out trials to instruments and people: with a lease, and again once that has run out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from aifs_tune.errors import ConflictError
from aifs_tune.loan import MOST_LEASES, Lease, check_lease_s, check_name
from aifs_tune.record import LEASE, SUPERSEDED, is_overdue, lease_record
from aifs_tune.study_writing import StudyWriting, transactional
from aifs_tune.trial import Trial


class StudyLending(StudyWriting):
    """All trials of one question, in a storage, to be handed out; see :class:`~aifs_tune.study.Study`."""

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
