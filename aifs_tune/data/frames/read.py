"""One image of a manifest, which may be several files, as numbers. Runs in worker processes: imports no pandas."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.frames.formats import Admit, Pixels, Reading, UnreadableError, beside, read_image
from aifs_tune.data.frames.stretch import StretchKind, described, filled
from aifs_tune.data.images.decode import exclusive

_ALONE_PIXELS = 20_000_000


@dataclass(frozen=True)
class FrameSettings:
    """How all images are read; ``image_size`` is an edge in px, None for that of the files."""

    reading: Reading
    background: Literal["keep", "subtract"]
    stretch: StretchKind
    image_size: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> FrameSettings:
        """What :meth:`to_json` gave."""
        return cls(**{**told, "reading": Reading.from_json(told["reading"])})


@dataclass(frozen=True)
class Frame:
    """``pixels`` of an image whose files have ``native`` height and width; ``statistics`` (6, bands) are those that
    :func:`~aifs_tune.data.frames.stretch.described` gives."""

    pixels: Pixels
    native: tuple[int, int]
    statistics: NDArray[np.float64]
    n_missing: int


def read_frame(files: Sequence[Path], index: int | None, settings: FrameSettings, *, lock: int | None = None) -> Frame:
    """Read the image in ``files``, or the one at ``index`` of them.

    ``lock`` is a descriptor that processes share through the file system: of them only one at a time reads a large
    image, which bounds the memory of all together.

    Raises
    ------
    UnreadableError
        If it cannot be used.
    """
    with ExitStack() as held:

        def admit(n_pixels: int) -> None:
            held.enter_context(exclusive(lock if n_pixels >= _ALONE_PIXELS else None))

        whole, n_missing = filled(read_files(files, index, settings.reading, admit), settings.background)
        pixels = resized(whole, settings.image_size)
        return Frame(pixels, (whole.shape[0], whole.shape[1]), described(pixels, settings.stretch), n_missing)


def read_files(
    files: Sequence[Path], index: int | None, reading: Reading, admit: Admit = lambda n_pixels: None
) -> Pixels:
    """The images in ``files`` as the bands of one; arguments and errors are those of
    :func:`~aifs_tune.data.frames.formats.read_image`."""
    images = []
    for file in files:
        try:
            images.append(read_image(file, index, reading, admit))
        except UnreadableError as error:
            raise UnreadableError(f"{file.name}: {error}" if len(files) > 1 else str(error)) from error
    return images[0] if len(images) == 1 else beside(images)


def resized(pixels: Pixels, edge: int | None) -> Pixels:
    """Each band to ``edge`` x ``edge`` pixels, bilinear and antialiased; as it is if ``edge`` is None."""
    if edge is None or pixels.shape[:2] == (edge, edge):
        return pixels
    from PIL import Image

    bands = (Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, -1, 0))
    return np.stack([np.asarray(band.resize((edge, edge), Image.Resampling.BILINEAR)) for band in bands], axis=-1)
