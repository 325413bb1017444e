"""The storage: one writer, whole transactions, clear errors."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import start

from aifs_tune.errors import RequestError, StorageBusyError, StorageError
from aifs_tune.storage.storage import Storage, given_url, sqlite_file
from aifs_tune.study.doctor import check_storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study

HOLD = """
    import sys
    from aifs_tune.storage.storage import Storage
    storage = Storage(sys.argv[1], create=True)
    with storage.writing():
        print("held", flush=True)
        sys.stdin.readline()
"""


def test_a_second_writer_is_told_who_the_first_is(url):
    holder = start(HOLD, url)
    assert holder.stdout.readline() == "held\n"
    storage = Storage(url, wait_s=0.1)
    with pytest.raises(StorageBusyError, match=rf"being written by process {holder.pid} on "), storage.writing():
        pass
    assert storage.lock().holder().pid == holder.pid
    holder.communicate("\n")
    with storage.writing():
        assert storage.lock().holder().pid == os.getpid()
    assert storage.lock().holder() is None


def test_a_killed_writer_holds_nothing(url):
    holder = start(HOLD, url)
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with Storage(url, wait_s=1.0).writing():
        pass


def test_threads_take_turns(url, space):
    study = open_study("lab", space=space, storage=url)
    with ThreadPoolExecutor(8) as pool:
        trials = list(pool.map(lambda n: study.tell(study.ask(), float(n)), range(40)))
    assert sorted(t.number for t in trials) == list(range(40))
    assert sorted(t.value for t in study.best_trials(99)) == [float(n) for n in range(40)]
    study.storage.wait_s = 0.05
    with study.storage.writing(), ThreadPoolExecutor(1) as pool:
        late = pool.submit(study.ask)
        with pytest.raises(StorageBusyError, match="another thread"):
            late.result()


WATCH = """
    import sys, time
    from aifs_tune.errors import NotFoundError
    from aifs_tune.storage.storage import Storage
    print("looking", flush=True)
    while True:
        try:
            Storage(sys.argv[1])
            break
        except NotFoundError:
            pass
    print("there")
"""


def test_a_storage_is_there_whole_or_not_at_all(url):
    watchers = [start(WATCH, url) for _ in range(3)]
    assert [w.stdout.readline() for w in watchers] == ["looking\n"] * 3
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: Path(Storage(url, create=True).shown), range(3)))
    assert len(set(made)) == 1
    assert [w.communicate()[0] for w in watchers] == ["there\n"] * 3
    assert sorted(p.name for p in made[0].parent.iterdir()) == ["lab.db", "lab.db.lock"]


def test_readers_read_while_a_writer_writes(url, space):
    study = open_study("lab", space=space, storage=url)

    def ask_and_look() -> None:
        study.ask()
        assert get_study(Storage(url), "lab").counts()["running"] == 0

    study.storage.transact(ask_and_look)
    assert get_study(Storage(url), "lab").counts()["running"] == 1


def test_an_interrupted_transaction_leaves_the_old_state(url, space):
    study = open_study("lab", space=space, storage=url)
    study.ask()

    def tell_and_break() -> None:
        study.tell(0, 1.0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        study.storage.transact(tell_and_break)
    assert get_study(Storage(url), "lab").trial(0).state == "running"


KILLED = """
    import os, signal, sys
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study
    study = get_study(Storage(sys.argv[1]), "lab")
    left = int(sys.argv[2])
    def trace(connection, cursor, statement, *_):
        global left
        if not statement.startswith(("SELECT", "PRAGMA")):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    import sqlalchemy
    sqlalchemy.event.listen(study.storage.rdb.engine, "before_cursor_execute", trace)
    study.tell(0, {"value": 2.0, "other": 3.0})
    print("told")
"""


def test_a_tell_killed_at_any_write_is_whole_or_absent(url, space):
    study = open_study("lab", space=space, storage=url)
    study.ask()
    writes = 0
    while True:
        killed = start(KILLED, url, str(writes))
        told, _ = killed.communicate()
        with sqlite3.connect(study.storage.shown) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (values,) = database.execute("SELECT count(*) FROM trial_values").fetchone()
            (reasons,) = database.execute("SELECT count(*) FROM trial_user_attributes WHERE key='metrics'").fetchone()
        if told == "told\n":
            break
        assert (values, reasons) == (0, 0)
        assert get_study(Storage(url), "lab").trial(0).state == "running"
        writes += 1
    assert writes >= 3
    assert (values, reasons) == (1, 1)
    assert dict(get_study(Storage(url), "lab").trial(0).metrics) == {"value": 2.0, "other": 3.0}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://u:secret@h/d", "lab.db"])
def test_what_is_no_storage_is_refused_without_repeating_secrets(url):
    with pytest.raises(RequestError, match=r"allowed: sqlite:///FILE") as refused:
        sqlite_file(url)
    assert "secret" not in str(refused.value)


def test_where_the_storage_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert sqlite_file(given_url(None)) == tmp_path / "aifs_tune.db"
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab/x.db")
    assert sqlite_file(given_url(None)) == tmp_path / "lab" / "x.db"
    with pytest.raises(RequestError, match="does not exist"):
        Storage(create=True)


def test_a_file_that_is_no_database_is_named(tmp_path):
    file = tmp_path / "notes.db"
    file.write_text("remember the milk " * 99)
    with pytest.raises(StorageError, match=r"notes\.db: file is not a database"):
        Storage(f"sqlite:///{file}")


def test_a_full_disk_acknowledges_nothing(url, space):
    study = open_study("lab", space=space, storage=url)
    study.tell(study.ask(), 1.0)
    trial = study.ask()
    with study.storage.rdb.engine.connect() as connection:
        (pages,) = connection.exec_driver_sql("PRAGMA page_count").fetchone()
    import sqlalchemy

    def full(connection, _record):
        connection.execute(f"PRAGMA max_page_count={pages}")

    study.storage.rdb.engine.dispose()
    sqlalchemy.event.listen(study.storage.rdb.engine, "connect", full)
    with pytest.raises(StorageError, match="full"):
        study.report(trial, 1, {"value": 0.5, **{f"m{n}": 1.0 for n in range(2000)}})
    assert Path(study.storage.shown).exists()
    later = get_study(Storage(url), "lab")
    assert later.best.value == 1.0
    assert later.trial(trial).epochs == 0
    later.report(trial, 1, {"value": 0.5})
    assert later.trial(trial).value == 0.5


def test_a_folder_that_cannot_be_written_can_be_read(tmp_path, space, monkeypatch):
    folder = tmp_path / "archive 100% #1 %41"
    folder.mkdir()
    url = f"sqlite:///{folder}/lab.db"
    study = open_study("lab", space=space, storage=url)
    study.tell(study.ask(), 1.0)
    journal = folder / "lab.db-wal"
    written = journal.read_bytes()
    study.storage.close()
    assert {file.name for file in folder.glob("lab.db*")} == {"lab.db", "lab.db.lock"}
    (folder / "lab.db.lock").unlink()
    opened = os.open

    def refuse(path, flags, *how, **more):
        if flags & os.O_CREAT and Path(path).parent == folder:
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *how, **more)

    monkeypatch.setattr("aifs_tune.storage.sqlite.os.access", lambda path, _: Path(path) != folder)
    monkeypatch.setattr("aifs_tune.storage.lock.os.open", refuse)
    archived = get_study(Storage(url), "lab")
    assert archived.best.value == 1.0
    assert [file.name for file in folder.iterdir()] == ["lab.db"], "nothing was written to read it"
    with pytest.raises(StorageError, match=r"nothing can be stored here.*Read-only file system.*copy the file"):
        archived.ask()
    assert check_storage(url) == ([], None)
    journal.write_bytes(written)
    with pytest.raises(StorageError, match=r"newest results are in lab\.db-wal.*copy both files"):
        Storage(url)


def test_a_link_in_place_of_the_lock_file_is_not_followed(tmp_path, space):
    url = f"sqlite:///{tmp_path}/lab.db"
    study = open_study("lab", space=space, storage=url)
    study.storage.close()
    (tmp_path / "precious.txt").write_text("do not lose this")
    (tmp_path / "lab.db.lock").unlink()
    (tmp_path / "lab.db.lock").symlink_to("precious.txt")
    with pytest.raises(StorageError, match="the lock file beside it cannot be written"):
        get_study(Storage(url), "lab").ask()
    assert (tmp_path / "precious.txt").read_text() == "do not lose this"


@pytest.mark.parametrize("pid", [-1, 0, 1, "12", None])
def test_a_lock_that_names_no_process_has_no_holder_to_signal(tmp_path, space, pid):
    url = f"sqlite:///{tmp_path}/lab.db"
    study = open_study("lab", space=space, storage=url)
    with open(tmp_path / "lab.db.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        json.dump({"pid": pid, "host": socket.gethostname(), "command": "x", "since": "now"}, lock)
        lock.flush()
        assert study.storage.lock("lab").holder() is None


def test_braces_in_a_path_are_part_of_it(tmp_path, space):
    (tmp_path / "run_{b}").mkdir()
    study = open_study("lab", space=space, storage=f"sqlite:///{tmp_path}/run_{{b}}/lab.db")
    assert study.tell(study.ask(), 1.0).state == "complete"


def test_a_storage_of_another_version_says_so_and_is_left_alone(url, space):
    open_study("lab", space=space, storage=url).storage.close()
    file = sqlite_file(url)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
    before = file.read_bytes()
    with pytest.raises(StorageError, match=rf"{file}: The runtime optuna version .* is no longer compatible"):
        Storage(url)
    assert file.read_bytes() == before


def test_a_folder_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("aifs_tune.storage.lock.fcntl.flock", refuse)
    with pytest.raises(
        StorageError, match=r"lab.db: the file system of this folder has no locks \(No locks available\)"
    ):
        Storage(f"sqlite:///{tmp_path}/lab.db", create=True)
