"""Data sets: images (scan, split, decoded cache, simulated sky), tables, series, and images that a manifest lists.

Names are loaded on first use, so that importing this package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aifs_tune.data.cache import open_images
    from aifs_tune.data.examples import ExampleSet, PreparedExamples, open_examples
    from aifs_tune.data.frames import prepare_frames
    from aifs_tune.data.images import ImageSet
    from aifs_tune.data.inspection import Preflight
    from aifs_tune.data.prepare import PreparedImages, preflight, prepare_images
    from aifs_tune.data.series import prepare_series
    from aifs_tune.data.tables import prepare_table

_HOME = {
    "ExampleSet": "examples",
    "ImageSet": "images",
    "Preflight": "inspection",
    "PreparedExamples": "examples",
    "PreparedImages": "prepare",
    "open_examples": "examples",
    "open_images": "cache",
    "preflight": "prepare",
    "prepare_frames": "frames",
    "prepare_images": "prepare",
    "prepare_series": "series",
    "prepare_table": "tables",
}

__all__ = [
    "ExampleSet",
    "ImageSet",
    "Preflight",
    "PreparedExamples",
    "PreparedImages",
    "open_examples",
    "open_images",
    "preflight",
    "prepare_frames",
    "prepare_images",
    "prepare_series",
    "prepare_table",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"aifs_tune.data.{_HOME[name]}"), name)
    raise AttributeError(f"module 'aifs_tune.data' has no attribute {name!r}")
