"""What a dead worker is said to have died of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aifs_tune.ray_tune import cause_of_death


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The actor died. Worker exit type: OUT Worker exit detail: gone. Some common causes include: x", "OUT Worker"),
        ("Task was killed due to the node running low on memory.", "killed due to the node running low on memory"),
        ("", "no reason is known"),
    ],
)
def test_a_death_has_a_short_cause(tmp_path, text, words):
    file = tmp_path / "error.txt"
    file.write_text(f"Failure # 1 (occurred at noon)\n{text}\n")
    cause = cause_of_death(SimpleNamespace(error_file=str(file)))
    assert cause.startswith("its worker process died: ")
    assert words in cause
    assert "common causes" not in cause
