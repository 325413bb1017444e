"""The decoded cache: hits, damage, full disk, races."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from aifs_tune._util.cache import UNUSED_DAYS, cache_root, kept_copy, locked
from aifs_tune.config.data import DataSpec
from aifs_tune.data import PreparedImages, open_images, prepare_images
from aifs_tune.data.cache import Meta, write_entry
from aifs_tune.errors import NotFoundError, StorageError

MakeFolder = Callable[..., Path]


class Phases:
    """Hears the progress."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, int]] = []

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.heard.append((phase, done, total))

    @property
    def names(self) -> set[str]:
        return {phase for phase, _, _ in self.heard}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def prepared(folder: Path, cache: Path, **options: object) -> tuple[PreparedImages, set[str]]:
    """The images and which work was done."""
    phases = Phases()
    result = prepare_images(DataSpec(folder=folder, image_size=8, **options), cache=cache, progress=phases)
    return result, phases.names


def test_the_array_is_mapped_writable_private_and_aligned(make_folder: MakeFolder, cache: Path) -> None:
    result, _ = prepared(make_folder({"a": 5, "b": 5}), cache)
    one, other = open_images(result.location), open_images(result.location)
    assert one.images.flags.writeable
    assert one.images.ctypes.data % 64 == 0
    before = int(other.images[0, 0, 0, 0])
    one.images[0, 0, 0, 0] = 255 - before
    assert other.images[0, 0, 0, 0] == before == open_images(result.location).images[0, 0, 0, 0]


def test_open_images_gives_what_was_prepared(make_folder: MakeFolder, cache: Path) -> None:
    result, _ = prepared(make_folder({"a": 5, "b": 6}), cache)
    opened = open_images(result.location)
    assert (opened.classes, opened.fingerprint) == (("a", "b"), result.images.fingerprint)
    for name in ("images", "labels", "train", "val", "test"):
        assert np.array_equal(getattr(opened, name), getattr(result.images, name))
        assert getattr(opened, name).dtype == (np.uint8 if name == "images" else np.int32)
    assert opened.labels.tolist() == [0] * 5 + [1] * 6
    assert opened.shape == (8, 8, 3)


def test_the_same_pictures_elsewhere_are_found(make_folder: MakeFolder, cache: Path, tmp_path: Path) -> None:
    folder = make_folder({"a": 5, "b": 5})
    first, work = prepared(folder, cache)
    assert work == {"reading", "decoding"}
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    for i, file in enumerate(sorted((moved / "a").iterdir())):
        file.rename(file.with_name(f"{9 - i}.png"))
    second, work = prepared(moved, cache)
    assert work == {"reading"}
    assert second.images.fingerprint == first.images.fingerprint
    assert second.location == first.location


def test_unchanged_files_are_not_read_again(
    make_folder: MakeFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder({"a": 5, "b": 5})
    monkeypatch.setattr("aifs_tune.data.digests._SETTLED_NS", -(10**12))
    first, _ = prepared(folder, cache)
    again, work = prepared(folder, cache)
    assert work == set()
    assert again.images.fingerprint == first.images.fingerprint
    status = (folder / "a" / "0000.png").stat()
    shutil.copyfile(folder / "b" / "0000.png", folder / "a" / "0000.png")
    os.utime(folder / "a" / "0000.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    changed, work = prepared(folder, cache)
    assert "reading" in work
    assert changed.images.fingerprint != first.images.fingerprint


def test_a_file_of_this_moment_is_not_trusted(make_folder: MakeFolder, cache: Path) -> None:
    folder = make_folder({"a": 3, "b": 3})
    prepared(folder, cache)
    assert prepared(folder, cache)[1] == {"reading"}


@pytest.mark.parametrize(
    "other", [{"image_size": 9}, {"channels": "grey"}, {"fit": "pad"}, {"split": {"seed": 1}}, {"split": {"val": 0.4}}]
)
def test_the_fingerprint_follows_settings_and_split(make_folder: MakeFolder, cache: Path, other: dict) -> None:
    folder = make_folder({"a": 9, "b": 9})
    first = prepare_images(DataSpec(folder=folder, image_size=8), cache=cache)
    second = prepare_images(DataSpec.model_validate({"folder": folder, "image_size": 8, **other}), cache=cache)
    assert first.images.fingerprint != second.images.fingerprint
    assert first.location != second.location


def test_a_stray_file_changes_no_fingerprint(make_folder: MakeFolder, cache: Path) -> None:
    folder = make_folder({"a": 5, "b": 5})
    first, _ = prepared(folder, cache)
    (folder / "a" / "notes.txt").write_text("cloudy")
    assert prepared(folder, cache)[0].images.fingerprint == first.images.fingerprint


def _truncate(entry: Path) -> None:
    os.truncate(entry / "images.npy", 100)


def _rubbish_header(entry: Path) -> None:
    content = (entry / "images.npy").read_bytes()
    (entry / "images.npy").write_bytes(b"rubbish!" + content[8:])


def _shorter(entry: Path) -> None:
    np.save(entry / "images.npy", np.zeros((3, 8, 8, 3), np.uint8))


def _objects(entry: Path) -> None:
    np.save(entry / "images.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _half_meta(entry: Path) -> None:
    text = (entry / "meta.json").read_text()
    (entry / "meta.json").write_text(text[: len(text) // 2])


def _other_meta(entry: Path) -> None:
    (entry / "meta.json").write_text(json.dumps([1]))


def _no_facts(entry: Path) -> None:
    (entry / "facts.json").unlink()


@pytest.mark.parametrize("damage", [_truncate, _rubbish_header, _shorter, _objects, _half_meta, _other_meta, _no_facts])
def test_a_damaged_entry_is_decoded_again(make_folder: MakeFolder, cache: Path, damage: Callable) -> None:
    folder = make_folder({"a": 5, "b": 5})
    first, _ = prepared(folder, cache)
    images = first.images.images.copy()
    damage(first.location.parent)
    if damage is not _no_facts:
        with pytest.raises(NotFoundError, match="missing or damaged; prepare the images again"):
            open_images(first.location)
    second, work = prepared(folder, cache)
    assert "decoding" in work
    assert second.location == first.location
    assert np.array_equal(second.images.images, images)
    assert not list(cache.glob("partial-*"))


def test_a_lost_split_is_not_found(make_folder: MakeFolder, cache: Path) -> None:
    result, _ = prepared(make_folder({"a": 5, "b": 5}), cache)
    result.location.write_text("{")
    with pytest.raises(NotFoundError, match="prepare the images again"):
        open_images(result.location)


@contextmanager
def files_up_to(n_bytes: int) -> Iterator[None]:
    """Writing beyond fails as on a full disk, with another number of error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_and_is_reported(make_folder: MakeFolder, cache: Path) -> None:
    folder = make_folder({"a": 20, "b": 20})
    with files_up_to(4000), pytest.raises(StorageError, match=r"image cache .*cannot be written \(.*AIFS_TUNE_CACHE"):
        prepared(folder, cache)
    assert [path.name for path in cache.iterdir() if path.name != "index"] == []
    assert prepared(folder, cache)[0].images.images.shape[0] == 40


def test_a_cache_that_is_a_file_is_reported(make_folder: MakeFolder, cache: Path) -> None:
    cache.write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        prepared(make_folder({"a": 5, "b": 5}), cache)


def test_two_at_once_agree(make_folder: MakeFolder, cache: Path) -> None:
    folder = make_folder({"a": 30, "b": 30})
    both: list[PreparedImages] = []
    threads = [threading.Thread(target=lambda: both.append(prepared(folder, cache)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(both) == 2
    assert both[0].location == both[1].location
    assert not list(cache.glob("partial-*"))


def test_the_second_of_two_writers_uses_what_the_first_wrote(make_folder: MakeFolder, cache: Path) -> None:
    standing = prepared(make_folder({"a": 5, "b": 5}), cache)[0].location.parent
    inode = (standing / "images.npy").stat().st_ino

    def fill(partial: Path) -> Meta:
        shutil.copy(standing / "images.npy", partial)
        return Meta(("other",), (10,), (10, 8, 8, 3), None, "")

    assert write_entry(standing, fill).classes == ("a", "b")
    assert (standing / "images.npy").stat().st_ino == inode


def test_what_a_killed_process_left_is_removed_after_a_day(make_folder: MakeFolder, cache: Path) -> None:
    old, new = cache / "partial-old", cache / "partial-new"
    old.mkdir(parents=True)
    new.mkdir()
    os.utime(old, (1, 1))
    prepared(make_folder({"a": 3, "b": 3}), cache)
    assert (old.exists(), new.exists()) == (False, True)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "given"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "given"
    monkeypatch.delenv("AIFS_TUNE_CACHE")
    assert cache_root() == tmp_path / "xdg" / "aifs_tune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "aifs_tune"


def days_ago(path: Path, days: float) -> None:
    moment = time.time() - days * 24 * 3600
    os.utime(path, (moment, moment))


def test_copies_that_nobody_uses_are_removed(tmp_path):
    def kept(name: str) -> Path:
        return kept_copy(tmp_path, name, lambda folder: (folder / "a").write_text(name))

    old, used, being_made, artifact = (kept(name) for name in ("fetched-1", "fetched-2", "fetched-3", "artifacts-4"))
    decoded = tmp_path / "0123456789abcdef"
    decoded.mkdir()
    (tmp_path / "decoding-1.lock").touch()
    (tmp_path / "cargo.lock").touch()  # somebody's who has other things here
    for path in tmp_path.iterdir():
        days_ago(path, UNUSED_DAYS + 1)
    days_ago(used, UNUSED_DAYS - 1)
    with locked(tmp_path, being_made.name):
        kept("fetched-5")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        decoded.name,
        "fetched-2",
        "fetched-3",
        "fetched-5",
    ]
    locks = sorted(path.name for path in tmp_path.glob("*.lock"))
    assert locks == ["cargo.lock", "fetched-2.lock", "fetched-3.lock", "fetched-5.lock"]
    assert not old.exists()
    assert not artifact.exists()
    assert (kept("fetched-1") / "a").read_text() == "fetched-1", "it is made again when it is asked for"
    assert not being_made.exists()


def test_to_ask_for_a_copy_is_to_use_it(tmp_path):
    copy = kept_copy(tmp_path, "fetched-1", lambda folder: None)
    days_ago(copy, UNUSED_DAYS + 1)
    assert kept_copy(tmp_path, "fetched-1", lambda folder: pytest.fail("it is there")) == copy
    kept_copy(tmp_path, "fetched-2", lambda folder: None)
    assert copy.exists()


def test_a_lock_that_was_removed_while_it_was_waited_for_is_taken_anew(tmp_path, monkeypatch):
    """Else two processes would each hold one, of which one is no longer there."""
    flock, opened = fcntl.flock, threading.Event()

    def report(*words: int) -> None:
        opened.set()
        flock(*words)

    waited: list[bool] = []

    def wait() -> None:
        with locked(tmp_path, "it"):
            waited.append((tmp_path / "it.lock").exists())

    waiting = threading.Thread(target=wait)
    with locked(tmp_path, "it"):
        monkeypatch.setattr(fcntl, "flock", report)
        waiting.start()
        assert opened.wait(60)
        (tmp_path / "it.lock").unlink()
    waiting.join()
    assert waited == [True]
