"""Searcher of Ray Tune that asks the study for trials and tells it their results."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from ray.exceptions import RayActorError
from ray.tune.search import Searcher

from aifs_tune._util.hashing import Hashes
from aifs_tune._util.memory import MemoryUsage
from aifs_tune.artifacts.trial_artifacts import BestWeights
from aifs_tune.execution.callbacks import SweepCallback
from aifs_tune.execution.memory_tracking import ResourceMonitor
from aifs_tune.execution.oom_retry import claim_deferred_trials, defer_trial
from aifs_tune.execution.pbt import Exploit, apply_exploits, next_exploit_epoch, repair
from aifs_tune.execution.ray.nodes import NODE_DIED, ExcludedNodes, LeavingNodes, UncountedError, UnusableNodeError
from aifs_tune.execution.stopping import SweepEnd
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

_MOST_NODES_LOST = 10
"""How often a trial may lose its machine before that counts as its own failure."""


class NoExperimentState:
    """Leaves nothing in the experiment state that Tune pickles: the study is the only state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(NoExperimentState, Searcher):  # type: ignore[misc]
    """Asks the study for trials and tells it their results; keeps no other state."""

    def __init__(
        self,
        study: StudyRecord,
        sweep_id: str,
        weights: BestWeights,
        callback: SweepCallback,
        monitor: ResourceMonitor,
    ) -> None:
        super().__init__(metric="objective", mode=study.spec.objective.mode)
        self._study, self._sweep_id, self._weights = study, sweep_id, weights
        self._callback, self._monitor = callback, monitor
        self.running: dict[str, Trial] = {}
        self.n_handed_out = 0
        self.deferred: list[Trial] = []
        """Trials that ran out of memory and are tried again later with more."""
        self._num_gpus: float | None = None
        self._is_error_told = False
        self.error: Exception | None = None
        self.end = SweepEnd(study, callback.on_status, self.notice)
        self.excluded_nodes: ExcludedNodes | None = None
        """Nodes that cannot run trials of the study; None where they are not tracked."""
        self.is_last_failure_counted = True
        """Whether the worker that failed last did so by a fault of its trial or its process."""
        self._n_nodes_lost: Counter[str] = Counter()
        self._leaving_nodes = LeavingNodes()
        self._has_room: Callable[[], bool] = lambda: True

    def limit_concurrency(self, has_room: Callable[[], bool]) -> None:
        """Hand out trials only while ``has_room``."""
        self._has_room = has_room

    def defer_oom_trials(self, share: float) -> int:
        """Defer trials that run out of memory with this share of a GPU; return how many did so in an earlier sweep."""
        self._num_gpus = share
        self.deferred = claim_deferred_trials(self._study, share, self._sweep_id)
        return len(self.deferred)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Keep an error that is raised inside: Tune would take it for a failure of the trial and go on."""
        try:
            yield
        except Exception as error:
            self.give_up(error)
            raise

    def give_up(self, error: Exception) -> None:
        """End the sweep with this error."""
        self.error = self.error or error

    def on_worker_failure(self, trial_id: str, error: Exception) -> None:
        """Exclude the node of a worker that cannot run trials of the study; end the sweep if no other node is left.

        A worker that was lost with its node does not count as a failure of the trial, several times in a row.
        """
        is_leaving = self._leaving_nodes.are_there()
        if isinstance(error, RayActorError) and (is_leaving or NODE_DIED in str(error)):
            self._n_nodes_lost[trial_id] += 1
            error._preempted = self._n_nodes_lost[trial_id] <= _MOST_NODES_LOST  # Tune counts no failure then
        cause = getattr(error, "cause", error)
        self.is_last_failure_counted = not isinstance(cause, UncountedError)
        if self.excluded_nodes is not None and isinstance(cause, UnusableNodeError):
            problem = self.excluded_nodes.add(cause.node, cause.reason)
            if problem is not None:
                self.give_up(problem)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        with self.guarded():
            if self.end.look():
                return str(Searcher.FINISHED)
            return self._start(trial_id, self._study.ask(sweep=self._sweep_id)) if self._has_room() else None

    def unfinished(self) -> list[Trial]:
        """The trials that are in flight."""
        return list(self.running.values())

    def _start(self, trial_id: str, trial: Trial) -> dict[str, Any]:
        self.running[trial_id] = trial
        self.n_handed_out += 1
        self._callback.on_trial_start(trial)
        checkpoint = self._study.checkpoint(trial)
        return {
            "number": trial.number,
            "params": json.dumps(dict(trial.latest_params)),
            "seed": trial.seed,
            "n_stored": trial.epochs,
            "n_inherited": trial.schedule[-1].epoch - 1 if trial.schedule else 0,
            "checkpoint": checkpoint and json.dumps(asdict(checkpoint)),
            "objective": self._study.spec.objective.metric,
            "pauses_every": 0,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        with self.guarded():
            self._record_resources(result)
            trial = self._report(trial_id, result)
            if trial is not None:
                self._callback.on_trial_result(trial)

    def continuation_value(self, trial_id: str, epoch: int, value: float) -> float | None:
        """As :meth:`StudyRecord.continuation_value`, for a trial of Tune's."""
        with self.guarded():
            return self._study.continuation_value(self.running[trial_id], epoch, value)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error or result is None:
            return  # TrialMonitor tells it: it knows the reason
        with self.guarded():
            self._record_resources(result)
            if result["out_of_memory"] and self._num_gpus is not None:
                self._defer(trial_id, self._num_gpus, result["reason"])
            else:
                if result["error"] and not self._is_error_told:
                    self._is_error_told = True
                    self._callback.on_status(f"trial {self.running[trial_id].number} failed:\n{result['error']}")
                self._ended(trial_id, self._study.transact(lambda: self._told(trial_id, result)))

    def _record_resources(self, result: dict[str, Any]) -> None:
        memory_usage = result["memory_usage"]
        self._monitor.record(
            json.loads(result["timings"]), None if memory_usage is None else MemoryUsage(**json.loads(memory_usage))
        )

    def _told(self, trial_id: str, result: dict[str, Any]) -> Trial:
        """The trial with its last epoch and its end stored."""
        number, notes = self.running[trial_id].number, json.loads(result["notes"])
        self._report(trial_id, result)
        if result["ended"] in ("failed", "pruned"):
            return self._study.tell(number, state=result["ended"], reason=result["reason"], notes=notes)
        if result["ended"] == "complete":
            final, weights = result["final"] and json.loads(result["final"]), _hashes(result["weights"])
            return self._study.tell(number, final, reason=result["reason"], weights=weights, notes=notes)
        reason = f"stopped early at epoch {result['epoch']}{_discarded(result['n_beyond'])}"
        return self._study.tell(number, state="pruned", reason=reason, notes=notes)

    def fail(self, trial_id: str, reason: str, *, out_of_memory: bool = False) -> None:
        """Tell the study that a trial's worker is gone for good."""
        with self.guarded():
            if out_of_memory and self._num_gpus is not None:
                self._defer(trial_id, self._num_gpus, reason)
            else:
                number = self.running[trial_id].number
                self._ended(trial_id, self._study.tell(number, state="failed", reason=reason))

    def notice(self, text: str) -> None:
        """Say what happened to the sweep beside the results of its trials, and keep it with the study."""
        with self.guarded():
            self._study.add_notice(text)
        self._callback.on_status(text)

    def _defer(self, trial_id: str, share: float, reason: str) -> None:
        defer_trial(self._study, self.running[trial_id], share)
        trial = self.running.pop(trial_id)
        self.deferred.append(trial)
        self._callback.on_status(f"trial {trial.number} is tried again after the others; {reason}")

    def _ended(self, trial_id: str, trial: Trial) -> None:
        del self.running[trial_id]
        self._monitor.ended()
        self._weights.ended(trial)
        self._callback.on_trial_complete(trial)
        self.end.ended(trial)

    def _report(self, trial_id: str, result: dict[str, Any]) -> Trial | None:
        metrics = json.loads(result["metrics"])
        if not metrics:
            return None
        return self._study.report(
            self.running[trial_id].number,
            result["epoch"],
            metrics,
            seconds=result["seconds"],
            worker=result["worker"],
            checkpoint=_hashes(result["checkpoint"]),
        )

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Write nothing."""


def _discarded(n_beyond: int) -> str:
    """What to add of epochs that began before the worker knew that the trial is stopped."""
    return f"; {n_beyond} more had begun and {'was' if n_beyond == 1 else 'were'} discarded" if n_beyond else ""


def _hashes(told: str | None) -> Hashes | None:
    """What a worker told of the files it wrote; None if it wrote none."""
    hashes: Hashes | None = None if told is None else json.loads(told)
    return hashes


class PbtSearcher(StudySearcher):
    """Asks for all trials of a population before the first starts, so that what is proposed does not depend on which
    came how far; hands them out while a worker is free."""

    def gather(self, n_trials: int) -> int:
        """Ask for the trials; the epoch after which they compare themselves first."""
        every = self._study.spec.search.perturb_epochs
        repair(self._study)
        self._asked = deque[Trial]()
        for _ in range(n_trials):
            self._asked.append(self._study.ask(sweep=self._sweep_id))
        return next_exploit_epoch(self._asked, every)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._asked:
            return None if self.running else str(Searcher.FINISHED)
        if not self._has_room():
            return None
        with self.guarded():
            config = self._start(trial_id, self._asked.popleft())
            return config | {"pauses_every": self._study.spec.search.perturb_epochs}

    def unfinished(self) -> list[Trial]:
        return [*self.running.values(), *self._asked]

    def apply_exploits(self, epoch: int, exploits: Sequence[Exploit]) -> None:
        """As :func:`aifs_tune.execution.pbt.apply_exploits`."""
        with self.guarded():
            apply_exploits(self._study, epoch, exploits)
