"""Examination and repair of the tables of a database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from optuna.storages import RDBStorage
from sqlalchemy import text

from aifs_tune.errors import StorageError
from aifs_tune.storage.sqlite import FINAL_STANDS, address_of
from aifs_tune.storage.tolerant import MAX_NUMBER, is_deep

_IS_NUMBER = f"{{0}}.number BETWEEN 0 AND {MAX_NUMBER} AND {{0}}.number = CAST({{0}}.number AS INTEGER)"
_TWICE = text(
    "SELECT s.study_name, s.study_id, t.number, t.trial_id FROM trials t JOIN studies s ON s.study_id = t.study_id "
    f"WHERE t.number IS NULL OR NOT ({_IS_NUMBER.format('t')}) OR EXISTS (SELECT 1 FROM trials o WHERE "
    "o.study_id = t.study_id AND o.number = t.number AND o.trial_id < t.trial_id) ORDER BY t.trial_id"
)
_LAST = text(
    f"SELECT study_id, max(CASE WHEN {_IS_NUMBER.format('trials')} THEN number END), count(*) FROM trials "
    "GROUP BY study_id"
)
_OWNED = {
    "trials": "study_id",
    "study_directions": "study_id",
    "study_user_attributes": "study_id",
    "study_system_attributes": "study_id",
    "trial_params": "trial_id",
    "trial_values": "trial_id",
    "trial_intermediate_values": "trial_id",
    "trial_user_attributes": "trial_id",
    "trial_system_attributes": "trial_id",
}
"""Tables, and the column that names the study or trial to which a row belongs."""


def damage(file: Path) -> list[str]:
    """What SQLite's own check finds in a database file; empty if it is whole."""
    try:
        with closing(sqlite3.connect(address_of(file, "ro"), uri=True)) as database:
            told = [row[0] for row in database.execute("PRAGMA integrity_check")]
            broken = database.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [f"{file}: {error}"]
    found = [] if told == ["ok"] else [f"{file}: {line}" for line in told]
    return found + [f"{file}: {len(broken)} rows belong to nothing"] * bool(broken)


def rows_without_owner(rdb: RDBStorage) -> Iterator[str]:
    """What rows name no study or trial to which they belong, nor have a name, so that nothing reads them."""
    with rdb.engine.connect() as connection:
        for table, owner in _OWNED.items():
            name = " OR key IS NULL" if table.endswith("attributes") else ""
            query = text(f"SELECT count(*) FROM {table} WHERE {owner} IS NULL{name}")
            if n := int(connection.execute(query).scalar() or 0):
                yield f"{n} row{'s' * (n > 1)} of the table {table} belong{'s' * (n == 1)} to nothing"
        names = connection.execute(text("SELECT study_id, study_name FROM studies")).fetchall()
    for study_id, name in names:
        if not isinstance(name, str):
            yield f"the name of study {study_id} is {name!r}, not a text, so the study is not read"


def copy_database(file: Path) -> Path:
    """Copy a database as it is now, with what its log holds, and return the new file."""
    names = (file.with_name(f"{file.stem}-before-repair-{n}{file.suffix}") for n in range(1, 1000))
    copy = next(name for name in names if not name.exists())
    try:
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except sqlite3.Error as error:
        raise StorageError(f"{copy}: the copy could not be made ({error}); nothing was repaired") from error
    return copy


def missing_triggers(rdb: RDBStorage) -> bool:
    """Whether the database does not protect final results yet."""
    with rdb.engine.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM sqlite_master WHERE name LIKE 'aifs_tune_final_%'"))
        return int(found.scalar() or 0) < len(FINAL_STANDS)


def add_triggers(rdb: RDBStorage) -> None:
    """Protect final results, in the session of this thread."""
    for statement in FINAL_STANDS:
        rdb.scoped_session().connection().exec_driver_sql(statement)


def numbers_given_twice(rdb: RDBStorage) -> Iterator[tuple[str, int, object, int]]:
    """Study, id and number of each trial without a number of its own, and a number that is free."""
    with rdb.engine.connect() as connection:
        last = {row[0]: max(-1 if row[1] is None else row[1], row[2] - 1) + 1 for row in connection.execute(_LAST)}
        twice = connection.execute(_TWICE).fetchall()
    for name, study_id, number, trial_id in twice:
        yield name, trial_id, number, last[study_id]
        last[study_id] += 1


def renumber(rdb: RDBStorage, trial_id: int, number: int) -> None:
    """Give a trial another number, in the session of this thread."""
    statement = text("UPDATE trials SET number = :number WHERE trial_id = :trial")
    rdb.scoped_session().connection().execute(statement, {"number": number, "trial": trial_id})


def set_aside(rdb: RDBStorage, owner: str, owner_id: int, key: str, new: str) -> None:
    """Rename an attribute of a ``"trial"`` or a ``"study"``, in the session of this thread; a value that is not JSON
    becomes a text."""
    connection = rdb.scoped_session().connection()
    for table in (f"{owner}_user_attributes", f"{owner}_system_attributes"):
        row = {"owner": owner_id, "key": key}
        where = f"WHERE {owner}_id = :owner AND key = :key"
        for (stored,) in connection.execute(text(f"SELECT value_json FROM {table} {where}"), row).fetchall():
            change = text(f"UPDATE {table} SET key = :new, value_json = :kept {where}")
            connection.execute(change, row | {"new": new, "kept": _as_json(stored)})


def _as_json(stored: object) -> str:
    try:
        json.loads(str(stored))
        is_read = not is_deep(str(stored))
    except (ValueError, RecursionError):
        is_read = False
    return str(stored) if is_read else json.dumps(str(stored))
