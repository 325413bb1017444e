"""Leases of the trials of a study, as the storage holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from aifs_tune.storage.storage import Storage
from aifs_tune.study.lease import MAX_LEASES, Lease
from aifs_tune.study.serialization import LEASE, SUPERSEDED, is_overdue, lease_record


class Leases:
    """Reads and writes leases in a storage. Each call belongs inside a transaction of the study."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def set(self, trial_id: int, lease: Lease | None, *, n_leases: int | None = None) -> None:
        """Store the lease of a trial, None for no lease.

        ``n_leases`` is how often the configuration was handed out; None keeps the stored number.
        """
        before = self._storage.optuna.get_trial(trial_id).system_attrs.get(LEASE)
        if lease is None:
            if before is not None:  # the trial was requeued, and is now run by somebody without a lease
                self._storage.optuna.set_trial_system_attr(trial_id, LEASE, None)
            return
        until = None if lease.lease_s is None else self._storage.clock() + lease.lease_s
        record = lease_record(lease, until, n_leases or (before or {}).get("n_leases", 1))
        self._storage.optuna.set_trial_system_attr(trial_id, LEASE, record)

    def supersede(self, old: FrozenTrial, trial_id: int, number: int, lease: Lease | None) -> None:
        """End the overdue trial ``old`` and give its configuration to trial ``number``."""
        n_leases = old.system_attrs[LEASE]["n_leases"] + 1
        self.set(trial_id, replace(lease or Lease(), supersedes=old.number), n_leases=n_leases)
        self._storage.optuna.set_trial_system_attr(old._trial_id, SUPERSEDED, number)
        reason = f"its lease ran out; superseded by trial {number}"
        self._storage.optuna.set_trial_user_attr(old._trial_id, "reason", reason)
        self._storage.optuna.set_trial_state_values(old._trial_id, TrialState.FAIL)

    def next_overdue(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """The oldest overdue trial to hand out again; None if a trial waits or none is overdue.

        A configuration that was handed out :data:`MAX_LEASES` times is not handed out again.
        """
        if any(trial.state is TrialState.WAITING for trial in trials):
            return None
        again = (t for t in self._overdue(trials) if t.system_attrs[LEASE]["n_leases"] < MAX_LEASES)
        return next(again, None)

    def not_pending(self, trials: Sequence[FrozenTrial]) -> frozenset[int]:
        """Numbers of the overdue and the superseded trials: the sampler does not count them as pending."""
        superseded = [t for t in trials if t.state is TrialState.FAIL and SUPERSEDED in t.system_attrs]
        return frozenset(t.number for t in (*superseded, *self._overdue(trials)))

    def _overdue(self, trials: Sequence[FrozenTrial]) -> Iterator[FrozenTrial]:
        now = self._storage.clock()
        return (t for t in trials if t.state is TrialState.RUNNING and is_overdue(t, now))
