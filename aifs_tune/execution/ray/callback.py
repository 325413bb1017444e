"""Callback of Ray Tune that watches for silent trials and dead workers."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune

from aifs_tune.execution.ray.nodes import NODE_DIED
from aifs_tune.execution.ray.searcher import NoExperimentState, StudySearcher

WAIT_TOLD_S = 60.0
"""Seconds without a running trial after which a sweep says that it waits for a place."""


@dataclass
class TrialMonitor(NoExperimentState, tune.Callback):  # type: ignore[misc]
    """Ends trials that are silent for too long, records why a worker died, and tells its replacement of the newest
    checkpoint."""

    searcher: StudySearcher
    timeout_s: float
    _last_result_s: dict[str, float] = field(default_factory=dict)
    _hung: set[str] = field(default_factory=set)
    _waiting_since: float | None = None
    _is_waiting_told: bool = False

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._last_result_s[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._last_result_s[trial.trial_id] = time.monotonic()
        if result["checkpoint"] is not None:
            told = {"epoch": result["epoch"], "hashes": json.loads(result["checkpoint"])}
            trial.set_config({**trial.config, "checkpoint": json.dumps(told)})

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._last_result_s.pop(trial.trial_id, None)  # it is paused now

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._last_result_s.pop(trial.trial_id, None)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._last_result_s.pop(trial.trial_id, None)  # until another worker has started it again
        if not self.searcher.is_last_failure_counted:
            return  # the worker asked to be replaced, or the reason was told when its node was excluded
        reason, _ = cause_of_death(_read(trial))
        number = self.searcher.running[trial.trial_id].number
        self.searcher.notice(f"trial {number} is tried again from its last checkpoint, if it has one: {reason}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._last_result_s.pop(trial.trial_id, None)
        if trial.trial_id in self._hung:
            reason = f"hung: no epoch ended for {self.timeout_s:g} s (search.epoch_timeout_s)"
            self.searcher.fail(trial.trial_id, reason)
            return
        reason, ran_out = cause_of_death(_read(trial))
        self.searcher.fail(trial.trial_id, reason, out_of_memory=ran_out)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.searcher.error is not None:
            raise self.searcher.error
        now = time.monotonic()
        self._tell_waiting(now)
        silent = {trial_id for trial_id, heard in self._last_result_s.items() if now - heard > self.timeout_s}
        for trial in trials if silent else ():
            actor = trial.temporary_state.ray_actor
            if trial.trial_id in silent - self._hung and actor is not None:
                self._hung.add(trial.trial_id)
                trial.max_failures = 0
                ray.kill(actor)

    def _tell_waiting(self, now: float) -> None:
        """Tell once if trials were handed out and Ray has no place for any of them, and once when it has."""
        waits = bool(self.searcher.running) and not self._last_result_s
        if not waits:
            if self._is_waiting_told:
                self.searcher.notice("trials are running again")
            self._waiting_since, self._is_waiting_told = None, False
        elif self._waiting_since is None:
            self._waiting_since = now
        elif not self._is_waiting_told and now - self._waiting_since > WAIT_TOLD_S:
            self._is_waiting_told = True
            self.searcher.notice(
                f"no trial could begin for {WAIT_TOLD_S:g} s: other work uses the cluster, nodes are missing, or "
                "workers take long to start; trials begin as soon as there is a place for one"
            )


def _read(trial: Any) -> str:
    """What Tune wrote of the failures of a trial."""
    return Path(trial.error_file).read_text() if trial.error_file else ""


def cause_of_death(text: str) -> tuple[str, bool]:
    """Cause of death in the last of Ray's failures in ``text``, and whether Ray's memory monitor killed the worker.

    A process that the kernel killed for its memory cannot be told from one that was killed otherwise.
    """
    told = " ".join(re.split(r"^Failure # .*$", text, flags=re.MULTILINE)[-1].split())
    low = re.search(r"killed due to the node running low on memory(?:.*? was (\S+) used / (\S+) limit)?", told)
    if low:
        used = f", {low[1]} of {low[2]} used" if low[1] else ""
        return f"out of memory: Ray killed the worker process because the machine ran low on memory{used}", True
    gone = re.search(rf"{NODE_DIED}\..*?node was terminated (.*)", told)
    if gone:
        return f"the machine of its worker was lost, terminated {gone[1][-200:]}", False
    for pattern in (r"exit type: (.*?)(?:\. Some common causes|$)", r"((?:\S+ ){0,3}killed .*)"):
        found = re.search(pattern, told)
        if found:
            told = found[1]
            break
    return f"the worker process died: {told[-300:] or 'unknown reason'}", False
