"""What preparing many images will take, said after the first ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aifs_tune.data.forecast import Forecast, in_bytes
from aifs_tune.errors import StorageError


def forecast(root: Path, n: int, told: list[str], times: list[float]) -> Forecast:
    return Forecast(root, n, "smaller images", told.append, clock=iter(times).__next__)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Any = type("Usage", (), {"free": 50 * 10**9})
    monkeypatch.setattr("aifs_tune.data.forecast.shutil.disk_usage", lambda _: usage)


@pytest.mark.parametrize(
    ("most", "last_s", "expected"),
    [
        (1000, 103.0, []),  # 1000 images in 30 s and 1 MB
        (1000, 110.0, ["1,000 images of 8 x 8 need 1 MB of disk space while they are prepared and 100 kB afterwards of "
                       "50 GB free; about 1 min 41 s"]),
        (2 * 10**6, 103.0, ["1,000 images of 8 x 8 need 2 GB of disk space while they are prepared and 100 kB "
                            "afterwards of 50 GB free; about 30 s"]),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("free")
def test_much_is_told_once_and_little_is_not(tmp_path: Path, most: int, last_s: float, expected: list[str]) -> None:
    told: list[str] = []
    it = forecast(tmp_path, 1000, told, [100.0, 101.0, last_s, last_s + 50])
    for n_done in (1, 50, 100, 200):
        it.update(n_done, (8, 8), most=most, kept=100)
    assert told == expected


@pytest.mark.usefixtures("free")
def test_what_does_not_fit_is_refused_also_when_it_is_seen_late(tmp_path: Path) -> None:
    it = forecast(tmp_path, 1000, [], [0.0, 1.0, 2.0])
    it.update(1, (8, 8, 1), most=20 * 10**6, kept=10**6)
    with pytest.raises(StorageError, match=r"need 60 GB of disk space .* and 50 GB are free; allowed: smaller images"):
        it.update(2, (8, 8, 3), most=60 * 10**6, kept=10**6)


def test_bytes_are_told_in_round_units() -> None:
    assert [in_bytes(n) for n in (12, 1234, 5_000_000, 2.5e12)] == ["12 bytes", "1.23 kB", "5 MB", "2.5 TB"]
