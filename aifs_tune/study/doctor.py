"""Examination of a storage: what in it cannot be read or does not count, and repair of what can be mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from aifs_tune.errors import RequestError
from aifs_tune.storage.repair import (
    add_triggers,
    copy_database,
    damage,
    missing_triggers,
    numbers_given_twice,
    renumber,
    rows_without_owner,
    set_aside,
)
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage, sqlite_file
from aifs_tune.storage.tolerant import MAX_NUMBER, UNDECODABLE
from aifs_tune.study.foreign import problem_of_queued
from aifs_tune.study.index import each_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.schema import check_trial_attributes

UNREADABLE_PREFIX = "unreadable:"
"""Prefix under which a repair keeps an attribute that cannot be read."""
_KEPT = f"they are kept under the names {UNREADABLE_PREFIX}..."


@dataclass(frozen=True)
class Finding:
    """One thing in a storage that is not as it should be.

    Parameters
    ----------
    problem
        What is wrong.
    study, trial
        Name of the study and number of the trial that are concerned; None for the whole storage or study.
    remedy
        What a repair does about it; None if nothing can be done by a program.
    is_repaired
        True after a repair.

    Examples
    --------
    >>> from aifs_tune.study.doctor import Finding
    >>> Finding("the file is damaged").remedy is None
    True
    """

    problem: str
    study: str | None = None
    trial: int | None = None
    remedy: str | None = None
    is_repaired: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the finding as a JSON object.

        Returns
        -------
        dict
            The attributes by name.
        """
        return asdict(self)


def check_storage(storage: str | None = None, *, repair: bool = False) -> tuple[list[Finding], Path | None]:
    """Check a storage: its database, each study and each trial.

    Parameters
    ----------
    storage : str, optional
        URL of the storage. Default: the storage that commands use without ``--storage``.
    repair : bool, optional
        Mend what can be mended, in an SQLite file, of which a copy is made first; default False.

    Returns
    -------
    tuple of list of Finding and Path
        What was found, and the copy; None if nothing was repaired.

    Raises
    ------
    NotFoundError
        If there is no storage at the URL.
    RequestError
        If ``repair`` is asked for with PostgreSQL.
    StorageError
        If the database cannot be read at all.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> aifs_tune.check_storage()
    ([], None)
    """
    opened = Storage(storage)
    is_file = opened.url.startswith("sqlite")
    if repair and not is_file:
        raise RequestError(
            f"--repair: {opened.shown} is on a server, whose database is not copied from here; allowed: an SQLite file"
        )
    with translated_database_errors(opened.shown):
        found = list(_findings(opened))
        if not repair or not any(mend for _, mend in found):
            return [finding for finding, _ in found], None
        copy = copy_database(sqlite_file(opened.url))
        mended = []
        for finding, mend in found:
            if mend is not None:
                opened.transact(mend)
            mended.append(replace(finding, is_repaired=mend is not None))
    return mended, copy


def _findings(storage: Storage) -> Iterator[tuple[Finding, Callable[[], object] | None]]:
    """Each finding with what mends it."""
    if storage.url.startswith("sqlite"):
        file = sqlite_file(storage.url)
        for problem in damage(file):
            yield Finding(problem), None
        for other in _conflict_copies(file):
            yield Finding(f"{other}: looks like a second version that a sync program made; it is not read"), None
        if missing_triggers(storage.rdb):
            remedy = "the database refuses changes of a final result from then on, also by other programs"
            yield (
                Finding("final results are not protected from other programs", remedy=remedy),
                partial(add_triggers, storage.rdb),
            )
    for problem in rows_without_owner(storage.rdb):
        yield Finding(problem), None
    for name, trial_id, number, new in numbers_given_twice(storage.rdb):
        is_number = isinstance(number, int) and 0 <= number <= MAX_NUMBER
        what = "its number was given twice" if is_number else f"a trial has the number {number!r}, so it is not read"
        remedy = f"the {'later ' * is_number}trial becomes trial {new}"
        finding = Finding(what, name, number if isinstance(number, int) and is_number else None, remedy)
        yield finding, partial(renumber, storage.rdb, trial_id, new)
    for study in each_study(storage):
        if isinstance(study, StudyRecord):
            yield from _findings_in(study)
        elif study.attributes:
            what = f"attributes that cannot be read: {', '.join(study.attributes)}"
            study_id = storage.optuna.get_study_id_from_name(study.name)
            yield (
                Finding(what, study.name, remedy=_KEPT),
                partial(_set_aside, storage, "study", study_id, study.attributes),
            )
        elif study.is_damaged:
            yield Finding(study.problem, study.name), None


def _findings_in(study: StudyRecord) -> Iterator[tuple[Finding, Callable[[], object] | None]]:
    for frozen in study.storage.optuna.get_all_trials(study.id, deepcopy=False):
        number, trial_id = frozen.number, frozen._trial_id
        is_queued = frozen.state is TrialState.WAITING
        if is_queued and (problem := problem_of_queued(frozen, study.spec)) is not None:
            finding = Finding(problem, study.name, number, "the trial becomes failed, with this reason")
            yield finding, partial(study._fail, trial_id, problem)
            continue
        bad = _unreadable_attributes(frozen)
        if bad:
            what = f"attributes that cannot be read: {', '.join(bad)}"
            mend = partial(_set_aside, study.storage, "trial", trial_id, bad)
            yield Finding(what, study.name, number, _KEPT), mend
            continue
        if (marked := study._problem(frozen)) is not None:
            yield Finding(f"counts for nothing: {marked}", study.name, number), None


def _unreadable_attributes(frozen: FrozenTrial) -> list[str]:
    bad: list[str] = list(frozen.system_attrs.get(UNDECODABLE, {}).get("attribute", ()))
    for is_user, attributes in ((True, frozen.user_attrs), (False, frozen.system_attrs)):
        for key, value in attributes.items():
            try:
                check_trial_attributes({key: value} if is_user else {}, {} if is_user else {key: value})
            except ValueError:
                bad.append(key)
    return bad


def _set_aside(storage: Storage, owner: str, owner_id: int, bad: Sequence[str]) -> None:
    for key in bad:
        set_aside(storage.rdb, owner, owner_id, key, f"{UNREADABLE_PREFIX}{key}")


def _conflict_copies(file: Path) -> list[Path]:
    """Files beside the database whose names look like those that sync programs give to a second version."""
    others = (each for each in file.parent.iterdir() if each.is_file() and each.name.startswith(file.stem))
    return sorted(each for each in others if "conflict" in each.name.lower() and each.suffix == file.suffix)
