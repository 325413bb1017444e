"""The studies of a storage by project and name, each kept once it was opened."""

from __future__ import annotations

from aifs_tune.errors import NotFoundError
from aifs_tune.projects import name_in, stored_name
from aifs_tune.storage import Storage
from aifs_tune.studies import find_study, study_names
from aifs_tune.study import Study


class StudyCache:
    """Opened studies, which remember what they read of their finished trials.

    ``is_only_writer``: a study stays what it was while the lock is held, and is not looked up again.
    """

    def __init__(self, storage: Storage, *, is_only_writer: bool = False) -> None:
        self._storage, self._is_only_writer = storage, is_only_writer
        self._open: dict[str, tuple[int, Study]] = {}

    def study(self, project: str, name: str) -> Study:
        """An existing study; a :class:`NotFoundError` says the same whether another project has one or nobody."""
        stored, n_acquired = stored_name(project, name), self._storage.n_acquired
        kept = self._open.get(stored)
        if kept is not None and self._is_only_writer and kept[0] == n_acquired:
            return kept[1]
        found = find_study(self._storage, stored)
        if found is None:
            self._open.pop(stored, None)
            raise NotFoundError(f"no study {name!r} in this project")
        if kept is not None and kept[1].id == found.id and kept[1].spec == found.spec:
            found = kept[1]
        self._open[stored] = n_acquired, found
        return found

    def put(self, study: Study) -> None:
        """Keep a study that was just started or opened."""
        self._open[study.name] = self._storage.n_acquired, study

    def page(self, project: str, *, after: str, limit: int) -> tuple[list[tuple[str, Study]], bool]:
        """Up to ``limit`` studies of a project by name, those after ``after``; and whether there are more."""
        names = sorted(name for stored in study_names(self._storage) if (name := name_in(project, stored)) is not None)
        found: list[tuple[str, Study]] = []
        for name in names:
            if name <= after:
                continue
            try:
                study = self.study(project, name)
            except NotFoundError:  # another tool made it, or it was deleted just now
                continue
            if len(found) == limit:
                return found, True
            found.append((name, study))
        return found, False
