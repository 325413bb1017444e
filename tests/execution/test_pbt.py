"""Trials that take over each other's weights: what the study says of them, and their files."""

from __future__ import annotations

import pytest
from records import open_record

from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.errors import ConflictError, RequestError
from aifs_tune.execution import pbt as module
from aifs_tune.execution.pbt import Exploit, apply_exploits, lineage, next_exploit_epoch, repair
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.trial import Change, Trial

A, B, C = ({"x": x, "kind": "a"} for x in (0.1, 0.2, 0.3))


@pytest.fixture
def study(url, space):
    """Three running trials that measured two epochs, the later ones better."""
    study = open_record("lab", space=space, storage=url, metric="score")
    for number in range(3):
        study.ask()
        for epoch in (1, 2):
            study.report(number, epoch, {"score": number + epoch / 10, "auc": epoch / 4})
    return study


def keep(study, number, epoch, text):
    TrialArtifacts(study.artifacts, number).save_checkpoint(epoch, lambda folder: (folder / "w").write_text(text))


def kept(study, number):
    artifacts = TrialArtifacts(study.artifacts, number)
    checkpoint = artifacts.fetch_checkpoint(artifacts.find_checkpoint_epoch(), study.artifacts)
    return checkpoint.name, (checkpoint / "w").read_text()


def test_a_change_is_stored_and_survives_the_process(study, url):
    assert study.trial(0).latest_params == study.trial(0).params
    changed = study.change(0, epoch=3, params=A, source=2)
    assert changed.schedule == (Change(3, A, 2),)
    assert (changed.params, changed.latest_params) == (study.trial(0).params, A)
    assert study.change(0, epoch=3, params=A, source=2) == changed, "the same again changes nothing"
    again = get_study(Storage(url), "lab").trial(0)
    assert again == changed
    assert again.to_json()["schedule"] == [{"epoch": 3, "params": A, "source": 2}]
    assert "schedule" not in study.trial(1).to_json()


def test_the_value_of_a_trial_is_that_of_its_weights(study):
    study.report(0, 3, {"score": 9.0, "auc": 0.9})
    study.report(2, 3, {"score": 2.1, "auc": 0.75})
    study.change(0, epoch=4, params=A, source=2)
    trial = study.trial(0)
    assert (trial.value, trial.epoch, dict(trial.metrics)) == (2.2, 2, {"score": 2.2, "auc": 0.5}), "that of trial 2"
    assert [m.metrics["score"] for m in study.curve(0)] == [0.1, 0.2, 9.0], "what it measured is not forgotten"
    study.report(0, 4, {"score": 2.5, "auc": 1.0})
    told = study.tell(0)
    assert (told.state, told.value, told.epoch, told.epochs) == ("complete", 2.5, 4, 4)
    assert study.best.number == 0


def test_the_lineage_of_a_trial_follows_its_weights(study):
    start = [dict(study.trial(n).params) for n in range(3)]
    assert lineage(study, 1) == [(1, start[1])]
    study.change(1, epoch=3, params=A, source=2)
    study.change(0, epoch=3, params=B, source=2)
    for epoch in (3, 4):
        for number in range(3):
            study.report(number, epoch, {"score": 1.0})
    study.change(2, epoch=5, params=C, source=1)
    assert lineage(study, 0) == [(1, start[2]), (3, B)]
    assert lineage(study, 1) == [(1, start[2]), (3, A)]
    assert lineage(study, 2) == [(1, start[2]), (3, A), (5, C)], "of trial 2 before it became trial 1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"params": {"x": 7.0, "kind": "a"}}, "x: 7.0 is not allowed"),
        ({"source": 0}, "trial 0 cannot continue from trial 0 at epoch 3"),
        ({"epoch": 4}, "trial 0 cannot continue from trial 2 at epoch 4; allowed: a trial that has meas"),
        ({"epoch": 1}, "an epoch after 1"),
        ({"trial": 1, "epoch": 2}, "trial 1 cannot continue from trial 2 at epoch 2.*an epoch after 3"),
    ],
)
def test_a_change_that_cannot_be_is_refused(study, change, said):
    study.change(1, epoch=3, params=A, source=2)
    wanted = {"trial": 0, "epoch": 3, "params": B, "source": 2} | change
    with pytest.raises(RequestError, match=said):
        study.change(wanted.pop("trial"), **wanted)


def test_only_a_running_trial_changes(study):
    study.tell(0)
    with pytest.raises(ConflictError, match="trial 0 is complete"):
        study.change(0, epoch=3, params=A, source=2)


def test_an_exchange_gives_the_weights_away(study):
    for number in range(3):
        keep(study, number, 2, f"weights of {number}")
    apply_exploits(study, 2, [Exploit(0, 2, A)])
    assert [kept(study, number)[1] for number in range(3)] == ["weights of 2", "weights of 1", "weights of 2"]
    assert study.trial(0).schedule == (Change(3, A, 2),)


def test_what_a_crash_kept_from_being_copied_is_copied_later(study, monkeypatch):
    for number in range(3):
        keep(study, number, 2, f"weights of {number}")

    def power_cut(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "_copy_checkpoint", power_cut)
        with pytest.raises(KeyboardInterrupt):
            apply_exploits(study, 2, [Exploit(0, 2, A), Exploit(1, 2, B)])
    assert kept(study, 0) == ("checkpoint-00002", "weights of 0")
    repair(study)
    assert [kept(study, n) for n in (0, 1)] == [("checkpoint-00002", "weights of 2")] * 2
    keep(study, 0, 3, "went on")
    keep(study, 2, 4, "weights of 2, later")
    repair(study)
    assert kept(study, 0) == ("checkpoint-00003", "went on")
    assert kept(study, 1) == ("checkpoint-00002", "weights of 2")


@pytest.mark.parametrize(
    ("epochs", "changed", "expected"),
    [
        ((0, 0, 0), None, 2),
        ((1, 2, 2), None, 2),
        ((2, 2, 2), None, 2),
        ((2, 2, 2), 3, 4),
        ((2, 3, 2), None, 4),
        ((4, 3, 3), None, 4),
        ((4, 4, 4), 3, 4),
        ((7, 0, 0), None, 2),
    ],
)
def test_a_resumed_sweep_makes_the_exchange_that_was_due(epochs, changed, expected):
    schedule = (Change(changed, A, 1),) if changed else ()
    trials = [Trial(n, "running", {}, 0, epochs=each, schedule=schedule) for n, each in enumerate(epochs)]
    assert next_exploit_epoch(trials, 2) == expected
