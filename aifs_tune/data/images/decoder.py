"""Decoding of images into the cache, and scaling of those with more than 8 bits by the training part."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.hashing import digest_of
from aifs_tune.config.data import DataSpec
from aifs_tune.data.cache import VERSION, Meta, find_entry, load_facts, map_images, write_entry
from aifs_tune.data.digests import Progress, is_settled
from aifs_tune.data.forecast import Forecast
from aifs_tune.data.images.decode import DECODER, LOCK, DecodeSettings, Facts
from aifs_tune.data.images.decode_all import NpyWriter, Range, Scratch, decode_all, measured_range, scaled
from aifs_tune.data.images.folder import ImageFile

_REPORT_EVERY = 16


@dataclass(frozen=True)
class ImageSource:
    """A readable file with its content digest, SHA-256 and group; ``group`` is None if files are not grouped."""

    file: ImageFile
    content: str
    sha256: str
    group: str | None


@dataclass(frozen=True)
class Entry:
    """Decoded images in ``folder``, with the facts about each content by digest."""

    folder: Path
    meta: Meta
    facts: Mapping[str, Facts]


class Decoder:
    """Decodes images into the cache at ``root`` with the settings in ``data``.

    ``tell`` gets a forecast of much disk space or time.
    """

    def __init__(
        self,
        data: DataSpec,
        root: Path,
        processes: int | None,
        progress: Progress | None,
        tell: Callable[[str], None] | None,
    ) -> None:
        self._settings = DecodeSettings(data.image_size, data.channels, data.fit)
        self._range16, self._root = data.range16, root
        self._processes, self._progress, self._tell = processes, progress, tell

    def entry(self, sources: Sequence[ImageSource]) -> Entry:
        """Return the cache entry of ``sources``, sorted by class and content; its rows are the usable images.

        Pixels of more than 8 bits are kept as they are, see :meth:`scaled`.

        Raises
        ------
        DataError
            If a file changed after its digest was computed.
        StorageError
            If the images need more space than is free.
        OSError
            If the cache cannot be written.
        """
        folder = self._root / f"{self._digest(sources, None)}-{DECODER}"
        meta, facts = find_entry(folder), load_facts(folder)
        if meta is None or facts is None or any(source.content not in facts for source in sources):
            facts = {}
            meta = write_entry(folder, lambda partial: self._fill(partial, sources, facts))
        return Entry(folder, meta, facts)

    def scaled(self, entry: Entry, sources: Sequence[ImageSource], train: Sequence[int]) -> Entry:
        """Return the entry with all images in 8 bits; its ``sources`` are its rows, of which ``train`` are trained on.

        The two pixel values that become 0 and 255 are those of the settings, or percentiles of the training images.

        Raises
        ------
        OSError
            If the cache cannot be written.
        """
        is_deep = np.array([entry.facts[source.content].is_deep for source in sources])
        if not is_deep.any():
            return entry
        images = map_images(entry.folder, entry.meta)
        deep_rows = np.flatnonzero(is_deep).tolist()
        range16 = self._range16
        if range16 == "auto":
            range16 = measured_range(images, [row for row in train if is_deep[row]] or deep_rows)
        content = self._digest(sources, range16)
        folder = self._root / f"{content}-{DECODER}"
        meta = find_entry(folder)
        if meta is None or load_facts(folder) is None:
            wanted = Meta(entry.meta.classes, entry.meta.counts, entry.meta.shape, range16, content)
            meta = write_entry(folder, lambda partial: _fill_scaled(partial, wanted, entry, images, is_deep))
        return Entry(folder, meta, entry.facts)

    def _fill(self, folder: Path, sources: Sequence[ImageSource], facts: dict[str, Facts]) -> Meta:
        scratch = Scratch(folder, len(sources), self._settings.size)
        self._decode(sources, scratch, facts)
        kept = [row for row, source in enumerate(sources) if not facts[source.content].problem]
        channels = self._channels(scratch)
        scratch.write_npy(folder / "images.npy", kept, channels)
        scratch.close()
        _write_facts(folder, facts)
        counts = Counter(sources[row].file.label for row in kept)
        return Meta(
            classes=tuple(sorted(counts)),
            counts=tuple(counts[label] for label in sorted(counts)),
            shape=(len(kept), self._settings.size, self._settings.size, channels),
            range16=None,
            content=self._digest([sources[row] for row in kept], None),
        )

    def _channels(self, scratch: Scratch) -> int:
        return 3 if self._settings.channels == "rgb" or scratch.has_colour else 1

    def _decode(self, sources: Sequence[ImageSource], scratch: Scratch, facts: dict[str, Facts]) -> None:
        files = [(source.file.path, source.content, _known(source.file)) for source in sources]
        forecast = Forecast(self._root, len(sources), "a smaller data.image_size", self._tell)
        n_kinds = 0
        decoding = decode_all(files, self._settings, lock_file=self._root / LOCK, processes=self._processes)
        with closing(decoding):
            for n_done, (row, decoded) in enumerate(decoding, start=1):
                facts[sources[row].content] = decoded.facts
                if decoded.pixels is not None:
                    scratch.put(row, decoded.pixels)
                    if not forecast.is_told or scratch.n_kinds > n_kinds:
                        n_kinds = scratch.n_kinds
                        self._foresee(forecast, n_done, scratch)
                if self._progress is not None and (n_done % _REPORT_EVERY == 0 or n_done == len(sources)):
                    self._progress("decoding", n_done, len(sources))

    def _foresee(self, forecast: Forecast, n_done: int, scratch: Scratch) -> None:
        shape = (self._settings.size, self._settings.size, self._channels(scratch))
        n, n_bytes = int(np.prod(shape)), scratch.dtype.itemsize
        forecast.update(n_done, shape, most=2 * n * n_bytes, kept=n * n_bytes + (n if n_bytes > 1 else 0))

    def _digest(self, sources: Sequence[ImageSource], range16: Range | None) -> str:
        rows = [[source.file.label, source.content] for source in sources]
        return digest_of(json.dumps([VERSION, asdict(self._settings), range16, rows]).encode())


def _known(file: ImageFile) -> Sequence[int] | None:
    """Size and times that tell whether the file changes from now on; None if they might not."""
    return [file.size, file.mtime_ns, file.ctime_ns] if is_settled(file) else None


def _write_facts(folder: Path, facts: Mapping[str, Facts]) -> None:
    (folder / "facts.json").write_text(json.dumps({digest: vars(one) for digest, one in facts.items()}))


def _fill_scaled(folder: Path, meta: Meta, entry: Entry, images: NDArray[Any], is_deep: NDArray[np.bool_]) -> Meta:
    assert meta.range16 is not None
    with NpyWriter(folder / "images.npy", meta.shape, np.dtype(np.uint8)) as file:
        for pixels, deep in zip(images, is_deep.tolist(), strict=True):
            file.write(scaled(pixels, meta.range16) if deep else pixels)
    _write_facts(folder, entry.facts)
    return meta
