"""Cache of decoded images, one folder for each content: ``CACHE/<key>/{images.npy, meta.json, facts.json}``.

The key is a digest of the content of the files, their classes and the decoding settings. The same images are
therefore found again after they were moved or renamed. Each split is a small file beside the images; other
processes open the path of that file. An entry is written completely or not at all. If two processes write the
same entry, the second one uses the entry of the first.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import PARTIAL, flush, flush_folder, write_file
from aifs_tune._util.cache import _remove_stale
from aifs_tune._util.hashing import digest_of
from aifs_tune.data.images.decode import Facts, ImageSet
from aifs_tune.errors import NotFoundError

VERSION = 1
"""Version of the stored format; entries of another version are decoded again."""


@dataclass(frozen=True)
class Meta:
    """Description of an entry, whose rows in ``images.npy`` are sorted by class.

    ``counts`` has the number of images of each class, ``shape`` is the shape of the array, and ``content`` a digest
    of the decoded images and labels. ``range16`` are the values of images with more than 8 bits that became 0 and
    255; None without such images, or if the entry has them as they are.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    shape: tuple[int, int, int, int]
    range16: tuple[float, float] | None
    content: str

    def to_json(self) -> dict[str, Any]:
        """JSON values for ``meta.json``."""
        return {"version": VERSION, **{name: getattr(self, name) for name in self.__dataclass_fields__}}


def find_entry(folder: Path) -> Meta | None:
    """Return the description of the entry in ``folder``; None if it is missing, damaged or of another version."""
    try:
        stored = json.loads((folder / "meta.json").read_bytes())
        if stored.pop("version") != VERSION:
            return None
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in stored.items()}
        meta = Meta(**fields)
        map_images(folder, meta)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return meta


def load_facts(folder: Path) -> dict[str, Facts] | None:
    """Load the facts about each file of an entry, skipped ones too, by content digest; None if unreadable."""
    try:
        stored = json.loads((folder / "facts.json").read_bytes())
        return {digest: Facts(**facts) for digest, facts in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_entry(folder: Path, fill: Callable[[Path], Meta]) -> Meta:
    """Create the entry ``folder``: ``fill`` writes images and facts, and the description is added.

    Raises
    ------
    OSError
        If the entry cannot be written, for example on a full disk; no partial entry stays.
    """
    _remove_stale(folder.parent)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
    try:
        meta = fill(partial)
        (partial / "meta.json").write_text(json.dumps(meta.to_json()))
        flush_folder(partial)
        return _move(partial, folder, meta)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_split(folder: Path, meta: Meta, subsets: Mapping[str, NDArray[np.int32]]) -> Path:
    """Store a split beside the images of ``folder`` and return the location for :func:`open_images`."""
    stored: dict[str, Any] = {name: rows.tolist() for name, rows in subsets.items()}
    fingerprint = digest_of(json.dumps([meta.content, stored], sort_keys=True).encode())
    location = folder / f"split-{fingerprint[:16]}.json"
    write_file(location, json.dumps({"version": VERSION, "fingerprint": fingerprint, **stored}).encode())
    return location


def open_images(location: Path) -> ImageSet:
    """Open prepared images from the cache, in any process of this machine.

    The images are memory-mapped copy-on-write: processes share the memory, and changes stay in the process that
    makes them.

    Parameters
    ----------
    location : Path
        ``location`` of the :class:`~aifs_tune.data.PreparedImages`.

    Returns
    -------
    ImageSet
        The images as they were prepared.

    Raises
    ------
    NotFoundError
        If the entry was deleted or is damaged.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import open_images, prepare_images
    >>> rng = np.random.default_rng(0)
    >>> for label in ("galaxy", "star"):
    ...     Path("survey", label).mkdir(parents=True)
    ...     for i in range(5):
    ...         Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(f"survey/{label}/{i}.png")
    >>> prepared = prepare_images(DataSpec(folder=Path("survey"), image_size=8))
    >>> open_images(prepared.location).shape
    (8, 8, 1)
    """
    meta = find_entry(location.parent)
    try:
        stored = json.loads(location.read_bytes())
        train, val, test = (np.asarray(stored[subset], np.int32) for subset in ("train", "val", "test"))
        fingerprint = str(stored["fingerprint"])
    except (OSError, ValueError, TypeError, KeyError):
        meta = None
    if meta is None:
        raise NotFoundError(f"prepared images {location}: missing or damaged; prepare the images again")
    labels = np.repeat(np.arange(len(meta.counts), dtype=np.int32), meta.counts)
    images = map_images(location.parent, meta)
    return ImageSet(images, labels, meta.classes, train, val, test, fingerprint, meta.range16)


def map_images(folder: Path, meta: Meta) -> NDArray[Any]:
    """Map the images of an entry into memory: uint8, or uint16 and float32 where they are not scaled yet.

    Raises
    ------
    ValueError
        If they are not what ``meta`` says.
    """
    images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
    is_known = images.dtype in (np.uint8, np.uint16, np.float32)
    if not is_known or images.shape != meta.shape or sum(meta.counts) != len(images):
        raise ValueError(f"{folder}: images.npy is not what meta.json says")
    return np.asarray(images)


def _move(partial: Path, folder: Path, meta: Meta) -> Meta:
    try:
        partial.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        standing = find_entry(folder)
        if standing is not None and load_facts(folder) is not None:
            return standing  # another process was faster
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder.parent) as damaged:
            folder.rename(Path(damaged) / "entry")
            partial.rename(folder)
    flush(folder.parent)
    return meta
