"""Links in data folders: where they may lead, so that data from elsewhere name no other file of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from aifs_tune.errors import DataError

ALLOWED = "links inside it or its DataLad or git-annex data set, or data.follow_links: true"
"""What a message about a link allows."""
_OF_DATA_SETS = (".datalad", os.path.join(".git", "annex"))


@dataclass(frozen=True)
class Links:
    """The folders below which links may lead; none if they may lead anywhere."""

    tops: tuple[str, ...] = ()
    _real: dict[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, folder: Path, *, follow: bool) -> Links:
        """Make the rule for a data folder, which may itself be a link.

        Links may lead below it, and below the data set of DataLad or git-annex that has it. With ``follow`` they may
        lead anywhere.
        """
        if follow:
            return cls()
        real = Path(os.path.realpath(folder))
        above = (top for top in (real, *real.parents) if any((top / name).is_dir() for name in _OF_DATA_SETS))
        top = next(above, real)
        return cls((str(top), os.path.realpath(top / ".git")))

    def outside(self, path: str) -> str | None:
        """Return where a file or folder really is, if that is outside; None if it may be read."""
        if not self.tops:
            return None
        folder, name = os.path.split(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(self._real[folder], name)
        is_inside = any(real == top or real.startswith(top.rstrip(os.sep) + os.sep) for top in self.tops)
        return None if is_inside else real


def absence_of(path: str | Path) -> str | None:
    """Why a link of git-annex cannot be read whose content is elsewhere; None for other files."""
    is_absent = os.path.islink(path) and not os.path.exists(path)
    if is_absent and f"annex{os.sep}objects{os.sep}" in os.readlink(path):
        return "its content is not on this machine; get it: datalad get, or git annex get"
    return None


def check_below(path: str, begin: str, top: str) -> None:
    """Raise DataError, which begins with ``begin``, if a path, as of ``os.path.normpath``, leads out of ``top``."""
    if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir or "\0" in path:
        raise DataError(f"{begin}, outside {top}; allowed: a relative path below it")


def check_links(file: Path, links: Links, begin: str) -> None:
    """Raise DataError, which begins with ``begin``, if a file of a manifest is a link that may not be followed."""
    if (real := links.outside(str(file))) is not None:
        text = real.encode("unicode_escape").decode("ascii") if not real.isprintable() else real
        raise DataError(f"{begin}, a link to {text!r}, outside the folder of the manifest; allowed: {ALLOWED}")
