"""What all trials of a sweep share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aifs_tune.errors import AifsTuneError, NodeError
from aifs_tune.spec import SweepSpec
from aifs_tune.trainers.by_name import find_family


@dataclass(frozen=True)
class Job:
    """What all trials of a sweep share; plain values, so that it travels to any node.

    ``folder`` is where the sweep was started: a lab's own modules are imported from it and their relative
    paths start there. ``data`` is where the driver has the prepared data, and ``fingerprint`` what they are.
    ``artefacts`` is a folder that all nodes share, or the URL of an object store, which each asks with credentials of
    its own.
    """

    spec: SweepSpec
    data: Path | None
    artefacts: Path | str
    folder: Path
    fingerprint: str | None = None
    divisions: tuple[tuple[Path, str], ...] = ()
    """Where there are several: where the driver has the data of each division, and what they are."""

    def folds_here(self) -> list[Path]:
        """:meth:`data_here` of each fold that every trial is measured on; none where trials are of one division."""
        if self.spec.cross_validation is not None:
            return []
        found = [self.data_here(split) for split in range(len(self.divisions))]
        return [location for location in found if location is not None]

    def data_here(self, split: int | None = None) -> Path | None:
        """Where the machine of this process has the prepared data, or those of one division; see
        :func:`~aifs_tune.data.here.find_here`."""
        family, data, divisions = find_family(self.spec), self.spec.data, self.spec.divisions
        location, fingerprint = self.data, self.fingerprint
        if self.divisions and split is not None:
            location, fingerprint = self.divisions[split]
        if location is None or fingerprint is None or data is None or family is None:
            return location
        from aifs_tune.data.here import find_here

        if split is not None and divisions is not None:
            data = divisions.divided(data, split)
        try:
            return find_here(data, family.kind, location, fingerprint)
        except AifsTuneError as error:
            raise NodeError(str(error)) from error
