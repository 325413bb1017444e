"""Decoding in processes: same pixels, deaths, changes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import picture

from aifs_tune._util.hashing import digest_of
from aifs_tune.data.images.decode import Decoded, DecodeSettings, ImageFileDigest
from aifs_tune.data.images.decode_all import decode_all
from aifs_tune.errors import DataError, WorkError

SETTINGS = DecodeSettings(size=16, channels="auto", fit="stretch")


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[ImageFileDigest]]:
    def make(*names: str) -> list[ImageFileDigest]:
        for i, name in enumerate(names):
            picture(i).save(tmp_path / name, "PNG")
        return [(str(tmp_path / name), digest_of((tmp_path / name).read_bytes()), None) for name in names]

    return make


def decoded(sources: list[ImageFileDigest], tmp_path: Path, **options: object) -> dict[int, Decoded]:
    return dict(decode_all(sources, SETTINGS, lock_file=tmp_path / "lock", **options))


def test_processes_and_this_one_decode_equally(files: Callable[..., list[ImageFileDigest]], tmp_path: Path) -> None:
    sources = files(*(f"{i}.png" for i in range(40)))
    (tmp_path / "7.png").write_bytes(b"no image")
    sources[7] = (sources[7][0], digest_of(b"no image"), None)
    here, there = decoded(sources, tmp_path), decoded(sources, tmp_path, processes=2)
    assert sorted(here) == sorted(there) == list(range(40))
    assert here[7].facts.problem == there[7].facts.problem == "is no image of a known format"
    for i in set(range(40)) - {7}:
        assert np.array_equal(here[i].pixels, there[i].pixels)
        assert here[i].facts == there[i].facts


def test_a_file_that_ends_its_process_costs_that_file_alone(
    files: Callable[..., list[ImageFileDigest]], tmp_path: Path
) -> None:
    sources = files("a.png", "kill.png", "once.png", "exit.png", "alarm.png", *(f"{i}.png" for i in range(30)))
    found = decoded(sources, tmp_path, processes=2, worker="dying_worker")
    assert sorted(found) == list(range(35))
    problems = {i: one.facts.problem for i, one in found.items() if one.facts.problem}
    assert problems == {
        1: "crashes the process that decodes it (killed by SIGKILL)",
        3: "crashes the process that decodes it (ended with exit code 3)",
        4: "crashes the process that decodes it (took more than 60 s)",
    }
    assert found[2].pixels is not None


def test_stopping_early_ends_the_processes(files: Callable[..., list[ImageFileDigest]], tmp_path: Path) -> None:
    sources = files(*(f"{i}.png" for i in range(40)))
    decoding = decode_all(sources, SETTINGS, lock_file=tmp_path / "lock", processes=2)
    next(decoding)
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    assert len(children.read_text().split()) == 2
    decoding.close()
    assert children.read_text() == ""


def test_processes_that_do_not_start_are_an_error(files: Callable[..., list[ImageFileDigest]], tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"did not start: .* ended with exit code 1"):
        decoded(files("a.png"), tmp_path, processes=1, worker="no_such_worker")


@pytest.mark.parametrize("processes", [None, 1])
def test_a_file_that_changes_meanwhile_is_an_error(
    files: Callable[..., list[ImageFileDigest]], tmp_path: Path, processes: int | None
) -> None:
    sources = files("a.png", "b.png")
    picture(99).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png changed while it was read; run again"):
        decoded(sources, tmp_path, processes=processes)
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png can no longer be read \(is not a regular file\)"):
        decoded(sources, tmp_path, processes=processes)


def test_a_script_without_a_main_guard_may_decode(files: Callable[..., list[ImageFileDigest]], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from aifs_tune.data.images.decode import DecodeSettings\n"
        "from aifs_tune.data.images.decode_all import decode_all\n"
        f"found = list(decode_all({files('a.png', 'b.png')!r}, DecodeSettings(8, 'auto', 'crop'),\n"
        f"    lock_file=Path({str(tmp_path / 'lock')!r}), processes=2))\n"
        "print(len(found))\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert ran.stdout == "2\n"
