"""Files to an entry of the decoded cache: found there, or decoded and written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from aifs_tune.data.cache import VERSION, Meta, find_entry, load_facts, write_entry
from aifs_tune.data.decode import LOCK, DecodeSettings, Facts
from aifs_tune.data.decoding import decode_all
from aifs_tune.data.folder import ImageFile
from aifs_tune.data.reading import Progress, digest_of
from aifs_tune.data.scratch import Range, Scratch
from aifs_tune.data_spec import DataSpec

_TOLD_EVERY = 16


@dataclass(frozen=True)
class ImageSource:
    """A file that can be read, the digest of its content and its SHA-256, and its group if files are grouped."""

    file: ImageFile
    content: str
    sha256: str
    group: str | None


@dataclass(frozen=True)
class Entry:
    """Decoded images in ``folder``, and what is known of each content by its digest."""

    folder: Path
    meta: Meta
    facts: Mapping[str, Facts]


class Decoder:
    """Decodes into the cache at ``root`` as ``data`` says."""

    def __init__(self, data: DataSpec, root: Path, processes: int | None, progress: Progress | None) -> None:
        self._settings = DecodeSettings(data.image_size, data.channels, data.fit)
        self._range16, self._root = data.range16, root
        self._processes, self._progress = processes, progress

    def entry(self, sources: Sequence[ImageSource]) -> Entry:
        """The entry of ``sources``, which are sorted by class and content; its rows are those without a problem.

        Raises
        ------
        DataError
            If a file changed since its digest was taken.
        OSError
            If the cache cannot be written.
        """
        folder = self._root / self._digest(sources, self._range16)
        meta, facts = find_entry(folder), load_facts(folder)
        if meta is None or facts is None or any(source.content not in facts for source in sources):
            facts = {}
            meta = write_entry(folder, lambda partial: self._fill(partial, sources, facts))
        return Entry(folder, meta, facts)

    def _fill(self, folder: Path, sources: Sequence[ImageSource], facts: dict[str, Facts]) -> Meta:
        scratch = Scratch(folder, len(sources), self._settings.size)
        self._decode(sources, scratch, facts)
        kept = [row for row, source in enumerate(sources) if not facts[source.content].problem]
        wants_rgb = self._settings.channels == "rgb" or scratch.has_colour
        channels = 3 if wants_rgb else 1
        measured = scratch.measured_range()
        range16 = measured if measured is None or self._range16 == "auto" else self._range16
        scratch.write_npy(folder / "images.npy", kept, channels, range16)
        scratch.close()
        (folder / "facts.json").write_text(json.dumps({digest: asdict(one) for digest, one in facts.items()}))
        counts = Counter(sources[row].file.label for row in kept)
        return Meta(
            classes=tuple(sorted(counts)),
            counts=tuple(counts[label] for label in sorted(counts)),
            shape=(len(kept), self._settings.size, self._settings.size, channels),
            range16=range16,
            content=self._digest([sources[row] for row in kept], range16),
        )

    def _decode(self, sources: Sequence[ImageSource], scratch: Scratch, facts: dict[str, Facts]) -> None:
        files = [(source.file.path, source.content) for source in sources]
        decoding = decode_all(files, self._settings, lock_file=self._root / LOCK, processes=self._processes)
        with closing(decoding):
            for n_done, (row, decoded) in enumerate(decoding, start=1):
                facts[sources[row].content] = decoded.facts
                if decoded.pixels is not None:
                    scratch.put(row, decoded.pixels)
                if self._progress is not None and (n_done % _TOLD_EVERY == 0 or n_done == len(sources)):
                    self._progress("decoding", n_done, len(sources))

    def _digest(self, sources: Sequence[ImageSource], range16: Range | str | None) -> str:
        rows = [[source.file.label, source.content] for source in sources]
        return digest_of(json.dumps([VERSION, asdict(self._settings), range16, rows]).encode())
