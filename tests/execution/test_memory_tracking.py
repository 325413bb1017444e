"""What a worker takes of the memory, and what becomes of one that runs out of it or grows."""

from __future__ import annotations

import pytest
from counting import CountingTrainer, steps

from aifs_tune._util import memory
from aifs_tune.execution.memory_tracking import MemoryTracker


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's."""


def test_running_out_of_memory_is_a_reason_and_the_process_is_replaced(runner, monkeypatch):
    monkeypatch.setattr(memory, "node_mb", lambda: 16_000.0)

    def hungry(self):
        raise ResourceExhaustedError("OOM when allocating tensor")

    assert not runner.needs_restart({})
    monkeypatch.setattr(CountingTrainer, "epoch", hungry)
    failed = steps(runner, 0)[-1]
    assert (failed.ended, failed.out_of_memory) == ("failed", True)
    assert failed.reason.startswith("out of memory with the main memory of 16,000 MB: ResourceExhaustedError: OOM when")
    assert runner.needs_restart({})


def test_a_trial_that_has_no_memory_to_begin_with_ran_out_too(runner, monkeypatch):
    def hungry(self, params, *, seed):
        raise MemoryError

    monkeypatch.setattr(CountingTrainer, "reset", hungry)
    failed = steps(runner, 0)[-1]
    assert failed.out_of_memory
    assert "MemoryError (test_memory_tracking.py:" in failed.reason


def test_other_failures_are_not_for_want_of_memory(runner):
    assert not steps(runner, 0, fails_at=2)[-1].out_of_memory
    assert not runner.needs_restart({})


def test_what_the_first_trial_took_is_told_after_each_of_its_epochs(runner):
    runner.start(0, {"start": 0.0}, seed=1)
    for _ in range(2):
        runner.next_result()
        assert runner.memory_usage is not None
        assert runner.memory_usage.gpu_peak_mb is None
    assert not runner.needs_restart({})
    steps(runner, 1)
    assert runner.memory_usage is None


def test_a_failed_epoch_tells_nothing_of_memory(runner):
    steps(runner, 0, fails_at=1)
    assert runner.memory_usage is None


@pytest.mark.parametrize(("growth_mb", "replaced"), [(50, True), (200, False)])
def test_a_process_that_grew_is_replaced(monkeypatch, growth_mb, replaced):
    taken = iter([900.0, 920.0, 1000.0])
    monkeypatch.setattr(memory, "own_mb", lambda: next(taken))
    process = MemoryTracker(gpu=0.0, growth_mb=growth_mb)
    assert [process.needs_restart() for _ in range(3)] == [False, False, replaced]


def test_where_the_system_does_not_tell_no_process_is_replaced(monkeypatch):
    monkeypatch.setattr(memory, "own_mb", lambda: None)
    process = MemoryTracker(gpu=0.0, growth_mb=1.0)
    assert not any(process.needs_restart() for _ in range(3))


class OnGpu:
    """A trainer that says what it took of a GPU."""

    gpu_peak_mb = 1234.0


@pytest.mark.parametrize(
    ("gpu", "error", "words"),
    [
        (0.25, RuntimeError(), "0.25 of a GPU, 2,000 MB"),
        (1.0, RuntimeError(), "a whole GPU, 8,000 MB"),
        (0.25, MemoryError(), "the main memory of 16,000 MB"),
    ],
)
def test_a_process_says_how_much_there_was(monkeypatch, gpu, error, words):
    monkeypatch.setattr(memory, "gpu_mb", lambda: 8_000.0)
    monkeypatch.setattr(memory, "node_mb", lambda: 16_000.0)
    process = MemoryTracker(gpu=gpu, growth_mb=100)
    assert process.describe_available(error) == words
    assert process.memory_usage(OnGpu()).gpu_peak_mb == 1234.0
    assert process.memory_usage(object()).gpu_peak_mb is None
    assert process.memory_usage(OnGpu()).gpu_mb == 8_000.0
