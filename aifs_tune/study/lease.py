"""A trial in somebody's hands: the label of its sample, its owner, and until when they have it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aifs_tune._util.scalars import LONGEST_TEXT, brief
from aifs_tune.errors import RequestError

SHORTEST_LEASE_S = 1.0
LONGEST_LEASE_S = 366 * 86_400.0
MAX_LEASES = 3
"""How often one configuration is handed out before it is left to whoever still has it: it may be what breaks
instruments."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_LEASE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")


@dataclass(frozen=True)
class Lease:
    """To whom a running trial was handed out, and how.

    ``label`` is of the sample, ``owner`` an instrument or a person; both are names, which open nothing. After
    ``lease_s``, at ``due_at``, the trial is overdue unless it ended or the lease was renewed: None for never.
    ``supersedes`` is the trial whose lease ran out and whose configuration this one has.
    """

    label: str | None = None
    owner: str | None = None
    lease_s: float | None = None
    due_at: datetime | None = None
    is_overdue: bool = False
    supersedes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As ``lease`` in a trial object."""
        return {**vars(self), "due_at": None if self.due_at is None else self.due_at.isoformat()}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Lease:
        """What :meth:`to_json` made."""
        due_at = entry["due_at"]
        return Lease(**{**entry, "due_at": None if due_at is None else datetime.fromisoformat(due_at)})


def check_lease_s(lease_s: float) -> float:
    """``lease_s``; :class:`RequestError` if no lease may last so long."""
    if not SHORTEST_LEASE_S <= lease_s <= LONGEST_LEASE_S or not math.isfinite(lease_s):
        raise RequestError(
            f"lease: {lease_s:g} s; allowed: {SHORTEST_LEASE_S:g} s to {LONGEST_LEASE_S / 86_400:g} days, or none"
        )
    return float(lease_s)


def check_name(kind: str, name: str | None) -> str | None:
    """``name``; :class:`RequestError` if it is no printable text of at most :data:`LONGEST_TEXT` characters."""
    if name is not None and not (name.isprintable() and 0 < len(name) <= LONGEST_TEXT):
        raise RequestError(f"{kind}: {brief(name)}; allowed: printable text of 1 to {LONGEST_TEXT} characters")
    return name


def new_lease(label: str | None, owner: str | None, lease_s: float | None) -> Lease | None:
    """The checked lease of a trial that is handed out now; None if the caller said nothing about itself."""
    if label is None and owner is None and lease_s is None:
        return None
    checked = None if lease_s is None else check_lease_s(lease_s)
    return Lease(check_name("label", label), check_name("owner", owner), checked)


def lease_s_of(text: str) -> float:
    """The seconds in ``90s``, ``30m``, ``12h``, ``3d`` or ``2w``.

    Raises
    ------
    RequestError
        If it is none of these.
    """
    found = _LEASE.fullmatch(text)
    if found is None:
        raise RequestError(f"lease: {brief(text)} is none; allowed: a number and a unit, such as 90s, 30m, 12h, 3d, 2w")
    return check_lease_s(float(found[1]) * _UNITS[found[2]])


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as a time in UTC, to the second."""
    return datetime.fromtimestamp(round(seconds), UTC)
