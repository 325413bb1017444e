"""Data sets: images, tables, time series and frames, read, split and cached.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.data.bodies.prepare import prepare_bodies
    from aifs_tune.data.cache import open_images
    from aifs_tune.data.examples import ExampleSet, PreparedExamples, open_examples
    from aifs_tune.data.frames.prepare import prepare_frames
    from aifs_tune.data.images.decode import ImageSet
    from aifs_tune.data.images.near_duplicates import near_duplicates
    from aifs_tune.data.images.prepare import PreparedImages, prepare_images
    from aifs_tune.data.series.prepare import prepare_series
    from aifs_tune.data.simulate.micrographs import simulate_micrographs
    from aifs_tune.data.simulate.moving_sky import simulate_moving_sky
    from aifs_tune.data.simulate.sky_fields import simulate_sky_fields
    from aifs_tune.data.tables import prepare_table

__all__ = [
    "ExampleSet",
    "ImageSet",
    "PreparedExamples",
    "PreparedImages",
    "near_duplicates",
    "open_examples",
    "open_images",
    "prepare_bodies",
    "prepare_frames",
    "prepare_images",
    "prepare_series",
    "prepare_table",
    "simulate_micrographs",
    "simulate_moving_sky",
    "simulate_sky_fields",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ExampleSet": "examples",
        "ImageSet": "images.decode",
        "PreparedExamples": "examples",
        "PreparedImages": "images.prepare",
        "near_duplicates": "images.near_duplicates",
        "open_examples": "examples",
        "open_images": "cache",
        "prepare_bodies": "bodies.prepare",
        "prepare_frames": "frames.prepare",
        "prepare_images": "images.prepare",
        "prepare_series": "series.prepare",
        "prepare_table": "tables",
        "simulate_micrographs": "simulate.micrographs",
        "simulate_moving_sky": "simulate.moving_sky",
        "simulate_sky_fields": "simulate.sky_fields",
    },
)
