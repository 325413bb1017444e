"""What the driver says and keeps of the first trial's memory."""

from __future__ import annotations

import pytest

from aifs_tune._util.memory import MemoryUsage
from aifs_tune.cli.tables import render_profile
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.memory_tracking import ResourceMonitor
from aifs_tune.execution.timing import Profile

SMALL = MemoryUsage(ram_mb=900, node_mb=16_000, gpu_peak_mb=1_000, gpu_mb=80_000)
LARGE = MemoryUsage(ram_mb=950, node_mb=16_000, gpu_peak_mb=3_000, gpu_mb=80_000)


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(NullCallback, "on_status", lambda self, text: lines.append(text))
    return lines


def metered(gpu: float = 0.5, *, is_chosen: bool = True) -> tuple[ResourceMonitor, Profile]:
    profile = Profile()
    monitor = ResourceMonitor(profile, NullCallback())
    monitor.set_worker_resources(gpu, per_node=2, is_chosen=is_chosen)
    return monitor, profile


def test_it_is_said_once_when_the_first_trial_has_ended(said):
    monitor, profile = metered()
    monitor.record({"train": 1.0}, LARGE)
    monitor.record({}, SMALL)
    assert said == []
    monitor.ended()
    monitor.record({}, MemoryUsage(ram_mb=9_999, gpu_peak_mb=9_999, gpu_mb=80_000))
    monitor.ended()
    (line,) = said
    assert "at most 3,000 MB of a GPU with 80,000 MB: 15 such trials fit" in line
    assert profile.to_json()["memory"] == {
        "gpu": 0.5,
        "gpu_peak_mb": 3_000,
        "gpu_mb": 80_000,
        "fit_on_gpu": 15,
        "ram_peak_mb": 950,
        "ram_mb": 16_000,
        "fit_in_ram": 16,
    }
    assert profile.work["train"] == 1.0


def test_a_trial_that_told_nothing_is_not_the_first(said):
    monitor, _ = metered()
    monitor.record({}, None)
    monitor.ended()
    monitor.record({}, SMALL)
    monitor.ended()
    assert len(said) == 1


def test_a_share_that_nobody_chose_is_not_judged(said):
    monitor, profile = metered(1.0, is_chosen=False)
    monitor.record({}, SMALL)
    monitor.ended()
    assert said == []
    assert profile.memory["fit_on_gpu"] == 38


def test_the_profile_shows_it(said):
    monitor, profile = metered()
    monitor.record({}, LARGE)
    monitor.ended()
    profile.n_out_of_memory = 2
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        console.print(render_profile(profile.to_json()))
    shown = captured.get()
    assert "GPU memory: the first trial used at most 3,000 of 80,000 MB; 15 such trials fit" in shown
    assert "main memory: the first trial used at most 950 of 16,000 MB; 16 such trials fit" in shown
    assert "2 trials ran out of memory and ran again with a larger part of a GPU" in shown
