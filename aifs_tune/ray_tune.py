"""The driver's side of Ray Tune; with :mod:`aifs_tune.ray_trial`, the only module that knows ray.tune.

Tune starts and stops trials; what is proposed and what came out goes through the study alone. Tune's own
experiment state is thrown away.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.error import TuneError
from ray.tune.search import Searcher

from aifs_tune.artefacts import BestWeights
from aifs_tune.cluster import Pool
from aifs_tune.errors import InterruptedSweepError, WorkError
from aifs_tune.exchange import Move, exchange, next_exchange, repair
from aifs_tune.listener import Listener, Plan
from aifs_tune.profile import Profile
from aifs_tune.ray_patches import plain_workers, remembered_trainable
from aifs_tune.ray_pbt import Population
from aifs_tune.ray_population import crew_for
from aifs_tune.ray_schedulers import History, make_scheduler
from aifs_tune.ray_trial import WarmTrial
from aifs_tune.runner import Job
from aifs_tune.study import Study
from aifs_tune.trainers.by_name import find_family
from aifs_tune.trial import Trial


class _Forgettable:
    """Leaves nothing in the experiment state that Tune pickles: the study is the only state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(_Forgettable, Searcher):  # type: ignore[misc]
    """Asks the study for trials and tells it what became of them; keeps nothing else."""

    def __init__(self, study: Study, owner: str, weights: BestWeights, listener: Listener, profile: Profile) -> None:
        super().__init__(metric="objective", mode=study.spec.objective.mode)
        self._study, self._owner, self._weights = study, owner, weights
        self._listener, self._profile = listener, profile
        self.live: dict[str, Trial] = {}
        self.error: Exception | None = None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Keep what goes wrong here: Tune would take it for a failure of the trial and go on."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            raise

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        with self.guarded():
            return self._start(trial_id, self._study.ask(owner=self._owner))

    def unfinished(self) -> list[Trial]:
        """The trials that are in flight."""
        return list(self.live.values())

    def _start(self, trial_id: str, trial: Trial) -> dict[str, Any]:
        self.live[trial_id] = trial
        self._listener.started(trial)
        return {
            "number": trial.number,
            "params": json.dumps(dict(trial.latest_params)),
            "seed": trial.seed,
            "n_stored": trial.epochs,
            "n_inherited": trial.schedule[-1].epoch - 1 if trial.schedule else 0,
            "objective": self._study.spec.objective.metric,
            "pauses_every": 0,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        with self.guarded():
            trial = self._report(trial_id, result)
            if trial is not None:
                self._listener.measured(trial)

    def promise(self, trial_id: str, epoch: int, value: float) -> float | None:
        """As :meth:`Study.promise`, for a trial of Tune's."""
        with self.guarded():
            return self._study.promise(self.live[trial_id], epoch, value)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error or result is None:
            return  # TrialWatch tells it: it knows the reason
        with self.guarded():
            self._tell(trial_id, result)

    def _tell(self, trial_id: str, result: dict[str, Any]) -> None:
        number = self.live[trial_id].number
        with self._study.storage.transaction(self._study.name):
            self._report(trial_id, result)
            if result["ended"] == "failed":
                trial = self._study.tell(number, state="failed", reason=result["reason"])
            elif result["ended"] == "complete":
                trial = self._study.tell(number, reason=result["reason"])
            else:
                reason = f"stopped early at epoch {result['epoch']}"
                trial = self._study.tell(number, state="pruned", reason=reason)
        self._ended(trial_id, trial)

    def fail(self, trial_id: str, reason: str) -> None:
        """Tell the study that a trial's worker is gone for good."""
        with self.guarded():
            number = self.live[trial_id].number
            self._ended(trial_id, self._study.tell(number, state="failed", reason=reason))

    def _ended(self, trial_id: str, trial: Trial) -> None:
        del self.live[trial_id]
        self._weights.ended(trial)
        self._listener.finished(trial)

    def _report(self, trial_id: str, result: dict[str, Any]) -> Trial | None:
        metrics = json.loads(result["metrics"])
        self._profile.add(json.loads(result["spent"]))
        if not metrics:
            return None
        return self._study.report(
            self.live[trial_id].number,
            result["epoch"],
            metrics,
            seconds=result["seconds"],
            worker=result["worker"],
        )

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Write nothing."""


class PopulationSearcher(StudySearcher):
    """Asks for all trials of a population before the first starts, so that what is proposed does not depend on which
    came how far; hands them out while a worker is free."""

    def gather(self, n_trials: int) -> int:
        """Ask for the trials; the epoch after which they compare themselves first."""
        every = self._study.spec.search.perturb_epochs
        repair(self._study)
        self._asked = deque[Trial]()
        for _ in range(n_trials):
            self._asked.append(self._study.ask(owner=self._owner))
        return next_exchange(self._asked, every)

    def watch(self, has_room: Callable[[], bool]) -> None:
        """Hand out trials while ``has_room``."""
        self._has_room = has_room

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._asked:
            return None if self.live else str(Searcher.FINISHED)
        if not self._has_room():
            return None
        with self.guarded():
            config = self._start(trial_id, self._asked.popleft())
            return config | {"pauses_every": self._study.spec.search.perturb_epochs}

    def unfinished(self) -> list[Trial]:
        return [*self.live.values(), *self._asked]

    def exchange(self, epoch: int, moves: Sequence[Move]) -> None:
        """As :func:`aifs_tune.exchange.exchange`."""
        with self.guarded():
            exchange(self._study, epoch, moves)


@dataclass
class TrialWatch(_Forgettable, tune.Callback):  # type: ignore[misc]
    """Ends trials that are silent for too long and records why a worker died."""

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


def _population(searcher: PopulationSearcher, job: Job, n_trials: int, workers: int) -> Population:
    family = find_family(job.spec)
    kept = family.shaping if family is not None else ()
    first = searcher.gather(n_trials)
    population = Population(job.spec, searcher.exchange, kept=kept, n_trials=n_trials, workers=workers, first=first)
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
    is_population = search.scheduler == "pbt"
    kind = PopulationSearcher if is_population else StudySearcher
    searcher = kind(study, owner, weights, listener, profile)
    watch = TrialWatch(searcher, search.epoch_timeout_s)
    pool.wait()
    with ExitStack() as running:
        if pool.is_ours:
            running.enter_context(plain_workers())
        scratch = running.enter_context(tempfile.TemporaryDirectory(prefix="aifs_tune_"))
        crew = running.enter_context(crew_for(job, pool, n_trials=n_trials, listener=listener))
        profile.workers = crew.workers
        listener.planned(Plan(study.name, objective, n_trials, crew.workers, search.epochs, best, tuned))
        trainable = tune.with_parameters(
            WarmTrial, job=job, threads=max(1, round(pool.resources.cpu)), populations=crew.populations
        )
        if isinstance(searcher, PopulationSearcher):
            scheduler = _population(searcher, job, n_trials, crew.workers)
        else:
            scheduler = make_scheduler(search, objective.mode, _history(study, trials), searcher.promise)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": crew.cpu, "gpu": crew.gpu}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                # a search that could go on keeps Tune from ending workers while all of a population are paused
                num_samples=n_trials + is_population,
                max_concurrent_trials=n_trials if is_population else crew.workers,
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
