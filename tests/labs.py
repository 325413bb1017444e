"""A lab's folder with a trainer of its own, and commands typed in it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import yaml

from aifs_tune.errors import NotFoundError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

LAB = """
    import os, sys, time
    from pathlib import Path

    def note(seed, word):
        with open(os.environ.get("LEDGER", "ledger.txt"), "a") as ledger:
            ledger.write(f"{seed} {word}\\n")
            ledger.flush()
            os.fsync(ledger.fileno())

    def slow(x, seed, epochs):
        note(seed, "began")
        for epoch in range(1, epochs + 1):
            time.sleep(0.12)
            if epoch == epochs:
                note(seed, "ended")
            yield {"score": x - 1 / epoch}

    def faulty(fault, seed):
        note(seed, fault)
        if fault == "raises":
            raise ValueError("the lamp\\nbroke")
        if fault == "nan":
            return float("nan")
        if fault == "infinite":
            return {"score": float("inf"), "other": 1.0}
        if fault == "no metric":
            return {"other": 1.0}
        if fault == "no number":
            return "very good"
        if fault == "memory":
            return bytearray(1 << 62)
        if fault == "exits":
            sys.exit(3)
        if fault == "dies":
            os._exit(7)
        if fault == "hangs":
            time.sleep(3600)
        return {"score": 1.0}
"""


def make_lab(folder: Path) -> Path:
    """``folder`` with a trainer module, which keeps a ledger of what it did, and the sweep file ``slow.yaml``."""
    (folder / "mylab.py").write_text(textwrap.dedent(LAB))
    (folder / "slow.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "slow",
                "trainer": "mylab:slow",
                "objective": {"metric": "score", "mode": "max"},
                "search": {"trials": 16, "epochs": 6, "workers": 2},
                "space": {"x": {"type": "float", "low": 0, "high": 1, "default": 0.5}},
            }
        )
    )
    return folder


def storage_of(lab: Path, url: str | None) -> str:
    """``url``, else a file in the lab's folder."""
    return url or f"sqlite:///{lab}/lab.db"


def command(
    lab: Path, *arguments: str, url: str | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """``aifs-tune`` with ``arguments``, as typed in the lab's folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "aifs_tune", *arguments],
        cwd=lab,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {}), "AIFS_TUNE_STORAGE": storage_of(lab, url)},
    )


def finished(lab: Path, url: str | None = None) -> dict[int, tuple]:
    """What is stored of the finished trials, all that must never change again."""
    try:
        study = get_study(Storage(storage_of(lab, url)), "slow")
    except NotFoundError:
        return {}
    return {t.number: (t.state, t.value, t.seed, t.finished_at) for t in study.all_trials() if t.is_finished}


def wait_for(lab: Path, n_finished: int, driver: subprocess.Popen[str], url: str | None = None) -> None:
    """Return when so many trials have finished; fails if the driver ends first."""
    deadline = time.monotonic() + 250
    while len(finished(lab, url)) < n_finished:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ended(lab: Path) -> Counter[str]:
    """How often each trial, by its seed, ran to its end."""
    lines = (lab / "ledger.txt").read_text().splitlines()
    return Counter(line.split()[0] for line in lines if line.endswith("ended"))
