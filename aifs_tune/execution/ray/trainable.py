"""Trainable of Ray Tune: the worker process that runs one trial after another."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import ray
from ray import tune

from aifs_tune._util.scalars import Scalar
from aifs_tune.config.cross_validation import split_of
from aifs_tune.config.trusted_code import allow
from aifs_tune.errors import NodeError, StorageError
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.ray.fused import RemoteFusedMember
from aifs_tune.execution.ray.nodes import UncountedError, UnusableNodeError
from aifs_tune.execution.runner import Runner
from aifs_tune.study.trial import Checkpoint
from aifs_tune.trainers.factory import make_trainer
from aifs_tune.trainers.protocol import Trainer


class NoTuneCheckpoint:
    """Empty checkpoint that a paused trial gives to Tune. The trial's own checkpoint is among its artifacts, from which
    it goes on whenever it is started."""

    checkpoint = None
    metrics: Mapping[str, Any] = {}


_TOGETHER_S = 0.05
"""Epochs that end within this many seconds travel to the driver together."""


_EXIT_OF_SIGTERM = 128 + signal.SIGTERM


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """A worker process that Tune keeps and resets from trial to trial."""

    uses_preloaded_workers: ClassVar[bool] = False
    """Whether the idle workers of this Ray have the driver's environment variables already."""

    def setup(
        self, config: dict[str, Any], context: TrialContext, threads: int, gpu: float, fused_actors: tuple[Any, ...]
    ) -> None:
        def make(params: Mapping[str, Scalar], seed: int) -> Trainer:
            if fused_actors:
                return RemoteFusedMember(fused_actors)
            split, own = split_of(context.spec.cross_validation, params)
            data, folds = context.data_location(split), context.fold_locations()
            allow(context.spec)  # which the driver has checked
            return make_trainer(
                context.spec,
                data,
                folds=folds,
                params=own,
                seed=seed,
                threads=threads,
                gpu=gpu,
                function=context.function,
            )

        # Ray would raise SystemExit inside the trainer, as if the trial had ended itself
        signal.signal(signal.SIGTERM, lambda *_: os._exit(_EXIT_OF_SIGTERM))
        self._must_restart = False
        self._runner = Runner(context, make, gpu=gpu)
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._must_restart = self._runner.needs_restart(json.loads(new_config["params"]))
        if not self._must_restart:
            self._start(new_config)
        return True

    def train_buffered(self, *_limits: object) -> list[dict[str, Any]]:
        """One epoch, or as many short ones as take no longer than a message to the driver, but none beyond an epoch
        after which the trial may be paused. ``n_beyond`` of a result are the later epochs that have begun.

        Tune's own limits are left out of it: version 2.60 hands them over in the wrong order.
        """
        until = time.monotonic() + _TOGETHER_S
        results = [self.train()]
        while not results[-1]["done"] and time.monotonic() < until:
            if self._pauses_every and results[-1]["epoch"] % self._pauses_every == 0:
                break
            results.append(self.train())
        n_beyond = self._begin_next(results[-1])
        for result in reversed(results):
            result["n_beyond"] = n_beyond
            n_beyond += 1
        return results

    def _begin_next(self, result: Mapping[str, Any]) -> int:
        """Let the next epoch begin while the driver decides; return how many have begun."""
        is_pause = self._pauses_every and result["epoch"] % self._pauses_every == 0
        return 0 if result["done"] or is_pause else int(self._runner.begin_next())

    def save(self, checkpoint_dir: str | None = None) -> NoTuneCheckpoint:
        """Write a checkpoint before the trial is paused."""
        try:
            self._runner.keep()
        except (OSError, StorageError) as error:
            raise _unusable(f"a checkpoint cannot be saved: {error}") from error
        return NoTuneCheckpoint()

    def step(self) -> dict[str, Any]:
        if self._must_restart:
            raise WorkerRestartError()
        try:
            step = self._runner.next_result()
        except NodeError as error:
            raise _unusable(str(error)) from error
        result: dict[str, Any] = {
            "epoch": step.epoch,
            "metrics": json.dumps(dict(step.metrics)),
            "seconds": step.seconds,
            "ended": step.ended,
            "reason": step.reason,
            "out_of_memory": step.out_of_memory,
            "checkpoint": step.checkpoint and json.dumps(dict(step.checkpoint)),
            "weights": step.weights and json.dumps(dict(step.weights)),
            "notes": json.dumps(dict(step.notes)),
            "final": None if step.final is None else json.dumps(dict(step.final)),
            "error": step.error,
            "timings": json.dumps(dict(step.timings)),
            "memory_usage": json.dumps(asdict(self._runner.memory_usage)) if self._runner.memory_usage else None,
            "worker": self._runner.worker,
            "done": step.ended is not None,
        }
        if step.metrics.get(self._objective) is not None:
            result["objective"] = step.metrics[self._objective]
        return result

    def _start(self, config: dict[str, Any]) -> None:
        self._objective, self._pauses_every = config["objective"], config["pauses_every"]
        self._runner.start(
            config["number"],
            json.loads(config["params"]),
            config["seed"],
            n_stored=config["n_stored"],
            n_inherited=config["n_inherited"],
            checkpoint=Checkpoint(**json.loads(config["checkpoint"])) if config["checkpoint"] else None,
        )


def _unusable(reason: str) -> UnusableNodeError:
    return UnusableNodeError(ray.get_runtime_context().get_node_id(), reason)


class WorkerRestartError(UncountedError):
    """The worker must be replaced by a new process."""
