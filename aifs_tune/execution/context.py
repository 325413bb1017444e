"""Context of a sweep: where Ray runs, and what all trials share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import AifsTuneError, NodeError
from aifs_tune.trainers.factory import find_trainer_entry


@dataclass(frozen=True)
class RayConfig:
    """A Ray cluster by its address, or this machine (``address`` None)."""

    address: str | None = None
    """``HOST:PORT``, ``ray://HOST:PORT``, or ``auto`` for the cluster that runs here."""
    allow_unauthenticated: bool = False
    """Join a cluster that asks for no token."""


@dataclass(frozen=True)
class TrialContext:
    """What all trials of a sweep share; plain values, so that it travels to any node.

    ``folder`` is where the sweep was started: a lab's own modules are imported from it and their relative
    paths start there. ``data`` is where the driver has the prepared data, and ``fingerprint`` what they are.
    ``artifacts`` is a folder that all nodes share, or the URL of an object store, which each asks with credentials of
    its own.
    """

    spec: SweepSpec
    data: Path | None
    artifacts: Path | str
    folder: Path
    fingerprint: str | None = None
    function: Callable[..., Any] | None = None
    """The user's code where it was given in Python; None if the sweep file names what can be imported."""
    splits: tuple[tuple[Path, str], ...] = ()
    """Location of each split's data on the driver, and its fingerprint; empty for one split."""

    def fold_locations(self) -> list[Path]:
        """:meth:`data_location` of each fold that every trial is measured on; empty if trials use one split."""
        if self.spec.cross_validation is not None:
            return []
        found = [self.data_location(split) for split in range(len(self.splits))]
        return [location for location in found if location is not None]

    def data_location(self, split: int | None = None) -> Path | None:
        """Location of the prepared data, or of one split, on the machine of this process; see
        :func:`~aifs_tune.data.node_copy.find_local_copy`."""
        trainer_entry, data, cv = find_trainer_entry(self.spec), self.spec.data, self.spec.cv
        location, fingerprint = self.data, self.fingerprint
        if self.splits and split is not None:
            location, fingerprint = self.splits[split]
        if location is None or fingerprint is None or data is None or trainer_entry is None:
            return location
        from aifs_tune.data.node_copy import find_local_copy

        if split is not None and cv is not None:
            data = cv.select_split(data, split)
        try:
            return find_local_copy(data, trainer_entry.kind, location, fingerprint)
        except AifsTuneError as error:
            raise NodeError(str(error)) from error
