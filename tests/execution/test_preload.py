"""Workers that start before there is work."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from aifs_tune.execution.ray.preload import FOLDER_VARIABLE, wait_for

pytestmark = pytest.mark.usefixtures("no_ray")


def test_waits_for_as_many_as_start_and_no_longer(tmp_path):
    for n in (1, 2):
        started = threading.Timer(0.1, lambda n=n: (tmp_path / str(n)).touch())
        started.start()
        wait_for(tmp_path, n)
        assert len(list(tmp_path.iterdir())) == n


def test_a_worker_that_never_starts_does_not_hold_up_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr("aifs_tune.execution.ray.preload._WAIT_S", 0.05)
    wait_for(tmp_path, 1)


def test_an_import_leaves_its_mark_where_one_is_waited_for(tmp_path):
    command = [sys.executable, "-c", "import aifs_tune.execution.ray.preload"]
    subprocess.run(command, check=True, env={**os.environ, FOLDER_VARIABLE: str(tmp_path)})
    assert len(list(tmp_path.iterdir())) == 1
    subprocess.run(command, check=True, env={**os.environ, FOLDER_VARIABLE: str(tmp_path / "gone")})


@pytest.mark.soak
def test_the_workers_that_start_with_ray_are_those_that_train(tmp_path, monkeypatch):
    """Asked too early, Ray would start others beside them."""
    import aifs_tune

    monkeypatch.setattr("aifs_tune.execution.ray.preload._WAIT_S", 250)  # on the busiest machine
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "preloading_lab.py").write_text("def score(x):\n    return x\n")
    (tmp_path / "sweep.yaml").write_text(
        "name: two\ntrainer: preloading_lab:score\nobjective: {metric: value}\n"
        "search: {scheduler: none, epochs: 1}\nspace: {x: {type: float, low: 0, high: 1}}\n"
    )
    seen: set[str] = set()
    is_over = threading.Event()

    def look():
        while not is_over.is_set():
            seen.update(_workers())
            time.sleep(0.02)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        aifs_tune.load_sweep("sweep.yaml").run(trials=4, workers=2, storage=f"sqlite:///{tmp_path}/lab.db")
    finally:
        is_over.set()
        watch.join()
    assert len(seen) == 2


def _workers() -> set[str]:
    """Process numbers of Ray's workers that come from this process, not from another sweep on the machine."""
    found = set()
    for process in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/cmdline", "rb") as told:
                title = told.read()
            with open(f"/proc/{process}/environ", "rb") as told:
                is_worker = FOLDER_VARIABLE.encode() in told.read()
            is_ours = is_worker and title.startswith(b"ray::") and b"Agent" not in title and _is_below(process)
        except (OSError, ValueError):
            continue
        if is_ours:
            found.add(process)
    return found


def _is_below(process: str) -> bool:
    """Whether it was started by this process, or by one that was."""
    while process not in ("0", "1", str(os.getpid())):
        with open(f"/proc/{process}/stat") as told:
            process = told.read().rpartition(")")[2].split()[1]
    return process == str(os.getpid())
