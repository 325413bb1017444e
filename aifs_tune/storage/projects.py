"""Projects: separate name spaces for studies in one storage.

A study of the project ``biology`` is stored as ``biology/NAME``, one of ``default`` as ``NAME``, so different projects
can use the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aifs_tune._util.scalars import brief
from aifs_tune.errors import RequestError

DEFAULT_PROJECT = "default"
STUDY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
PROJECT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
MAX_NUMBERED = 1000
"""Names of :func:`numbered_names`."""

_STUDY = re.compile(STUDY_PATTERN[1:-1])
_PROJECT = re.compile(PROJECT_PATTERN[1:-1])


def check_study_name(name: str) -> None:
    """Raise :class:`RequestError` unless ``name`` is a valid study name."""
    if not _STUDY.fullmatch(name):
        raise RequestError(
            f"study: {brief(name)} is not a valid name; allowed: 1 to 100 letters, digits, '.', '_', '-'"
        )


def check_project(project: str) -> None:
    """Raise :class:`RequestError` unless ``project`` is a valid project name."""
    if not _PROJECT.fullmatch(project):
        raise RequestError(
            f"project: {brief(project)} is not a valid name; allowed: 1 to 63 lower-case letters, digits, '-' and '_', "
            "the first a letter or digit"
        )


def stored_name(project: str, study: str) -> str:
    """Return the name under which the storage has a study of a project."""
    return study if project == DEFAULT_PROJECT else f"{project}/{study}"


def split_name(stored: str) -> tuple[str, str]:
    """Return project and name of the study that the storage calls ``stored``."""
    owner, slash, name = stored.rpartition("/")
    return (owner if slash else DEFAULT_PROJECT), name


def name_in(project: str, stored: str) -> str | None:
    """Return the name in ``project`` of a stored study; None if it belongs to another project."""
    owner, name = split_name(stored)
    return name if owner == project else None


def numbered_names(name: str) -> Iterator[str]:
    """Yield ``name``, then ``name-2`` and so on: the names of studies that were made one after another."""
    yield name
    yield from (f"{name}-{n}" for n in range(2, MAX_NUMBERED + 1))
