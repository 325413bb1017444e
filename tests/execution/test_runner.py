"""The worker's part: one warm trainer, many trials, reasons."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from counting import CountingTrainer, adapting_runner, counting, scores, steps


def test_trials_run_one_after_another_on_one_trainer(runner):
    first, second = steps(runner, 0), steps(runner, 1, start=5.0)
    assert [s.metrics["score"] for s in first] == [1.0, 2.0, 3.0]
    assert [s.metrics["score"] for s in second] == [6.0, 7.0, 8.0]
    assert [s.ended for s in first] == [None, None, "complete"]
    assert [s.epoch for s in first] == [1, 2, 3]
    assert CountingTrainer.made == 1


def test_a_trainer_may_finish_early(runner):
    assert [s.ended for s in steps(runner, 0, enough=2)] == [None, "complete"]


def test_a_failure_names_itself_and_the_next_trial_runs(runner):
    failed = steps(runner, 0, fails_at=2)[-1]
    assert (failed.ended, failed.metrics) == ("failed", {})
    assert failed.reason.startswith("RuntimeError: it broke badly (counting.py:")
    assert steps(runner, 1, cannot_start=1)[-1].reason.startswith("ValueError: too small")
    assert steps(runner, 2)[-1].ended == "complete"
    assert CountingTrainer.made == 1


def test_what_was_measured_stands_when_the_disk_is_full(runner, monkeypatch):
    def full(self, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CountingTrainer, "save", full)
    monkeypatch.setattr(CountingTrainer, "save_best", full)
    taken = steps(runner, 0)
    assert [(s.metrics["score"], s.ended) for s in taken] == [(1.0, None), (2.0, None), (3.0, "complete")]
    assert {s.reason for s in taken} == {"not saved on disk: No space left on device"}


def test_what_the_time_went_into_adds_up(runner):
    first = steps(runner, 0)
    assert set(first[0].timings) == {"import", "switch", "train", "keep"}
    assert set(first[1].timings) == {"train", "keep"}
    assert set(steps(runner, 1)[0].timings) == {"switch", "train", "keep"}
    assert all(seconds >= 0 for step in first for seconds in step.timings.values())


BACKGROUND = ThreadPoolExecutor(1)


class BeginningTrainer(CountingTrainer):
    """Counts in another thread."""

    begun: Future[dict[str, float]] | None = None

    def begin_epoch(self):
        self.begun = BACKGROUND.submit(super().epoch)

    def reset(self, params, *, seed):
        if self.begun is not None:
            wait([self.begun])
        self.begun = None
        super().reset(params, seed=seed)

    def epoch(self):
        begun, self.begun = self.begun, None
        return super().epoch() if begun is None else begun.result()


def test_the_next_epoch_begins_before_it_is_asked_for(tmp_path):
    runner = counting(tmp_path, trainer=BeginningTrainer)
    runner.start(0, {"start": 0.0}, 1)
    first = runner.next_result()
    assert runner.begin_next()
    time.sleep(0.05)
    second = runner.next_result()
    assert [step.metrics["score"] for step in (first, second)] == [1.0, 2.0]
    assert second.seconds >= 0.05, "an epoch takes as long as it has been running"
    assert runner.begin_next()
    assert [step.metrics["score"] for step in steps(runner, 1, start=5.0)] == [6.0, 7.0, 8.0], "it is discarded"


def test_an_epoch_that_begins_early_may_fail(tmp_path):
    runner = counting(tmp_path, trainer=BeginningTrainer)
    runner.start(0, {"start": 0.0, "fails_at": 2}, 1)
    runner.next_result()
    assert runner.begin_next()
    assert runner.next_result().reason.startswith("RuntimeError: it broke badly")
    other = counting(tmp_path)
    other.start(1, {"start": 0.0}, 1)
    other.next_result()
    assert not other.begin_next(), "most trainers train when they are asked to"


REPLAY = [{"epoch": 1, "params": {"stride": 2.0}}, {"epoch": 3, "params": {"stride": 10.0}}]


def test_a_schedule_is_replayed_from_its_epochs_on(tmp_path):
    assert scores(adapting_runner(tmp_path)) == [1, 2, 3, 4]
    runner = adapting_runner(tmp_path, replay=REPLAY)
    assert scores(runner) == [2, 4, 14, 24]
    assert scores(runner, 1) == [2, 4, 14, 24], "the next trial begins with the first entry again"


@pytest.mark.parametrize("n_trained", [1, 2, 3])
def test_a_replay_that_was_interrupted_goes_on_where_it_was(tmp_path, n_trained):
    runner = adapting_runner(tmp_path, replay=REPLAY)
    runner.start(0, {"start": 0.0, "stride": 1.0}, 1)
    for _ in range(n_trained):
        runner.next_result()
    runner.keep()
    assert scores(adapting_runner(tmp_path, replay=REPLAY), n_stored=n_trained) == [2, 4, 14, 24][n_trained:]
