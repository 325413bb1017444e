"""The driver's side of Ray Tune; with :mod:`aifs_tune.ray_trial`, the only module that knows ray.tune.

Tune starts and stops trials; what is proposed and what came out goes through the study alone. Tune's own
experiment state is thrown away.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.error import TuneError

from aifs_tune.artefacts import BestWeights
from aifs_tune.cluster import Pool
from aifs_tune.errors import InterruptedSweepError, WorkError
from aifs_tune.job import Job
from aifs_tune.listener import Listener, Plan
from aifs_tune.memory import Occupied
from aifs_tune.meter import Meter
from aifs_tune.profile import Profile
from aifs_tune.ranking import best_singly
from aifs_tune.ray_nodes import LeftOut, placed_elsewhere
from aifs_tune.ray_patches import deaths_counted_once, outlived_kills, plain_workers, remembered_trainable
from aifs_tune.ray_pbt import PbtScheduler
from aifs_tune.ray_population import Crew, crew_for
from aifs_tune.ray_schedulers import History, make_scheduler
from aifs_tune.ray_searcher import PbtSearcher, StudySearcher
from aifs_tune.ray_trial import WarmTrial
from aifs_tune.ray_watch import TrialWatch
from aifs_tune.shares import choose, larger, words_of
from aifs_tune.shortage import ran_out_with
from aifs_tune.study import Study
from aifs_tune.trainers.by_name import find_family
from aifs_tune.trial import Trial


def _history(study: Study, trials: Sequence[Trial]) -> History:
    metric = study.spec.objective.metric
    return [
        (trial, [(m.epoch, value) for m in study.curve(trial) if (value := m.metrics[metric]) is not None])
        for trial in trials
        if trial.state in ("complete", "pruned") and trial.epochs
    ]


def _pbt_scheduler(searcher: PbtSearcher, job: Job, n_trials: int, workers: int) -> PbtScheduler:
    family = find_family(job.spec)
    kept = family.shaping if family is not None else ()
    first = searcher.gather(n_trials)
    population = PbtScheduler(job.spec, searcher.exchange, kept=kept, n_trials=n_trials, workers=workers, first=first)
    searcher.watch(population.has_room)
    return population


_MOST_MEASURING = 3
"""Trials that are tried alone until one has trained an epoch, so that it can be said what it takes of a GPU."""


def run_trials(
    study: Study, job: Job, pool: Pool, *, n_trials: int, owner: str, listener: Listener, profile: Profile
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
    phases = _Phases(study, job, owner, listener, profile, n_trials)
    if job.spec.resources.gpu == "auto" and not pool.gpu:
        listener.stage("resources.gpu: auto is 0, as Ray has no GPU here")
    if pool.is_to_be_measured:
        for _ in range(min(_MOST_MEASURING, n_trials)):
            phases.run(pool, 1)
            n_trials -= 1
            if phases.meter.occupied is not None:
                break
        if phases.is_over:
            return
        share, why = choose(phases.meter.occupied or Occupied(), pool.useful_on_a_gpu(n_trials))
        pool = pool.with_gpu(share)
        if n_trials:
            listener.stage(f"{why}; {pool.workers} at a time from now on")
    short = phases.run(pool, n_trials)
    share_after = larger(max(short, default=0.0))
    if share_after is not None and not phases.is_over:
        pool = pool.with_gpu(share_after)
        profile.n_out_of_memory += len(short)
        listener.stage(f"{len(short)} trial(s) are tried again with {words_of(pool.gpu)}, {pool.workers} at a time")
        phases.run(pool, len(short), is_last=True)


class _Phases:
    """Runs of Tune one after another: all trials of a sweep that are given the same share of a GPU are one."""

    def __init__(self, study: Study, job: Job, owner: str, listener: Listener, profile: Profile, n_trials: int) -> None:
        self._study, self._job, self._owner = study, job, owner
        self._listener, self._profile, self._n_trials = listener, profile, n_trials
        self.meter = Meter(profile, listener)
        n_kept = study.spec.search.finalists * study.spec.search.finalist_seeds
        best = best_singly(study.all_trials(), study.spec)[:n_kept] if n_kept else study.front
        self._weights = BestWeights(job.artefacts, study.spec.objectives, best, most=max(1, n_kept))
        self._weights.tidy(study.all_trials())
        budget_s = job.spec.search.timeout_s
        self._until = float("inf") if budget_s is None else time.monotonic() + budget_s
        self._is_planned = False

    @property
    def is_over(self) -> bool:
        """Whether ``search.timeout_s`` has passed."""
        return time.monotonic() >= self._until

    def run(self, pool: Pool, n_trials: int, *, is_last: bool = False) -> list[float]:
        """Run trials of the study; with what shares of a GPU those of them ran out of memory that wait to be tried
        again, in this sweep or an earlier one. None of the last phase's do, nor in a population."""
        left_s = self._until - time.monotonic()
        if n_trials < 1 or left_s <= 0:
            return []
        study, search = self._study, self._job.spec.search
        kind = PbtSearcher if search.scheduler == "pbt" else StudySearcher
        stops = search.stop == "gain_below_noise"
        searcher = kind(study, self._owner, self._weights, self._listener, self.meter, stops=stops)
        began = time.monotonic()
        with ExitStack() as running:
            crew = running.enter_context(crew_for(self._job, pool, n_trials=n_trials, listener=self._listener))
            try:
                if not is_last and kind is StudySearcher and larger(crew.gpu) is not None:
                    n_trials -= searcher.aside(crew.gpu)
                if n_trials:
                    self._fit(searcher, pool, crew, n_trials, left_s)
            finally:
                unfinished = searcher.unfinished()
                for trial in (*unfinished, *searcher.put_aside):
                    study.requeue(trial)
        is_whole = not unfinished and (searcher.is_done or searcher.n_handed_out == n_trials)
        if not is_whole and time.monotonic() - began < left_s:
            raise InterruptedSweepError(
                f"study {study.name} stopped with {len(unfinished)} trials in flight, which wait again; "
                f"continue with: aifs-tune resume {study.name}"
            )
        return [share for trial in searcher.put_aside if (share := ran_out_with(study, trial)) is not None]

    def _fit(self, searcher: StudySearcher, pool: Pool, crew: Crew, n_trials: int, left_s: float) -> None:
        """Let Tune run ``n_trials`` trials."""
        is_population = isinstance(searcher, PbtSearcher)
        with ExitStack() as running:
            if pool.is_ours:
                running.enter_context(plain_workers())
            running.enter_context(outlived_kills())
            running.enter_context(deaths_counted_once())
            left_out = LeftOut(pool.is_room, self._listener.stage)
            running.enter_context(placed_elsewhere(left_out, searcher.give_up))
            scratch = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="aifs_tune_")))
            grows = pool.grows and not crew.populations and not is_population
            if grows:
                running.enter_context(pool.wanting(n_trials))
                searcher.watch(lambda: len(searcher.live) < pool.fit())
            self._tell(pool, crew)
            trainable = tune.with_parameters(
                WarmTrial,
                job=self._job,
                threads=max(1, round(pool.cpu)),
                gpu=crew.gpu or pool.gpu,  # a population's members have a part in what it was given
                populations=crew.populations,
            )
            config = tune.TuneConfig(
                search_alg=searcher,
                scheduler=self._scheduler(searcher, n_trials, crew.workers),
                # a search that could go on keeps Tune from ending workers while all of a population are paused
                num_samples=n_trials + is_population,
                max_concurrent_trials=n_trials if grows or is_population else crew.workers,
                reuse_actors=True,
                time_budget_s=None if left_s == float("inf") else left_s,
            )
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"cpu": crew.cpu, "gpu": crew.gpu}),
                tune_config=config,
                run_config=self._run_config(searcher, scratch),
            )
            running.enter_context(remembered_trainable())
            try:
                tuner.fit()
            except TuneError as error:
                problem = WorkError(f"Ray Tune gave up: {' '.join(str(error).split())[-300:]}")
                raise searcher.error or problem from error

    def _tell(self, pool: Pool, crew: Crew) -> None:
        """Who listens and who measures what is about to start."""
        study = self._study
        self._profile.workers = max(self._profile.workers, crew.workers)
        is_chosen = self._job.spec.resources.gpu != "auto"
        self.meter.give(crew.gpu, per_node=-(-crew.workers // pool.n_nodes), is_chosen=is_chosen)
        if self._is_planned:
            return
        self._is_planned = True
        best = study.find_best()
        tuned = tuple(name for name, parameter in study.spec.space.items() if parameter.type != "fixed")
        epochs = self._job.spec.search.epochs
        self._listener.planned(
            Plan(study.name, study.spec.objective, self._n_trials, crew.workers, epochs, best, tuned)
        )

    def _scheduler(self, searcher: StudySearcher, n_trials: int, workers: int) -> Any:
        if isinstance(searcher, PbtSearcher):
            return _pbt_scheduler(searcher, self._job, n_trials, workers)
        history = _history(self._study, self._study.all_trials())
        return make_scheduler(self._job.spec.search, self._study.spec.objective.mode, history, searcher.promise)

    def _run_config(self, searcher: StudySearcher, scratch: Path) -> tune.RunConfig:
        search = self._job.spec.search
        return tune.RunConfig(
            name="sweep",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[TrialWatch(searcher, search.epoch_timeout_s)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=search.worker_retries),
        )
