"""Private parts of Optuna that this package relies on: one test each, named after the part.

A release of Optuna that moves or changes a part fails the test of that name. ``pyproject.toml`` allows only releases on
which these tests pass.
"""

from __future__ import annotations

import ast
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage, get_storage
from optuna.storages._rdb import models
from optuna.trial import TrialState

import aifs_tune
from aifs_tune.storage.session import DeferredCommitSession, TableVersion, newest_tables, open_rdb

PACKAGE = Path(aifs_tune.__file__).parent

MODELS = {
    "TrialModel": ({"trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"}, None),
    "TrialParamModel": ({"trial_id", "param_name", "param_value", "distribution_json"}, {"trial_id", "param_name"}),
    "TrialValueModel": ({"trial_id", "objective", "value", "value_type"}, {"trial_id", "objective"}),
    "TrialIntermediateValueModel": (
        {"trial_id", "step", "intermediate_value", "intermediate_value_type"},
        {"trial_id", "step"},
    ),
    "TrialUserAttributeModel": ({"trial_id", "key", "value_json"}, {"trial_id", "key"}),
    "TrialSystemAttributeModel": ({"trial_id", "key", "value_json"}, {"trial_id", "key"}),
}
"""Columns that are written, and the columns whose combination is unique."""

IMPORTED = {"optuna.storages._rdb.models", "optuna.storages._rdb.storage", "optuna.study._frozen.FrozenStudy"}
"""Private modules of Optuna that the package imports."""

ATTRIBUTES = {
    "_trial_id",
    "_study_id",
    "_VersionManager",
    "_init_alembic",
    "_get_trials",
    "_build_frozen_trial_from_trial_model",
}
"""Private attributes of Optuna's objects that the storage and the view of a project use."""


@pytest.fixture(scope="module")
def rdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RDBStorage]:
    storage = RDBStorage(f"sqlite:///{tmp_path_factory.mktemp('optuna')}/study.db")
    yield storage
    storage.engine.dispose()


@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, rdb: RDBStorage):
    columns, unique = MODELS[name]
    table = getattr(models, name).__table__
    written = {column.name for column in table.columns if column.name in columns}
    assert written == columns, f"optuna.storages._rdb.models.{name} has other columns"
    others = [column.name for column in table.columns if column.name not in columns and not column.primary_key]
    assert all(table.columns[other].nullable for other in others), f"{name} needs more columns: {others}"
    if unique is not None:
        found = [{column.name for column in each["columns"]} for each in _unique(table)]
        assert unique in found, f"{name} has another unique constraint, which ON CONFLICT names"
    assert sqlalchemy.inspect(rdb.engine).has_table(table.name)


def _unique(table: sqlalchemy.Table) -> list[dict[str, list[sqlalchemy.Column]]]:
    return [{"columns": list(c.columns)} for c in table.constraints if isinstance(c, sqlalchemy.UniqueConstraint)]


@pytest.mark.parametrize("value", [0.5, math.inf, -math.inf])
def test_trial_value_model_value_to_stored_repr(value: float):
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    assert models.TrialValueModel.stored_repr_to_value(stored, kind) == value


@pytest.mark.parametrize("value", [0.5, math.inf, -math.inf])
def test_trial_intermediate_value_model_intermediate_value_to_stored_repr(value: float):
    model = models.TrialIntermediateValueModel
    stored, kind = model.intermediate_value_to_stored_repr(value)
    assert model.stored_repr_to_intermediate_value(stored, kind) == value


def test_frozen_trial_trial_id(rdb: RDBStorage):
    study_id = rdb.create_new_study([optuna.study.StudyDirection.MINIMIZE], "of _trial_id")
    trial_id = rdb.create_new_trial(study_id)
    assert rdb.get_trial(trial_id)._trial_id == trial_id
    trial = optuna.trial.create_trial(state=TrialState.COMPLETE, value=1.0)
    trial._trial_id = 7
    assert trial._trial_id == 7


def test_frozen_study_study_id(rdb: RDBStorage):
    ids = {name: rdb.create_new_study([optuna.study.StudyDirection.MINIMIZE], name) for name in ("b", "a")}
    found = [study for study in sorted(rdb.get_all_studies()) if study.study_name in ids]
    assert {study.study_name: study._study_id for study in found} == ids
    assert [study.study_name for study in found] == ["b", "a"], "studies sort by their ids"


def test_study_study_id_and_storage(rdb: RDBStorage):
    study = optuna.create_study(storage=rdb, study_name="of _storage")
    assert study._study_id == rdb.get_study_id_from_name("of _storage")
    assert study._storage.get_study_name_from_id(study._study_id) == "of _storage"


def test_get_storage_keeps_finished_trials_of_an_rdb_storage(rdb: RDBStorage):
    cached = get_storage(rdb)
    study_id = cached.create_new_study([optuna.study.StudyDirection.MINIMIZE], "of get_storage")
    trial_id = cached.create_new_trial(study_id)
    cached.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    first, again = (cached.get_all_trials(study_id, deepcopy=False)[0] for _ in range(2))
    assert first is again
    assert get_storage(cached) is cached


def test_rdb_storage_engine(rdb: RDBStorage):
    assert isinstance(rdb.engine, sqlalchemy.Engine)
    assert rdb.engine.dialect.name == "sqlite"


def test_rdb_storage_scoped_session_is_the_one_that_commits(tmp_path: Path):
    file = tmp_path / "study.db"
    RDBStorage(f"sqlite:///{file}").engine.dispose()
    rdb = open_rdb(f"sqlite:///{file}", str(file), {})
    session = rdb.scoped_session()
    assert isinstance(session, DeferredCommitSession)
    session.defers_commits = True
    rdb.create_new_study([optuna.study.StudyDirection.MINIMIZE], "lab")
    assert _study_names(file) == [], "RDBStorage.create_new_study commits by another session"
    session.defers_commits = False
    session.commit()
    assert _study_names(file) == ["lab"]
    rdb.engine.dispose()


def test_rdb_storage_skip_table_creation(tmp_path: Path):
    file = tmp_path / "study.db"
    RDBStorage(f"sqlite:///{file}").engine.dispose()
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE trial_heartbeats")
    RDBStorage(f"sqlite:///{file}", skip_table_creation=True).engine.dispose()
    assert "trial_heartbeats" not in _tables(file)


def test_rdb_storage_version_table(tmp_path: Path):
    file = tmp_path / "study.db"
    RDBStorage(f"sqlite:///{file}").engine.dispose()
    assert "alembic_version" in _tables(file)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
    with pytest.raises(RuntimeError, match="no longer compatible"):
        RDBStorage(f"sqlite:///{file}", skip_table_creation=True)


def test_version_manager_asks_alembic_only_about_tables_of_another_version(rdb: RDBStorage, monkeypatch):
    manager = rdb._version_manager
    assert type(manager) is TableVersion, "RDBStorage makes its version manager in another way"
    assert manager.get_head_version() == manager.get_current_version() == newest_tables()
    monkeypatch.setattr("optuna.storages._rdb.storage.alembic_migration", None)
    monkeypatch.setattr("optuna.storages._rdb.storage.alembic_script", None)
    RDBStorage(str(rdb.engine.url), skip_table_creation=True).engine.dispose()


@pytest.mark.parametrize("part", ["_get_trials", "_build_frozen_trial_from_trial_model"])
def test_rdb_storage_reads_trials_with(part: str, tmp_path: Path, monkeypatch):
    file = tmp_path / "study.db"
    study = optuna.create_study(storage=f"sqlite:///{file}", study_name="lab")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    called = []
    own = getattr(RDBStorage, part)
    monkeypatch.setattr(RDBStorage, part, lambda self, *args: called.append(part) or own(self, *args))
    rdb = open_rdb(f"sqlite:///{file}", str(file), {})
    assert get_storage(rdb).get_all_trials(study._study_id)[0].value == 1.0
    assert called == [part]


def test_models_not_found_msg(rdb: RDBStorage):
    for read in (rdb.get_trial, rdb.get_study_name_from_id, rdb.get_study_directions, rdb.get_all_trials):
        with pytest.raises(KeyError) as raised:
            read(12345)
        assert raised.value.args == (models.NOT_FOUND_MSG,)


def test_every_private_part_of_optuna_has_a_test_here():
    imported, attributes = set(), set()
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                imported |= {name for name in names if "._" in name}
            elif isinstance(node, ast.Import):
                imported |= {a.name for a in node.names if a.name.startswith("optuna.") and "._" in a.name}
        if file.parent.name == "storage" or file.name == "project_view.py":
            attributes |= set(_private_attributes(tree))
    assert imported == IMPORTED
    assert attributes == ATTRIBUTES


def _private_attributes(tree: ast.AST) -> Iterator[str]:
    """Names with one leading underscore that are read or set on something else than ``self``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls")):
                yield node.attr


def _study_names(file: Path) -> list[str]:
    with sqlite3.connect(file) as database:
        return [name for (name,) in database.execute("SELECT study_name FROM studies")]


def _tables(file: Path) -> set[str]:
    with sqlite3.connect(file) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
