"""Lease: a time-limited claim of an instrument or a person on a running trial."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aifs_tune._util.scalars import MAX_TEXT_LENGTH, brief
from aifs_tune.errors import RequestError

MIN_LEASE_S = 1.0
MAX_LEASE_S = 366 * 86_400.0
MAX_LEASES = 3
"""How often one configuration is handed out. After that it stays with its last owner: the configuration itself may be
what breaks instruments."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_LEASE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")


@dataclass(frozen=True)
class Lease:
    """Claim on a running trial: who has it, and until when.

    Parameters
    ----------
    label
        Name of the sample; None if it has none.
    owner
        Name of the instrument or person; None if not given. It grants no access.
    lease_s
        Length in seconds, 1 to 31,622,400 (366 days); None if it never ends.
    due_at
        Time when the lease runs out (UTC); None if it never does.
    is_overdue
        True if the trial is still running after ``due_at``.
    supersedes
        Number of the overdue trial whose configuration this trial took over; None for a new configuration.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> lease = study.ask(owner="furnace-2", lease_s=3600).lease
    >>> lease.owner, lease.lease_s, lease.is_overdue
    ('furnace-2', 3600.0, False)
    """

    label: str | None = None
    owner: str | None = None
    lease_s: float | None = None
    due_at: datetime | None = None
    is_overdue: bool = False
    supersedes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the lease as in a trial's JSON object.

        Returns
        -------
        dict
            The attributes by name; ``due_at`` as ISO 8601 text.
        """
        return {**vars(self), "due_at": None if self.due_at is None else self.due_at.isoformat()}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Lease:
        """The lease of which :meth:`to_json` returned ``entry``."""
        due_at = entry["due_at"]
        return Lease(**{**entry, "due_at": None if due_at is None else datetime.fromisoformat(due_at)})


def check_lease_s(lease_s: float) -> float:
    """Return ``lease_s``; :class:`RequestError` if it is too short or too long for a lease."""
    if not MIN_LEASE_S <= lease_s <= MAX_LEASE_S or not math.isfinite(lease_s):
        raise RequestError(
            f"lease: {lease_s:g} s; allowed: {MIN_LEASE_S:g} s to {MAX_LEASE_S / 86_400:g} days, or none"
        )
    return float(lease_s)


def check_name(kind: str, name: str | None) -> str | None:
    """``name``; :class:`RequestError` if it is no printable text of at most :data:`MAX_TEXT_LENGTH` characters."""
    if name is not None and not (name.isprintable() and 0 < len(name) <= MAX_TEXT_LENGTH):
        raise RequestError(f"{kind}: {brief(name)}; allowed: printable text of 1 to {MAX_TEXT_LENGTH} characters")
    return name


def new_lease(label: str | None, owner: str | None, lease_s: float | None) -> Lease | None:
    """A checked lease for a trial that is handed out now; None if all arguments are None."""
    if label is None and owner is None and lease_s is None:
        return None
    checked = None if lease_s is None else check_lease_s(lease_s)
    return Lease(check_name("label", label), check_name("owner", owner), checked)


def lease_s_of(text: str) -> float:
    """Seconds of a duration such as ``90s``, ``30m``, ``12h``, ``3d`` or ``2w``.

    Raises
    ------
    RequestError
        If ``text`` is not a duration, or too short or too long for a lease.
    """
    found = _LEASE.fullmatch(text)
    if found is None:
        raise RequestError(
            f"lease: {brief(text)} is not a duration; allowed: number and unit, such as 90s, 30m, 12h, 3d, 2w"
        )
    return check_lease_s(float(found[1]) * _UNITS[found[2]])


def moment(seconds: float) -> datetime:
    """Convert seconds since 1970 to a time in UTC, rounded to the second."""
    return datetime.fromtimestamp(round(seconds), UTC)
