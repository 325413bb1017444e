"""The driver's side of Ray Tune; with :mod:`aifs_tune.ray_trial`, the only module that knows ray.tune.

Tune starts and stops trials; what is proposed and what came out goes through the study alone. Tune's own
experiment state is thrown away.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.error import TuneError

from aifs_tune.artefacts import BestWeights
from aifs_tune.cluster import Pool
from aifs_tune.errors import InterruptedSweepError, WorkError
from aifs_tune.listener import Listener, Plan
from aifs_tune.profile import Profile
from aifs_tune.ray_patches import plain_workers, remembered_trainable
from aifs_tune.ray_pbt import PbtScheduler
from aifs_tune.ray_population import crew_for
from aifs_tune.ray_schedulers import History, make_scheduler
from aifs_tune.ray_searcher import Forgettable, PbtSearcher, StudySearcher
from aifs_tune.ray_trial import WarmTrial
from aifs_tune.runner import Job
from aifs_tune.study import Study
from aifs_tune.trainers.by_name import find_family
from aifs_tune.trial import Trial


@dataclass
class TrialWatch(Forgettable, tune.Callback):  # type: ignore[misc]
    """Ends trials that are silent for too long, records why a worker died, and lets one that takes its place know of
    the newest checkpoint."""

    searcher: StudySearcher
    silence_s: float
    _heard: dict[str, float] = field(default_factory=dict)
    _hung: set[str] = field(default_factory=set)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._heard[trial.trial_id] = time.monotonic()
        if result["checkpoint"] is not None:
            told = {"epoch": result["epoch"], "hashes": json.loads(result["checkpoint"])}
            trial.set_config({**trial.config, "checkpoint": json.dumps(told)})

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard.pop(trial.trial_id, None)  # it is paused now

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard.pop(trial.trial_id, None)
        if trial.trial_id in self._hung:
            reason = f"hung: nothing measured for {self.silence_s:g} s (search.epoch_timeout_s)"
        else:
            reason = cause_of_death(trial)
        self.searcher.fail(trial.trial_id, reason)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.searcher.error is not None:
            raise self.searcher.error
        now = time.monotonic()
        silent = {trial_id for trial_id, heard in self._heard.items() if now - heard > self.silence_s}
        for trial in trials if silent else ():
            actor = trial.temporary_state.ray_actor
            if trial.trial_id in silent - self._hung and actor is not None:
                self._hung.add(trial.trial_id)
                trial.max_failures = 0
                ray.kill(actor)


def cause_of_death(trial: Any) -> str:
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    told = " ".join(text.split("\n", 1)[-1].split())
    for pattern in (r"exit type: (.*?)(?:\. Some common causes|$)", r"((?:\S+ ){0,3}killed .*)"):
        found = re.search(pattern, told)
        if found:
            told = found[1]
            break
    return f"its worker process died: {told[-300:] or 'no reason is known'}"


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


def run_trials(
    study: Study, job: Job, pool: Pool, *, n_trials: int, owner: str, listener: Listener, profile: Profile
) -> None:
    """Run ``n_trials`` trials of the study to their end; ``profile`` counts what their workers spend.

    Raises
    ------
    InterruptedSweepError
        If a signal stopped it before; the trials in flight wait again. ``search.timeout_s`` ends it in the
        same way, but is no error.
    """
    search, objective = job.spec.search, study.spec.objective
    trials = study.all_trials()
    best = study.best if any(trial.state == "complete" for trial in trials) else None
    tuned = tuple(name for name, parameter in study.spec.space.items() if parameter.type != "fixed")
    weights = BestWeights(job.artefacts, study.spec.objectives, study.front)
    weights.tidy(trials)
    is_population = search.scheduler == "pbt"
    kind = PbtSearcher if is_population else StudySearcher
    searcher = kind(study, owner, weights, listener, profile)
    watch = TrialWatch(searcher, search.epoch_timeout_s)
    pool.wait()
    with ExitStack() as running:
        if pool.is_ours:
            running.enter_context(plain_workers())
        scratch = running.enter_context(tempfile.TemporaryDirectory(prefix="aifs_tune_"))
        crew = running.enter_context(crew_for(job, pool, n_trials=n_trials, listener=listener))
        profile.workers = crew.workers
        grows = pool.grows and not crew.populations and not is_population
        if grows:
            running.enter_context(pool.wanting(n_trials))
            searcher.watch(lambda: len(searcher.live) < pool.fit())
        listener.planned(Plan(study.name, objective, n_trials, crew.workers, search.epochs, best, tuned))
        trainable = tune.with_parameters(
            WarmTrial, job=job, threads=max(1, round(pool.resources.cpu)), populations=crew.populations
        )
        if isinstance(searcher, PbtSearcher):
            scheduler = _pbt_scheduler(searcher, job, n_trials, crew.workers)
        else:
            scheduler = make_scheduler(search, objective.mode, _history(study, trials), searcher.promise)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": crew.cpu, "gpu": crew.gpu}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                # a search that could go on keeps Tune from ending workers while all of a population are paused
                num_samples=n_trials + is_population,
                max_concurrent_trials=n_trials if is_population or grows else crew.workers,
                reuse_actors=True,
                time_budget_s=search.timeout_s,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(Path(scratch)),
                verbose=0,
                callbacks=[watch],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=search.worker_retries),
            ),
        )
        running.enter_context(remembered_trainable())
        began = time.monotonic()
        try:
            tuner.fit()
        except TuneError as error:
            raise searcher.error or WorkError(f"Ray Tune gave up: {' '.join(str(error).split())[-300:]}") from error
        finally:
            unfinished = searcher.unfinished()
            for trial in unfinished:
                study.requeue(trial)
    timed_out = search.timeout_s is not None and time.monotonic() - began >= search.timeout_s
    if unfinished and not timed_out:
        raise InterruptedSweepError(
            f"study {study.name} stopped with {len(unfinished)} trials in flight, which wait again; "
            f"continue with: aifs-tune resume {study.name}"
        )
