"""Functions that take ``trial`` and report their epochs themselves."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest

from aifs_tune.errors import TrainerError
from aifs_tune.trainers.function import make_user_trainer


def made(function, *, epochs=4, mode="max", params=None, seed=7):
    trainer = make_user_trainer(function, objectives=["score"], mode=mode, epochs=epochs)
    trainer.reset(params or {}, seed=seed)
    return trainer


def curve(trainer, n):
    return [trainer.epoch().get("score") for _ in range(n)]


def test_the_trial_has_params_seed_and_epochs_and_its_reports_are_epochs():
    seen = []

    def run(x, trial):
        for epoch in range(trial.epochs):
            seen.append(trial.report({"score": x * (epoch + 1), "seed": trial.seed, "x": trial.params["x"]}))

    trainer = made(run, params={"x": 2.0}, epochs=3)
    assert trainer.epoch() == {"score": 2.0, "seed": 7.0, "x": 2.0}
    assert seen == []
    assert curve(trainer, 2) == [4.0, 6.0]
    assert seen == [True, True, False]
    assert trainer.is_finished


def test_a_report_takes_a_number_and_may_come_from_a_callback_deep_below():
    class Library:
        def fit(self, on_epoch_end):
            for epoch in range(9):
                if on_epoch_end(epoch) is False:
                    return

    def run(trial):
        Library().fit(lambda epoch: trial.report(epoch / 10))

    assert curve(made(run), 4) == [0.0, 0.1, 0.2, 0.3]


def test_a_function_that_reports_nothing_may_return_its_result():
    def run(trial):
        trial.log("once", kind="single")
        return {"score": 0.5, "text": "short"}

    trainer = made(run)
    assert trainer.epoch() == {"score": 0.5}
    assert trainer.is_finished
    assert trainer.notes == {"kind": "single", "text": "short"}


def test_what_is_returned_after_reports_is_a_note_and_no_epoch():
    def run(trial):
        trial.report(0.1)
        return 0.9

    trainer = made(run)
    assert curve(trainer, 1) == [0.1]
    assert trainer.epoch() == {}
    assert trainer.is_finished
    assert trainer.notes["returned"] == 0.9


def test_a_stopped_function_is_told_and_ended_if_it_does_not_listen():
    listened, ended = [], []

    def polite(trial):
        while trial.report(1.0):
            pass
        listened.append("said")

    def deaf(trial):
        try:
            while True:
                trial.report(1.0)
        finally:
            ended.append("unwound")

    for function in (polite, deaf):
        trainer = made(function, epochs=99)
        trainer.epoch()
        trainer.stop()
        trainer.reset({}, seed=1)
        assert curve(trainer, 2) == [1.0, 1.0]
        trainer.stop()
    assert listened == ["said", "said"]
    assert ended == ["unwound", "unwound"]


def test_an_error_is_the_functions_own():
    def run(trial):
        trial.report(0.5)
        raise ZeroDivisionError("in epoch 2")

    trainer = made(run)
    trainer.epoch()
    with pytest.raises(ZeroDivisionError, match="in epoch 2"):
        trainer.epoch()
    trainer.reset({}, seed=1)
    assert curve(trainer, 1) == [0.5]


def test_a_report_of_another_thread_is_refused_in_words():
    problems = []

    def run(trial):
        def report():
            try:
                trial.report(1.0)
            except TrainerError as error:
                problems.append(str(error))

        thread = threading.Thread(target=report)
        thread.start()
        thread.join()
        return 0.5

    assert made(run).epoch() == {"score": 0.5}
    assert "called in another thread" in problems[0]


def test_a_trial_goes_on_from_its_checkpoint(tmp_path):
    begun = []

    def run(trial):
        level = float((trial.restored / "level.txt").read_text()) if trial.restored else 0.0
        begun.append((trial.epoch, level))
        for _ in range(trial.epoch, trial.epochs):
            level += 1.0
            with trial.checkpoint_dir() as folder:
                (folder / "level.txt").write_text(str(level))
            trial.report(level)

    first = made(run, epochs=5)
    assert curve(first, 3) == [1.0, 2.0, 3.0]
    assert first.has_checkpoint
    first.save(tmp_path)
    later = made(run, epochs=5)
    later.load(tmp_path)
    assert curve(later, 2) == [4.0, 5.0]
    assert begun == [(0, 0.0), (3, 3.0)]


def test_epochs_since_an_older_checkpoint_are_trained_but_not_reported_again(tmp_path):
    def run(trial):
        level = float((trial.restored / "level.txt").read_text()) if trial.restored else 0.0
        for epoch in range(trial.epoch, trial.epochs):
            level += 1.0
            if epoch % 2:
                with trial.checkpoint_dir() as folder:
                    (folder / "level.txt").write_text(str(level))
            trial.report(level)

    first = made(run, epochs=6)
    assert curve(first, 3) == [1.0, 2.0, 3.0]  # the checkpoint is of epoch 2
    first.save(tmp_path)
    later = made(run, epochs=6)
    later.load(tmp_path)
    assert curve(later, 3) == [4.0, 5.0, 6.0]


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path):
    def run(trial):
        with trial.checkpoint_dir() as folder:
            (folder / "a").write_text("whole")
        trial.report(1.0)
        try:
            with trial.checkpoint_dir() as folder:
                (folder / "a").write_text("half")
                raise OSError("disk full")
        except OSError:
            pass
        trial.report(2.0)

    trainer = made(run)
    curve(trainer, 2)
    trainer.save(tmp_path)
    assert (tmp_path / "checkpoint" / "a").read_text() == "whole"


def test_the_files_of_the_best_epoch_are_kept(tmp_path):
    def run(trial):
        for epoch, score in enumerate([0.1, 0.9, 0.3]):
            trial.save("model.npz", {"w": np.full(3, epoch)})
            trial.save("curve.npy", np.arange(epoch + 1))
            trial.save("note.txt", f"epoch {epoch}\n")
            trial.save("facts.json", {"epoch": epoch})
            trial.report(score)

    trainer = made(run, epochs=3)
    assert not trainer.has_files
    curve(trainer, 3)
    trainer.save_best(tmp_path)
    assert np.load(tmp_path / "model.npz")["w"].tolist() == [1, 1, 1]
    assert np.load(tmp_path / "curve.npy").tolist() == [0, 1]
    assert (tmp_path / "note.txt").read_text() == "epoch 1\n"
    assert (tmp_path / "facts.json").read_text() == '{\n "epoch": 1\n}'


def test_with_min_the_smallest_is_the_best_and_folders_and_files_are_copied(tmp_path):
    source = tmp_path / "made"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.bin").write_bytes(b"1")

    def run(trial):
        for score in (0.5, 0.2, 0.7):
            (source / "deep" / "a.bin").write_bytes(str(score).encode())
            trial.save("model", source)
            trial.save("one.bin", source / "deep" / "a.bin")
            trial.report(score)

    trainer = made(run, mode="min", epochs=3)
    curve(trainer, 3)
    out = tmp_path / "out"
    out.mkdir()
    trainer.save_best(out)
    assert (out / "model" / "deep" / "a.bin").read_bytes() == b"0.2"
    assert (out / "one.bin").read_bytes() == b"0.2"


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".hidden", "a\\b", 3])
def test_names_that_lead_out_of_the_folder_are_refused(name):
    def run(trial):
        trial.save(name, "text\n")

    with pytest.raises(TrainerError, match="is not the name of a file; allowed: a name without a folder"):
        made(run).epoch()


def test_what_cannot_be_written_is_named():
    def run(trial):
        trial.save("a", object())

    with pytest.raises(TrainerError, match=r"trial.save: <object.* cannot be written .*; allowed: a path, arrays"):
        made(run).epoch()


def test_half_a_file_is_not_kept(tmp_path):
    def half(file):
        file.write_text("half")
        raise OSError("the disk is full")

    def run(trial):
        with contextlib.suppress(OSError):
            trial.save("model.txt", half)
        trial.save("whole.txt", "whole\n")
        trial.report(0.5)

    trainer = made(run)
    trainer.epoch()
    trainer.save_best(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["whole.txt"]


def test_a_parameter_called_trial_is_the_parameter():
    trainer = make_user_trainer(lambda trial: trial * 2, objectives=["score"], mode="max", epochs=1)
    trainer.reset({"trial": 3}, seed=0)
    assert trainer.epoch() == {"score": 6.0}


def test_a_trial_that_is_over_cannot_report_into_the_next_one():
    kept = []

    def run(trial):
        kept.append(trial)
        if len(kept) == 2:
            kept[0].report(99.0)
        trial.report(1.0)

    trainer = made(run)
    trainer.epoch()
    trainer.reset({}, seed=2)
    with pytest.raises(TrainerError, match="a trial that is over"):
        trainer.epoch()


def test_text_is_written_as_it_is_and_paths_of_files_are_copied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.pt").write_bytes(b"weights")
    victim = tmp_path / "victim"
    victim.write_text("mine")

    def run(trial):
        trial.save("empty.txt", "")
        trial.save("long.txt", "a" * 3000)
        trial.save("name.txt", "folder")
        trial.save("kept.pt", "model.pt")
        trial.save("again", tmp_path / "folder")
        trial.save("again", "a file now\n")
        trial.save("link", lambda path: path.symlink_to(victim))
        trial.save("link", "other\n")
        trial.report(1.0)

    trainer = made(run, epochs=1)
    trainer.epoch()
    out = tmp_path / "out"
    out.mkdir()
    trainer.save_best(out)
    assert {f.name: f.read_text() for f in out.iterdir()} == {
        "empty.txt": "",
        "long.txt": "a" * 3000,
        "name.txt": "folder",
        "kept.pt": "weights",
        "again": "a file now\n",
        "link": "other\n",
    }
    assert victim.read_text() == "mine"
