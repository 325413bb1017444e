"""Small image folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pictures import picture


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of PNG files, so many in each sub-folder; a sub-folder may be ``train/star``."""

    def make(counts: Mapping[str, int], name: str = "survey", *, colour: bool = True, seed: int = 0) -> Path:
        folder = tmp_path / name
        for c, (below, n) in enumerate(counts.items()):
            (folder / below).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                picture(seed + 10_000 * c + i, colour=colour).save(folder / below / f"{i:04d}.png")
        return folder

    return make
