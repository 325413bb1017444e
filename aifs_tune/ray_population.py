"""Populations as Ray actors: one holds a GPU and trains for many trials, each of which keeps a worker of its own."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from aifs_tune.cluster import Pool
from aifs_tune.errors import LostError, NodeError, WorkError
from aifs_tune.job import Job
from aifs_tune.listener import Listener
from aifs_tune.ray_nodes import LeftOut, MisplacedError
from aifs_tune.space import Scalar
from aifs_tune.trainers.by_name import make_population, why_alone

if TYPE_CHECKING:
    from aifs_tune.trainers.population import Member

_MOST = 1024
_ROUNDS = 4
"""A size that is chosen by measurement leaves so many rounds of trials: in a single one no result steers the search."""
_FIND_PLACE_S = 60.0
_ANSWER_S = 0.2
_START_S = 60.0


@dataclass(frozen=True)
class Crew:
    """Who trains: ``workers`` trials at a time, of which each occupies ``cpu`` and ``gpu``; in ``populations``
    (actors), or each in its own worker if there are none."""

    workers: int
    cpu: float
    gpu: float
    populations: tuple[Any, ...] = ()


@contextmanager
def crew_for(job: Job, pool: Pool, *, n_trials: int, listener: Listener) -> Iterator[Crew]:
    """The crew for ``n_trials`` trials; its populations live as long as the context.

    A population takes what ``resources`` give to one trial; the CPU of it is counted as its members'.

    Raises
    ------
    WorkError
        If a population cannot start.
    """
    wanted_size = job.spec.resources.population
    alone = Crew(pool.workers, pool.cpu, pool.gpu)
    if job.data is None or (reason := why_alone(job.spec)) is not None:
        if job.data is not None and pool.gpu and wanted_size != 1 and job.spec.resources.gpu != "auto":
            listener.stage(f"each trial trains alone: {reason}")
        yield alone
        return
    workers = job.spec.search.workers or (math.ceil(n_trials / _ROUNDS) if wanted_size == "auto" else _MOST)
    wanted = min(n_trials, workers)
    most = wanted_size if wanted_size != "auto" else math.ceil(wanted / pool.workers)
    left_out = LeftOut(pool.is_room, listener.stage)

    def hall(size: int) -> Any:
        actor = ray.remote(Hall).options(
            num_cpus=0,
            num_gpus=pool.gpu,
            max_concurrency=2 * most + 8,
            max_restarts=-1,
            max_task_retries=0,
            label_selector=left_out.selector,
        )
        return actor.remote(job, size)

    populations = _started(1, lambda: hall(most), left_out)
    try:
        size: int = ray.get(populations[0].size.remote())
        if size == 1:
            listener.stage("each trial trains alone: a population gains nothing on this device")
            ray.kill(populations.pop())
            yield alone
            return
        n_others = min(pool.workers, math.ceil(wanted / size)) - 1
        populations += _started(n_others, lambda: hall(size), left_out, timeout_s=_START_S)
        n_members = min(wanted, size * len(populations))
        listener.stage(f"{len(populations)} population(s) of {size} trials in one program each")
        yield Crew(n_members, math.floor(1e4 * pool.cpu / size) / 1e4, 0.0, tuple(populations))
    finally:
        for population in populations:
            ray.kill(population)


def _started(count: int, start: Callable[[], Any], left_out: LeftOut, *, timeout_s: float | None = None) -> list[Any]:
    """So many populations, on nodes that can have them as far as is known in time."""
    settled: list[Any] = []
    while len(settled) < count:
        fresh = [start() for _ in range(count - len(settled))]
        sizes = [each.size.remote() for each in fresh]
        ray.wait(sizes, num_returns=len(sizes), timeout=timeout_s)
        try:
            misplaced = [_is_misplaced(size, left_out) for size in sizes]
        except WorkError:
            for each in (*settled, *fresh):
                ray.kill(each)
            raise
        for each, is_misplaced in zip(fresh, misplaced, strict=True):
            ray.kill(each) if is_misplaced else settled.append(each)
    return settled


def _is_misplaced(size: Any, left_out: LeftOut) -> bool:
    """Whether a population that was asked for its size is on a node that cannot have it, which is then left out.

    Raises
    ------
    WorkError
        If it cannot start for another reason, or there is no other node.
    """
    try:
        ray.get(size, timeout=0)
    except GetTimeoutError:
        pass  # it still starts
    except (RayActorError, RayTaskError) as error:
        cause = getattr(error, "cause", error)
        if not isinstance(cause, MisplacedError):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise WorkError(f"a population cannot start: {lines[-1][:300]}") from error
        if (problem := left_out.add(cause.node, cause.reason)) is not None:
            raise problem from error
        return True
    return False


class Hall:
    """The actor: a population and who sits at which of its places. Called from several threads."""

    def __init__(self, job: Job, most: int) -> None:
        self._problem: MisplacedError | None = None
        try:
            data = job.data_here()
        except NodeError as error:  # an actor that cannot be made does not tell where that was
            self._problem = MisplacedError(ray.get_runtime_context().get_node_id(), str(error))
            return
        assert data is not None
        self._population = make_population(job.spec, data, most=most)
        self._lock = threading.Lock()
        self._seats: dict[str, tuple[Any, Member]] = {}

    def size(self) -> int:
        """Trials that train at the same time.

        Raises
        ------
        MisplacedError
            If the node cannot run any.
        """
        if self._problem is not None:
            raise self._problem
        return self._population.size

    def sit(self, worker: Any) -> str | None:
        """A new seat's name for the trials of an actor; None if all are taken by actors that live."""
        with self._lock:
            if len(self._seats) == self.size():
                for seat in _abandoned({seat: owner for seat, (owner, _) in self._seats.items()}):
                    self._seats.pop(seat)[1].release()
            if len(self._seats) == self._population.size:
                return None
            seat = uuid.uuid4().hex
            self._seats[seat] = worker, self._population.member()
            return seat

    def call(self, seat: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """What ``method`` of the member at this seat answers, whether it is finished, and what it has spent."""
        if seat not in self._seats:
            raise LostError("this population was started anew and does not know the trial")
        member = self._seats[seat][1]
        answer = getattr(member, method)(*args, **kwargs)
        return answer, member.is_finished, dict(member.spent)

    def written(self, seat: str, method: str) -> Any:
        """As :meth:`call` for a ``method`` that is given a folder to fill: the files that it wrote, by their names, and
        which one it answered."""
        with TemporaryDirectory(prefix="aifs_tune_") as made:
            folder = Path(made)
            answer, is_finished, spent = self.call(seat, method, folder)
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return (files, None if answer is None else answer.name), is_finished, spent

    def load(self, seat: str, files: Mapping[str, bytes]) -> Any:
        """As :meth:`call` for ``load``, of a folder with these files."""
        with TemporaryDirectory(prefix="aifs_tune_") as made:
            for name, content in files.items():
                (Path(made) / name).write_bytes(content)
            return self.call(seat, "load", Path(made))


def _abandoned(owners: Mapping[str, Any]) -> list[str]:
    """The seats whose actor is dead; one that lives but is busy answers nothing."""
    asked = {owner.__ray_ready__.remote(): seat for seat, owner in owners.items()}
    answered, _ = ray.wait([*asked], num_returns=len(asked), timeout=_ANSWER_S)
    dead = []
    for ref in answered:
        try:
            ray.get(ref)
        except RayActorError:
            dead.append(asked[ref])
    return dead


class RemoteMember:
    """The trainer in a trial's worker: a seat in one of the populations. Finds one when it is made.

    Raises
    ------
    LostError
        If no population has a free seat within a minute, or its population's process died.
    """

    def __init__(self, populations: tuple[Any, ...]) -> None:
        self.is_finished = False
        self.spent: Mapping[str, float] = {}
        me = ray.get_runtime_context().current_actor
        until = time.monotonic() + _FIND_PLACE_S
        while True:
            for self._hall in populations:
                try:
                    seat = ray.get(self._hall.sit.remote(me))
                except RayActorError:
                    continue  # it is being started anew
                if seat is not None:
                    self._seat: str = seat
                    return
            if time.monotonic() > until:
                raise LostError(f"no population had a free place within {_FIND_PLACE_S:g} s")
            time.sleep(0.1)

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """As of a member."""
        self._call("reset", dict(params), seed=seed)

    def epoch(self) -> dict[str, float]:
        """As of a member."""
        metrics: dict[str, float] = self._call("epoch")
        return metrics

    def save(self, folder: Path) -> None:
        """As of a member."""
        self._write("save", folder)

    def load(self, folder: Path) -> None:
        """As of a member."""
        self._answer(self._hall.load.remote(self._seat, {path.name: path.read_bytes() for path in folder.iterdir()}))

    def save_best(self, folder: Path) -> Path:
        """As of a member."""
        name = self._write("save_best", folder)
        assert name is not None
        return folder / name

    def _write(self, method: str, folder: Path) -> str | None:
        """Have the files written by the population's process, which may be on another machine, and write them here."""
        files, answer = self._answer(self._hall.written.remote(self._seat, method))
        for name, content in files.items():
            (folder / name).write_bytes(content)
        written: str | None = answer
        return written

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._answer(self._hall.call.remote(self._seat, method, *args, **kwargs))

    def _answer(self, asked: Any) -> Any:
        try:
            answer, self.is_finished, self.spent = ray.get(asked)
        except RayActorError as error:
            raise LostError("the process of the population died") from error
        except RayTaskError as error:
            raise error.cause from None
        return answer
