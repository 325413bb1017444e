"""Sweeps whose trials share a GPU that Ray is told of, run out of its memory, or leak: on a real Ray."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray

from aifs_tune._util import memory
from aifs_tune._util.quiet import quieten
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.trusted_code import allow
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.oom_retry import defer_trial
from aifs_tune.execution.sweep import Sweep, SweepResult
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study

GPU_MB = 8000
"""Of the GPU that Ray and nvidia-smi are told of."""

HUNGRY = f"""
    import json, os
    import ray

    class ResourceExhaustedError(Exception):
        pass

    def note(**entry):
        with open("ledger.jsonl", "a") as ledger:
            ledger.write(json.dumps(dict(entry, pid=os.getpid())) + "\\n")

    def hungry(need, seed):
        share = ray.get_runtime_context().get_assigned_resources()["GPU"]
        note(need=need, share=share, seed=seed)
        if need > share:
            raise ResourceExhaustedError("OOM when allocating tensor with shape[1024,1024]")
        yield {{"score": need, "gpu_peak_mb": need * {GPU_MB}}}

    kept = []

    def leaking(mb, seed):
        note(seed=seed)
        kept.append(b"x" * (int(mb) << 20))
        return mb
"""


class Lab(NamedTuple):
    folder: Path
    lines: list[str]

    def run(
        self, trials: list[dict[str, Any]], *, ran_out: dict[int, float] | None = None, **sections: Any
    ) -> SweepResult:
        """A sweep of these trials, of which some ``ran_out`` of memory with a share of a GPU in an earlier one."""
        spec = parse_sweep({"name": "lab", "objective": {"metric": "score"}, **sections})
        url = f"sqlite:///{self.folder}/lab.db"
        study = start_study(Storage(url, create=True), spec, "lab")
        for params in trials:
            study.enqueue(params)
        for number, share in (ran_out or {}).items():
            defer_trial(study, study.trial(number), share)
        callback = NullCallback()
        callback.on_status = self.lines.append  # type: ignore[method-assign]
        allow(spec)
        return Sweep.from_spec(spec).run(trials=len(trials), storage=url, study="lab", callback=callback)

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """What its trials noted, in that order."""
        import json

        return [json.loads(line) for line in (self.folder / "ledger.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def a_gpu(no_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray that believes in a GPU, and an nvidia-smi that tells of it."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '0, GPU-a, {GPU_MB}'\n")
    (folder / "nvidia-smi").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=":")
        quieten()
        ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
        yield


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a_gpu: None) -> Lab:
    name = f"lab_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(HUNGRY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Lab(tmp_path, [])


NEED = {"need": {"type": "choice", "choices": [0.1, 0.25, 0.5, 0.9]}}


def test_trials_that_run_out_of_memory_are_tried_once_more_with_twice_as_much(lab):
    needs = [0.1, 0.5, 0.9, 0.1, 0.5]
    result = lab.run(
        [{"need": need} for need in needs],
        ran_out={4: 0.4},
        trainer=f"lab_{lab.folder.name}:hungry",
        search={"epochs": 1, "sampler": "random", "scheduler": "none"},
        resources={"gpu": 0.4},
        space=NEED,
    )
    trials = result.study.all_trials()
    assert [t.params["need"] for t in trials] == needs, "none is lost, none is proposed beside them"
    assert [t.state for t in trials] == ["failed" if need == 0.9 else "complete" for need in needs]
    reason = trials[2].reason
    assert reason is not None
    assert reason.startswith("out of memory with 0.8 of a GPU, 6,400 MB: ResourceExhaustedError: OOM when allocating")
    shares = defaultdict(list)
    for entry in lab.ledger:
        shares[entry["seed"]].append(entry["share"])
    tried = {0.1: [0.4], 0.5: [0.4, 0.8], 0.9: [0.4, 0.8]}
    assert [shares[t.seed] for t in trials] == [*(tried[need] for need in needs[:4]), [0.8]]
    assert [entry["share"] for entry in lab.ledger] == [0.4] * 4 + [0.8] * 3, "the others come first"
    aside = [line for line in lab.lines if "is tried again after the others" in line]
    assert len(aside) == 2
    assert "out of memory with 0.4 of a GPU, 3,200 MB: ResourceExhaustedError" in aside[0]
    assert "3 trial(s) that ran out of memory are tried again with 0.8 of a GPU, 1 at a time" in lab.lines
    profile = result.profile.to_json()
    assert profile["out_of_memory_retries"] == 3
    assert profile["memory"]["gpu_peak_mb"] == pytest.approx(0.1 * GPU_MB)
    assert profile["memory"]["fit_on_gpu"] == 4
    assert any("at most 800 MB of a GPU with 8,000 MB: 4 such trials fit on it" in line for line in lab.lines)


def test_the_first_trial_has_a_whole_gpu_and_its_memory_says_how_many_share_it_then(lab):
    result = lab.run(
        [{"need": 0.25}] * 3,
        trainer=f"lab_{lab.folder.name}:hungry",
        search={"epochs": 1, "sampler": "random", "scheduler": "none"},
        resources={"cpu": 0.5, "gpu": "auto"},
        space=NEED,
    )
    assert [t.state for t in result.study.all_trials()] == ["complete"] * 3
    assert [entry["share"] for entry in lab.ledger] == [1.0, 0.5, 0.5]
    assert len({entry["seed"] for entry in lab.ledger}) == 3, "each ran once"
    (chosen,) = [line for line in lab.lines if "auto is" in line]
    assert chosen.startswith("resources.gpu: auto is 0.5; the first trial used at most 2,000 MB of a GPU with 8,000 MB")
    assert chosen.endswith("2 at a time from now on")
    assert not any("warning" in line for line in lab.lines)


@pytest.mark.skipif(memory.own_mb() is None, reason="the system does not tell what a process takes")
def test_a_worker_that_leaks_is_replaced(lab):
    result = lab.run(
        [{"mb": 120.0}] * 4,
        trainer=f"lab_{lab.folder.name}:leaking",
        search={"epochs": 1, "sampler": "random", "workers": 1, "worker_retries": 0},
        resources={"growth_mb": 100},
        space={"mb": {"type": "float", "low": 1, "high": 200}},
    )
    assert [t.state for t in result.study.all_trials()] == ["complete"] * 4
    pids = [entry["pid"] for entry in lab.ledger]
    assert pids == [pids[0]] * 2 + [pids[2]] * 2, "120 MB more than after the first trial are too much for a third"
    assert pids[0] != pids[2]
