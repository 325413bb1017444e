"""The PyTorch loop and the Lightning callback of the docs: reported, stopped, killed and continued, kept."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aifs_tune
from aifs_tune.artifacts import kept_weights
from aifs_tune.execution.callbacks import NullCallback

torch = pytest.importorskip("torch")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how_to" / "other_libraries.md"
SPACE = "space: {units: {type: int, low: 8, high: 16}, learning_rate: {type: float, low: 0.001, high: 0.1}}"
KILLED = """
import os, signal, sys, aifs_tune
from aifs_tune.execution.callbacks import NullCallback
class Kill(NullCallback):
    def on_trial_result(self, trial):
        if trial.number == 1 and trial.epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)
aifs_tune.load_sweep(sys.argv[1]).run(in_process=True, storage=sys.argv[2], study="one", callback=Kill())
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with the modules of the docs page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for text in re.findall(r"^```python\n(# mylab/.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        file = tmp_path / text.splitlines()[0].removeprefix("# ").replace("mylab", "torchlab")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchlab"]:
        del sys.modules[name]


def sweep_file(lab: Path, module: str, **search: Any) -> str:
    file = lab / "lab.yaml"
    settings = ", ".join(f"{key}: {value}" for key, value in search.items())
    file.write_text(
        f"name: lab\ntrainer: {{name: 'torchlab.{module}:train', checkpoint_s: 0}}\n"
        f"objective: {{metric: val_loss, mode: min}}\nsearch: {{{settings}}}\n{SPACE}\n"
    )
    return str(file)


def curves(study: Any) -> list[list[float]]:
    return [[point.metrics["val_loss"] for point in study.curve(trial)] for trial in study.all_trials()]


@pytest.mark.parametrize("module", ["network", "lit"])
def test_a_trial_that_was_killed_goes_on_as_if_nothing_had_happened(lab, url, module):
    if module == "lit":
        pytest.importorskip("lightning")
    file = sweep_file(lab, module, trials=2, epochs=5, scheduler="none")
    whole = aifs_tune.load_sweep(file).run(in_process=True, storage=url, study="whole").study
    environment = {**os.environ, "PYTHONPATH": str(lab)}
    done = subprocess.run([sys.executable, "-c", KILLED, file, url], env=environment, cwd=lab, check=False, timeout=240)
    assert done.returncode == -signal.SIGKILL
    assert [(t.state, t.epochs) for t in aifs_tune.load_study("one", storage=url).all_trials()] == [
        ("complete", 5),
        ("running", 3),
    ]
    begun: list[int] = []
    network = importlib.import_module(f"torchlab.{module}")
    train = network.train

    def counted(units, learning_rate, trial):
        begun.append(trial.epoch)
        train(units, learning_rate, trial)

    network.train = counted
    again = aifs_tune.resume("one", storage=url, in_process=True).study
    assert begun == [3]
    assert [len(curve) for curve in curves(again)] == [5, 5]
    for one, other in zip(curves(again), curves(whole), strict=True):
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize(("module", "name"), [("network", "model.pt"), ("lit", "model.ckpt")])
def test_the_weights_of_the_best_epoch_are_kept(lab, url, module, name):
    if module == "lit":
        pytest.importorskip("lightning")
    study = aifs_tune.load_sweep(sweep_file(lab, module, trials=1, epochs=4, scheduler="none"))
    study = study.run(in_process=True, storage=url).study
    loaded = torch.load(kept_weights(study, study.best) / name, weights_only=True)
    state = loaded if module == "network" else loaded["state_dict"]
    units = study.best.params["units"]
    net = torch.nn.Sequential(torch.nn.Linear(10, units), torch.nn.ReLU(), torch.nn.Linear(units, 1))
    net.load_state_dict({key.removeprefix("layers."): value for key, value in state.items()})
    data = importlib.import_module(f"torchlab.{module}")
    outputs = net(data.x[300:])[:, 0].detach()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(outputs, data.y[300:])
    assert float(loss) == pytest.approx(min(curves(study)[0]), rel=1e-4)


def test_lightning_stops_where_the_trial_is_to_stop(lab, url):
    pytest.importorskip("lightning")
    file = sweep_file(lab, "lit", trials=12, epochs=9, sampler="random")
    result = aifs_tune.load_sweep(file).run(in_process=True, storage=url, callback=NullCallback())
    pruned = [trial for trial in result.study.all_trials() if trial.state == "pruned"]
    assert pruned
    assert all(trial.epochs < 9 for trial in pruned)
    assert result.study.counts()["failed"] == 0


LIT = """
from torchlab.lit import *
class Sparse(Net):
    def training_step(self, batch, _):
        loss = super().training_step(batch, _)
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss
    def validation_step(self, batch, _):
        self.log("val_loss", super().training_step(batch, _))
def fit(trial, names, **more):
    report = ReportEpochs(trial, names)
    batches = [torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 100)] * 2
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    lightning.Trainer(callbacks=[report], **quiet, **more).fit(Sparse(4, 0.01), *batches)
"""


def test_lightning_reports_the_epochs_that_were_validated_with_the_metrics_that_were_asked_for(lab, url):
    pytest.importorskip("lightning")
    (lab / "torchlab" / "sparse.py").write_text(LIT)
    fit = importlib.import_module("torchlab.sparse").fit
    space = {"rate": 0.1}
    arguments: dict[str, Any] = {"trials": 1, "epochs": 3, "metric": "val_loss", "mode": "min", "storage": url}
    result = aifs_tune.tune(
        lambda rate, trial: fit(trial, None, max_epochs=6, check_val_every_n_epoch=2), space, **arguments
    )
    assert (result.best.epochs, set(result.best.metrics)) == (3, {"loss", "val_loss"})
    result = aifs_tune.tune(lambda rate, trial: fit(trial, ["val_loss"], max_epochs=3), space, **arguments)
    assert set(result.best.metrics) == {"val_loss"}
    failed = aifs_tune.tune(lambda rate, trial: fit(trial, ["val_f1"], max_epochs=3), space, **arguments)
    (trial,) = failed.study.all_trials()
    assert "val_f1: not logged in this epoch; logged: " in trial.reason


def test_without_lightning_the_import_says_what_to_install(monkeypatch):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "aifs_tune.trainers.lightning", raising=False)
    with pytest.raises(aifs_tune.errors.MissingPackageError, match=r"pip install 'aifs-tune\[torch\]'"):
        importlib.import_module("aifs_tune.trainers.lightning")
