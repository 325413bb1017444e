"""Fused trials as Ray actors: one actor holds a GPU and trains many trials, each of which has its own worker."""

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

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import LostError, NodeError, WorkError
from aifs_tune.execution.callbacks import SweepCallback
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.ray.cluster import Pool
from aifs_tune.execution.ray.nodes import ExcludedNodes, UnusableNodeError
from aifs_tune.trainers.factory import make_fused_trainer, why_not_fused

if TYPE_CHECKING:
    from aifs_tune.trainers.network.trainer import NetTrainer


_MOST = 1024
_ROUNDS = 4
"""Least number of rounds of trials that a measured size leaves: in a single round no result guides the search."""
_FIND_SLOT_S = 60.0
_ANSWER_S = 0.2
_START_S = 60.0


@dataclass(frozen=True)
class WorkerGroup:
    """Workers of a run: ``workers`` trials at a time, each with ``cpu`` and ``gpu``; trained in ``fused_actors``, or
    each in its own worker if there are none."""

    workers: int
    cpu: float
    gpu: float
    fused_actors: tuple[Any, ...] = ()


@contextmanager
def open_worker_group(
    context: TrialContext, pool: Pool, *, n_trials: int, callback: SweepCallback
) -> Iterator[WorkerGroup]:
    """Open the worker group for ``n_trials`` trials; its actors live as long as the context.

    A population takes what ``resources`` give to one trial; the CPU of it is counted as its members'.

    Raises
    ------
    WorkError
        If a population cannot start.
    """
    wanted_size = context.spec.resources.fused_trials
    alone = WorkerGroup(pool.workers, pool.cpu, pool.gpu)
    if context.data is None or (reason := why_not_fused(context.spec)) is not None:
        if context.data is not None and pool.gpu and wanted_size != 1 and context.spec.resources.gpu != "auto":
            callback.on_status(f"each trial trains alone: {reason}")
        yield alone
        return
    workers = context.spec.search.workers or (math.ceil(n_trials / _ROUNDS) if wanted_size == "auto" else _MOST)
    wanted = min(n_trials, workers)
    most = wanted_size if wanted_size != "auto" else math.ceil(wanted / pool.workers)
    excluded_nodes = ExcludedNodes(pool.is_room, callback.on_status)

    def start_actor(size: int) -> Any:
        actor = ray.remote(FusedTrainerActor).options(
            num_cpus=0,
            num_gpus=pool.gpu,
            max_concurrency=2 * most + 8,
            max_restarts=-1,
            max_task_retries=0,
            label_selector=excluded_nodes.selector,
            runtime_env={"env_vars": {"KERAS_BACKEND": "jax"}},
        )
        return actor.remote(context, size)

    fused_actors = _started(1, lambda: start_actor(most), excluded_nodes)
    try:
        size: int = ray.get(fused_actors[0].size.remote())
        if size == 1:
            callback.on_status("each trial trains alone: fused training gains nothing on this device")
            ray.kill(fused_actors.pop())
            yield alone
            return
        n_others = min(pool.workers, math.ceil(wanted / size)) - 1
        fused_actors += _started(n_others, lambda: start_actor(size), excluded_nodes, timeout_s=_START_S)
        n_members = min(wanted, size * len(fused_actors))
        callback.on_status(f"{len(fused_actors)} group(s) of {size} fused trials, each in one program")
        yield WorkerGroup(n_members, math.floor(1e4 * pool.cpu / size) / 1e4, 0.0, tuple(fused_actors))
    finally:
        for actor in fused_actors:
            ray.kill(actor)


def _started(
    count: int, start: Callable[[], Any], excluded_nodes: ExcludedNodes, *, timeout_s: float | None = None
) -> list[Any]:
    """Start so many actors, on nodes that can run them as far as is known in time."""
    settled: list[Any] = []
    while len(settled) < count:
        fresh = [start() for _ in range(count - len(settled))]
        sizes = [each.size.remote() for each in fresh]
        ray.wait(sizes, num_returns=len(sizes), timeout=timeout_s)
        try:
            misplaced = [_is_misplaced(size, excluded_nodes) for size in sizes]
        except WorkError:
            for each in (*settled, *fresh):
                ray.kill(each)
            raise
        for each, is_misplaced in zip(fresh, misplaced, strict=True):
            ray.kill(each) if is_misplaced else settled.append(each)
    return settled


def _is_misplaced(size: Any, excluded_nodes: ExcludedNodes) -> bool:
    """Whether an actor is on a node that cannot run it; that node is then excluded.

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
        if not isinstance(cause, UnusableNodeError):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise WorkError(f"fused trials cannot start: {lines[-1][:300]}") from error
        if (problem := excluded_nodes.add(cause.node, cause.reason)) is not None:
            raise problem from error
        return True
    return False


class FusedTrainerActor:
    """Ray actor that trains fused trials, and which trial has which slot. Called from several threads."""

    def __init__(self, context: TrialContext, most: int) -> None:
        self._problem: UnusableNodeError | None = None
        try:
            data = context.data_location()
        except NodeError as error:  # an actor that cannot be made does not tell where that was
            self._problem = UnusableNodeError(ray.get_runtime_context().get_node_id(), str(error))
            return
        assert data is not None
        self._fused_trainer = make_fused_trainer(context.spec, data, max_size=most, function=context.function)
        self._lock = threading.Lock()
        self._slots: dict[str, tuple[Any, NetTrainer]] = {}

    def size(self) -> int:
        """Trials that train at the same time.

        Raises
        ------
        UnusableNodeError
            If the node cannot run any.
        """
        if self._problem is not None:
            raise self._problem
        return self._fused_trainer.size

    def acquire_slot(self, worker: Any) -> str | None:
        """Name of a new slot for the trials of an actor; None if living actors have all slots."""
        with self._lock:
            if len(self._slots) == self.size():
                for slot_id in _abandoned({slot_id: owner for slot_id, (owner, _) in self._slots.items()}):
                    self._fused_trainer.release(self._slots.pop(slot_id)[1])
            if len(self._slots) == self._fused_trainer.size:
                return None
            slot_id = uuid.uuid4().hex
            self._slots[slot_id] = worker, self._fused_trainer.trial_trainer()
            return slot_id

    def call(self, slot_id: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Result of ``method`` of the member in this slot, whether it is finished, and its timings."""
        if slot_id not in self._slots:
            raise LostError("the fused trainer was restarted and does not know the trial")
        member = self._slots[slot_id][1]
        answer = getattr(member, method)(*args, **kwargs)
        return answer, member.is_finished, dict(member.timings)

    def written(self, slot_id: str, method: str) -> Any:
        """Like :meth:`call` for a ``method`` that fills a folder: the files that it wrote, by name, and its result."""
        with TemporaryDirectory(prefix="aifs_tune_") as made:
            folder = Path(made)
            answer, is_finished, timings = self.call(slot_id, method, folder)
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return (files, None if answer is None else answer.name), is_finished, timings

    def load(self, slot_id: str, files: Mapping[str, bytes]) -> Any:
        """Like :meth:`call` for ``load``, from a folder with these files."""
        with TemporaryDirectory(prefix="aifs_tune_") as made:
            for name, content in files.items():
                (Path(made) / name).write_bytes(content)
            return self.call(slot_id, "load", Path(made))


def _abandoned(owners: Mapping[str, Any]) -> list[str]:
    """Slots whose actor is dead; a busy actor that lives does not answer."""
    asked = {owner.__ray_ready__.remote(): slot_id for slot_id, owner in owners.items()}
    answered, _ = ray.wait([*asked], num_returns=len(asked), timeout=_ANSWER_S)
    dead = []
    for ref in answered:
        try:
            ray.get(ref)
        except RayActorError:
            dead.append(asked[ref])
    return dead


class RemoteFusedMember:
    """Trainer in a trial's worker that uses a slot of a fused trainer. It finds one when it is made.

    Raises
    ------
    LostError
        If no population has a free seat within a minute, or its population's process died.
    """

    def __init__(self, fused_actors: tuple[Any, ...]) -> None:
        self.is_finished = False
        self.timings: Mapping[str, float] = {}
        self._begun: Any = None
        me = ray.get_runtime_context().current_actor
        until = time.monotonic() + _FIND_SLOT_S
        while True:
            for self._actor in fused_actors:
                try:
                    slot_id = ray.get(self._actor.acquire_slot.remote(me))
                except RayActorError:
                    continue  # it is being started anew
                if slot_id is not None:
                    self._slot_id: str = slot_id
                    return
            if time.monotonic() > until:
                raise LostError(f"no fused trainer had a free slot within {_FIND_SLOT_S:g} s")
            time.sleep(0.1)

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """As in a fused member, once the epoch that has begun is over."""
        begun, self._begun = self._begun, None
        if begun is not None:
            ray.wait([begun])
        self._call("reset", dict(params), seed=seed)

    def begin_epoch(self) -> None:
        """Begin the next epoch; see :class:`aifs_tune.trainers.protocol.BeginsEpochs`."""
        self._begun = self._actor.call.remote(self._slot_id, "epoch")

    def epoch(self) -> dict[str, float]:
        """As in a fused member."""
        if self._begun is None:
            self.begin_epoch()
        begun, self._begun = self._begun, None
        metrics: dict[str, float] = self._answer(begun)
        return metrics

    def save(self, folder: Path) -> None:
        """As in a fused member."""
        self._write("save", folder)

    def load(self, folder: Path) -> None:
        """As in a fused member."""
        self._answer(
            self._actor.load.remote(self._slot_id, {path.name: path.read_bytes() for path in folder.iterdir()})
        )

    def save_best(self, folder: Path) -> Path:
        """As in a fused member."""
        name = self._write("save_best", folder)
        assert name is not None
        return folder / name

    def _write(self, method: str, folder: Path) -> str | None:
        """Get the files from the fused trainer's process, which may be on another machine, and write them here."""
        files, answer = self._answer(self._actor.written.remote(self._slot_id, method))
        for name, content in files.items():
            (folder / name).write_bytes(content)
        written: str | None = answer
        return written

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._answer(self._actor.call.remote(self._slot_id, method, *args, **kwargs))

    def _answer(self, asked: Any) -> Any:
        try:
            answer, self.is_finished, self.timings = ray.get(asked)
        except RayActorError as error:
            raise LostError("the process of the fused trainer died") from error
        except RayTaskError as error:
            raise error.cause from None
        return answer
