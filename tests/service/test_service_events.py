"""Tests of event streams: each change of any process once and in order, after a reconnect too."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import psutil
import pytest
from servers import database_url
from services import SPACE, Service, request_head, run_cli, storage_in

from aifs_tune.client.client import Client
from aifs_tune.errors import NotFoundError, ServiceError
from aifs_tune.service import changes
from aifs_tune.service.changes import ChangeFeed, Channel
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import TrialProgress

NONE = {"complete": 0, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def storage(request, tmp_path_factory) -> str:
    if request.param == "sqlite":
        return storage_in(tmp_path_factory.mktemp("events"))
    server = request.getfixturevalue("postgres")
    server.psql("CREATE DATABASE events TEMPLATE template_lab")
    return database_url(server, "events")


@pytest.fixture(scope="module")
def service(storage):
    with Service(storage) as running:
        yield running


class Stream:
    """The events of a study, one after another, as (id, data)."""

    def __init__(self, service: Service, study: str, after: str | None = None, **headers: str) -> None:
        if after is not None:
            headers["Last-Event-ID"] = after
        self._http = service.http()
        self._sent = self._http.stream("GET", f"/v1/studies/{study}/events", headers=headers)
        self.response = self._sent.__enter__()
        self._lines = self.response.iter_lines()

    def __iter__(self) -> Iterator[tuple[str | None, dict]]:
        event_id = None
        for line in self._lines:
            if line.startswith("id: "):
                event_id = line.removeprefix("id: ")
            elif line.startswith("data: "):
                yield event_id, json.loads(line.removeprefix("data: "))
                event_id = None

    def take(self, n: int) -> list[tuple[str | None, dict]]:
        events = iter(self)
        return [next(events) for _ in range(n)]

    def until(self, trial: int, **wanted: object) -> list[tuple[str | None, dict]]:
        """All events up to the one that says this of a trial."""
        events = []
        for event in self:
            events.append(event)
            if event[1].get("trial") == trial and wanted.items() <= event[1].items():
                return events
        raise AssertionError(events)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._sent.__exit__(None, None, None)
        self._http.close()


def test_a_stream_has_the_changes_of_every_process(service, storage):
    with Client(service.url) as client:
        study = client.open_study("live", space=SPACE, sampler="random")
        with Stream(service, "live") as stream:
            assert stream.response.headers["content-type"].startswith("text/event-stream")
            ((first, hello),) = stream.take(1)
            assert (hello, first is not None) == ({"study": "live", "n_trials": NONE}, True)
            study.ask()
            ((_, asked),) = stream.take(1)
            assert asked == {"study": "live", "trial": 0, "state": "running", "n_trials": NONE | {"running": 1}}
            study.report(0, 1, {"value": 0.5})
            assert {"epoch": 1, "value": 0.5, "state": "running"}.items() <= stream.take(1)[0][1].items()
            time.sleep(1.2)  # the service has given the lock back
            elsewhere = get_study(Storage(storage), "live")  # as a sweep has it
            elsewhere.report(0, 2, {"value": 0.25})
            assert {"epoch": 2, "value": 0.25}.items() <= stream.take(1)[0][1].items()
            assert run_cli("tell", "live", "0", "0.75", storage=storage).returncode == 0
            ((_, told),) = stream.take(1)
            ended = {"study": "live", "trial": 0, "state": "complete", "epoch": 2, "value": 0.75}
            assert told == ended | {"n_trials": NONE | {"complete": 1}}


def test_a_client_that_reconnects_misses_nothing(service):
    with Client(service.url) as client:
        study = client.open_study("back", space=SPACE, sampler="random")
        study.tell(study.ask(), 0.5)
        with Stream(service, "back") as stream:
            ((first, _),) = stream.take(1)
            study.ask_batch(2)
            ((second, _), (last, _)) = stream.take(2)
        study.tell(1, 0.25)
        study.tell(2, state="failed", reason="cracked")
        with Stream(service, "back", after=last) as again:
            assert again.take(1)[0] == (None, {"study": "back", "n_trials": study.counts()})
            missed = again.until(2, state="failed")
            assert [event["trial"] for _, event in missed] == [1, 2]
        with Stream(service, "back", after=second) as again:
            again.take(1)
            assert [event["trial"] for _, event in again.until(2, state="failed")] == [2, 1, 2]
        with Stream(service, "back", after=first) as again:
            again.take(1)
            assert [event["trial"] for _, event in again.until(2, state="failed")] == [1, 2, 1, 2]
        for unknown in ("0", "deadbeef-1", "nonsense", first.split("-")[0] + "-99999"):
            with Stream(service, "back", after=unknown) as again:
                again.take(1)
                events = again.until(2, state="failed")
                assert [event["trial"] for _, event in events] == [0, 1, 2], unknown
                assert [event["state"] for _, event in events] == ["complete", "complete", "failed"]
                assert events[-1][0] is not None
        with service.http() as http:
            told = http.get("/v1/studies/back/events", params={"after": "0", "for_s": 0}).text
            assert told.count("data: ") == 4
            assert told.startswith("retry: 2000\ndata: ")


def test_streams_end_with_the_service(tmp_path):
    storage = storage_in(tmp_path)
    open_study("end", space=SPACE, storage=storage)
    with Service(storage) as ending, Stream(ending, "end") as stream:
        stream.take(1)
        ending.process.terminate()
        assert list(stream) == []
        assert ending.process.wait(timeout=60) == 0
        assert not any("Cancel" in line or "Traceback" in line for line in ending.said), ending.said


def test_the_data_version_changes_with_every_write(storage):
    study, watching = open_study("marked", space=SPACE, storage=storage, sampler="random"), Storage(storage)
    marks = [watching.data_version()]
    for write in (study.ask, lambda: study.tell(0, 0.5), get_study(watching, "marked").ask):
        write()
        marks.append(watching.data_version())
    assert len(set(marks)) == 4
    if storage.startswith("sqlite"):
        assert watching.data_version() == marks[-1], "reading changes nothing"
    watching.close()


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_a_client_that_reads_nothing_uses_little_memory(service):
    process = psutil.Process(service.process.pid)
    with Client(service.url) as client:
        study = client.open_study("deaf", space=SPACE, sampler="random")
        study.ask_batch(64)
        deaf = [service.socket() for _ in range(20)]
        for connection in deaf:
            connection.sendall(request_head(service, "/v1/studies/deaf/events?after=0", method="GET"))
        before = process.memory_info().rss
        with Stream(service, "deaf") as stream:
            stream.take(1)
            for trial in range(64):
                study.tell(trial, float(trial))
            stream.until(63, state="complete")
        assert process.memory_info().rss - before < 50 * 1024 * 1024
        for connection in deaf:
            connection.close()


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_a_head_request_gets_only_the_headers(service):
    with Client(service.url) as client:
        client.open_study("head", space=SPACE, sampler="random").tell(client.study("head").ask(), 0.5)
    with service.http() as http:
        for path in ("", "/head", "/head/best", "/head/trials", "/head/trials?format=csv", "/head/trials/0"):
            got, headed = http.get(f"/v1/studies{path}"), http.head(f"/v1/studies{path}")
            assert (headed.status_code, headed.content) == (200, b"")
            for name in ("content-type", "content-length", "etag", "link"):
                assert headed.headers.get(name) == got.headers.get(name), (path, name)
        streamed = http.head("/v1/studies/head/events")
        assert (streamed.status_code, streamed.content) == (200, b"")
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert http.head("/v1/studies/nobody").status_code == 404
        assert http.head("/v1/studies/head/ask").status_code == 405


def glance(state: str = "running", epoch: int | None = None) -> TrialProgress:
    return TrialProgress(state, epoch, None if epoch is None else float(epoch))


def test_a_client_that_is_too_slow_gets_the_current_state(monkeypatch):
    monkeypatch.setattr(changes, "MAX_KEPT_EVENTS", 3)
    channel = Channel("default", "s")
    channel.take([glance()])
    for epoch in range(1, 6):
        channel.take([glance(epoch=epoch), glance()])
    assert channel.last == 6  # the second trial came once
    assert len(channel.since(3)) == 3
    assert channel.position_of(channel.id_at(2)) is None
    (only, other) = channel.since(2)
    assert b'"epoch":5' in only
    assert b"id: " in other
    assert channel.since(channel.last) == []
    channel.take([glance()])
    assert channel.is_over, "fewer trials: it is another study"


class FakeContext:
    """Reads from memory."""

    def __init__(self, n_trials: int = 1) -> None:
        self.trial_progress: list[TrialProgress] | None = [glance()] * n_trials
        self.n_read = self.n_marks = self.written = 0

    async def data_version(self) -> str:
        self.n_marks += 1
        return str(self.written)

    async def read_study(self, project: str, name: str, question: object, /) -> list[TrialProgress]:
        assert question is StudyRecord.trial_progress
        self.n_read += 1
        if self.trial_progress is None:
            raise NotFoundError(name)
        return list(self.trial_progress)


def test_trials_are_read_only_after_a_write(monkeypatch):
    monkeypatch.setattr(changes, "POLL_S", 0.001)

    async def scene() -> None:
        context, woken = FakeContext(), asyncio.Event()
        watched = ChangeFeed(context)
        channel = await watched.subscribe("default", "s", woken)
        while context.n_marks < 50:
            await asyncio.sleep(0.001)
        assert context.n_read == 2, "as it was opened, and once for the first mark"
        context.trial_progress, context.written = [glance(epoch=1)], 1
        await woken.wait()
        assert channel.last == 1
        context.trial_progress, context.written = None, 2
        woken.clear()
        await woken.wait()
        assert channel.is_over
        watched.unsubscribe(channel, woken)
        with pytest.raises(NotFoundError):
            await watched.subscribe("default", "s", woken)
        await watched.close()

    asyncio.run(scene())


def test_polling_ends_without_subscribers(monkeypatch):
    monkeypatch.setattr(changes, "POLL_S", 0.001)
    monkeypatch.setattr(changes, "CHANNEL_TTL_S", 0.0)

    async def scene() -> None:
        context, woken = FakeContext(), asyncio.Event()
        watched = ChangeFeed(context)
        channel = await watched.subscribe("default", "s", woken)
        watched.unsubscribe(channel, woken)
        await asyncio.sleep(0.05)
        n_marks = context.n_marks
        await asyncio.sleep(0.05)
        assert context.n_marks == n_marks
        assert await watched.subscribe("default", "s", woken) is not channel
        await watched.close()

    asyncio.run(scene())


def test_streams_are_limited_in_total_and_per_project(monkeypatch):
    monkeypatch.setattr(changes, "MAX_STREAMS", 3)
    monkeypatch.setattr(changes, "MAX_STREAMS_PER_PROJECT", 2)

    async def scene() -> None:
        watched = ChangeFeed(FakeContext())
        for project, study in (("a", "s"), ("a", "t"), ("b", "s")):
            await watched.subscribe(project, study, asyncio.Event())
        for project in ("a", "b"):
            with pytest.raises(ServiceError, match="too many event streams"):
                await watched.subscribe(project, "s", asyncio.Event())
        await watched.close()

    asyncio.run(scene())


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_a_closed_stream_frees_its_slot(service):
    with Client(service.url) as client:
        client.open_study("room", space=SPACE)
    streams = [Stream(service, "room") for _ in range(changes.MAX_STREAMS_PER_PROJECT)]
    assert {stream.response.status_code for stream in streams} == {200}
    with Stream(service, "room") as refused:
        assert (refused.response.status_code, refused.response.headers["retry-after"]) == (503, "1")
    for stream in streams:
        stream.__exit__()
    until = time.monotonic() + 10
    while not Stream(service, "room").response.is_success:
        assert time.monotonic() < until
