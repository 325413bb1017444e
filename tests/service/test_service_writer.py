"""Tests of the writer thread without HTTP."""

from __future__ import annotations

import asyncio
import threading

import pytest
from processes import start
from services import SPACE, storage_in

from aifs_tune.errors import ConflictError, ServiceError, StorageBusyError
from aifs_tune.service.writer import IDLE_S, MAX_HELD_LOCKS, Writer
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study


def test_waiting_writes_are_limited(tmp_path):
    url = storage_in(tmp_path)
    open_study("s", space=SPACE, storage=url)
    writer = Writer(Storage(url), max_waiting=2)
    goes_on = threading.Event()

    async def crowd() -> list[object]:
        waiting = [asyncio.ensure_future(writer.write("s", goes_on.wait)) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(ServiceError, match="2 waiting writes"):
            await writer.write("s", goes_on.wait)
        goes_on.set()
        return await asyncio.gather(*waiting)

    try:
        assert asyncio.run(crowd()) == [True, True]
    finally:
        writer.close()


def test_the_lock_is_released_and_each_caller_gets_its_result(tmp_path):
    url = storage_in(tmp_path)
    study = open_study("s", space=SPACE, storage=url, sampler="random")
    storage = Storage(url)
    own = get_study(storage, "s")
    writer = Writer(storage)

    async def work() -> None:
        trial = await writer.write("s", own.ask)
        assert storage.lock().holder() is not None
        study.storage.wait_s = 0.1
        with pytest.raises(StorageBusyError, match="process"):
            study.ask()
        study.storage.wait_s = 10.0
        await writer.write("s", lambda: own.tell(trial, 0.5))
        with pytest.raises(ConflictError):
            await writer.write("s", lambda: own.tell(trial, 0.75))
        await asyncio.sleep(IDLE_S + 0.5)
        assert storage.lock().holder() is None
        assert study.ask().number == 1
        assert (await writer.write("s", own.ask)).number == 2

    try:
        asyncio.run(work())
    finally:
        writer.close()
    assert storage.lock().holder() is None


def test_studies_in_postgresql_share_few_locks(postgres_url, monkeypatch):
    monkeypatch.setattr("aifs_tune.service.writer.IDLE_S", 300.0)
    names = [f"s{i}" for i in range(MAX_HELD_LOCKS + 2)]
    for name in names:
        open_study(name, space=SPACE, storage=postgres_url, sampler="random")
    storage = Storage(postgres_url)
    studies = {name: get_study(storage, name) for name in names}
    writer = Writer(storage)

    async def work() -> None:
        for name in names * 2:
            await writer.write(name, studies[name].ask)
        held = [name for name in names if storage.lock(name).holder() is not None]
        assert held == names[-MAX_HELD_LOCKS:]

    try:
        asyncio.run(work())
    finally:
        writer.close()
    assert all(study.counts()["running"] == 2 for study in studies.values())
    assert all(storage.lock(name).holder() is None for name in names)


KILLED_AT_EVERY_WRITE = """
    import itertools, os, signal, sys
    import sqlalchemy
    from aifs_tune.service.audit import Action, AuditLog
    from aifs_tune.service.idempotency import StoredResponse, WriteRequest, idempotent_response
    from aifs_tune.service.tokens import RESPONSES, Caller, make_tables
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study

    action = Action(Caller(None, "measure"), None, "default", "POST", "/v1/studies/{study}/trials/{trial}/tell", "s", 0)
    url, request = sys.argv[1], WriteRequest(action, "/v1/studies/s/trials/0/tell", {"value": 0.5}, "key")

    def tell(deadly):
        writes = itertools.count()

        def die(*arguments):
            if not arguments[2].lstrip().startswith(("SELECT", "PRAGMA")) and next(writes) == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

        storage = Storage(url)
        study = get_study(storage, "s")
        sqlalchemy.event.listen(storage.rdb.engine, "before_cursor_execute", die)
        sqlalchemy.event.listen(storage.rdb.engine, "commit", lambda connection: die(0, 0, "COMMIT"))
        respond = lambda: StoredResponse(200, str(study.tell(0, 0.5).finished_at).encode())
        storage.transact(lambda: idempotent_response(storage, request, respond), "s")
        os._exit(0)

    make_tables(Storage(url))
    for deadly in itertools.count():
        child = os.fork()
        if child == 0:
            tell(deadly)
        status = os.waitpid(child, 0)[1]
        storage = Storage(url)
        with storage.rdb.engine.connect() as connection:
            bodies = [bytes(row.body).decode() for row in connection.execute(sqlalchemy.select(RESPONSES))]
        trial = get_study(storage, "s").trial(0)
        agree = bodies == [str(trial.finished_at)] if bodies else trial.state == "running"
        agree = agree and [entry.trial for entry in AuditLog(storage).entries()] == [0] * len(bodies)
        print(deadly, trial.state, agree, flush=True)
        storage.close()
        if status == 0:
            break
"""


def test_a_response_and_its_audit_entry_are_stored_in_the_same_transaction_as_the_result(tmp_path):
    url = storage_in(tmp_path)
    open_study("s", space=SPACE, storage=url, sampler="random").ask()
    out, _ = start(KILLED_AT_EVERY_WRITE, url).communicate(timeout=120)
    lines = [line.split() for line in out.splitlines()]
    assert len(lines) > 4
    assert [line[2] for line in lines] == ["True"] * len(lines)
    assert [line[1] for line in lines] == ["running"] * (len(lines) - 1) + ["complete"]
