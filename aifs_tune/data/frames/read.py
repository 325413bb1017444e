"""Reader of one image of a manifest, which may consist of several files.

It runs in worker processes and therefore does not import pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.frames.formats import ImageReader
from aifs_tune.data.frames.stretch import StretchKind, filled, image_statistics, ranges_of
from aifs_tune.data.image_files.arrays import Band, Pixels, Reading, Request
from aifs_tune.data.images.decode import exclusive

_LARGE_PIXELS = 20_000_000


@dataclass(frozen=True)
class FrameSettings:
    """Settings for reading every image; ``image_size`` is the edge in px, None for no resizing."""

    reading: Reading
    background: Literal["keep", "subtract"]
    stretch: StretchKind
    image_size: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> FrameSettings:
        """Make settings from the values of :meth:`to_json`."""
        return cls(**{**stored, "reading": Reading.from_json(stored["reading"])})


@dataclass(frozen=True)
class Frame:
    """An image: its ``pixels``, and the ``native`` height and width in its files.

    ``statistics`` (6, bands) come from :func:`~aifs_tune.data.frames.stretch.image_statistics`, and ``ranges``
    (3, bands) from :func:`~aifs_tune.data.frames.stretch.ranges_of`. ``notes`` say what was chosen in reading it, and
    ``bands`` what each band was taken for, and what is left out beside them.
    """

    pixels: Pixels
    native: tuple[int, int]
    statistics: NDArray[np.float64]
    ranges: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    bands: tuple[Band, ...] = ()


def read_frame(
    files: Sequence[Path],
    index: int | None,
    settings: FrameSettings,
    reader: ImageReader,
    *,
    lock: int | None = None,
) -> Frame:
    """Read the image in ``files``, or the image at ``index`` of the files.

    ``reader`` reads with the settings' ``reading``. ``lock`` is the descriptor of a lock file. Among the processes that
    share the file, one at a time reads a large image, which limits their total memory.

    Raises
    ------
    UnreadableError
        If the image cannot be used.
    """
    notes: dict[str, None] = {}
    bands: list[Band] = []
    with ExitStack() as held:

        def admit(n_pixels: int) -> None:
            held.enter_context(exclusive(lock if n_pixels >= _LARGE_PIXELS else None))

        read = reader.read(files, Request(index, admit, notes.setdefault, bands.append))
        ranges = ranges_of(read)
        whole = filled(read, settings.background, n_missing=int(ranges[2].sum()))
        pixels = resized(whole, settings.image_size)
        statistics = image_statistics(pixels, settings.stretch)
        return Frame(pixels, (whole.shape[0], whole.shape[1]), statistics, ranges, tuple(notes), tuple(bands))


def resized(pixels: Pixels, edge: int | None) -> Pixels:
    """Resize each band to ``edge`` x ``edge`` pixels, bilinear and antialiased; unchanged if ``edge`` is None."""
    if edge is None or pixels.shape[:2] == (edge, edge):
        return pixels
    from PIL import Image

    bands = (Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, -1, 0))
    return np.stack([np.asarray(band.resize((edge, edge), Image.Resampling.BILINEAR)) for band in bands], axis=-1)
