"""The worker's part: one warm trainer, many trials, checkpoints, reasons."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from aifs_tune import memory
from aifs_tune.artefacts import BestWeights, TrialArtefacts
from aifs_tune.durable import write_folder
from aifs_tune.footprint import Footprint
from aifs_tune.hashes import hashes_of
from aifs_tune.runner import Job, Runner
from aifs_tune.sweep_file import parse_sweep
from aifs_tune.trial import Checkpoint, Trial


class Counting:
    """A trainer that counts epochs, fails on request and can be resumed."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.value = 0.0
        self.loaded_from: Path | None = None

    @property
    def is_finished(self) -> bool:
        return self.value >= self.params.get("enough", 99)

    def reset(self, params, *, seed):
        self.params, self.value = dict(params), float(params["start"])
        if params.get("cannot_start"):
            raise ValueError("too small")

    def epoch(self):
        self.value += 1
        if self.value == self.params.get("fails_at"):
            raise RuntimeError("it broke\nbadly")
        return {"score": self.value}

    def save(self, folder):
        (folder / "state.json").write_text(json.dumps(self.value))

    def load(self, folder):
        self.value = json.loads((folder / "state.json").read_text())

    def save_best(self, folder):
        (folder / "best.json").write_text(json.dumps(self.value))
        return folder / "best.json"


@pytest.fixture
def runner(tmp_path, monkeypatch):
    spec = parse_sweep(
        {
            "name": "r",
            "trainer": {"name": "cnn", "checkpoint_s": 0},
            "objective": {"metric": "score"},
            "search": {"epochs": 3},
            "space": {"start": {"type": "float", "low": 0, "high": 9}},
        }
    )
    monkeypatch.chdir(tmp_path)
    Counting.made = 0
    return Runner(Job(spec, None, tmp_path / "artefacts", tmp_path), lambda params, seed: Counting())


def steps(runner: Runner, number: int, *, n_stored: int = 0, **params: float) -> list:
    runner.start(number, {"start": 0.0, **params}, 1, n_stored=n_stored)
    taken = [runner.step()]
    while taken[-1].ended is None:
        taken.append(runner.step())
    return taken


def test_trials_run_one_after_another_on_one_trainer(runner):
    first, second = steps(runner, 0), steps(runner, 1, start=5.0)
    assert [s.metrics["score"] for s in first] == [1.0, 2.0, 3.0]
    assert [s.metrics["score"] for s in second] == [6.0, 7.0, 8.0]
    assert [s.ended for s in first] == [None, None, "complete"]
    assert [s.epoch for s in first] == [1, 2, 3]
    assert Counting.made == 1


def test_a_trainer_may_finish_early(runner):
    assert [s.ended for s in steps(runner, 0, enough=2)] == [None, "complete"]


def test_a_failure_names_itself_and_the_next_trial_runs(runner):
    failed = steps(runner, 0, fails_at=2)[-1]
    assert (failed.ended, failed.metrics) == ("failed", {})
    assert failed.reason.startswith("RuntimeError: it broke badly (test_runner.py:")
    assert steps(runner, 1, cannot_start=1)[-1].reason.startswith("ValueError: too small")
    assert steps(runner, 2)[-1].ended == "complete"
    assert Counting.made == 1


def test_a_trial_goes_on_from_its_newest_checkpoint(runner, tmp_path):
    runner.start(4, {"start": 0.0}, seed=1)
    runner.step()
    runner.step()
    assert [p.name for p in (tmp_path / "artefacts" / "trial-000004").iterdir()] == ["checkpoint-00002"]
    again = steps(runner, 4, n_stored=2)
    assert [(s.epoch, s.metrics["score"]) for s in again] == [(3, 3.0)]
    assert (tmp_path / "artefacts" / "trial-000004" / "weights" / "best.json").read_text() == "3.0"


@pytest.mark.parametrize("n_stored", [0, 1, 2])
def test_epochs_that_were_measured_but_not_stored_are_told_again(runner, n_stored):
    runner.start(4, {"start": 0.0}, seed=1)
    first = [runner.step(), runner.step()]
    again = steps(runner, 4, n_stored=n_stored)
    assert [s.epoch for s in again] == list(range(n_stored + 1, 4))
    told = [(s.metrics, s.seconds) for s in first]
    assert [(s.metrics, s.seconds) for s in again[:-1]] == told[n_stored:]
    assert [s.checkpoint for s in again[:-1]] == [None, first[1].checkpoint][n_stored:], "only the newest is there"


@pytest.mark.parametrize("damage", [lambda file: file.write_text("{"), Path.unlink])
@pytest.mark.parametrize("name", ["state.json", "measured.json"])
def test_a_damaged_checkpoint_costs_epochs_and_not_the_trial(runner, name, damage):
    runner.start(4, {"start": 0.0}, seed=1)
    first = [runner.step(), runner.step()]
    damage(runner._artefacts.find_checkpoint() / name)
    again = steps(runner, 4, n_stored=2)
    assert [s.epoch for s in again] == [1, 2, 3]
    assert [s.metrics for s in again[:2]] == [s.metrics for s in first]


def test_the_hashes_of_what_was_written_are_told(runner):
    taken = steps(runner, 4)
    folder = runner._artefacts.weights
    assert taken[-1].weights == hashes_of(folder) == {"best.json": hashlib.sha256(b"3.0").hexdigest()}
    assert [set(s.checkpoint or ()) for s in taken] == [{"state.json", "measured.json"}] * 2 + [set()]


def interrupted(runner: Runner) -> Checkpoint:
    """Two epochs of trial 4, and what the study knows of the checkpoint after them."""
    runner.start(4, {"start": 0.0}, seed=1)
    return Checkpoint(2, [runner.step(), runner.step()][1].checkpoint)


def go_on(runner: Runner, known: Checkpoint, n_stored: int = 2) -> list:
    runner.start(4, {"start": 0.0}, 1, n_stored=n_stored, checkpoint=known)
    taken = [runner.step()]
    while taken[-1].ended is None:
        taken.append(runner.step())
    return taken


def test_a_checkpoint_whose_hash_the_study_has_is_used(runner):
    assert [s.epoch for s in go_on(runner, interrupted(runner))] == [3]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda folder: (folder / "state.json").write_text("7.0"),
            r"state\.json: its SHA-256 is .*study is \w{64}",
        ),
        (lambda folder: (folder / "state.json").unlink(), r"state\.json: is not there"),
        (lambda folder: (folder / "code.pkl").write_bytes(b""), r"code\.pkl: is not one of the files"),
        (lambda folder: (folder / "more").symlink_to("state.json"), r"more: is no regular file"),
    ],
    ids=["changed", "missing", "more", "link"],
)
def test_a_checkpoint_that_is_not_the_one_of_the_study_is_not_used(runner, damage, said):
    """Also where the trainer itself would take it: 7.0 is a state like any other."""
    known = interrupted(runner)
    damage(runner._artefacts.find_checkpoint())
    again = go_on(runner, known)
    assert [(s.epoch, s.metrics["score"]) for s in again] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert again[-1].ended == "complete"
    assert re.match("its checkpoint was not used: .*" + said, again[-1].reason), again[-1].reason
    assert {s.reason for s in again[:-1]} == {None}
    assert steps(runner, 5)[-1].reason is None, "that of the next trial is not touched by it"


def test_a_checkpoint_that_is_gone_is_told(runner):
    known = interrupted(runner)
    runner._artefacts.drop_checkpoints()
    again = go_on(runner, known)
    assert [s.epoch for s in again] == [1, 2, 3]
    assert again[-1].reason == "its checkpoint of epoch 2 is gone"


def test_a_checkpoint_that_the_study_did_not_come_to_know_is_used(runner):
    known = interrupted(runner)
    runner._artefacts.save_checkpoint(1, lambda folder: None)  # what the study knows of is an earlier one
    runner.start(4, {"start": 0.0}, seed=1)
    newest = [runner.step(), runner.step()][1].checkpoint
    again = go_on(runner, Checkpoint(1, known.hashes), n_stored=1)
    assert [s.epoch for s in again] == [2, 3]
    assert again[0].checkpoint == newest, "it is told with its hash now"


def test_what_a_trial_took_over_must_be_what_its_source_wrote(tmp_path):
    runner = adapting(tmp_path)
    runner.start(0, {"stride": 1.0}, 1)
    runner.step()
    runner.step()
    runner.keep()
    known = Checkpoint(2, hashes_of(runner._artefacts.find_checkpoint()))
    (runner._artefacts.find_checkpoint() / "state.json").write_text("7.0")
    runner.start(0, {"stride": 5.0}, 1, n_stored=2, n_inherited=2, checkpoint=known)
    failed = runner.step()
    assert failed.ended == "failed"
    assert failed.reason.startswith("no whole checkpoint of epoch 2")
    assert "state.json: its SHA-256 is" in failed.reason


def test_a_population_keeps_a_checkpoint_where_it_pauses_and_not_again(tmp_path, monkeypatch):
    search = {"epochs": 4, "scheduler": "pbt", "perturb_epochs": 2, "trials": 4}
    runner = adapting(tmp_path, search=search)
    runner.start(0, {"stride": 1.0}, 1)
    taken = [runner.step(), runner.step()]
    assert [step.checkpoint is None for step in taken] == [True, False]
    written = runner._artefacts.find_checkpoint()
    monkeypatch.setattr(Adapting, "save", lambda self, folder: pytest.fail("is there already"))
    runner.keep()
    assert hashes_of(written) == taken[1].checkpoint


def test_what_was_measured_stands_when_the_disk_is_full(runner, monkeypatch):
    def full(self, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Counting, "save", full)
    monkeypatch.setattr(Counting, "save_best", full)
    taken = steps(runner, 0)
    assert [(s.metrics["score"], s.ended) for s in taken] == [(1.0, None), (2.0, None), (3.0, "complete")]
    assert {s.reason for s in taken} == {"not kept on disk: No space left on device"}


def test_a_folder_that_is_not_whole_is_never_seen(tmp_path):
    artefacts = TrialArtefacts(tmp_path, 3)
    artefacts.save_checkpoint(1, lambda folder: (folder / "a").write_text("1"))

    def broken(folder):
        (folder / "a").write_text("2")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        artefacts.save_checkpoint(2, broken)
    assert artefacts.find_checkpoint() == artefacts.folder / "checkpoint-00001"
    write_folder(artefacts.weights, lambda folder: (folder / "w").write_text("old"))
    write_folder(artefacts.weights, lambda folder: (folder / "w").write_text("new"))
    assert (artefacts.weights / "w").read_text() == "new"
    assert sorted(p.name for p in artefacts.folder.iterdir()) == ["checkpoint-00001", "weights"]


def test_only_the_best_trials_weights_stay(tmp_path):
    objective = parse_sweep({"name": "k", "space": {"x": 1.0}}).objective

    def end(number, value, state="complete"):
        write_folder(TrialArtefacts(tmp_path, number).weights, lambda folder: (folder / "w").write_text("w"))
        keep.ended(Trial(number, state, {}, 0, value=value))

    keep = BestWeights(tmp_path, [objective], [])
    for number, value in enumerate((0.5, 0.4, 0.7, 0.7)):
        end(number, value)
    end(4, 0.9, state="pruned")
    end(5, None, state="failed")
    assert [p.name for p in tmp_path.iterdir()] == ["trial-000002"]


def test_what_a_driver_that_died_left_is_removed(tmp_path):
    objective = parse_sweep({"name": "k", "space": {"x": 1.0}}).objective
    states = ("complete", "complete", "pruned", "running", "waiting")
    trials = [Trial(n, state, {}, 0, value=n / 10) for n, state in enumerate(states)]
    for trial in trials:
        artefacts = TrialArtefacts(tmp_path, trial.number)
        artefacts.save_weights(lambda folder: (folder / "w").write_text("w"))
        artefacts.save_checkpoint(1, lambda folder: (folder / "c").write_text("c"))
        (artefacts.folder / "partial-x").mkdir()
    BestWeights(tmp_path, [objective], [trials[1]]).tidy(trials)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    in_flight = [f"trial-00000{n}/{what}" for n in (3, 4) for what in ("checkpoint-00001", "weights")]
    assert left == ["trial-000001/weights", *in_flight]


def test_what_the_time_went_into_adds_up(runner):
    first = steps(runner, 0)
    assert set(first[0].spent) == {"import", "switch", "train", "keep"}
    assert set(first[1].spent) == {"train", "keep"}
    assert set(steps(runner, 1)[0].spent) == {"switch", "train", "keep"}
    assert all(seconds >= 0 for step in first for seconds in step.spent.values())


class Adapting(Counting):
    """Counts in strides that can change."""

    def reset(self, params, *, seed):
        self.params, self.value = dict(params), 0.0

    def change(self, params):
        self.params = dict(params)

    def epoch(self):
        self.value += self.params["stride"]
        return {"score": self.value}


def adapting(tmp_path, epochs=4, **sections) -> Runner:
    spec = parse_sweep(
        {
            "name": "r",
            "trainer": {"name": "mlp", "checkpoint_s": 100},
            "objective": {"metric": "score"},
            "search": {"epochs": epochs},
            "space": {"start": {"type": "float", "low": 0, "high": 9}},
            **sections,
        }
    )
    return Runner(Job(spec, None, tmp_path / "artefacts", tmp_path), lambda params, seed: Adapting())


def scores(runner: Runner, number: int = 0, **options: int) -> list[float]:
    runner.start(number, {"start": 0.0, "stride": 1.0}, 1, **options)
    taken = [runner.step()]
    while taken[-1].ended is None:
        taken.append(runner.step())
    assert taken[-1].ended == "complete", taken[-1].reason
    return [step.metrics["score"] for step in taken]


REPLAY = [{"epoch": 1, "params": {"stride": 2.0}}, {"epoch": 3, "params": {"stride": 10.0}}]


def test_a_schedule_is_replayed_from_its_epochs_on(tmp_path):
    assert scores(adapting(tmp_path)) == [1, 2, 3, 4]
    runner = adapting(tmp_path, replay=REPLAY)
    assert scores(runner) == [2, 4, 14, 24]
    assert scores(runner, 1) == [2, 4, 14, 24], "the next trial begins with the first entry again"


@pytest.mark.parametrize("n_trained", [1, 2, 3])
def test_a_replay_that_was_interrupted_goes_on_where_it_was(tmp_path, n_trained):
    runner = adapting(tmp_path, replay=REPLAY)
    runner.start(0, {"start": 0.0, "stride": 1.0}, 1)
    for _ in range(n_trained):
        runner.step()
    runner.keep()
    assert scores(adapting(tmp_path, replay=REPLAY), n_stored=n_trained) == [2, 4, 14, 24][n_trained:]


def test_a_kept_trial_goes_on_with_other_parameters_and_tells_nothing_twice(tmp_path):
    runner = adapting(tmp_path)
    runner.start(0, {"stride": 1.0}, 1)
    runner.step()
    runner.step()
    runner.keep()
    assert runner._artefacts.find_checkpoint_epoch() == 2
    runner.start(0, {"stride": 5.0}, 1, n_stored=2, n_inherited=2)
    assert [(s.epoch, s.metrics["score"]) for s in (runner.step(), runner.step())] == [(3, 7.0), (4, 12.0)]


def test_a_trial_that_lost_what_it_took_over_is_not_begun_again(tmp_path):
    runner = adapting(tmp_path)
    runner.start(0, {"stride": 1.0}, 1, n_stored=2, n_inherited=2)
    failed = runner.step()
    assert failed.ended == "failed"
    assert failed.reason == "no whole checkpoint of epoch 2, in which it had taken over another trial's weights"
    runner.start(1, {"stride": 1.0}, 1)
    assert runner.step().ended is None


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's."""


def test_running_out_of_memory_is_a_reason_and_the_process_is_replaced(runner, monkeypatch):
    monkeypatch.setattr(memory, "node_mb", lambda: 16_000.0)

    def hungry(self):
        raise ResourceExhaustedError("OOM when allocating tensor")

    assert not runner.wears_out({})
    monkeypatch.setattr(Counting, "epoch", hungry)
    failed = steps(runner, 0)[-1]
    assert (failed.ended, failed.out_of_memory) == ("failed", True)
    assert failed.reason.startswith("out of memory with the main memory of 16,000 MB: ResourceExhaustedError: OOM when")
    assert runner.wears_out({})


def test_a_trial_that_has_no_memory_to_begin_with_ran_out_too(runner, monkeypatch):
    def hungry(self, params, *, seed):
        raise MemoryError

    monkeypatch.setattr(Counting, "reset", hungry)
    failed = steps(runner, 0)[-1]
    assert failed.out_of_memory
    assert "MemoryError (test_runner.py:" in failed.reason


def test_other_failures_are_not_for_want_of_memory(runner):
    assert not steps(runner, 0, fails_at=2)[-1].out_of_memory
    assert not runner.wears_out({})


def test_what_the_first_trial_took_is_told_after_each_of_its_epochs(runner):
    runner.start(0, {"start": 0.0}, seed=1)
    for _ in range(2):
        runner.step()
        assert runner.occupied is not None
        assert runner.occupied.gpu_peak_mb is None
    assert not runner.wears_out({})
    steps(runner, 1)
    assert runner.occupied is None


def test_a_failed_epoch_tells_nothing_of_memory(runner):
    steps(runner, 0, fails_at=1)
    assert runner.occupied is None


@pytest.mark.parametrize(("growth_mb", "replaced"), [(50, True), (200, False)])
def test_a_process_that_grew_is_replaced(monkeypatch, growth_mb, replaced):
    taken = iter([900.0, 920.0, 1000.0])
    monkeypatch.setattr(memory, "own_mb", lambda: next(taken))
    process = Footprint(gpu=0.0, growth_mb=growth_mb)
    assert [process.wears_out() for _ in range(3)] == [False, False, replaced]


def test_where_the_system_does_not_tell_no_process_is_replaced(monkeypatch):
    monkeypatch.setattr(memory, "own_mb", lambda: None)
    process = Footprint(gpu=0.0, growth_mb=1.0)
    assert not any(process.wears_out() for _ in range(3))


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
    process = Footprint(gpu=gpu, growth_mb=100)
    assert process.there_was(error) == words
    assert process.occupied(OnGpu()).gpu_peak_mb == 1234.0
    assert process.occupied(object()).gpu_peak_mb is None
    assert process.occupied(OnGpu()).gpu_mb == 8_000.0
