"""Data sets: images, tables, series and frames, read, divided and cached.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.data.cache import open_images
    from aifs_tune.data.examples import ExampleSet, PreparedExamples, open_examples
    from aifs_tune.data.frames.prepare import prepare_frames
    from aifs_tune.data.images.decode import ImageSet
    from aifs_tune.data.images.inspect import Preflight
    from aifs_tune.data.images.prepare import PreparedImages, preflight, prepare_images
    from aifs_tune.data.series.prepare import prepare_series
    from aifs_tune.data.tables import prepare_table

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ExampleSet": "examples",
        "ImageSet": "images.decode",
        "Preflight": "images.inspect",
        "PreparedExamples": "examples",
        "PreparedImages": "images.prepare",
        "open_examples": "examples",
        "open_images": "cache",
        "preflight": "images.prepare",
        "prepare_frames": "frames.prepare",
        "prepare_images": "images.prepare",
        "prepare_series": "series.prepare",
        "prepare_table": "tables",
    },
)
