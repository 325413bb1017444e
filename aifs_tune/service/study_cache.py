"""Cache of opened studies."""

from __future__ import annotations

from aifs_tune.errors import NotFoundError
from aifs_tune.storage.projects import stored_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study
from aifs_tune.study.record import StudyRecord


class StudyCache:
    """Cache of opened studies, which keep the finished trials that they have read.

    With ``is_only_writer``, a study is not looked up again while the writer's lock is held.
    """

    def __init__(self, storage: Storage, *, is_only_writer: bool = False) -> None:
        self._storage, self._is_only_writer = storage, is_only_writer
        self._open: dict[str, tuple[int, StudyRecord]] = {}

    def study(self, project: str, name: str) -> StudyRecord:
        """Return an existing study.

        Raises
        ------
        NotFoundError
            If the project has no such study; the message does not tell whether another project has one.
        """
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

    def put(self, study: StudyRecord) -> None:
        """Add a study that was just created or opened."""
        self._open[study.name] = self._storage.n_acquired, study

    def drop(self, study: StudyRecord) -> None:
        """Forget a study that was just deleted."""
        self._open.pop(study.name, None)
