"""Trackers of experiments: each trial of a study becomes a run of MLflow, of TensorBoard or of Weights & Biases.

A tracker is a callback of a sweep. It writes what the study has, so a study that is continued goes on with the same
runs, and trials that ended while there was no tracker are written when it starts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifs_tune._util.atomic_files import write_file
from aifs_tune._util.packages import missing_packages_named
from aifs_tune._util.scalars import brief
from aifs_tune.config.trackers import TrackerSpec
from aifs_tune.errors import RequestError
from aifs_tune.execution.callbacks import NullCallback, Plan, SweepCallback
from aifs_tune.study.trial import Measurement, Trial

_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
"""Status of a run of MLflow by the state of its trial."""
_LEDGER = "aifs_tune.json"


@dataclass
class _Run:
    """What a tracker has of a trial: the number of epochs, and whether its end is written."""

    epochs: int = 0
    has_ended: bool = False


class Tracker(NullCallback):
    """Base of the trackers: decides what is to be written, and writes nothing twice.

    Give one as ``callback`` of :func:`aifs_tune.tune` or :meth:`aifs_tune.Sweep.run`, or name it in a sweep file.
    """

    def __init__(self) -> None:
        self._study: Any = None
        self._runs: dict[int, _Run] = {}

    def log_study(self, study: Any) -> int:
        """Write all finished trials of a study that were not written yet.

        Parameters
        ----------
        study
            A study of a storage or of the service.

        Returns
        -------
        int
            Number of trials that were written.
        """
        try:
            return self.open(study)
        finally:
            self.close()

    def open(self, study: Any) -> int:
        """Begin with a study: find its runs, and write the finished trials that have none; how many these were."""
        self._study = study
        self._runs = self._opened()
        missing = [t for t in study.all_trials() if t.is_finished and t.problem is None and not self._of(t).has_ended]
        for trial in missing:
            self.on_trial_complete(trial)
        return len(missing)

    def on_trial_start(self, trial: Trial) -> None:
        """Begin a run, or go on with the one of a trial that was interrupted."""
        self._begin(trial)

    def on_trial_result(self, trial: Trial) -> None:
        """Write the epochs that are new."""
        run = self._of(trial)
        new = [each for each in self._study.curve(trial) if each.epoch > run.epochs]
        if not new and trial.is_finished and not run.epochs and trial.metrics:
            new = [Measurement(0, trial.metrics)]
        for each in new:
            self._log(trial, each)
            run.epochs = each.epoch

    def on_trial_complete(self, trial: Trial) -> None:
        """Write what is left, and the end."""
        self._begin(trial)
        self.on_trial_result(trial)
        self._end(trial)
        self._of(trial).has_ended = True

    def _of(self, trial: Trial) -> _Run:
        return self._runs.setdefault(trial.number, _Run())

    @property
    def _stored_in(self) -> str:
        """Where the study is, to tell studies of the same name apart."""
        storage = getattr(self._study, "storage", None)
        return "" if storage is None else str(storage.shown)

    @abstractmethod
    def _opened(self) -> dict[int, _Run]:
        """Find the runs of the study's trials, by number."""

    @abstractmethod
    def _begin(self, trial: Trial) -> None:
        """Begin a run, unless there is one."""

    @abstractmethod
    def _log(self, trial: Trial, measured: Measurement) -> None:
        """Write the metrics of an epoch."""

    @abstractmethod
    def _end(self, trial: Trial) -> None:
        """Write how the trial ended."""

    def close(self) -> None:
        """End what is open; trials that are not finished go on later."""


class MlflowTracker(Tracker):
    """Each trial as a run of MLflow, nested under one run of the study.

    Parameters
    ----------
    experiment
        Name of the experiment. Default: the name of the study.
    uri
        Where MLflow keeps its runs. Default: ``$MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the current folder.
    """

    def __init__(self, experiment: str | None = None, uri: str | None = None) -> None:
        super().__init__()
        with missing_packages_named():
            import mlflow  # noqa: F401 - told before anything runs
        self._experiment = experiment
        here = f"sqlite:///{Path('mlflow.db').absolute()}"
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI", here)
        self._ids: dict[int, str] = {}
        self._parent: str | None = None

    def _opened(self) -> dict[int, _Run]:
        from mlflow import MlflowClient
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

        self._client, name = MlflowClient(self._uri), self._experiment or self._study.name
        there = self._client.get_experiment_by_name(name)
        self._where = there.experiment_id if there is not None else self._client.create_experiment(name)
        own = {"aifs_tune.study": self._study.name, "aifs_tune.storage": self._stored_in}
        runs = [run for run in self._all_runs() if all(run.data.tags.get(key) == value for key, value in own.items())]
        found = {int(run.data.tags["trial"]): run for run in runs if "trial" in run.data.tags}
        parent = next((run.info.run_id for run in runs if "trial" not in run.data.tags), None)
        if parent is None:
            parent = self._client.create_run(self._where, tags={MLFLOW_RUN_NAME: self._study.name, **own}).info.run_id
        self._tags, self._parent = own, parent
        self._client.update_run(parent, status="RUNNING")
        self._ids = {number: run.info.run_id for number, run in found.items()}
        return {
            number: _Run(int(run.data.tags.get("epochs", 0)), run.info.status in _STATUS.values())
            for number, run in found.items()
        }

    def _all_runs(self) -> Iterator[Any]:
        token: str | None = None
        while True:
            page = self._client.search_runs([self._where], max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _begin(self, trial: Trial) -> None:
        from mlflow.entities import Param
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

        if trial.number in self._ids:
            return
        tags = {MLFLOW_PARENT_RUN_ID: self._parent, MLFLOW_RUN_NAME: f"trial {trial.number}", **self._tags}
        tags |= {"trial": str(trial.number), "seed": str(trial.seed)}
        made = self._client.create_run(self._where, start_time=_ms(trial.started_at), tags=tags).info.run_id
        self._ids[trial.number] = made
        params = [Param(_key(name), str(value)) for name, value in trial.params.items()]
        for begin in range(0, len(params), 100):
            self._client.log_batch(made, params=params[begin : begin + 100])

    def _log(self, trial: Trial, measured: Measurement) -> None:
        from mlflow.entities import Metric, RunTag

        now = _ms(trial.finished_at) or int(time.time() * 1000)
        metrics = [Metric(_key(name), value, now, measured.epoch) for name, value in _numbers(measured)]
        for begin in range(0, max(len(metrics), 1), 900):
            tags = [RunTag("epochs", str(measured.epoch))]
            self._client.log_batch(self._ids[trial.number], metrics[begin : begin + 900], tags=tags)

    def _end(self, trial: Trial) -> None:
        run_id = self._ids[trial.number]
        for name, value in (("state", trial.state), ("reason", trial.reason or "")):
            self._client.set_tag(run_id, name, value)
        self._client.set_terminated(run_id, _STATUS[trial.state], end_time=_ms(trial.finished_at))
        if trial.state == "complete" and not self._study.spec.trade_off:
            best = self._study.best
            self._client.log_metric(self._parent, "best", best.value, step=trial.number)
            self._client.set_tag(self._parent, "best_trial", str(best.number))

    def close(self) -> None:
        """End the run of the study."""
        if self._parent is not None:
            self._client.set_terminated(self._parent)


class _FileTracker(Tracker):
    """Base of the trackers that write into a folder, with a list of what they have written."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._root = folder.absolute()

    @property
    def _folder(self) -> Path:
        return self._root / str(self._study.name)

    def _opened(self) -> dict[int, _Run]:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / _LEDGER
        if not file.exists():
            return {}
        stored = json.loads(file.read_bytes())
        if stored["storage"] != self._stored_in:
            raise RequestError(
                f"{self._folder} holds the study of this name in {stored['storage']}; allowed: another folder"
            )
        return {int(number): _Run(**entry) for number, entry in stored["trials"].items()}

    def _note(self) -> None:
        trials = {number: vars(run) for number, run in self._runs.items()}
        write_file(self._folder / _LEDGER, json.dumps({"storage": self._stored_in, "trials": trials}).encode())

    def on_trial_result(self, trial: Trial) -> None:
        super().on_trial_result(trial)
        self._note()

    def on_trial_complete(self, trial: Trial) -> None:
        super().on_trial_complete(trial)
        self._note()


class TensorboardTracker(_FileTracker):
    """Each trial as a run of TensorBoard, with its parameters on the page HParams.

    Parameters
    ----------
    folder
        Folder to write into, as ``FOLDER/STUDY/trial-NUMBER``. Default: ``runs``.
    """

    def __init__(self, folder: str | Path = "runs") -> None:
        super().__init__(Path(folder))
        with missing_packages_named():
            import tensorboardX  # noqa: F401 - told before anything runs
        self._writers: dict[int, Any] = {}

    def _begin(self, trial: Trial) -> None:
        from tensorboardX import SummaryWriter

        if trial.number not in self._writers:
            folder = str(self._folder / f"trial-{trial.number}")
            # without it, a trial that goes on within the same second would overwrite its file
            suffix = f".{time.time_ns()}"
            self._writers[trial.number] = SummaryWriter(folder, filename_suffix=suffix, write_to_disk=True)

    def _log(self, trial: Trial, measured: Measurement) -> None:
        writer = self._writers[trial.number]
        for name, value in _numbers(measured):
            writer.add_scalar(name, value, measured.epoch)
        writer.flush()

    def _end(self, trial: Trial) -> None:
        from tensorboardX.summary import hparams

        writer = self._writers.pop(trial.number)
        metrics = {name: value for name, value in trial.metrics.items() if value is not None}
        for part in hparams(dict(trial.params), metrics):
            writer.file_writer.add_summary(part)
        writer.add_text("state", " - ".join(each for each in (trial.state, trial.reason) if each))
        writer.close()

    def close(self) -> None:
        """Close the files."""
        while self._writers:
            self._writers.popitem()[1].close()


class WandbTracker(_FileTracker):
    """Each trial as a run of Weights & Biases, in the group of its study.

    Nothing is sent unless ``$WANDB_MODE`` is ``online``; ``wandb sync FOLDER/wandb/offline-run-*`` sends it later.

    Parameters
    ----------
    project
        Name of the project. Default: the name of the study.
    folder
        Folder for its files. Default: ``wandb``.
    """

    def __init__(self, project: str | None = None, folder: str | Path = "wandb") -> None:
        super().__init__(Path(folder))
        with missing_packages_named():
            import wandb  # noqa: F401 - told before anything runs
        self._project = project
        self._open: dict[int, Any] = {}

    def _begin(self, trial: Trial) -> None:
        import wandb

        if trial.number in self._open:
            return
        name = str(self._study.name)
        key = hashlib.sha256(f"{self._stored_in} {name}".encode()).hexdigest()[:12]
        self._open[trial.number] = wandb.init(
            project=(self._project or name).replace("/", "-"),
            group=name,
            name=f"trial {trial.number}",
            id=f"{key}-{trial.number}",
            config={**trial.params, "seed": trial.seed},
            dir=str(self._folder),
            mode=None if "WANDB_MODE" in os.environ else "offline",
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def _log(self, trial: Trial, measured: Measurement) -> None:
        self._open[trial.number].log(dict(_numbers(measured)), step=measured.epoch)

    def _end(self, trial: Trial) -> None:
        run = self._open.pop(trial.number)
        run.summary.update({"state": trial.state, "reason": trial.reason or "", "trial": trial.number})
        run.finish(exit_code=int(trial.state == "failed"))

    def close(self) -> None:
        """End the runs of trials that are not finished; they go on later."""
        while self._open:
            self._open.popitem()[1].finish()


def make_trackers(specs: Sequence[TrackerSpec]) -> list[Tracker]:
    """Make the trackers that a sweep file names.

    Raises
    ------
    MissingPackageError
        If the package of one is not installed.
    """
    return [_make(spec) for spec in specs]


def _make(spec: TrackerSpec) -> Tracker:
    if spec.name == "mlflow":
        return MlflowTracker(spec.experiment)
    folder: dict[str, Any] = {} if spec.folder is None else {"folder": spec.folder}
    return TensorboardTracker(**folder) if spec.name == "tensorboard" else WandbTracker(spec.project, **folder)


class CallbackGroup:
    """Several callbacks as one. A tracker that fails is named once, and left out from then on."""

    def __init__(self, callbacks: Sequence[SweepCallback]) -> None:
        self._all = list(callbacks)

    @contextmanager
    def tracking(self, study: Any) -> Iterator[None]:
        """Begin with a study, and end what is open."""
        self._each_tracker(lambda tracker: tracker.open(study))
        try:
            yield
        finally:
            self._each_tracker(lambda tracker: tracker.close())

    def on_status(self, text: str) -> None:
        self._tell(lambda each: each.on_status(text))

    def on_progress(self, phase: str, done: int, total: int) -> None:
        self._tell(lambda each: each.on_progress(phase, done, total))

    def on_sweep_start(self, plan: Plan) -> None:
        self._tell(lambda each: each.on_sweep_start(plan))

    def on_trial_start(self, trial: Trial) -> None:
        self._tell(lambda each: each.on_trial_start(trial))

    def on_trial_result(self, trial: Trial) -> None:
        self._tell(lambda each: each.on_trial_result(trial))

    def on_trial_complete(self, trial: Trial) -> None:
        self._tell(lambda each: each.on_trial_complete(trial))

    def _tell(self, what: Callable[[Any], object]) -> None:
        for each in list(self._all):
            if not isinstance(each, Tracker):
                what(each)
        self._each_tracker(what)

    def _each_tracker(self, what: Callable[[Any], object]) -> None:
        for tracker in [each for each in self._all if isinstance(each, Tracker)]:
            try:
                what(tracker)
            except Exception as error:  # noqa: BLE001 - another program's, which must not end a sweep
                self._all.remove(tracker)
                self.on_status(
                    f"{type(tracker).__name__} is left out from now on; the sweep goes on ({type(error).__name__}: "
                    f"{' '.join(str(error).split())[:300]})"
                )


def _numbers(measured: Measurement) -> Iterator[tuple[str, float]]:
    return ((name, value) for name, value in measured.metrics.items() if value is not None)


def _key(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w\-. /:]", "_", name)[:250]


def _ms(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def together(callback: SweepCallback | Sequence[SweepCallback] | None, specs: Sequence[TrackerSpec]) -> CallbackGroup:
    """The callbacks that were given, and the trackers of a sweep file, as one."""
    given = [] if callback is None else list(callback) if isinstance(callback, Sequence) else [callback]
    for each in given:
        if not hasattr(each, "on_sweep_start"):
            raise RequestError(
                f"callback: {brief(each)} is not a callback; allowed: a SweepCallback or a list of these"
            )
    return CallbackGroup([*given, *make_trackers(specs)])
