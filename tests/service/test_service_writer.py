"""The thread that writes, without the network around it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from services import SPACE, storage_in

from aifs_tune.errors import ConflictError, ServiceError, StorageBusyError
from aifs_tune.service.writer import IDLE_S, MOST_HELD, Writer
from aifs_tune.storage import Storage
from aifs_tune.studies import get_study, open_study


def test_it_takes_no_more_than_it_may(tmp_path):
    url = storage_in(tmp_path)
    open_study("s", space=SPACE, storage=url)
    writer = Writer(Storage(url), most_waiting=2)
    goes_on = threading.Event()

    async def crowd() -> list[object]:
        waiting = [asyncio.ensure_future(writer.write("s", goes_on.wait)) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(ServiceError, match="2 requests wait"):
            await writer.write("s", goes_on.wait)
        goes_on.set()
        return await asyncio.gather(*waiting)

    try:
        assert asyncio.run(crowd()) == [True, True]
    finally:
        writer.close()


def test_it_gives_the_lock_back_and_tells_each_what_became_of_it(tmp_path):
    url = storage_in(tmp_path)
    study = open_study("s", space=SPACE, storage=url, sampler="random")
    storage = Storage(url)
    own = get_study(storage, "s")
    writer = Writer(storage)

    async def work() -> None:
        trial = await writer.write("s", own.ask)
        assert storage.lock().owner() is not None
        study.storage.wait_s = 0.1
        with pytest.raises(StorageBusyError, match="process"):
            study.ask()
        study.storage.wait_s = 10.0
        await writer.write("s", lambda: own.tell(trial, 0.5))
        with pytest.raises(ConflictError):
            await writer.write("s", lambda: own.tell(trial, 0.75))
        await asyncio.sleep(IDLE_S + 0.5)
        assert storage.lock().owner() is None
        assert study.ask().number == 1
        assert (await writer.write("s", own.ask)).number == 2

    try:
        asyncio.run(work())
    finally:
        writer.close()
    assert storage.lock().owner() is None


def test_studies_in_postgresql_share_few_locks(postgres_url):
    names = [f"s{i}" for i in range(MOST_HELD + 2)]
    for name in names:
        open_study(name, space=SPACE, storage=postgres_url, sampler="random")
    storage = Storage(postgres_url)
    studies = {name: get_study(storage, name) for name in names}
    writer = Writer(storage)

    async def work() -> None:
        for name in names * 2:
            await writer.write(name, studies[name].ask)
        held = [name for name in names if storage.lock(name).owner() is not None]
        assert held == names[-MOST_HELD:]

    try:
        asyncio.run(work())
    finally:
        writer.close()
    assert all(study.counts()["running"] == 2 for study in studies.values())
    assert all(storage.lock(name).owner() is None for name in names)
