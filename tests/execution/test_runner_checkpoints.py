"""The worker's part: what a trial goes on from."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from counting import AdaptingTrainer, adapting_runner, checkpoint_of, steps, to_end

from aifs_tune._util.hashing import hashes_of
from aifs_tune.execution.epochs import EpochResult
from aifs_tune.execution.runner import Runner
from aifs_tune.study.trial import Checkpoint


def test_a_trial_goes_on_from_its_newest_checkpoint(runner, tmp_path):
    runner.start(4, {"start": 0.0}, seed=1)
    runner.next_result()
    runner.next_result()
    assert [p.name for p in (tmp_path / "artifacts" / "trial-000004").iterdir()] == ["checkpoint-00002"]
    again = steps(runner, 4, n_stored=2)
    assert [(s.epoch, s.metrics["score"]) for s in again] == [(3, 3.0)]
    assert (tmp_path / "artifacts" / "trial-000004" / "weights" / "best.json").read_text() == "3.0"


@pytest.mark.parametrize("n_stored", [0, 1, 2])
def test_epochs_that_were_measured_but_not_stored_are_told_again(runner, n_stored):
    runner.start(4, {"start": 0.0}, seed=1)
    first = [runner.next_result(), runner.next_result()]
    again = steps(runner, 4, n_stored=n_stored)
    assert [s.epoch for s in again] == list(range(n_stored + 1, 4))
    told = [(s.metrics, s.seconds) for s in first]
    assert [(s.metrics, s.seconds) for s in again[:-1]] == told[n_stored:]
    assert [s.checkpoint for s in again[:-1]] == [None, first[1].checkpoint][n_stored:], "only the newest is there"


@pytest.mark.parametrize("damage", [lambda file: file.write_text("{"), Path.unlink])
@pytest.mark.parametrize("name", ["state.json", "epochs.json"])
def test_a_damaged_checkpoint_costs_epochs_and_not_the_trial(runner, name, damage):
    runner.start(4, {"start": 0.0}, seed=1)
    first = [runner.next_result(), runner.next_result()]
    damage(checkpoint_of(runner) / name)
    again = steps(runner, 4, n_stored=2)
    assert [s.epoch for s in again] == [1, 2, 3]
    assert [s.metrics for s in again[:2]] == [s.metrics for s in first]


def test_the_hashes_of_what_was_written_are_told(runner, tmp_path):
    taken = steps(runner, 4)
    folder = runner._artifacts.fetch_weights(tmp_path)
    assert taken[-1].weights == hashes_of(folder) == {"best.json": hashlib.sha256(b"3.0").hexdigest()}
    assert [set(s.checkpoint or ()) for s in taken] == [{"state.json", "epochs.json", "hashes.json"}] * 2 + [set()]


def interrupted(runner: Runner) -> Checkpoint:
    """Two epochs of trial 4, and what the study knows of the checkpoint after them."""
    runner.start(4, {"start": 0.0}, seed=1)
    return Checkpoint(2, [runner.next_result(), runner.next_result()][1].checkpoint)


def go_on(runner: Runner, known: Checkpoint | None, n_stored: int = 2) -> list[EpochResult]:
    runner.start(4, {"start": 0.0}, 1, n_stored=n_stored, checkpoint=known)
    return to_end(runner)


def test_a_checkpoint_whose_hash_the_study_has_is_used(runner):
    assert [s.epoch for s in go_on(runner, interrupted(runner))] == [3]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda folder: (folder / "state.json").write_text("7.0"),
            r"state\.json: its SHA-256 is .*study has \w{64}",
        ),
        (lambda folder: (folder / "state.json").unlink(), r"state\.json: does not exist"),
        (lambda folder: (folder / "code.pkl").write_bytes(b""), r"code\.pkl: is unexpected"),
        (lambda folder: (folder / "more").symlink_to("state.json"), r"more: is not a regular file"),
    ],
    ids=["changed", "missing", "more", "link"],
)
def test_a_checkpoint_that_is_not_the_one_of_the_study_is_not_used(runner, damage, said):
    """Also where the trainer itself would take it: 7.0 is a state like any other."""
    known = interrupted(runner)
    damage(checkpoint_of(runner))
    again = go_on(runner, known)
    assert [(s.epoch, s.metrics["score"]) for s in again] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert again[-1].ended == "complete"
    assert re.match("its checkpoint was not used: .*" + said, again[-1].reason), again[-1].reason
    assert {s.reason for s in again[:-1]} == {None}
    assert steps(runner, 5)[-1].reason is None, "that of the next trial is not touched by it"


def test_a_checkpoint_that_is_gone_is_told(runner):
    known = interrupted(runner)
    runner._artifacts.drop_checkpoints()
    again = go_on(runner, known)
    assert [s.epoch for s in again] == [1, 2, 3]
    assert again[-1].reason == "its checkpoint of epoch 2 is missing"


def test_a_checkpoint_that_the_study_did_not_come_to_know_is_used(runner):
    known = interrupted(runner)
    runner._artifacts.save_checkpoint(1, lambda folder: None)  # what the study knows of is an earlier one
    runner.start(4, {"start": 0.0}, seed=1)
    newest = [runner.next_result(), runner.next_result()][1].checkpoint
    again = go_on(runner, Checkpoint(1, known.hashes), n_stored=1)
    assert [s.epoch for s in again] == [2, 3]
    assert again[0].checkpoint == newest, "it is told with its hash now"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "epochs.json").write_text("[]"), r"epochs\.json: its SHA-256 is"),
        (lambda folder: (folder / "state.json").write_text("7.0"), r"state\.json: its SHA-256 is"),
        (lambda folder: (folder / "code.pkl").write_bytes(b""), r"code\.pkl: is unexpected"),
        (
            lambda folder: (folder / "hashes.json").unlink(),
            r"hashes\.json: cannot be read as the hashes of the checkpoint",
        ),
    ],
    ids=["measured", "state", "more", "hashes"],
)
def test_a_checkpoint_that_the_study_did_not_come_to_know_is_checked_by_its_own_hashes(runner, damage, said):
    interrupted(runner)
    damage(checkpoint_of(runner))
    again = go_on(runner, None, n_stored=1)
    assert [(s.epoch, s.metrics["score"]) for s in again] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert re.match("its checkpoint was not used: .*" + said, again[-1].reason), again[-1].reason


def test_what_a_trial_took_over_must_be_what_its_source_wrote(tmp_path):
    runner = adapting_runner(tmp_path)
    runner.start(0, {"stride": 1.0}, 1)
    runner.next_result()
    runner.next_result()
    runner.keep()
    known = Checkpoint(2, hashes_of(checkpoint_of(runner)))
    (checkpoint_of(runner) / "state.json").write_text("7.0")
    runner.start(0, {"stride": 5.0}, 1, n_stored=2, n_inherited=2, checkpoint=known)
    failed = runner.next_result()
    assert failed.ended == "failed"
    assert failed.reason.startswith("no complete checkpoint of epoch 2")
    assert "state.json: its SHA-256 is" in failed.reason


def test_a_population_keeps_a_checkpoint_where_it_pauses_and_not_again(tmp_path, monkeypatch):
    search = {"epochs": 4, "scheduler": "pbt", "perturb_epochs": 2, "trials": 4}
    runner = adapting_runner(tmp_path, search=search)
    runner.start(0, {"stride": 1.0}, 1)
    taken = [runner.next_result(), runner.next_result()]
    assert [step.checkpoint is None for step in taken] == [True, False]
    written = checkpoint_of(runner)
    monkeypatch.setattr(AdaptingTrainer, "save", lambda self, folder: pytest.fail("is there already"))
    runner.keep()
    assert hashes_of(written) == taken[1].checkpoint


def test_a_kept_trial_goes_on_with_other_parameters_and_tells_nothing_twice(tmp_path):
    runner = adapting_runner(tmp_path)
    runner.start(0, {"stride": 1.0}, 1)
    runner.next_result()
    runner.next_result()
    runner.keep()
    assert runner._artifacts.find_checkpoint_epoch() == 2
    runner.start(0, {"stride": 5.0}, 1, n_stored=2, n_inherited=2)
    assert [(s.epoch, s.metrics["score"]) for s in (runner.next_result(), runner.next_result())] == [
        (3, 7.0),
        (4, 12.0),
    ]


def test_a_trial_that_lost_what_it_took_over_is_not_begun_again(tmp_path):
    runner = adapting_runner(tmp_path)
    runner.start(0, {"stride": 1.0}, 1, n_stored=2, n_inherited=2)
    failed = runner.next_result()
    assert failed.ended == "failed"
    assert failed.reason == "no complete checkpoint of epoch 2, with the weights that it took from another trial"
    runner.start(1, {"stride": 1.0}, 1)
    assert runner.next_result().ended is None
