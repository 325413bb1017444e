"""What a study knows of the files of its trials, and what becomes of poisoned ones."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from counting import checkpoint_of
from records import open_record

from aifs_tune.artifacts.trial_artifacts import BestWeights, TrialArtifacts, kept_weights
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import DamagedError, NotFoundError
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.runner import Runner
from aifs_tune.publishing.summary import best_summary
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.trial import Checkpoint, Trial
from aifs_tune.trainers.load import load_classifier


@pytest.fixture
def study(url, space):
    study = open_record("lab", space=space, storage=url, metric="score")
    for _ in range(3):
        study.ask()
    return study


def written(study, number: int) -> dict[str, str]:
    return TrialArtifacts(study.artifacts, number).save_weights(
        lambda folder: (folder / "weights.npz").write_text(f"weights of {number}")
    )


def test_the_hash_of_the_weights_is_stored_with_the_result(study, url):
    study.report(0, 1, {"score": 1.0})
    told = study.tell(0, weights=written(study, 0))
    hashes = {"weights.npz": hashlib.sha256(b"weights of 0").hexdigest()}
    again = get_study(Storage(url), "lab").trial(0)
    assert told.weights == again.weights == again.to_json()["weights"] == hashes
    assert best_summary(study)["weights"] == hashes
    assert "weights" not in study.tell(1, {"score": 0.5}).to_json()
    assert kept_weights(study, 0) == study.artifacts / "trial-000000" / "weights"


def test_weights_that_are_not_those_of_the_study_are_refused(study):
    study.report(0, 1, {"score": 1.0})
    stored = study.tell(0, weights=written(study, 0)).weights["weights.npz"]
    file = kept_weights(study, 0) / "weights.npz"
    file.write_text("bit rot")
    other = hashlib.sha256(b"bit rot").hexdigest()
    said = f"{file}: its SHA-256 is {other}, but the study has {stored}"
    with pytest.raises(DamagedError, match=f"^{said}$"):
        kept_weights(study, 0)
    with pytest.raises(DamagedError, match=f"^{said}$"):
        load_classifier(file.parent, hashes=study.trial(0).weights)
    with pytest.raises(NotFoundError, match="no weights of trial 1 are kept; trials with weights: trial-000000"):
        kept_weights(study, 1)


def test_the_newest_checkpoint_that_the_study_knows_of(study, space):
    one, two, three = ({"state.npz": digit * 64} for digit in "123")
    assert study.checkpoint(0) is None
    for number, hashes in ((0, one), (2, two)):
        study.report(number, 1, {"score": 1.0}, checkpoint=hashes)
        study.report(number, 2, {"score": 1.0})
    assert study.checkpoint(0) == Checkpoint(1, one)
    study.report(2, 2, {"score": 1.0}, checkpoint=three)
    study.change(0, epoch=3, params={"x": 0.1, "kind": "a"}, source=2)
    assert study.checkpoint(0) == Checkpoint(2, three), "what it takes over was written by trial 2"
    study.report(0, 3, {"score": 1.0})
    study.report(0, 4, {"score": 1.0}, checkpoint=one)
    assert study.checkpoint(0) == Checkpoint(4, one)
    study.report(0, 4, {"score": 1.0})
    assert study.checkpoint(0) == Checkpoint(2, three), "an epoch that is measured again has no checkpoint any more"


class Poison:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def poison(folder: Path, name: str, target: Path) -> None:
    """Replace the arrays in ``folder`` by a pickle that they describe as theirs, and lay others beside them."""
    bomb = np.empty(1, dtype=object)
    bomb[0] = Poison(target)
    buffer = io.BytesIO()
    np.savez(buffer, a=bomb)
    (folder / f"{name}.npz").write_bytes(buffer.getvalue())
    described = json.loads((folder / f"{name}.json").read_text())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    (folder / f"{name}.json").write_text(json.dumps(described | {"sha256": digest}))
    for other in ("weights.keras", "weights.pkl"):
        (folder / other).write_bytes(pickle.dumps(bomb[0]))


@pytest.mark.parametrize("is_known", [True, False], ids=["of a known hash", "of no hash"])
def test_what_is_poisoned_is_never_executed(tmp_path, monkeypatch, is_known):
    from aifs_tune.data.examples import open_examples
    from aifs_tune.data.sources import prepare
    from aifs_tune.trainers.factory import make_trainer

    spec = parse_sweep(
        {
            "name": "poisoned",
            "trainer": {"name": "mlp", "checkpoint_s": 0},
            "data": {"table": {"bundled": "breast_cancer"}},
            "objective": {"metric": "val_macro_f1"},
            "search": {"epochs": 3},
            "space": {"units": {"type": "fixed", "value": 8}},
        }
    )
    made = prepare(spec.data, "table", strict=False, tell=str, progress=lambda *done: None)
    location = made.location
    assert open_examples(location).fingerprint == made.fingerprint
    monkeypatch.chdir(tmp_path)

    def runner() -> Runner:
        make = lambda params, seed: make_trainer(spec, location, params=params, seed=seed, threads=1)  # noqa: E731
        return Runner(TrialContext(spec, location, tmp_path / "artifacts", tmp_path), make)

    first = runner()
    first.start(0, {"units": 8}, 1)
    measured = [first.next_result(), first.next_result()]
    target = tmp_path / "executed"
    poison(checkpoint_of(first), "state", target)
    known = Checkpoint(2, measured[1].checkpoint) if is_known else None
    first.start(0, {"units": 8}, 1, n_stored=2, checkpoint=known)
    again = [first.next_result(), first.next_result(), first.next_result()]
    assert [s.metrics for s in again[:2]] == [s.metrics for s in measured], "it began again"
    assert "its checkpoint was not used" in again[-1].reason
    assert not target.exists()
    poison(first._artifacts.fetch_weights(tmp_path), "weights", target)
    with pytest.raises(DamagedError, match=r"weights\.json: its SHA-256 is"):
        load_classifier(first._artifacts.fetch_weights(tmp_path), hashes=again[-1].weights)
    assert not target.exists()
    pickle.loads((first._artifacts.fetch_weights(tmp_path) / "weights.pkl").read_bytes())
    assert target.exists(), "the poison must work where pickle is allowed"


def test_a_folder_that_is_not_whole_is_never_seen(tmp_path):
    artifacts = TrialArtifacts(tmp_path, 3)
    artifacts.save_checkpoint(1, lambda folder: (folder / "a").write_text("1"))

    def broken(folder):
        (folder / "a").write_text("2")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        artifacts.save_checkpoint(2, broken)
    assert artifacts.find_checkpoint_epoch() == 1
    artifacts.save_weights(lambda folder: (folder / "w").write_text("old"))
    artifacts.save_weights(lambda folder: (folder / "w").write_text("new"))
    assert (artifacts.fetch_weights(tmp_path) / "w").read_text() == "new"
    assert sorted(p.name for p in (tmp_path / "trial-000003").iterdir()) == ["checkpoint-00001", "weights"]


def test_only_the_best_trials_weights_stay(tmp_path):
    objective = parse_sweep({"name": "k", "space": {"x": 1.0}}).objective

    def end(number, value, state="complete"):
        TrialArtifacts(tmp_path, number).save_weights(lambda folder: (folder / "w").write_text("w"))
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
        artifacts = TrialArtifacts(tmp_path, trial.number)
        artifacts.save_weights(lambda folder: (folder / "w").write_text("w"))
        artifacts.save_checkpoint(1, lambda folder: (folder / "c").write_text("c"))
        (tmp_path / f"trial-{trial.number:06d}" / "partial-x").mkdir()
    BestWeights(tmp_path, [objective], [trials[1]]).tidy(trials)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    in_flight = [f"trial-00000{n}/{what}" for n in (3, 4) for what in ("checkpoint-00001", "weights")]
    assert left == ["trial-000001/weights", *in_flight]
