"""Runner: one warm trainer in a worker process that runs one trial after another."""

from __future__ import annotations

import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from aifs_tune._util import memory
from aifs_tune._util.hashing import Hashes
from aifs_tune._util.memory import MemoryUsage
from aifs_tune._util.scalars import Scalar
from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.config.cross_validation import FOLD, split_of
from aifs_tune.errors import (
    ConflictError,
    DamagedError,
    LostError,
    NodeError,
    NotFoundError,
    StorageError,
    TrainerError,
)
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.epochs import EpochResult, load_checkpoint, write_checkpoint
from aifs_tune.execution.memory_tracking import MemoryTracker
from aifs_tune.study.trial import Checkpoint
from aifs_tune.trainers.protocol import (
    Adaptable,
    Evaluating,
    NeedsRestart,
    ReportsTimings,
    Resumable,
    SavesBest,
    SavesPredictions,
    Trainer,
)


@dataclass(frozen=True)
class _Failure:
    """Reason of a failed trial as text: the error itself would keep alive all that its traceback refers to."""

    reason: str
    out_of_memory: bool = False


class Runner:
    """Keeps one trainer warm and runs trials with it.

    A trial that raises, ends without its objective or measures NaN ends as failed with the reason; the
    runner is then ready for the next trial. ``make_trainer`` is called with the first trial's params and seed, and
    again where a trial uses another split of the data.
    ``gpu`` is how many GPUs, or what part of one, this process was given.
    """

    def __init__(
        self, context: TrialContext, make_trainer: Callable[[Mapping[str, Scalar], int], Trainer], *, gpu: float = 0.0
    ) -> None:
        self._context = context
        self._memory_tracker = MemoryTracker(gpu=gpu, growth_mb=context.spec.resources.growth_mb)
        self._n_begun = 0
        self.memory_usage: MemoryUsage | None = None
        """Memory of this process after an epoch of its first trial; None after others."""
        self._make_trainer = make_trainer
        self._split: int | None = None
        self._lost: LostError | None = None
        self._trainer: Trainer | None = None
        self._problem: _Failure | None = None
        self._unused: str | None = None
        self._trained_with: Mapping[str, Scalar] | None = None
        self._timings: dict[str, float] = {}
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        if context.folder.is_dir():
            os.chdir(context.folder)

    def needs_restart(self, params: Mapping[str, Scalar]) -> bool:
        """Whether this process should be replaced before a trial with these parameters."""
        trainer: object = self._trainer
        own = split_of(self._context.spec.cross_validation, params)[1]
        return self._memory_tracker.needs_restart() or (
            isinstance(trainer, NeedsRestart) and trainer.needs_restart(own)
        )

    def start(
        self,
        number: int,
        params: Mapping[str, Scalar],
        seed: int,
        *,
        n_stored: int = 0,
        n_inherited: int = 0,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Start a trial, from its newest checkpoint if it has one. The first result tells of a problem.

        ``n_stored`` is how many epochs of this trial the study has. Those that a checkpoint has beyond them
        are told again by the next steps, without training. The first ``n_inherited`` epochs were those of another
        trial: without a checkpoint of them, the trial fails. ``checkpoint`` is the newest that the study knows of:
        if there is one of its epoch with other hashes, the trial begins again. A newer one, whose epoch was not stored
        before a crash, has its hashes in itself.
        """
        self._artifacts = TrialArtifacts(self._context.artifacts, number)
        self._results: list[EpochResult] = []
        self._stored_results: list[EpochResult] = []
        self._saved_at = time.monotonic()
        self._n_begun += 1
        self._problem = self._unused = None
        self._kept_epoch = 0
        split, self._own_params = split_of(self._context.spec.cross_validation, params)
        self._last_epoch = self._context.spec.refit_epoch(params) or self._context.spec.search.epochs
        if split != self._split:
            self._trainer, self._split = None, split
        first = self._trained_with = self._params_at(1)
        try:
            if self._trainer is None:
                with self._timed("import"):
                    self._trainer = self._make_trainer(params, seed)
            with self._timed("switch"):
                self._trainer.reset(first, seed=seed)
                if not self._continue(n_stored, n_inherited, checkpoint):
                    self._trainer.reset(first, seed=seed)
            if len(self._results) < n_inherited:
                self._problem = _Failure(
                    f"no complete checkpoint of epoch {n_inherited}, with the weights that it took from another trial"
                )
        except LostError as error:
            self._lost = error
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a trainer may raise anything
            self._problem = self._failure(error)

    def _continue(self, n_stored: int, n_inherited: int, known: Checkpoint | None) -> bool:
        """Load the newest checkpoint, if there is one; False if it is not the one that is ``known``, is damaged, was
        computed in another way than here or cannot be reached: then the trial starts again, and its last step says
        so."""
        trainer: object = self._trainer
        if not isinstance(trainer, Resumable):
            return True
        try:
            epoch = self._artifacts.find_checkpoint_epoch()
            if epoch is None:
                if known is not None:
                    self._unused = f"its checkpoint of epoch {known.epoch} is missing"
                return True
            with TemporaryDirectory(prefix="aifs_tune_") as scratch:
                folder = self._artifacts.fetch_checkpoint(epoch, Path(scratch))
                expected = known.hashes if known is not None and known.epoch == epoch else None
                self._results, hashes = load_checkpoint(folder, trainer, expected)
        except (TrainerError, ConflictError, NotFoundError, StorageError, OSError, ValueError, TypeError) as error:
            is_away = isinstance(error, StorageError) and not isinstance(error, DamagedError)
            if is_away and n_inherited:
                raise NodeError(f"a checkpoint cannot be reached: {error}") from error
            self._unused = f"its checkpoint was not used: {error}"
            if not is_away:
                with suppress(StorageError):
                    self._artifacts.drop_checkpoints()
            return False
        untold = self._results[n_stored:]
        self._stored_results = untold[:-1] + [replace(step, checkpoint=hashes) for step in untold[-1:]]
        self._kept_epoch = len(self._results)
        if isinstance(trainer, Adaptable):
            self._trained_with = None  # what was loaded may have been trained with others
        return True

    def keep(self) -> None:
        """Write a checkpoint of the running trial now, unless there is one of its epoch.

        Raises
        ------
        OSError
            If the disk does not take it; StorageError if an object store does not.
        """
        if self._kept_epoch != len(self._results):
            self._keep()

    def _keep(self) -> Hashes:
        epoch = len(self._results)
        try:
            hashes = self._artifacts.save_checkpoint(epoch, self._write_checkpoint)
        finally:
            self._saved_at = time.monotonic()
        self._kept_epoch = epoch
        return hashes

    def _params_at(self, epoch: int) -> dict[str, Scalar]:
        """Parameters that ``epoch`` trains with, counted from 1."""
        replayed = [each.params for each in self._context.spec.replay if each.epoch <= epoch]
        return {**self._own_params, **replayed[-1]} if replayed else self._own_params

    def _adapt(self) -> None:
        """Give the trainer the parameters of the next epoch."""
        trainer: object = self._trainer
        wanted = self._params_at(len(self._results) + 1)
        if wanted != self._trained_with:
            assert isinstance(trainer, Adaptable)
            trainer.change(wanted)
            self._trained_with = wanted

    def next_result(self) -> EpochResult:
        """Train one epoch; the last result of a trial says how it ended.

        Raises
        ------
        LostError
            If the trial did not end, but cannot go on in this process.
        """
        if self._lost is not None:
            raise self._lost
        self.memory_usage = None
        step = self._step()
        timings, self._timings = self._timings, {}
        reasons = [reason for reason in (step.reason, self._unused if step.ended else None) if reason]
        return replace(step, timings=timings, reason="; ".join(reasons) or None)

    def _step(self) -> EpochResult:
        if self._stored_results:
            return self._stored_results.pop(0)
        started = time.perf_counter()
        if self._problem is not None:
            return self._failed(self._problem, started)
        assert self._trainer is not None
        try:
            self._adapt()
            with self._timed("train"):
                metrics = self._epoch(self._trainer)
        except LostError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a trainer may raise anything
            return self._failed(self._failure(error), started)
        if not metrics and self._trainer.is_finished and self._results:
            return EpochResult(len(self._results), {}, time.perf_counter() - started, "complete")
        problem = self._problem_with(metrics)
        if problem is not None:
            return self._failed(_Failure(problem), started)
        epoch = len(self._results) + 1
        ended = epoch >= self._last_epoch or self._trainer.is_finished
        step = EpochResult(epoch, metrics, time.perf_counter() - started, "complete" if ended else None)
        self._results.append(step)
        if self._n_begun == 1:
            self.memory_usage = self._memory_tracker.memory_usage(self._trainer)
        try:
            with self._timed("keep"):
                return self._saved(step)
        except OSError as error:  # what was measured stands, whatever the disk says
            return replace(step, reason=f"not saved on disk: {error.strerror or error}")
        except StorageError as error:  # or an object store
            return replace(step, reason=f"not saved: {error}")

    def _epoch(self, trainer: Trainer) -> dict[str, float]:
        """Train one epoch; the last one also measures the fold, if the trial has one."""
        metrics, evaluating = trainer.epoch(), cast(object, trainer)
        cv, is_last = self._context.spec.cross_validation, len(self._results) + 1 >= self._last_epoch
        if not metrics or cv is None or not cv.measures_folds or not (is_last or trainer.is_finished):
            return metrics
        assert isinstance(evaluating, Evaluating)
        found = evaluating.evaluate("test")
        return metrics | {f"{FOLD}{name.removeprefix('test_')}": value for name, value in found.items()}

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Count the time inside as ``name``, without what the trainer counts itself."""
        before = self._accounted()
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            for other, total in self._accounted().items():
                self._timings[other] = self._timings.get(other, 0.0) + total - before.get(other, 0.0)
                seconds -= total - before.get(other, 0.0)
            self._timings[name] = self._timings.get(name, 0.0) + max(0.0, seconds)

    def _accounted(self) -> dict[str, float]:
        trainer: object = self._trainer
        return dict(trainer.timings) if isinstance(trainer, ReportsTimings) else {}

    def _saved(self, step: EpochResult) -> EpochResult:
        """``step`` with the hashes of what was written after it: weights at the end, else a checkpoint if it is time
        for one or the trial may be paused."""
        trainer: object = self._trainer
        spec, search = self._context.spec.trainer, self._context.spec.search
        if step.ended and (isinstance(trainer, SavesBest) or self._context.spec.evaluate_test):
            return replace(step, weights=self._artifacts.save_weights(self._write_best))
        if step.ended or not isinstance(trainer, Resumable) or spec is None:
            return step
        pauses = search.scheduler == "pbt" and step.epoch % search.perturb_epochs == 0
        if pauses or time.monotonic() - self._saved_at >= spec.checkpoint_s:
            return replace(step, checkpoint=self._keep())
        return step

    def _write_best(self, folder: Path) -> None:
        trainer: object = self._trainer
        if isinstance(trainer, SavesBest):
            trainer.save_best(folder)
        if self._context.spec.evaluate_test and isinstance(trainer, SavesPredictions):
            trainer.save_predictions(folder)

    def _write_checkpoint(self, folder: Path) -> None:
        trainer: object = self._trainer
        assert isinstance(trainer, Resumable)
        write_checkpoint(folder, trainer, self._results)

    def _problem_with(self, metrics: Mapping[str, float]) -> str | None:
        for metric in (objective.metric for objective in self._context.spec.objectives):
            if metric not in metrics:
                return f"the objective {metric!r} was not reported; reported: {', '.join(metrics) or 'nothing'}"
            if not math.isfinite(metrics[metric]):
                return f"{metric} is {metrics[metric]} at epoch {len(self._results) + 1}"
        return None

    def _failed(self, failure: _Failure, started: float) -> EpochResult:
        seconds = time.perf_counter() - started
        return EpochResult(
            len(self._results), {}, seconds, "failed", failure.reason, out_of_memory=failure.out_of_memory
        )

    def _failure(self, error: Exception | SystemExit) -> _Failure:
        if not memory.is_out_of_memory(error):
            return _Failure(describe(error))
        self._memory_tracker.is_out_of_memory = True
        return _Failure(
            f"out of memory with {self._memory_tracker.describe_available(error)}: {describe(error)}",
            out_of_memory=True,
        )


def describe(error: BaseException) -> str:
    """Reason of a failed trial in one line: the error and where it was raised."""
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text[:300]}{where}" if text else f"{type(error).__name__}{where}"
