"""List of the studies of a project, which reads again only those that have changed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from aifs_tune.errors import DamagedError, NotFoundError
from aifs_tune.service.schemas.responses import study_summary
from aifs_tune.service.study_cache import StudyCache
from aifs_tune.storage.projects import name_in, numbered_names, stored_name
from aifs_tune.storage.storage import Storage

_Version = tuple[Any, ...]


class StudyList:
    """Lines of the list of studies, kept as long as the storage has the same version of a study and its confirmations.

    Reader threads share it. A page that polls hundreds of studies costs a few queries, not a few for each study.
    """

    def __init__(self, storage: Storage, studies: StudyCache) -> None:
        self._storage, self._studies = storage, studies
        self._lines: dict[str, tuple[_Version, dict[str, Any] | None]] = {}

    def page(self, project: str, *, after: str, limit: int) -> dict[str, Any]:
        """Build a :class:`~aifs_tune.service.schemas.responses.StudiesResponse` with the studies after ``after``.

        Studies of other tools are left out; in place of one that cannot be read is the reason.
        """
        self._storage.check_file()
        versions = self._storage.rdb.study_versions()  # before the studies: later writes are seen in the next turn
        for gone in [stored for stored in list(self._lines) if stored not in versions]:
            self._lines.pop(gone, None)
        names = sorted(name for stored in versions if (name := name_in(project, stored)) is not None)
        lines: list[dict[str, Any]] = []
        for name in names:
            if name <= after or (line := self._line(project, name, versions)) is None:
                continue
            if len(lines) == limit:
                return _response(lines, lines[-1]["study"])
            lines.append(line)
        return _response(lines, None)

    def _line(self, project: str, name: str, versions: Mapping[str, _Version]) -> dict[str, Any] | None:
        stored = stored_name(project, name)
        version = _version_of(stored, versions)
        kept = self._lines.get(stored)
        if kept is None or kept[0] != version:
            kept = self._lines[stored] = version, self._read(project, name, has_confirmation=len(version) > 1)
        return kept[1]

    def _read(self, project: str, name: str, *, has_confirmation: bool) -> dict[str, Any] | None:
        try:
            study = self._studies.study(project, name)
        except DamagedError:  # its reason names the storage, which is not for callers
            return {"study": name, "problem": "the sweep file that the study keeps cannot be read"}
        except NotFoundError:  # a study of another tool, or one that was just deleted
            return None
        confirmation = None
        if has_confirmation:
            from aifs_tune.publishing.verdict import confirmed_result  # loads pandas, which few requests need

            try:
                confirmation = confirmed_result(study)
            except DamagedError:  # the confirmation is in the list with this problem
                confirmation = None
        return {**study_summary(name, study), "confirmation": confirmation}


def _version_of(stored: str, versions: Mapping[str, _Version]) -> _Version:
    """Return the version of a study, followed by those of its confirmations."""
    confirmations = takewhile(versions.__contains__, numbered_names(f"{stored}-confirm"))
    return (versions[stored], *(versions[name] for name in confirmations))


def _response(lines: list[dict[str, Any]], following: str | None) -> dict[str, Any]:
    unreadable = [line for line in lines if "problem" in line]
    return {
        "studies": [line for line in lines if "problem" not in line],
        "unreadable": unreadable,
        "next": following,
    }
