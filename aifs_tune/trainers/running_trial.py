"""The running trial as a function that takes ``trial`` sees it, and the trainer of such a function.

The function reports its epochs itself, wherever in its code they end: in a loop, or in a callback of another library.
It runs in a greenlet of the worker's thread: :meth:`RunningTrial.report` hands the metrics to the worker and waits
there until the next epoch is wanted.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from greenlet import GreenletExit, getcurrent, greenlet

from aifs_tune._util.scalars import Scalar, brief
from aifs_tune.errors import TrainerError
from aifs_tune.trainers.function import call_arguments, name_of, note_late_error
from aifs_tune.trainers.returned import MAX_NOTES, as_note, is_finite, read_returned

_STATE = "trial.json"
_CHECKPOINT, _NOW, _BEST = "checkpoint", "files", "best_files"
_MAX_NAME = 200
_FILE_NAME = re.compile(r"[^\s/\\.\0][^/\\\0]{0,199}")


class RunningTrial:
    """The trial that a function is running: ``def run(learning_rate, trial): ...``.

    Parameters
    ----------
    params, seed, epochs
        As the attributes of these names.
    folder, send, judge, wrote_checkpoint
        What the worker gives it: a folder for files, and functions for what the trial does.

    Attributes
    ----------
    params : dict
        Values of the parameters by name.
    number : int
        Number of the trial in its study, from 0.
    seed : int
        Seed of everything random in this trial.
    epochs : int
        Most epochs that the trial may report.
    epoch : int
        Number of epochs that a restored checkpoint already has; 0 for a trial that begins.
    restored : pathlib.Path or None
        Folder with what :meth:`checkpoint_dir` wrote last, if this trial was interrupted; None for one that begins.
    notes : dict
        What :meth:`log` and the metrics left beside numbers.

    Examples
    --------
    >>> def run(rate, trial):
    ...     level = 0.0
    ...     for epoch in range(trial.epoch, trial.epochs):
    ...         level += rate * (1 - level)
    ...         if not trial.report({"level": level}):
    ...             return
    >>> space = {"rate": {"type": "float", "low": 0.1, "high": 0.9}}
    >>> result = aifs_tune.tune(run, space, trials=3, epochs=4, metric="level", storage="sqlite:///lab.db")
    >>> result.best.epochs
    4
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        *,
        number: int,
        seed: int,
        epochs: int,
        folder: Path,
        send: Callable[[Any], bool],
        judge: Callable[[Any], bool],
        wrote_checkpoint: Callable[[], None],
    ) -> None:
        self.params = dict(params)
        self.number = number
        self.seed = seed
        self.epochs = epochs
        self.epoch = 0
        self.notes: dict[str, Any] = {}
        self._folder, self._send, self._judge, self._wrote_checkpoint = folder, send, judge, wrote_checkpoint

    @property
    def restored(self) -> Path | None:
        """Folder with the checkpoint that the trial goes on from; None for a trial that begins."""
        return self._folder / _CHECKPOINT if self.epoch else None

    def report(self, metrics: float | Mapping[str, Any]) -> bool:
        """Report the metrics of one epoch.

        Parameters
        ----------
        metrics
            Metrics by name, or the objective as a number.

        Returns
        -------
        bool
            Whether to go on. After False the function should clean up and return; a further report ends it.
        """
        return self._send(metrics)

    @contextmanager
    def checkpoint_dir(self) -> Iterator[Path]:
        """Give an empty folder for everything that the trial needs to go on from here.

        The files replace those of the checkpoint before when the block ends without an error. Write it before the
        :meth:`report` of the last epoch that it contains; in the folder of :attr:`restored` the files come back, on
        another machine too.

        Yields
        ------
        pathlib.Path
            The folder.
        """
        new = Path(tempfile.mkdtemp(prefix="new_", dir=self._folder))
        try:
            yield new
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        shutil.rmtree(self._folder / _CHECKPOINT, ignore_errors=True)
        new.rename(self._folder / _CHECKPOINT)
        self._wrote_checkpoint()

    def save(self, name: str, content: Any) -> None:
        """Keep a file with the epoch that is reported next; those of the best epoch are kept with the study.

        Parameters
        ----------
        name
            Name of the file, without a folder. A later file of this name replaces it.
        content
            ``pathlib.Path`` of a file or folder, or text that is the path of a file, which is copied; an array or a
            dictionary of arrays (as ``.npy`` or ``.npz``); other text or bytes; a function that writes the file, called
            with its path; else a value that JSON can hold.
        """
        if not isinstance(name, str) or not _FILE_NAME.fullmatch(name) or len(name.encode()) > _MAX_NAME:
            raise TrainerError(f"trial.save: {brief(name)} is not the name of a file; allowed: a name without a folder")
        folder = self._folder / _NOW
        folder.mkdir(exist_ok=True)
        try:
            _write(folder / name, content)
        except BaseException:  # half a file is none
            _remove(folder / name)
            raise

    def is_better(self, metrics: float | Mapping[str, Any]) -> bool:
        """Whether an epoch with these metrics would be the best of the trial so far.

        Parameters
        ----------
        metrics
            What :meth:`report` would be given.

        Returns
        -------
        bool
            True for the first epoch with a finite objective, and for each that is better than all before.
        """
        return self._judge(metrics)

    def log(self, *text: object, **notes: Any) -> None:
        """Print into the log of the trial, and keep ``notes`` with it.

        Parameters
        ----------
        *text
            What to print, as with ``print``.
        **notes
            Values by name, such as ``stopped_by="laser"``: shown with the trial.
        """
        if text:
            print(*text, flush=True)  # noqa: T201 - the output is the log
        for name, value in notes.items():
            if len(self.notes) < MAX_NOTES or name in self.notes:
                self.notes[name] = as_note(value)


def _names_a_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _remove(target: Path) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)


def _write(target: Path, content: Any) -> None:
    _remove(target)
    if isinstance(content, Path) or (isinstance(content, str) and _names_a_file(content)):
        source = Path(content)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
    elif callable(content):
        content(target)
    elif isinstance(content, bytes):
        target.write_bytes(content)
    elif isinstance(content, str):
        target.write_text(content)
    elif isinstance(content, Mapping) and content and all(hasattr(value, "__array__") for value in content.values()):
        with target.open("wb") as file:
            np.savez(file, **{str(name): np.asarray(value) for name, value in content.items()})  # type: ignore[arg-type]
    elif hasattr(content, "__array__"):
        with target.open("wb") as file:
            np.save(file, np.asarray(content), allow_pickle=False)
    else:
        try:
            target.write_text(json.dumps(content, indent=1))
        except (TypeError, ValueError) as error:
            raise TrainerError(
                f"trial.save: {brief(content)} cannot be written ({error}); allowed: a path, arrays, text, bytes, or "
                "what JSON can hold"
            ) from None


class TrialFunctionTrainer:
    """Trainer of a function that takes ``trial`` and reports its epochs.

    Resumable once the function has written a checkpoint.
    """

    def __init__(self, function: Callable[..., Any], *, objectives: Sequence[str], mode: str, epochs: int) -> None:
        self._function, self._objectives, self._mode, self._epochs = function, objectives, mode, epochs
        self._scratch = tempfile.TemporaryDirectory(prefix="aifs_tune_trial_")
        self._running: greenlet | None = None
        self._started = self._is_over = self._is_told = False
        self._n_trials = 0
        self.trial_number = 0
        """Number of the next trial, which :meth:`reset` starts."""
        self.gpu_peak_mb: float | None = None
        """Largest ``gpu_peak_mb`` that the function has reported."""

    # -- the trainer's side -----------------------------------------------------------------------

    @property
    def is_finished(self) -> bool:
        """Whether the function has returned."""
        return self._is_over

    @property
    def notes(self) -> dict[str, Any]:
        """What the function noted."""
        return self._trial.notes

    @property
    def has_checkpoint(self) -> bool:
        """Whether the function has written a checkpoint."""
        return (self._folder / _CHECKPOINT).is_dir()

    @property
    def has_files(self) -> bool:
        """Whether the best epoch has files."""
        return (self._folder / _BEST).is_dir()

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Let the running function end, and prepare a call with ``params``."""
        self.stop()
        self._scratch.cleanup()
        self._scratch = tempfile.TemporaryDirectory(prefix="aifs_tune_trial_")
        self._folder = Path(self._scratch.name)
        self._n = self._n_known = self._checkpoint_epoch = 0
        self._best: float | None = None
        self._is_over = self._stopping = self._has_new_checkpoint = False
        self._trial = self._made_trial(params, seed)
        arguments = self._arguments(seed)
        self._running = greenlet(lambda _: self._function(**arguments))

    def epoch(self) -> dict[str, float]:
        """Run the function until it has reported an epoch, or to its end; empty if it ended without one."""
        found = self._switch(True)
        if self._is_over and self._n == 0 and found is not None:
            return self._took(found)
        if self._is_over:
            self._took_returned(found)
            return {}
        metrics = self._took(found)
        if self._n >= self._epochs:
            self._after_last_epoch()
        return metrics

    def stop(self) -> None:
        """Let the function end: its report returns False, and a further one ends it there."""
        running = self._running
        if running is not None and self._started and not running.dead:
            self._stopping = True
            try:
                answer = self._switch(False)
            except Exception as error:  # noqa: BLE001 - a user's code may raise anything
                note_late_error(self._trial.notes, error)
            else:
                self._note_returned(answer)
        self._running, self._started, self._is_over = None, False, True

    def save(self, folder: Path) -> None:
        """Write the function's checkpoint, and the files of the best epoch."""
        state = {"epoch": self._checkpoint_epoch, "reported": self._n, "best": self._best}
        (folder / _STATE).write_text(json.dumps(state))
        for name in (_CHECKPOINT, _NOW, _BEST):
            if (self._folder / name).is_dir():
                shutil.copytree(self._folder / name, folder / name)

    def load(self, folder: Path) -> None:
        """Let the function begin from the checkpoint that ``save`` wrote."""
        try:
            state = json.loads((folder / _STATE).read_text())
            epoch, known, best = int(state["epoch"]), int(state["reported"]), state["best"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainerError(f"{folder / _STATE} does not hold the state of a trial ({error})") from error
        for name in (_CHECKPOINT, _NOW, _BEST):
            if (folder / name).is_dir():
                shutil.copytree(folder / name, self._folder / name)
        self._trial.epoch = self._checkpoint_epoch = self._n = epoch
        self._n_known, self._best = known, best

    def save_best(self, folder: Path) -> Path:
        """Write the files of the best epoch; returns the folder."""
        if self.has_files:
            shutil.copytree(self._folder / _BEST, folder, dirs_exist_ok=True)
        return folder

    # -- what differs between kinds of functions --------------------------------------------------

    def _made_trial(self, params: Mapping[str, Scalar], seed: int) -> RunningTrial:
        return RunningTrial(params, **self._running_options(seed))

    def _running_options(self, seed: int) -> dict[str, Any]:
        """Arguments of any running trial."""
        return {
            "number": self.trial_number,
            "seed": seed,
            "epochs": self._epochs,
            "folder": self._folder,
            "send": self._sender(),
            "judge": self._is_better,
            "wrote_checkpoint": self._note_checkpoint,
        }

    def _arguments(self, seed: int) -> dict[str, Any]:
        """What the function is called with."""
        extra = {"seed": seed, "epochs": self._epochs, "trial": self._trial}
        return call_arguments(self._function, self._trial.params, extra)

    def _after_last_epoch(self) -> None:
        """End the function; what follows its last report is done too."""
        self.stop()

    def _took_returned(self, answer: Any) -> None:
        """The function has returned this after its reports."""
        self._note_returned(answer)

    def _note_returned(self, answer: Any) -> None:
        if answer is not None and not isinstance(answer, GreenletExit):
            self._trial.notes["returned"] = as_note(answer)

    # -- the function's side ----------------------------------------------------------------------

    def _sender(self) -> Callable[[Any], bool]:
        """What the trial that is being made reports with; once another one has begun, its reports are refused."""
        self._n_trials += 1
        own = self._n_trials

        def send(metrics: Any) -> bool:
            if own != self._n_trials or (self._running is None and self._started is False):
                raise TrainerError("trial.report was called on a trial that is over; allowed: the function's own trial")
            return self._send(metrics)

        return send

    def _send(self, metrics: Any) -> bool:
        if threading.get_ident() != self._thread or getcurrent() is not self._running:
            raise TrainerError(
                "trial.report was called in another thread than the function's; allowed: hand the metrics to it"
            )
        if self._stopping and self._is_told:
            raise GreenletExit
        if self._n < self._n_known:  # the study has this epoch already
            self._count_epoch()
            return True
        assert self._running is not None
        parent = self._running.parent
        assert parent is not None
        goes_on = bool(parent.switch(metrics))
        self._is_told = not goes_on
        return goes_on

    def _switch(self, goes_on: bool) -> Any:
        assert self._running is not None
        if not self._started:
            self._started, self._thread, self._is_told = True, threading.get_ident(), False
        self._running.parent = getcurrent()
        try:
            found = self._running.switch(goes_on)
        except BaseException:
            self._is_over = True
            raise
        self._is_over = self._running.dead
        return found

    def _took(self, answer: Any) -> dict[str, float]:
        returned = read_returned(answer, self._objectives, name_of(self._function))
        self._count_epoch()
        self._trial.notes |= returned.notes
        peak = returned.metrics.get("gpu_peak_mb")
        if peak is not None:
            self.gpu_peak_mb = max(self.gpu_peak_mb or 0.0, peak)
        self._keep_best(returned.metrics)
        return returned.metrics

    def _is_better(self, answer: Any) -> bool:
        value = read_returned(answer, self._objectives, name_of(self._function)).metrics.get(self._objectives[0])
        sign = 1 if self._mode == "max" else -1
        return is_finite(value) and (self._best is None or sign * value > sign * self._best)

    def _keep_best(self, metrics: Mapping[str, float]) -> None:
        if not self._is_better(metrics):
            return
        self._best = metrics[self._objectives[0]]
        shutil.rmtree(self._folder / _BEST, ignore_errors=True)
        if (self._folder / _NOW).is_dir():
            shutil.copytree(self._folder / _NOW, self._folder / _BEST)

    def _count_epoch(self) -> None:
        self._n += 1
        if self._has_new_checkpoint:
            self._checkpoint_epoch, self._has_new_checkpoint = self._n, False

    def _note_checkpoint(self) -> None:
        self._has_new_checkpoint = True
