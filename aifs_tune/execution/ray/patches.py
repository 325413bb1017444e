"""What Ray Tune does otherwise than a sweep needs it, changed for as long as a sweep runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution.class_cache import DEFAULT_ENV_VARS, ENV_VARS_TO_PROPAGATE
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.registry import _global_registry


@contextmanager
def without_worker_env_vars() -> Iterator[None]:
    """Tune asks for workers with some variables of this process and one of its own. Those that started with our Ray
    have the variables, but were not asked for with them: Ray would leave them idle and start others."""
    default, propagated = dict(DEFAULT_ENV_VARS), set(ENV_VARS_TO_PROPAGATE)
    DEFAULT_ENV_VARS.clear()
    ENV_VARS_TO_PROPAGATE.clear()
    try:
        yield
    finally:
        DEFAULT_ENV_VARS.update(default)
        ENV_VARS_TO_PROPAGATE.update(propagated)


@contextmanager
def cached_trainable() -> Iterator[None]:
    """Tune asks the cluster for its trainable five times a trial, which costs more than a trial's transactions:
    what it found once stands until the sweep is over."""
    found: dict[tuple[str, str], Any] = {}
    get, contains = _global_registry.get, _global_registry.contains

    def remembered(category: str, key: str) -> Any:
        if (category, key) not in found:
            found[category, key] = get(category, key)
        return found[category, key]

    _global_registry.get = remembered
    _global_registry.contains = lambda category, key: (category, key) in found or contains(category, key)
    try:
        yield
    finally:
        del _global_registry.get, _global_registry.contains


@contextmanager
def single_failure_count() -> Iterator[None]:
    """Tune hears twice of a worker that is dead when it is handed its next trial: the first time the trial is put back
    for another worker, the second time it would be given up, whatever its retries."""
    fail = TuneController._process_trial_failure

    def failed(controller: Any, trial: Any, exception: Any) -> None:
        controller._resetting_trials.discard(trial)  # or it would be taken for one that has its worker
        if trial.status == Trial.PENDING and trial not in controller._trial_to_actor:
            return
        fail(controller, trial, exception)

    TuneController._process_trial_failure = failed
    try:
        yield
    finally:
        TuneController._process_trial_failure = fail


@contextmanager
def oom_kill_as_actor_error() -> Iterator[None]:
    """Ray's memory monitor kills a worker with an error that Tune does not know, and which ends the whole sweep: Tune
    is given the one of a worker that died, with the same text."""
    failed = RayActorManager._actor_task_failed

    def translated(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        failed(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = translated
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = failed
