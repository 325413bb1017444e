"""Decoder of one image file into pixels of a fixed size.

It runs in worker processes and therefore imports nothing heavier than Pillow and NumPy; the readers of other formats
are imported when a file needs them. The EXIF orientation is ignored: pixels keep their stored order. Transparent images
get a black background.
"""

from __future__ import annotations

import fcntl
import io
import os
import signal
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from aifs_tune.data.digests import digest_file, open_regular, status_of
from aifs_tune.data.images.folder import shown
from aifs_tune.data.signal import Signal

if TYPE_CHECKING:
    from aifs_tune.data.images.deep import Deep

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
DECODER = 4
"""Version of the decoder: images that an earlier one decoded are decoded again."""
MOVING = ("GIF", "WEBP")
"""Formats of which the first of several frames is read."""
MAX_PIXELS = 64_000_000
"""Largest number of pixels (width times height in the header) of an image that is decoded."""
LOCK = "large-image.lock"
"""Name of the lock file in the cache folder; a process holds it while it decodes a large image."""
_LARGE_PIXELS = 8_000_000
_SMALL_BYTES = 4_000_000
"""Size of a file up to which it is read at once."""
_BILINEAR = Image.Resampling.BILINEAR
_MODES_8 = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey (ITU-R 601)."""
_MODES_16 = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP": "JPEG 2000",
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY = b"\x93NUMPY"
_DICOM_AT, _DICOM = 128, b"DICM"
_TIFF_BITS = 258
UNKNOWN = "is no image of a known format"
"""Problem of a file whose content is not recognised."""
MALFORMED = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    EOFError, MemoryError, AssertionError, struct.error, zlib.error,
)  # fmt: skip
"""Exceptions that Pillow raises on malformed files."""

Ends = Sequence[Sequence[float]]
"""Smallest and largest value of each channel."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]


@dataclass(frozen=True)
class DecodeSettings:
    """Settings for decoding every image; ``size`` is the edge in pixels."""

    size: int
    channels: Literal["auto", "grey", "rgb"]
    fit: Literal["stretch", "crop", "pad"]


@dataclass(frozen=True)
class Facts:
    """Properties of the content of an image file; ``problem`` is empty if the file can be used.

    ``mode`` is the image mode of Pillow, or one like it for files that Pillow does not read. ``bits`` is the number of
    bits per channel. ``note`` says what was chosen in reading it. Of the pixels that are used, ``ends`` has the
    smallest and largest value of each channel, in the numbers of the file, and ``n_missing`` counts those without a
    value. ``has_alpha`` says that the file has transparency.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    bits: int = 0
    problem: str = ""
    note: str = ""
    ends: Sequence[Sequence[float]] = ()
    n_missing: int = 0
    has_alpha: bool = False

    @property
    def is_deep(self) -> bool:
        """Whether the decoded pixels have more than 8 bits and are to be scaled."""
        return bool(self.mode) and self.mode not in _MODES_8


@dataclass(frozen=True)
class Decoded:
    """Pixels of shape (size, size, channels); None if ``facts`` has a problem.

    There is one channel if all channels are equal, else three. Images of 16 bits are uint16, signed and floating-point
    ones float32.
    """

    facts: Facts
    pixels: Pixels | None = None


ImageFileDigest = tuple[str, str, Sequence[int] | None]
"""Path and content digest of a file, and its size and times if they tell whether it changed."""


class ChangedFileError(Exception):
    """Raised if a file changed after its digest was computed; the text says how."""


class _Refused(Exception):
    """Raised if an image cannot be used; the text is the problem."""


def decode_file(
    path: str, digest: str, settings: DecodeSettings, *, known: Sequence[int] | None = None, lock: int | None = None
) -> Decoded:
    """Decode the file at ``path``, whose content has ``digest``.

    ``known`` has the size and times of the file with this content, as :func:`~aifs_tune.data.digests.status_of` gives
    them; without them the content is read once more. ``lock`` is the descriptor of a lock file. Among the processes
    that share the file, one at a time decodes a large image, which limits their total memory.

    Raises
    ------
    ChangedFileError
        If the file was removed or its content changed.
    """
    try:
        file = open_regular(path)
    except OSError as error:
        raise ChangedFileError(f"can no longer be read ({error.strerror})") from None
    with file:
        status = os.fstat(file.fileno())
        is_same = list(known) == status_of(status) if known is not None else digest_file(file) == digest
        if not is_same:
            raise ChangedFileError("changed while it was read")
        whole = io.BytesIO(file.read()) if status.st_size <= _SMALL_BYTES else file
        return decode(whole, settings, lock=lock)


def decode(file: BinaryIO, settings: DecodeSettings, *, lock: int | None = None) -> Decoded:
    """Decode an image; an image that cannot be used is reported as ``facts.problem``."""
    start = file.read(_DICOM_AT + len(_DICOM))
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(file, start, settings, lock)
    except _Refused as refused:
        return Decoded(Facts(problem=str(refused)))
    except UnidentifiedImageError:
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
        said = f"is a damaged or unsupported {kind} file" if kind else UNKNOWN
        return Decoded(Facts(problem=said))
    except Image.DecompressionBombError:
        return Decoded(Facts(problem=f"has too many pixels; allowed: at most {MAX_PIXELS:,}"))
    except MALFORMED as error:
        return Decoded(Facts(problem=f"is damaged ({shown(str(error)[:160]) or type(error).__name__})"))


def _decode(file: BinaryIO, start: bytes, settings: DecodeSettings, lock: int | None) -> Decoded:
    if start.startswith((*_TIFF, _NPY)) or start[_DICOM_AT:] == _DICOM:
        from aifs_tune.data.images.deep import read_deep

        with ExitStack() as held:

            def admit(n_pixels: int) -> None:
                held.enter_context(exclusive(lock if n_pixels >= _LARGE_PIXELS else None))

            found = read_deep(file, start, admit)
            if isinstance(found, str):
                raise _Refused(found)
            if found is not None:
                return _deep(found, settings)
        file.seek(0)
    with Image.open(file, formats=FORMATS) as image:
        facts = _facts(image, start)
        # The JPEG decoder shrinks by 2, 4 or 8 while it reads; an antialiased resize does the rest.
        image.draft(image.mode, (2 * settings.size, 2 * settings.size))
        with exclusive(lock if image.width * image.height >= _LARGE_PIXELS else None):
            if image.mode in _MODES_16:
                pixels: Pixels = _grey16(image, settings)
                return Decoded(replace(facts, ends=_ends(pixels)), pixels)
            if facts.bits == 16 and image.format == "PNG":
                from aifs_tune.data.image_files.arrays import UnreadableError
                from aifs_tune.data.images.deep import deep_png

                try:
                    return _deep(deep_png(image, file), settings)
                except UnreadableError as error:
                    raise _Refused(str(error)) from None
            pixels, ends = _pixels8(image, settings)
            return Decoded(replace(facts, ends=ends, has_alpha=image.has_transparency_data), pixels)


def _facts(image: Image.Image, start: bytes) -> Facts:
    """Return the properties in the header; raise _Refused if the image cannot be used."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _Refused(f"has {width} x {height} pixels; allowed: at most {MAX_PIXELS:,}")
    # A camera may append previews to a JPEG; they do not count as frames.
    n_frames = 1 if image.format in ("MPO", *MOVING) else getattr(image, "n_frames", 1)
    if n_frames != 1:
        raise _Refused(f"has {n_frames} frames; allowed: 1")
    if image.mode not in _MODES_8 | _MODES_16:
        raise _Refused(f"has the pixel mode {image.mode}; convert it to grey or RGB with 8 or 16 bits")
    is_moving = image.format in MOVING and getattr(image, "n_frames", 1) > 1
    note = "a moving picture, of which the first frame is read" if is_moving else ""
    return Facts(width, height, image.mode, _bits(image, start), note=note)


def _bits(image: Image.Image, start: bytes) -> int:
    if image.format == "PNG":
        return start[24]  # the bit depth in IHDR
    tags: Any = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and tags.get(_TIFF_BITS):
        return int(max(tags[_TIFF_BITS]))
    return 16 if image.mode in _MODES_16 else 8


@contextmanager
def exclusive(lock: int | None) -> Iterator[None]:
    """Hold ``lock`` unless it is None; the system releases the lock of a process that dies.

    The time limit of the worker does not run while it waits for the lock.
    """
    if lock is None:
        yield
        return
    left_s = signal.alarm(0)
    fcntl.flock(lock, fcntl.LOCK_EX)
    signal.alarm(left_s)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def _grey16(image: Image.Image, settings: DecodeSettings) -> NDArray[np.uint16]:
    whole = _as("I", image)
    low, high = whole.getextrema()
    if not 0 <= low <= high <= 65535:  # type: ignore[operator]
        raise _Refused(f"has pixel values from {low} to {high}; allowed: 0 to 65535")
    values = np.asarray(_fit(whole, settings))
    return values.clip(0, 65535).astype(np.uint16)[:, :, np.newaxis]


def _ends(pixels: NDArray[Any]) -> Ends:
    """Smallest and largest value of each channel."""
    flat = pixels.reshape(-1, pixels.shape[2])
    return [[float(low), float(high)] for low, high in zip(flat.min(axis=0), flat.max(axis=0), strict=True)]


def _pixels8(image: Image.Image, settings: DecodeSettings) -> tuple[NDArray[np.uint8], Ends]:
    """Pixels that fit, and the smallest and largest value of each channel."""
    if image.has_transparency_data:
        values = np.asarray(_fit(_as("RGBA", image), settings)).astype(np.uint16)
        fitted = Image.fromarray(((values[..., :3] * values[..., 3:] + 127) // 255).astype(np.uint8))
    else:
        fitted = _fit(_as("L" if image.mode in ("1", "L") else "RGB", image), settings)
    if settings.channels == "grey":
        fitted = fitted.convert("L")
    pixels, extrema = np.asarray(fitted), fitted.getextrema()
    if pixels.ndim == 2:
        return pixels[:, :, np.newaxis], [list(extrema)]  # type: ignore[arg-type]
    ends: Ends = [list(each) for each in extrema]  # type: ignore[arg-type]
    # The ends and the first row are enough to recognise most colour images, in a hundredth of the time.
    is_grey = ends[0] == ends[1] == ends[2] and all(bool((it[..., :1] == it).all()) for it in (pixels[:1], pixels))
    return (pixels[..., :1], ends[:1]) if is_grey else (pixels, ends)


def _deep(found: Deep, settings: DecodeSettings) -> Decoded:
    """Fit an image that Pillow does not read in full."""
    height, width, channels = found.pixels.shape
    if channels not in (1, 3):
        raise _Refused(f"has {channels} channels; allowed: 1 or 3 (others in a manifest: data.frames)")
    facts = Facts(width, height, found.mode, found.bits, note=found.note, has_alpha=found.has_alpha)
    if found.pixels.dtype == np.uint8:
        values = found.pixels[..., 0] if channels == 1 else found.pixels
        fitted8, ends = _pixels8(Image.fromarray(np.ascontiguousarray(values)), settings)
        return Decoded(replace(facts, ends=ends), fitted8)
    values = found.pixels.astype(np.float32)
    is_known = np.isfinite(values)
    if not is_known.any():
        raise _Refused("has no finite pixel")
    n_missing = int((~is_known).any(axis=-1).sum())
    if n_missing:
        values = np.where(is_known, values, np.median(values[is_known]))
    if channels == 3 and (settings.channels == "grey" or bool((values[..., :1] == values).all())):
        values = np.asarray(values @ _LUMA, np.float32)[..., np.newaxis]
    darkest = float(values.min())
    bands = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(values - darkest, -1, 0)]
    fitted = np.stack([np.asarray(_fit(band, settings)) for band in bands], axis=-1) + np.float32(darkest)
    if found.pixels.dtype == np.uint16:
        fitted = np.rint(fitted.clip(0, 65535)).astype(np.uint16)
    facts = replace(facts, ends=_ends(fitted), n_missing=n_missing)
    return Decoded(facts, fitted if found.pixels.dtype == np.uint16 else np.asarray(fitted, np.float32))


def _as(mode: str, image: Image.Image) -> Image.Image:
    """Convert ``image`` to ``mode``, without a copy if it has that mode."""
    return image if image.mode == mode else image.convert(mode)


def _fit(image: Image.Image, settings: DecodeSettings) -> Image.Image:
    """Resize ``image``, antialiased, to a square of ``settings.size`` pixels."""
    width, height = image.size
    size = settings.size
    if width == height == size:
        return image
    if settings.fit == "crop":
        edge = min(width, height)
        left, top = (width - edge) / 2, (height - edge) / 2
        return image.resize((size, size), _BILINEAR, (left, top, left + edge, top + edge), 3.0)
    if settings.fit == "stretch" or width == height:
        return image.resize((size, size), _BILINEAR, None, 3.0)
    scale = size / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    square = Image.new(image.mode, (size, size))
    square.paste(image.resize(inner, _BILINEAR, None, 3.0), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return square


@dataclass(frozen=True)
class ImageSet:
    """Decoded images in one array, which all workers of a node share through the page cache.

    Attributes
    ----------
    images : array of uint8
        Images of shape (n, height, width, channels), values 0 to 255, memory-mapped from the cache.
    labels : array of int32
        Class of each image, shape (n,), an index into ``classes``.
    classes : tuple of str
        Names of the classes.
    train, val, test : array of int32
        Indices of the images in each subset. They are disjoint; ``test`` may be empty.
    fingerprint : str
        Hexadecimal digest of the image content, the labels and the split.
    range16 : tuple of float, optional
        Pixel values of images with more than 8 bits that became 0 and 255. Default: None, without such images.
    signal : Signal, optional
        The class whose efficiency is measured; not stored with the images.

    Examples
    --------
    >>> import numpy as np
    >>> from aifs_tune.data import ImageSet
    >>> rows = np.arange(4, dtype=np.int32)
    >>> images = ImageSet(
    ...     images=np.zeros((4, 16, 16, 3), np.uint8),
    ...     labels=np.array([0, 0, 1, 1], np.int32),
    ...     classes=("galaxy", "star"),
    ...     train=rows[::2],
    ...     val=rows[1::2],
    ...     test=rows[:0],
    ...     fingerprint="0" * 40,
    ... )
    >>> images.shape
    (16, 16, 3)
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    train: NDArray[np.int32]
    val: NDArray[np.int32]
    test: NDArray[np.int32]
    fingerprint: str
    range16: tuple[float, float] | None = None
    signal: Signal | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        height, width, channels = self.images.shape[1:]
        return int(height), int(width), int(channels)
