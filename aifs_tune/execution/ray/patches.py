"""Changes to the inside of Ray Tune, made once in this process and in this module alone.

Each acts only on what belongs to a sweep of this package, so that several sweeps can run in threads and other programs
can use Ray Tune beside them. ``tests/execution/ray/test_ray_internals.py`` names every private attribute relied upon;
it fails by that name when a release of Ray moves one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import ray
from ray.air._internal import usage
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution.class_cache import _ActorClassCache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.registry import TRAINABLE_CLASS, _Registry

from aifs_tune.execution.ray.callback import TrialMonitor
from aifs_tune.execution.ray.searcher import StudySearcher


@cache
def apply_patches() -> None:
    """Change Ray Tune in this process; a second call does nothing."""
    _start_in_preloaded_workers()
    _read_trainables_once()
    _handle_failures_of_sweeps()
    _report_memory_kills_as_dead_workers()
    _count_callbacks_without_trackers()


def _start_in_preloaded_workers() -> None:
    """Tune asks for workers with some environment variables of the driver and one of its own. Workers that were started
    with our Ray have these variables but were not asked for with them: Ray would leave them idle and start others. A
    trainable whose ``uses_preloaded_workers`` is true is started without variables."""
    get = _ActorClassCache.get

    @wraps(get)
    def get_actor_class(actor_classes: Any, trainable: Any) -> Any:
        if not getattr(trainable, "uses_preloaded_workers", False):
            return get(actor_classes, trainable)
        if trainable not in actor_classes._cache:
            actor_classes._cache[trainable] = ray.remote(runtime_env={"env_vars": {}})(trainable)
        return actor_classes._cache[trainable]

    _ActorClassCache.get = get_actor_class


_TRAINABLES: dict[str, Any] = {}
"""Trainables of sweeps that run, by their name; None until the first look-up."""


@contextmanager
def trainable_read_once(name: str) -> Iterator[None]:
    """While this lasts, the trainable ``name`` is read from the cluster once. Tune asks for it five times a trial, at a
    higher cost than the trial's transactions."""
    _TRAINABLES[name] = None
    try:
        yield
    finally:
        del _TRAINABLES[name]


def _read_trainables_once() -> None:
    get, contains = _Registry.get, _Registry.contains

    @wraps(get)
    def get_once(registry: Any, category: str, key: str) -> Any:
        if category != TRAINABLE_CLASS or key not in _TRAINABLES:
            return get(registry, category, key)
        if _TRAINABLES[key] is None:
            _TRAINABLES[key] = get(registry, category, key)
        return _TRAINABLES[key]

    @wraps(contains)
    def contains_once(registry: Any, category: str, key: str) -> bool:
        is_known = category == TRAINABLE_CLASS and _TRAINABLES.get(key) is not None
        return is_known or contains(registry, category, key)

    _Registry.get, _Registry.contains = get_once, contains_once


def _handle_failures_of_sweeps() -> None:
    """Tune hears twice of a worker that is dead when it is handed its next trial. The first time, the trial is put back
    for another worker; the second time, it would be given up, whatever its retries. The searcher hears of each failure
    first, since it may have to exclude a node."""
    process = TuneController._process_trial_failure

    @wraps(process)
    def process_failure(controller: Any, trial: Any, exception: Any) -> None:
        searcher = searcher_of(controller)
        if searcher is not None:
            searcher.on_worker_failure(trial.trial_id, exception)
            controller._resetting_trials.discard(trial)  # otherwise Tune believes that the trial has its worker
            if trial.status == Trial.PENDING and trial not in controller._trial_to_actor:
                return
        process(controller, trial, exception)

    TuneController._process_trial_failure = process_failure


def searcher_of(controller: Any) -> StudySearcher | None:
    """The searcher of a sweep that this controller of Tune runs; None if it runs something else."""
    found = controller._search_alg
    while found is not None and not isinstance(found, StudySearcher):
        found = getattr(found, "searcher", None)
    return found


def _report_memory_kills_as_dead_workers() -> None:
    """Ray's memory monitor kills a worker with an error that Tune does not know and that ends the whole run. Tune gets
    the error of a worker that died, with the same text."""
    fail = RayActorManager._actor_task_failed

    @wraps(fail)
    def fail_task(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        fail(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = fail_task


def _count_callbacks_without_trackers() -> None:
    """Tune imports MLflow, Weights & Biases and Comet, where they are installed, to count how many of a run's callbacks
    are theirs: 2 s for MLflow alone. Those of a sweep are ours."""
    count = usage._count_callbacks

    @wraps(count)
    def count_callbacks(callbacks: Any) -> dict[str, int]:
        if callbacks and all(isinstance(callback, TrialMonitor) for callback in callbacks):
            return {"CustomCallback": len(callbacks)}
        return dict(count(callbacks))

    usage._count_callbacks = count_callbacks
