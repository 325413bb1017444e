"""Runner: one warm trainer in a worker process that runs one trial after another."""

from __future__ import annotations

import math
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from aifs_tune._util import memory
from aifs_tune._util.hashing import Hashes
from aifs_tune._util.memory import MemoryUsage, text_of
from aifs_tune._util.scalars import Scalar, decoded_params
from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.config.cross_validation import FOLD, split_of
from aifs_tune.errors import (
    AifsTuneError,
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
from aifs_tune.execution.isolation import ProcessState
from aifs_tune.execution.memory_tracking import MemoryTracker
from aifs_tune.execution.nested import works_for
from aifs_tune.execution.trial_log import TrialLog, formatted
from aifs_tune.study.trial import Checkpoint
from aifs_tune.trainers.protocol import (
    Adaptable,
    BeginsEpochs,
    Evaluating,
    NeedsRestart,
    Numbered,
    ReportsTimings,
    Resumable,
    ReturnsResult,
    SavesBest,
    SavesPredictions,
    Stoppable,
    Trainer,
)
from aifs_tune.trainers.returned import is_finite, missing_objective, read_returned

_ALONE = threading.Lock()
"""Held by the one runner in this process that keeps the output of its trials and the state of the process."""
_PACKAGE = str(Path(__file__).parents[1])
MAX_ERROR = 16_000
"""Characters of a traceback that are told beside the log of the trial."""


@dataclass(frozen=True)
class _Failure:
    """Reason of a failed trial as text: the error itself would keep alive all that its traceback refers to."""

    reason: str
    out_of_memory: bool = False
    traceback: str | None = None


class Runner:
    """Keeps one trainer warm and runs trials with it.

    A trial that raises, ends without its objective or measures NaN ends as failed with the reason; the
    runner is then ready for the next trial. ``make_trainer`` is called with the first trial's params and seed, and
    again where a trial uses another split of the data.
    ``gpu`` is how many GPUs, or what part of one, this process was given. ``is_worker`` is whether the process runs
    trials alone: all of its output then is the trials'. A user's code finds the state of the process as new in each
    trial; :meth:`close` restores it.
    """

    def __init__(
        self,
        context: TrialContext,
        make_trainer: Callable[[Mapping[str, Scalar], int], Trainer],
        *,
        gpu: float = 0.0,
        is_worker: bool = True,
    ) -> None:
        self._context = context
        self._log = TrialLog(context.artifacts, takes_descriptors=is_worker)
        self._is_worker = is_worker
        self._skips_nan = context.spec.trainer is not None and context.spec.trainer.nan_epochs == "skip"
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
        self._next_began: float | None = None
        self._trained_with: Mapping[str, Scalar] | None = None
        self._timings: dict[str, float] = {}
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        if context.folder.is_dir():
            os.chdir(context.folder)
        if is_worker:
            works_for(context.artifacts)
            sys.argv = [sys.argv[0]]  # those of Ray's worker are not the user's
        is_users = context.spec.trainer is not None and context.spec.trainer.code is not None
        # two sweeps in threads of one process would restore each other's state
        self._is_alone = is_worker or _ALONE.acquire(blocking=False)
        self._process_state = ProcessState() if is_users and self._is_alone else None

    def close(self) -> None:
        """End the log of the last trial, and restore the state of the process."""
        self._log.end()
        trainer: object = self._trainer
        if isinstance(trainer, Stoppable):
            trainer.stop()
        if self._process_state is not None:
            self._process_state.end()
        if self._is_alone and not self._is_worker:
            _ALONE.release()

    def needs_restart(self, params: Mapping[str, Scalar]) -> bool:
        """Whether this process should be replaced before a trial with these parameters."""
        trainer: object = self._trainer
        own = split_of(self._context.spec.cross_validation, params)[1]
        if self._context.spec.resources.fresh_process:
            return True
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
        self._problem = self._unused = self._next_began = None
        self._kept_epoch = 0
        split, self._own_params = split_of(self._context.spec.cross_validation, params)
        self._last_epoch = self._context.spec.refit_epoch(params) or self._context.spec.search.epochs
        if split != self._split:
            self._trainer, self._split = None, split
        first = self._trained_with = self._params_at(1)
        trainer: object = self._trainer
        if isinstance(trainer, Stoppable):
            trainer.stop()
        self._log.begin(number)
        if self._process_state is not None:
            self._process_state.begin_trial(seed)
        try:
            if self._trainer is None:
                with self._timed("import"):
                    self._trainer = self._make_trainer(params, seed)
                if self._process_state is not None:
                    self._process_state.remember_keras()  # the user's module may have set it when it was imported
            numbered: object = self._trainer
            if isinstance(numbered, Numbered):
                numbered.trial_number = number
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
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not self._is_worker:
                raise
            self._problem = self._failure(error)

    def _can(self, ability: type, is_able: str) -> bool:
        """Whether the trainer has an optional ability now: a function has it once it has written files."""
        return isinstance(self._trainer, ability) and bool(getattr(self._trainer, is_able, True))

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
        return decoded_params({**self._own_params, **replayed[-1]} if replayed else self._own_params)

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

    def begin_next(self) -> bool:
        """Let the next epoch begin before it is asked for; return whether the trainer can do that.

        Only after a result that does not end the trial. Until the next result the trial has no checkpoint of its own.
        """
        trainer: object = self._trainer
        if self._stored_results or self._problem or self._lost or not isinstance(trainer, BeginsEpochs):
            return False
        self._next_began = time.perf_counter()
        trainer.begin_epoch()
        return True

    def _step(self) -> EpochResult:
        if self._stored_results:
            return self._stored_results.pop(0)
        started, self._next_began = self._next_began or time.perf_counter(), None
        if self._problem is not None:
            return self._failed(self._problem, started)
        assert self._trainer is not None
        try:
            self._adapt()
            with self._timed("train"), self._log.copying() if self._is_alone else nullcontext():
                metrics = self._epoch(self._trainer)
        except LostError:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not self._is_worker:
                raise  # it is the user's, who wants all of this to end
            return self._failed(self._failure(error), started)
        epoch = len(self._results) + 1
        ended = epoch >= self._last_epoch or self._is_finished()
        final, pruned = self._told_by_code() if ended else (None, None)
        nothing_left = not metrics and ended and (bool(self._results) or pruned is not None)
        if not metrics and not nothing_left:
            metrics = {self._context.spec.objective.metric: None}
        problem = None if pruned is not None else self._problem_with(metrics, final, ended, nothing_left)
        if problem is not None:
            return self._failed(_Failure(problem), started)
        self._log.trim()
        seconds, notes = time.perf_counter() - started, dict(getattr(self._trainer, "notes", {}))
        if ended and pruned is not None:
            return EpochResult(len(self._results), {}, seconds, "pruned", pruned, notes=notes)
        if nothing_left:
            step = EpochResult(len(self._results), {}, seconds, "complete", notes=notes, final=final)
            return self._kept(step)
        step = EpochResult(epoch, metrics, seconds, "complete" if ended else None, notes=notes, final=final)
        self._results.append(step)
        if self._n_begun == 1:
            self.memory_usage = self._memory_tracker.memory_usage(self._trainer)
        return self._kept(step)

    def _told_by_code(self) -> tuple[dict[str, float] | None, str | None]:
        """What the trial is worth, and why it is pruned, as far as the user's code has said so."""
        trainer: object = self._trainer
        return (trainer.final, trainer.pruned) if isinstance(trainer, ReturnsResult) else (None, None)

    def _is_finished(self) -> bool:
        return bool(getattr(self._trainer, "is_finished", False))

    def _kept(self, step: EpochResult) -> EpochResult:
        """``step`` with the hashes of the files that were written after it, or why they were not."""
        try:
            with self._timed("keep"):
                return self._saved(step)
        except OSError as error:  # what was measured stands, whatever the disk says
            return replace(step, reason=f"not saved on disk: {error.strerror or error}")
        except StorageError as error:  # or an object store
            return replace(step, reason=f"not saved: {error}")

    def _epoch(self, trainer: Trainer) -> dict[str, float | None]:
        """Train one epoch; the last one also measures the fold, if the trial has one.

        The objective is None where the epoch did not measure it.
        """
        given: object = trainer.epoch()
        evaluating = cast(object, trainer)
        metrics: dict[str, float | None]
        if isinstance(given, Mapping) and all(type(value) is float for value in given.values()):
            metrics = dict(given)
        else:
            returned = read_returned(given, [o.metric for o in self._context.spec.objectives], type(trainer).__name__)
            metrics = dict(returned.metrics)
        objective = self._context.spec.objective.metric
        if metrics and (objective not in metrics or (self._skips_nan and not is_finite(metrics[objective]))):
            metrics[objective] = None
        cv, is_last = self._context.spec.cross_validation, len(self._results) + 1 >= self._last_epoch
        if not metrics or cv is None or not cv.measures_folds or not (is_last or self._is_finished()):
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
        spec, search = self._context.spec.trainer, self._context.spec.search
        if step.ended and (self._can(SavesBest, "has_files") or self._context.spec.evaluate_test):
            return replace(step, weights=self._artifacts.save_weights(self._write_best))
        if step.ended or not self._can(Resumable, "has_checkpoint") or spec is None:
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

    def _problem_with(
        self,
        metrics: Mapping[str, float | None],
        final: Mapping[str, float] | None,
        ended: bool,
        nothing_left: bool,
    ) -> str | None:
        """Why the trial fails with these metrics of an epoch; None if it does not.

        One objective may be missing in some epochs, but not in all.
        """
        first, *others = (objective.metric for objective in self._context.spec.objectives)
        for metric in () if nothing_left else (first, *others):
            value = metrics.get(metric)
            if value is None and (metric != first or others):
                return missing_objective(metrics, metric)
            if value is not None and not math.isfinite(value):
                return f"{metric} is {value} at epoch {len(self._results) + 1}"
        for metric, value in (final or {}).items():
            if not math.isfinite(value):
                return f"{metric} is {value} at the end"
        if final is not None:
            return None
        if ended and metrics.get(first) is None and all(step.metrics.get(first) is None for step in self._results):
            seen = {name: value for step in self._results for name, value in step.metrics.items()}
            return missing_objective({**seen, **metrics}, first)
        return None

    def _failed(self, failure: _Failure, started: float) -> EpochResult:
        seconds = time.perf_counter() - started
        self._log.write(failure.traceback or f"{failure.reason}\n")
        self._log.trim()
        return EpochResult(
            len(self._results),
            {},
            seconds,
            "failed",
            failure.reason,
            out_of_memory=failure.out_of_memory,
            notes=dict(getattr(self._trainer, "notes", {})),
            error=failure.traceback and failure.traceback[-MAX_ERROR:],
        )

    def _failure(self, error: BaseException) -> _Failure:
        if not memory.is_out_of_memory(error):
            return _Failure(describe(error), traceback=formatted(error))
        self._memory_tracker.is_out_of_memory = True
        return _Failure(
            f"out of memory with {self._memory_tracker.describe_available(error)}: {describe(error)}",
            out_of_memory=True,
            traceback=formatted(error),
        )


def describe(error: BaseException) -> str:
    """Reason of a failed trial in one line: the error and where it was raised, outside of this package."""
    text = " ".join(text_of(error).split())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_PACKAGE)]
    is_ours = isinstance(error, AifsTuneError) or not frames
    where = "" if is_ours else f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})"
    return f"{type(error).__name__}: {text[:300]}{where}" if text else f"{type(error).__name__}{where}"
