from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from aifs_tune.errors import TrainerError
from aifs_tune.trainers.checkpoint import VERSION, read_state, write_state

ONE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(/[a-z0-9.]{1,8})?", fullmatch=True),
        arrays(np.float32, array_shapes(max_side=4)),
        max_size=4,
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_reads_what_was_written_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, np.ndarray], value: float
) -> None:
    folder = tmp_path_factory.mktemp("state")
    path = write_state(folder, "state", given, {"best_value": value})
    found, facts = read_state(folder, "state")
    assert path == folder / "state.npz"
    assert {name: array.tobytes() for name, array in found.items()} == {k: v.tobytes() for k, v in given.items()}
    assert facts["best_value"] == value


def test_writing_leaves_no_other_files(tmp_path: Path) -> None:
    write_state(tmp_path, "state", ONE, {})
    write_state(tmp_path, "state", ONE, {"epochs_done": 2})
    assert {file.name for file in tmp_path.iterdir()} == {"state.npz", "state.json"}
    assert read_state(tmp_path, "state")[1]["epochs_done"] == 2


def test_files_of_two_writings_are_told_apart(tmp_path: Path) -> None:
    write_state(tmp_path, "state", ONE, {})
    described = (tmp_path / "state.json").read_bytes()
    write_state(tmp_path, "state", {"a": ONE["a"] + 1}, {})
    (tmp_path / "state.json").write_bytes(described)
    with pytest.raises(TrainerError, match=r"state\.npz is not the file that state\.json describes"):
        read_state(tmp_path, "state")


@pytest.mark.parametrize("name", ["state.npz", "state.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"\xff\xfe", b"PK\x03\x04"])
def test_a_missing_or_damaged_file_is_a_trainer_error(tmp_path: Path, name: str, content: bytes | None) -> None:
    write_state(tmp_path, "state", ONE, {})
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainerError, match="state"):
        read_state(tmp_path, "state")


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
def test_another_version_is_refused(tmp_path: Path, version: int) -> None:
    write_state(tmp_path, "state", ONE, {})
    facts = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps(facts | {"version": version}))
    with pytest.raises(TrainerError, match=f"version {version} is not allowed; allowed: {VERSION}"):
        read_state(tmp_path, "state")


class Poison:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_a_pickle_among_the_arrays_is_not_executed(tmp_path: Path) -> None:
    bomb = np.empty(1, dtype=object)
    bomb[0] = Poison(tmp_path / "executed")
    buffer = io.BytesIO()
    np.savez(buffer, a=bomb)
    write_state(tmp_path, "state", ONE, {})
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    (tmp_path / "state.npz").write_bytes(buffer.getvalue())
    (tmp_path / "state.json").write_text(json.dumps({"version": VERSION, "sha256": digest}))
    with pytest.raises(TrainerError, match="more than plain arrays"):
        read_state(tmp_path, "state")
    assert not (tmp_path / "executed").exists()
    np.load(io.BytesIO(buffer.getvalue()), allow_pickle=True)["a"]
    assert (tmp_path / "executed").exists(), "the poison must work where pickle is allowed"
