"""Tuner: the driver's side of Ray Tune.

Tune starts and stops trials; what is proposed and what came out goes through the study alone. Tune's own
experiment state is thrown away.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.error import TuneError

from aifs_tune._util.gpu_sharing import choose_fraction, describe_gpus, larger_fraction
from aifs_tune._util.memory import MemoryUsage
from aifs_tune.errors import InterruptedSweepError, WorkError
from aifs_tune.execution.callbacks import Plan, SweepCallback
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.finalists import weights_to_keep
from aifs_tune.execution.memory_tracking import ResourceMonitor
from aifs_tune.execution.oom_retry import oom_num_gpus
from aifs_tune.execution.ray.callback import TrialMonitor
from aifs_tune.execution.ray.cluster import Pool, end_of_ray_told
from aifs_tune.execution.ray.fused import WorkerGroup, open_worker_group
from aifs_tune.execution.ray.nodes import ExcludedNodes, SweepResources, avoid_excluded_nodes
from aifs_tune.execution.ray.patches import apply_patches, trainable_read_once
from aifs_tune.execution.ray.pbt_scheduler import PbtScheduler
from aifs_tune.execution.ray.schedulers import finished_curves, make_scheduler
from aifs_tune.execution.ray.searcher import PbtSearcher, StudySearcher
from aifs_tune.execution.ray.trainable import TrialTrainable
from aifs_tune.execution.timing import Profile
from aifs_tune.study.record import StudyRecord
from aifs_tune.trainers.factory import find_trainer_entry


def _pbt_scheduler(searcher: PbtSearcher, context: TrialContext, n_trials: int, workers: int) -> PbtScheduler:
    trainer_entry = find_trainer_entry(context.spec)
    static_params = trainer_entry.static_params if trainer_entry is not None else ()
    first = searcher.gather(n_trials)
    population = PbtScheduler(
        context.spec,
        searcher.apply_exploits,
        static_params=static_params,
        n_trials=n_trials,
        workers=workers,
        first=first,
    )
    searcher.limit_concurrency(population.has_room)
    return population


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Give this process its handler of SIGINT back, which Ray Tune replaces for good."""
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if is_main and handler is not None:
            signal.signal(signal.SIGINT, handler)


class _Places:
    """How many trials the nodes of a cluster can run, which join and leave."""

    def __init__(self, pool: Pool, searcher: StudySearcher) -> None:
        self._pool, self._searcher, self._known = pool, searcher, pool.fit()

    def has_room(self) -> bool:
        """Whether one more trial may be handed out; tells when their number has changed."""
        fit = self._pool.fit()
        if fit != self._known:
            what = "joined" if fit > self._known else "left"
            self._searcher.notice(f"nodes have {what} the cluster: {fit} trials at a time now, {self._known} before")
            self._known = fit
        return len(self._searcher.running) < fit


_MOST_MEASURING = 3
"""Most trials that run alone, until one has trained an epoch and shown how much of a GPU it needs."""


def run_trials(
    study: StudyRecord,
    context: TrialContext,
    pool: Pool,
    *,
    n_trials: int,
    sweep_id: str,
    callback: SweepCallback,
    profile: Profile,
) -> None:
    """Run ``n_trials`` trials of the study to their end; ``profile`` counts what their workers spend.

    Those that ran out of memory with a part of a GPU are tried once more with a larger one, after the others.

    Raises
    ------
    InterruptedSweepError
        If a signal stopped it before; the trials in flight wait again. ``search.timeout_s`` ends it in the
        same way, but is no error.
    """
    pool.wait()
    phases = _Phases(study, context, sweep_id, callback, profile, n_trials)
    if context.spec.resources.gpu == "auto" and not pool.gpu:
        callback.on_status("resources.gpu: auto means 0 here, because Ray has no GPU")
    if pool.is_to_be_measured:
        for _ in range(min(_MOST_MEASURING, n_trials)):
            phases.run(pool, 1)
            n_trials -= 1
            if phases.monitor.memory_usage is not None:
                break
        if phases.is_over:
            return
        share, why = choose_fraction(phases.monitor.memory_usage or MemoryUsage(), pool.useful_on_a_gpu(n_trials))
        pool = pool.with_gpu(share)
        if n_trials:
            callback.on_status(f"{why}; {pool.workers} at a time from now on")
    short = phases.run(pool, n_trials)
    share_after = larger_fraction(max(short, default=0.0))
    if share_after is not None and not phases.is_over:
        pool = pool.with_gpu(share_after)
        profile.n_out_of_memory += len(short)
        callback.on_status(
            f"{len(short)} trial(s) that ran out of memory are tried again with {describe_gpus(pool.gpu)}, "
            f"{pool.workers} at a time"
        )
        phases.run(pool, len(short), is_last=True)


class _Phases:
    """Runs of Tune one after another, each with the trials that get the same share of a GPU."""

    def __init__(
        self,
        study: StudyRecord,
        context: TrialContext,
        sweep_id: str,
        callback: SweepCallback,
        profile: Profile,
        n_trials: int,
    ) -> None:
        self._study, self._context, self._sweep_id = study, context, sweep_id
        self._callback, self._profile, self._n_trials = callback, profile, n_trials
        self.monitor = ResourceMonitor(profile, callback)
        self._weights = weights_to_keep(study, context.artifacts)
        budget_s = context.spec.search.timeout_s
        self._until = float("inf") if budget_s is None else time.monotonic() + budget_s
        self._is_planned = False

    @property
    def is_over(self) -> bool:
        """Whether ``search.timeout_s`` has passed."""
        return time.monotonic() >= self._until

    def run(self, pool: Pool, n_trials: int, *, is_last: bool = False) -> list[float]:
        """Run trials of the study; return the shares of a GPU with which trials ran out of memory that wait to be tried
        again, from this sweep or an earlier one. In the last phase and in a population no trial waits."""
        left_s = self._until - time.monotonic()
        if n_trials < 1 or left_s <= 0:
            return []
        study, search = self._study, self._context.spec.search
        kind = PbtSearcher if search.scheduler == "pbt" else StudySearcher
        searcher = kind(study, self._sweep_id, self._weights, self._callback, self.monitor)
        began = time.monotonic()
        with ExitStack() as running:
            worker_group = running.enter_context(
                open_worker_group(self._context, pool, n_trials=n_trials, callback=self._callback)
            )
            try:
                if not is_last and kind is StudySearcher and larger_fraction(worker_group.gpu) is not None:
                    n_trials -= searcher.defer_oom_trials(worker_group.gpu)
                if n_trials:
                    self._fit(searcher, pool, worker_group, n_trials, left_s)
            finally:
                unfinished = searcher.unfinished()
                for trial in (*unfinished, *searcher.deferred):
                    study.requeue(trial)
        is_whole = not unfinished and (searcher.end.is_reached or searcher.n_handed_out == n_trials)
        if not is_whole and time.monotonic() - began < left_s:
            raise InterruptedSweepError(
                f"study {study.name} stopped with {len(unfinished)} trials in flight, which are waiting again; "
                f"continue with: aifs-tune resume {study.name}"
            )
        return [share for trial in searcher.deferred if (share := oom_num_gpus(study, trial)) is not None]

    def _fit(
        self, searcher: StudySearcher, pool: Pool, worker_group: WorkerGroup, n_trials: int, left_s: float
    ) -> None:
        """Run ``n_trials`` trials with Tune."""
        is_population = isinstance(searcher, PbtSearcher)
        with ExitStack() as running:
            apply_patches()
            searcher.excluded_nodes = ExcludedNodes(pool.is_room, searcher.notice)
            running.enter_context(avoid_excluded_nodes(self._sweep_id, searcher.excluded_nodes))
            scratch = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="aifs_tune_")))
            grows = pool.grows and not worker_group.fused_actors and not is_population
            if grows:
                running.enter_context(pool.requesting_nodes(n_trials))
                searcher.limit_concurrency(_Places(pool, searcher).has_room)
            self._tell(pool, worker_group)
            trainable = tune.with_parameters(
                TrialTrainable,
                context=self._context,
                threads=max(1, round(pool.cpu)),
                gpu=worker_group.gpu or pool.gpu,  # a population's members have a part in what it was given
                fused_actors=worker_group.fused_actors,
            )
            trainable.uses_preloaded_workers = pool.is_ours
            trainable.__name__ = (
                f"{TrialTrainable.__name__}_{self._sweep_id}"  # Tune finds it by name: one for each sweep
            )
            resources = SweepResources(cpu=worker_group.cpu, gpu=worker_group.gpu, sweep=self._sweep_id)
            config = tune.TuneConfig(
                search_alg=searcher,
                scheduler=self._scheduler(searcher, n_trials, worker_group.workers),
                # a search that could go on keeps Tune from ending workers while all of a population are paused
                num_samples=n_trials + is_population,
                max_concurrent_trials=n_trials if grows or is_population else worker_group.workers,
                reuse_actors=True,
                time_budget_s=None if left_s == float("inf") else left_s,
            )
            tuner = tune.Tuner(
                tune.with_resources(trainable, resources),
                tune_config=config,
                run_config=self._run_config(searcher, scratch),
            )
            running.enter_context(trainable_read_once(trainable.__name__))
            if pool.is_ours:
                again = f"Continue with: aifs-tune resume {self._study.name}"
                running.enter_context(end_of_ray_told(self._callback.on_status, again))
            running.enter_context(_own_interrupts())
            try:
                tuner.fit()
            except TuneError as error:
                problem = WorkError(f"Ray Tune gave up: {' '.join(str(error).split())[-300:]}")
                raise searcher.error or problem from error

    def _tell(self, pool: Pool, worker_group: WorkerGroup) -> None:
        """Tell monitor and callback what is about to start."""
        study = self._study
        self._profile.workers = max(self._profile.workers, worker_group.workers)
        is_chosen = self._context.spec.resources.gpu != "auto"
        self.monitor.set_worker_resources(
            worker_group.gpu, per_node=-(-worker_group.workers // pool.n_nodes), is_chosen=is_chosen
        )
        if self._is_planned:
            return
        self._is_planned = True
        best = study.find_best()
        tuned = tuple(name for name, parameter in study.spec.space.items() if parameter.type != "fixed")
        epochs = self._context.spec.search.last_epoch
        self._callback.on_sweep_start(
            Plan(study.name, study.spec.objective, self._n_trials, worker_group.workers, epochs, best, tuned)
        )

    def _scheduler(self, searcher: StudySearcher, n_trials: int, workers: int) -> Any:
        if isinstance(searcher, PbtSearcher):
            return _pbt_scheduler(searcher, self._context, n_trials, workers)
        history = finished_curves(self._study)
        return make_scheduler(
            self._context.spec.search, self._study.spec.objective.mode, history, searcher.continuation_value
        )

    def _run_config(self, searcher: StudySearcher, scratch: Path) -> tune.RunConfig:
        search = self._context.spec.search
        return tune.RunConfig(
            name="sweep",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[TrialMonitor(searcher, search.epoch_timeout_s)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=search.worker_retries),
        )
