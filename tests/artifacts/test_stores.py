"""Checkpoints and weights in a folder and in an object store: the same, whatever happens."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from counting import counting, steps, to_end
from records import open_record
from stores import s3_endpoint

from aifs_tune._util.hashing import hashes_of
from aifs_tune._util.object_store import without_secrets
from aifs_tune.artifacts import stores as artifact_stores
from aifs_tune.artifacts.stores import store_at
from aifs_tune.artifacts.trial_artifacts import BestWeights, TrialArtifacts, kept_weights
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import DamagedError, NodeError, NotFoundError, StorageError
from aifs_tune.execution.pbt import Exploit, apply_exploits, repair
from aifs_tune.study.trial import Checkpoint, Trial

WEIGHTS = "trial-000003/weights"


@pytest.fixture(params=["folder", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where the artifacts of a study are; nothing is there yet."""
    return tmp_path / "study-1" if request.param == "folder" else request.getfixturevalue("url_of_artifacts")


@pytest.fixture
def url_of_artifacts(s3: Any, tmp_path: Path) -> str:
    return f"s3://lab/{tmp_path.parent.name}/{tmp_path.name}/study-1"


@pytest.fixture
def keys(s3: Any, url_of_artifacts: str) -> Any:
    """What the store has of the study, by the names below it."""
    prefix = url_of_artifacts.removeprefix("s3://lab/") + "/"

    def listed() -> list[str]:
        found = s3.client.list_objects_v2(Bucket="lab", Prefix=prefix).get("Contents", [])
        return [entry["Key"].removeprefix(prefix) for entry in found]

    return listed


def writing(**contents: str) -> Any:
    def write(folder: Path) -> None:
        for name, content in contents.items():
            (folder / name).write_text(content)

    return write


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


# -- what holds for both ----------------------------------------------------------------------


def test_an_entry_is_what_was_put(place, tmp_path):
    hashes = store_at(place).put(WEIGHTS, writing(a="1", b="2"))
    folder = store_at(place).fetch(WEIGHTS, tmp_path / "here")
    assert read(folder) == {"a": "1", "b": "2"}
    assert hashes == hashes_of(folder)
    store_at(place).put(WEIGHTS, writing(b="3"))
    assert read(store_at(place).fetch(WEIGHTS, tmp_path / "here")) == {"b": "3"}
    with pytest.raises(NotFoundError, match="trial-000004/weights: does not exist"):
        store_at(place).fetch("trial-000004/weights", tmp_path / "here")


def test_an_entry_may_have_folders(place, tmp_path):
    def write(folder: Path) -> None:
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "a").write_text("1")

    assert set(store_at(place).put(WEIGHTS, write)) == {"deep/er/a"}
    assert (store_at(place).fetch(WEIGHTS, tmp_path) / "deep" / "er" / "a").read_text() == "1"


def test_what_cannot_be_written_leaves_what_was_there(place, tmp_path):
    store = store_at(place)
    store.put(WEIGHTS, writing(a="1"))

    def broken(folder: Path) -> None:
        (folder / "a").write_text("2")
        raise OSError("disk full")

    for name in (WEIGHTS, "trial-000003/checkpoint-00001"):
        with pytest.raises(OSError, match="disk full"):
            store.put(name, broken)
    assert read(store.fetch(WEIGHTS, tmp_path)) == {"a": "1"}
    assert store.names() == [WEIGHTS]


def test_entries_are_found_and_removed(place):
    store = store_at(place)
    assert store.names() == []
    names = [f"trial-00000{trial}/{entry}" for trial in (1, 2) for entry in ("checkpoint-00002", "weights")]
    for name in reversed(names):
        store.put(name, writing(a=name))
    assert store.names() == names
    assert store.names("trial-000002") == names[2:]
    for _ in range(2):
        store.remove(names[2])
        assert store.names() == [*names[:2], names[3]]
    store.remove("trial-000001")
    assert store.names() == [names[3]]


def test_what_is_not_wanted_is_removed(place):
    store = store_at(place)
    for trial in (1, 2, 3):
        for entry in ("weights", "checkpoint-00002"):
            store.put(f"trial-00000{trial}/{entry}", writing(a="1"))
    store.tidy(lambda trial, entry: (trial, entry) == ("trial-000001", "weights") or trial == "trial-000002")
    kept = ["trial-000001/weights", "trial-000002/checkpoint-00002", "trial-000002/weights"]
    assert store.names() == kept


def test_a_trial_keeps_its_newest_checkpoint(place, tmp_path):
    artifacts = TrialArtifacts(place, 7)
    assert artifacts.find_checkpoint_epoch() is None
    for epoch in (1, 9, 10):
        artifacts.save_checkpoint(epoch, writing(w=str(epoch)))
    assert store_at(place).names() == ["trial-000007/checkpoint-00010"]
    assert artifacts.find_checkpoint_epoch() == 10
    TrialArtifacts(place, 8).save_checkpoint(3, writing(w="old"))
    TrialArtifacts(place, 8).copy_checkpoint(artifacts, 10)
    assert read(TrialArtifacts(place, 8).fetch_checkpoint(10, tmp_path / "x")) == {"w": "10"}
    artifacts.drop_checkpoints()
    assert store_at(place).names() == ["trial-000008/checkpoint-00010"]


def test_the_best_trials_weights_stay(place):
    objective = parse_sweep({"name": "k", "space": {"x": 1.0}}).objective
    keep = BestWeights(place, [objective], [])
    for number, (state, value) in enumerate((("complete", 0.5), ("complete", 0.7), ("complete", 0.6), ("failed", 1))):
        TrialArtifacts(place, number).save_checkpoint(1, writing(c="c"))
        TrialArtifacts(place, number).save_weights(writing(w="w"))
        keep.ended(Trial(number, state, {}, 0, value=value))
    assert store_at(place).names() == ["trial-000001/weights"]
    TrialArtifacts(place, 2).save_weights(writing(w="left by a driver that died"))
    TrialArtifacts(place, 4).save_checkpoint(1, writing(c="in flight"))
    trials = [Trial(n, state, {}, 0) for n, state in enumerate(["complete"] * 3 + ["failed", "running"])]
    BestWeights(place, [objective], [Trial(1, "complete", {}, 0, value=0.7)]).tidy(trials)
    assert store_at(place).names() == ["trial-000001/weights", "trial-000004/checkpoint-00001"]


@pytest.fixture
def study(place: Path | str, url: str, space: dict[str, object]) -> Any:
    """Two running trials that measured two epochs."""
    study = open_record("lab", space=space, storage=url, metric="score")
    study.storage.artifacts = place
    for number in range(2):
        study.ask()
        for epoch in (1, 2):
            study.report(number, epoch, {"score": number + epoch / 10})
    return study


def test_kept_weights_are_those_of_the_study(study, place, tmp_path):
    def save(text: str) -> dict[str, str]:
        return TrialArtifacts(study.artifacts, 0).save_weights(writing(w=text))

    study.tell(0, weights=save("0"))
    folder = kept_weights(study, 0)
    assert read(folder) == {"w": "0"}
    assert kept_weights(study, 0) == folder
    save("others")
    with pytest.raises(DamagedError, match=r"w: its SHA-256 is .*, but the study has"):
        kept_weights(study, 0)
    with pytest.raises(NotFoundError, match=r"no weights of trial 1 are kept; trials with weights: trial-000000$"):
        kept_weights(study, 1)


def test_a_population_exchanges_its_checkpoints(study, tmp_path):
    def kept(number: int) -> dict[str, str]:
        return read(TrialArtifacts(study.artifacts, number).fetch_checkpoint(2, tmp_path / "here"))

    for number in range(2):
        TrialArtifacts(study.artifacts, number).save_checkpoint(2, writing(w=str(number)))
    apply_exploits(study, 2, [Exploit(0, 1, dict(study.trial(1).params))])
    assert kept(0) == kept(1) == {"w": "1"}
    TrialArtifacts(study.artifacts, 0).save_checkpoint(2, writing(w="as before a crash"))
    repair(study)
    assert kept(0) == {"w": "1"}


def test_a_trial_goes_on_in_another_worker(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = counting(tmp_path, place)
    runner.start(4, {"start": 0.0}, seed=1)
    known = Checkpoint(2, [runner.next_result(), runner.next_result()][1].checkpoint)
    other = counting(tmp_path, place)
    other.start(4, {"start": 0.0}, 1, n_stored=2, checkpoint=known)
    taken = to_end(other)
    assert [(s.epoch, s.metrics["score"], s.reason) for s in taken] == [(3, 3.0, None)]
    assert hashes_of(TrialArtifacts(place, 4).fetch_weights(tmp_path / "here")) == taken[-1].weights
    other.start(4, {"start": 0.0}, 1, n_stored=2, checkpoint=Checkpoint(2, {**known.hashes, "state.json": "0" * 64}))
    again = to_end(other)
    assert [s.epoch for s in again] == [1, 2, 3]
    assert "state.json: its SHA-256 is" in again[-1].reason


# -- an object store --------------------------------------------------------------------------


def test_files_come_first_and_a_manifest_last(url_of_artifacts, keys, monkeypatch, tmp_path):
    store = store_at(url_of_artifacts)
    store.put(WEIGHTS, writing(a="1"))
    upload = next(key.split("/")[2] for key in keys() if key.endswith("/a"))
    assert keys() == [f"{WEIGHTS}.json", f"{WEIGHTS}/{upload}/a"]

    def power_cut(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(artifact_stores.json, "dumps", power_cut)
        with pytest.raises(KeyboardInterrupt):
            store.put(WEIGHTS, writing(a="2"))
    assert len(keys()) == 3
    assert read(store.fetch(WEIGHTS, tmp_path)) == {"a": "1"}, "what is not whole is not seen"
    store.tidy(lambda trial, entry: True)
    assert keys() == [f"{WEIGHTS}.json", f"{WEIGHTS}/{upload}/a"]
    store.put(WEIGHTS, writing(a="3"))
    assert len(keys()) == 2, "an upload that was replaced is removed"


def test_what_lies_beside_the_trials_is_left_alone(s3, url_of_artifacts, keys):
    beside = ["notes.json", "trial-of-others/a", "trial-of-others/weights.json"]
    for name in beside:
        s3.put(f"{url_of_artifacts.removeprefix('s3://lab/')}/{name}", b"{}")
    assert store_at(url_of_artifacts).names() == []
    store_at(url_of_artifacts).tidy(lambda trial, entry: False)
    assert keys() == beside


def changed(manifest: dict[str, Any], **entries: Any) -> bytes:
    return json.dumps(manifest | entries).encode()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda manifest: b"{", r"weights\.json: is not a manifest"),
        (lambda manifest: changed(manifest, version=2), "version 2; allowed: 1"),
        (lambda manifest: changed(manifest, files={"../evil": "0" * 64}), "'../evil' is not a path below the entry"),
        (lambda manifest: changed(manifest, upload="../../other"), "is not a path below the entry"),
        (lambda manifest: changed(manifest, files={"more": "0" * 64}), "a file in its manifest does not exist"),
        (lambda manifest: changed(manifest, files={"a": "0" * 64}), "a: its SHA-256 is"),
    ],
    ids=["no JSON", "version", "name", "upload", "missing", "hash"],
)
def test_a_damaged_entry_is_refused(s3, url_of_artifacts, tmp_path, damage, said):
    store_at(url_of_artifacts).put(WEIGHTS, writing(a="1"))
    key = f"{url_of_artifacts.removeprefix('s3://lab/')}/{WEIGHTS}.json"
    manifest = json.loads(s3.client.get_object(Bucket="lab", Key=key)["Body"].read())
    s3.put(key, damage(manifest))
    with pytest.raises(DamagedError, match=said):
        store_at(url_of_artifacts).fetch(WEIGHTS, tmp_path / "here")
    assert [path for path in (tmp_path / "here").glob("*") if path.is_dir()] == []


def test_a_copy_that_was_changed_here_is_fetched_again(url_of_artifacts, tmp_path):
    store_at(url_of_artifacts).put(WEIGHTS, writing(a="1"))
    copy = store_at(url_of_artifacts).fetch(WEIGHTS, tmp_path)
    (copy / "a").write_text("bit rot")
    assert store_at(url_of_artifacts).fetch(WEIGHTS, tmp_path) == copy
    assert read(copy) == {"a": "1"}


@contextmanager
def deaf() -> Iterator[None]:
    """In place of the store a server that listens and never answers, and is waited for half a second."""
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as server:
        patch.setattr(artifact_stores, "TIMEOUT_S", 0.5)
        with s3_endpoint(f"http://127.0.0.1:{server.getsockname()[1]}"):
            yield


def test_what_was_measured_stands_when_the_store_is_away(url_of_artifacts, s3, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with deaf():
        taken = steps(counting(tmp_path, url_of_artifacts), 4)
    said = f"artifacts: {url_of_artifacts} does not answer"
    assert [(s.metrics["score"], s.ended, s.weights) for s in taken] == [
        (1.0, None, None),
        (2.0, None, None),
        (3.0, "complete", None),
    ]
    assert [s.reason for s in taken[:2]] == [f"not saved: {said}"] * 2
    assert taken[2].reason == f"not saved: {said}; its checkpoint was not used: {said}"


def test_a_store_that_is_away_for_a_while_costs_no_checkpoint(url_of_artifacts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = counting(tmp_path, url_of_artifacts)
    runner.start(4, {"start": 0.0}, seed=1)
    known = Checkpoint(2, [runner.next_result(), runner.next_result()][1].checkpoint)
    with deaf():
        runner.start(4, {"start": 0.0}, 1, n_stored=2, checkpoint=known)
        assert runner.next_result().epoch == 1, "it begins again"
    runner.start(4, {"start": 0.0}, 1, n_stored=2, checkpoint=known)
    assert runner.next_result().epoch == 3, "and what was there still is"


def test_what_was_taken_over_is_not_lost_when_the_store_is_away(url_of_artifacts, s3, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = counting(tmp_path, url_of_artifacts)
    with deaf():
        runner.start(4, {"start": 0.0}, 1, n_stored=2, n_inherited=2)
        with pytest.raises(NodeError, match=r"a checkpoint cannot be reached: .* does not answer"):
            runner.next_result()


def test_a_store_that_is_away_does_not_hold_up_the_driver(url_of_artifacts, s3):
    objective = parse_sweep({"name": "k", "space": {"x": 1.0}}).objective
    keep = BestWeights(url_of_artifacts, [objective], [])
    for number in (1, 2):
        TrialArtifacts(url_of_artifacts, number).save_weights(writing(w="w"))
    with deaf():
        keep.ended(Trial(1, "failed", {}, 0))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fsspec.core.url_to_fs", lambda *_, **__: pytest.fail("it was asked just now"))
            keep.ended(Trial(2, "failed", {}, 0))
        with pytest.raises(StorageError, match="does not answer"):
            keep.tidy([])
    BestWeights(url_of_artifacts, [objective], []).tidy([Trial(n, "failed", {}, 0) for n in (1, 2)])
    assert store_at(url_of_artifacts).names() == []


def test_a_bucket_that_is_not_there_is_named(s3):
    with pytest.raises(StorageError, match="s3://nobody/x does not exist; allowed: an existing bucket"):
        store_at("s3://nobody/x").names()


def test_no_secret_is_in_a_message(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim/1234")
    monkeypatch.setenv("LAB_TOKEN", "streng-geheim")
    said = without_secrets("cannot reach http://alice:oha@store.lab/b with geheim/1234 or streng-geheim")
    assert said == "cannot reach http://***@store.lab/b with *** or ***"
