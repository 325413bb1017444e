"""Trackers of experiments: what each library reads back of a sweep, also of one that was interrupted or resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aifs_tune
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import InterruptedSweepError, MissingPackageError, SweepFileError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.trackers import MlflowTracker, TensorboardTracker, Tracker, WandbTracker

X = {"x": {"type": "float", "low": 0, "high": 1}, "kind": {"type": "choice", "choices": ["a", "b"]}, "größe.θ": 2}


def run(x, kind, epochs, **others):
    if kind == "b" and x > 2:
        raise ValueError("the lamp broke")
    for epoch in range(epochs):
        yield {"value": x * (epoch + 1), "loss (%)": 1.0 / (epoch + 1)}


def sweep(epochs: int = 3, trials: int = 3, **more: Any) -> aifs_tune.Sweep:
    search = {"trials": trials, "epochs": epochs, "scheduler": "none"}
    return aifs_tune.Sweep(more.pop("function", run), X, name="lab", search=search, **more)


class Heard(NullCallback):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_status(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory):
    """A database of MLflow with its tables, which takes seconds to make."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, empty_mlflow):
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


def mlflow_runs(experiment: str = "lab") -> tuple[Any, list[Any], list[Any]]:
    """The client, the runs of studies, and those of trials in their order."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path('mlflow.db').absolute()}")
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    trials = sorted((r for r in found if "trial" in r.data.tags), key=lambda r: int(r.data.tags["trial"]))
    return client, [r for r in found if "trial" not in r.data.tags], trials


def tensorboard_events(trial: int) -> tuple[list[tuple[str, int, float]], list[Any], list[Any]]:
    """Scalars, parameters and metrics on the page HParams of a trial, as TensorFlow reads them."""
    import tensorflow as tf
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    scalars, params, metrics = [], [], []
    for file in sorted(Path("runs", "lab", f"trial-{trial}").glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "hparams":
                    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    params += [dict(content.session_start_info.hparams)] if content.session_start_info.hparams else []
                    metrics += [info.name.tag for info in content.experiment.metric_infos]
                elif value.HasField("simple_value"):
                    scalars.append((value.tag, event.step, value.simple_value))
    return scalars, params, metrics


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """The records of a log of LevelDB, in whose format Weights & Biases writes: blocks of 32 KiB, pieces of records."""
    at, data = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if not kind:
            return
        data += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield data
            data = b""


def wandb_records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The history and the parameters of each run of Weights & Biases, by its id."""
    from wandb.proto import wandb_internal_pb2

    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.rglob("*.wandb")):
        for data in leveldb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                name = record.run.run_id
                config = {each.key: json.loads(each.value_json) for each in record.run.config.update}
                found.setdefault(name, []).append({"group": record.run.run_group, **config})
            if record.HasField("history"):
                items = {each.key or each.nested_key[0]: json.loads(each.value_json) for each in record.history.item}
                found[name].append(items)
    return found


def test_mlflow_reads_back_the_study_and_its_trials():
    study = sweep(function=lambda x, kind, epochs, **others: run(x * 3, kind, epochs), trials=6)
    study = study.run(in_process=True, callback=MlflowTracker()).study
    client, (parent,), runs = mlflow_runs()
    trials = study.all_trials()
    assert len(runs) == 6
    status = {"complete": "FINISHED", "failed": "FAILED"}
    assert [r.info.status for r in runs] == [status[t.state] for t in trials]
    assert {r.data.tags["mlflow.parentRunId"] for r in runs} == {parent.info.run_id}
    assert (parent.info.status, parent.data.tags["best_trial"]) == ("FINISHED", str(study.best.number))
    assert parent.data.metrics["best"] == study.best.value
    for found, trial in zip(runs, trials, strict=True):
        assert found.data.params == {name: str(value) for name, value in trial.params.items()}
        assert found.data.tags["reason"] == (trial.reason or "")
    best = runs[study.best.number].info.run_id
    assert [(m.step, m.value) for m in client.get_metric_history(best, "value")] == [
        (m.epoch, m.metrics["value"]) for m in study.curve(study.best)
    ]
    assert [m.step for m in client.get_metric_history(best, "loss ___")] == [1, 2, 3]


def test_tensorboard_reads_back_curves_and_parameters():
    pytest.importorskip("tensorflow")
    study = sweep().run(in_process=True, callback=[TensorboardTracker(), Heard()]).study
    for trial in study.all_trials():
        scalars, (params,), metrics = tensorboard_events(trial.number)
        values = [(step, value) for tag, step, value in scalars if tag == "value"]
        assert values == [(m.epoch, pytest.approx(m.metrics["value"])) for m in study.curve(trial)]
        assert params["x"].number_value == pytest.approx(trial.params["x"])
        assert params["kind"].string_value == trial.params["kind"]
        assert params["größe.θ"].number_value == 2
        assert set(metrics) == {"value", "loss (%)"}


def test_wandb_reads_back_curves_and_parameters_offline():
    pytest.importorskip("wandb")
    study = sweep().run(in_process=True, callback=WandbTracker()).study
    runs = sorted(wandb_records(Path("wandb")).items())
    assert len(runs) == 3
    for trial, (_, (begun, *history)) in zip(study.all_trials(), runs, strict=True):
        assert (begun["group"], begun["x"], begun["kind"]) == ("lab", trial.params["x"], trial.params["kind"])
        assert [(h["_step"], h["value"]) for h in history] == [
            (m.epoch, m.metrics["value"]) for m in study.curve(trial)
        ]


def tracker_of(name: str) -> Tracker:
    if name == "wandb":
        pytest.importorskip("wandb")
    if name == "tensorboard":
        pytest.importorskip("tensorflow")
    return {"mlflow": MlflowTracker, "tensorboard": TensorboardTracker, "wandb": WandbTracker}[name]()


def epochs_in(name: str) -> list[list[int]]:
    """The epochs of each trial, in the order in which the tracker has them."""
    if name == "mlflow":
        client, (_,), runs = mlflow_runs()
        return [[m.step for m in client.get_metric_history(r.info.run_id, "value")] for r in runs]
    if name == "tensorboard":
        folders = sorted(Path("runs", "lab").glob("trial-*"))
        return [[step for tag, step, _ in tensorboard_events(n)[0] if tag == "value"] for n in range(len(folders))]
    return [
        [h["_step"] for h in records if "_step" in h] for _, records in sorted(wandb_records(Path("wandb")).items())
    ]


@pytest.mark.parametrize("name", ["mlflow", "tensorboard", "wandb"])
def test_a_study_that_is_resumed_goes_on_with_its_runs(name):
    begun: list[int] = []

    def slow(x, kind, trial, **others):
        begun.append(trial.epoch)
        for epoch in range(trial.epoch, trial.epochs):
            if len(begun) == 2 and epoch == 2:
                raise KeyboardInterrupt
            trial.report({"value": x + epoch})

    with pytest.raises(InterruptedSweepError):
        sweep(function=slow).run(in_process=True, callback=tracker_of(name))
    assert epochs_in(name) == [[1, 2, 3], [1, 2]]
    result = aifs_tune.resume("lab", trainer=slow, in_process=True, callback=tracker_of(name))
    assert result.study.counts()["complete"] == 3
    assert epochs_in(name) == [[1, 2, 3]] * 3
    aifs_tune.resume("lab", trainer=slow, in_process=True, callback=tracker_of(name))
    assert epochs_in(name) == [[1, 2, 3]] * 3
    if name == "mlflow":
        assert [r.info.status for r in mlflow_runs()[2]] == ["FINISHED"] * 3


KILLED = """
import os, signal, sys, aifs_tune
from aifs_tune.execution.callbacks import NullCallback
class Kill(NullCallback):
    def on_trial_start(self, trial):
        if trial.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
aifs_tune.load_sweep("lab.yaml").run(in_process=True, study="lab", callback=Kill())
"""


def test_a_sweep_that_was_killed_goes_on_with_the_same_runs_from_the_command_line(run, tmp_path, monkeypatch):
    (tmp_path / "trackerlab.py").write_text("def run(x, kind, **others):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    Path("lab.yaml").write_text(
        "name: lab\ntrainer: trackerlab:run\nobjective: {metric: value}\nsearch: {trials: 4, epochs: 1}\n"
        "trackers: [tensorboard, {name: mlflow, experiment: lamps}]\n"
        f"space: {json.dumps(X)}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False, timeout=240)
    assert done.returncode == -signal.SIGKILL
    assert [r.info.status for r in mlflow_runs("lamps")[2]] == ["FINISHED"] * 2
    result = aifs_tune.resume("lab", in_process=True)
    assert result.study.counts()["complete"] == 4
    _, studies, runs = mlflow_runs("lamps")
    assert (len(studies), [r.data.metrics["value"] for r in runs]) == (1, [t.value for t in result.study.all_trials()])
    assert len(list(Path("runs", "lab").glob("trial-*"))) == 4


def test_trials_that_ended_without_a_tracker_are_written_when_it_starts():
    sweep().run(in_process=True, study="lab")
    sweep(trials=1).run(in_process=True, study="lab", callback=MlflowTracker())
    assert [len(epochs) for epochs in epochs_in("mlflow")] == [3] * 4
    study = aifs_tune.load_study("lab")
    assert MlflowTracker().log_study(study) == 0
    assert MlflowTracker("again").log_study(study) == 4


class Broken(Tracker):
    def __init__(self, at: str) -> None:
        super().__init__()
        self._at, self.n = at, 0

    def _fail(self, where: str) -> None:
        if self._at == where:
            self.n += 1
            raise OSError("the disk of the tracker is full")

    def _opened(self) -> Any:
        self._fail("open")
        return {}

    def _begin(self, trial: Any) -> None:
        self._fail("begin")

    def _log(self, trial: Any, measured: Any) -> None:
        self._fail("log")

    def _end(self, trial: Any) -> None:
        self._fail("end")

    def close(self) -> None:
        self._fail("close")


@pytest.mark.parametrize("where", ["open", "begin", "log", "end", "close"])
def test_a_tracker_that_fails_is_named_once_and_the_sweep_and_the_others_go_on(where):
    heard, broken = Heard(), Broken(where)
    result = sweep().run(in_process=True, callback=[heard, broken, MlflowTracker()])
    assert result.study.counts()["complete"] == 3
    assert broken.n == 1
    (line,) = [line for line in heard.lines if "Broken" in line]
    assert "left out from now on; the sweep goes on (OSError: the disk of the tracker is full)" in line
    assert [len(epochs) for epochs in epochs_in("mlflow")] == [3] * 3


def test_two_studies_of_one_name_do_not_share_runs(tmp_path):
    heard = Heard()
    sweep().run(in_process=True, callback=[TensorboardTracker(), MlflowTracker()])
    other = f"sqlite:///{tmp_path}/other.db"
    sweep().run(in_process=True, storage=other, callback=[TensorboardTracker(), MlflowTracker(), heard])
    assert any("holds the study of this name in" in line for line in heard.lines)
    _, studies, runs = mlflow_runs()
    assert (len(studies), len(runs)) == (2, 6)


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_trackers_follow_workers_on_ray():
    result = sweep(epochs=2, function=lambda x, kind, **others: iter([x, x + 1])).run(
        workers=2, callback=MlflowTracker()
    )
    assert result.study.counts()["complete"] == 3
    assert epochs_in("mlflow") == [[1, 2]] * 3


def test_a_sweep_file_names_trackers_with_their_options():
    given = {"name": "a", "space": {"x": 1.0}}
    named = parse_sweep({**given, "trackers": ["wandb", {"name": "tensorboard", "folder": "logs"}]}).trackers
    assert [(each.name, each.folder) for each in named] == [("wandb", None), ("tensorboard", Path("logs"))]
    with pytest.raises(SweepFileError, match=r"trackers.0.experiment: tensorboard has no such option; allowed: folder"):
        parse_sweep({**given, "trackers": [{"name": "tensorboard", "experiment": "x"}]})
    with pytest.raises(SweepFileError, match="aim"):
        parse_sweep({**given, "trackers": ["aim"]})


@pytest.mark.parametrize("module", ["mlflow", "tensorboardX", "wandb"])
def test_a_package_that_is_missing_is_named_before_anything_runs(module, monkeypatch):
    name = module.removesuffix("X").lower()
    monkeypatch.setitem(sys.modules, module, None)
    spec = parse_sweep(
        {"name": "a", "trainer": "mlp", "data": {"table": {"bundled": "breast_cancer"}}, "trackers": [name]}
        | {"space": {"units": 8}}
    )
    with pytest.raises(MissingPackageError, match=rf"pip install 'aifs-tune\[{name}\]'"):
        aifs_tune.Sweep.from_spec(spec).run(in_process=True)
