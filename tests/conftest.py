"""Fixtures that several test files use."""

from __future__ import annotations

from pathlib import Path

import pytest

STARTS_RAY = {
    "test_docs",
    "test_preloading",
    "test_ray_tune",
    "test_sweep_faults",
    "test_sweep_images",
    "test_sweep_population",
    "test_sweep_search",
    "test_trade_off",
}
"""Test files that start a Ray of their own: one after another, while the other files run beside them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (``make test``) each file stays in one of them, and all that start Ray in the first."""
    for item in items:
        is_heavy = item.path.stem in STARTS_RAY
        item.add_marker(pytest.mark.xdist_group("ray" if is_heavy else str(item.path)))
    items.sort(key=lambda item: item.path.stem not in STARTS_RAY)


SPACE = {
    "x": {"type": "float", "low": 0.0, "high": 1.0, "default": 0.25},
    "kind": {"type": "choice", "choices": ["a", "b"], "default": "a"},
    "power": {"type": "int", "low": 1, "high": 8, "default": 2, "when": {"kind": "b"}},
}


@pytest.fixture
def space() -> dict[str, object]:
    """A small space with a conditional parameter and a default configuration."""
    return {name: dict(entry) for name, entry in SPACE.items()}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A storage that does not exist yet."""
    return f"sqlite:///{tmp_path}/lab.db"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache; all share one per session."""
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("AIFS_TUNE_STORAGE", raising=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real image sets beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no shared/ beside this checkout")
    return folder
