"""Prepared examples of tables, series and frames: arrays with their targets, stored in the cache and memory-mapped.

Each content has one folder of the cache: ``CACHE/examples-<key>/{input0.npy, ..., y_true.npy, facts.json}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import write_folder
from aifs_tune._util.cache import cache_root, storing
from aifs_tune._util.hashing import digest_of
from aifs_tune.data.digests import digest_of_array
from aifs_tune.data.file_table import FileTable
from aifs_tune.data.images.folder import SUBSETS
from aifs_tune.data.signal import Signal
from aifs_tune.errors import NotFoundError

VERSION = 2
"""Version of the stored format; entries of another version are refused."""


@dataclass(frozen=True)
class Target:
    """A number to predict, in ``unit``.

    Stored values are ``(value - centre) / scale``, with the mean and the standard deviation of the training set.
    """

    name: str
    unit: str | None
    centre: float
    scale: float


@dataclass(frozen=True)
class ExampleSet:
    """Examples of a table, of series or of frames, as a trainer gets them.

    Attributes
    ----------
    inputs : tuple of array
        Input arrays; the first axis of each counts the n examples.
    y_true : array
        Class of each example, int32 of shape (n,), an index into ``classes``; or its target values, float32 of shape
        (n, targets), scaled as ``targets`` says, NaN where one is missing; or of a table both, float32 of shape
        (n, 1 + targets), the class first.
    classes : tuple of str
        Names of the classes; empty where numbers alone are predicted.
    targets : tuple of Target
        Name, unit and scale of each number to predict; empty where classes alone are predicted.
    train, val, test : array of int32
        Indices of the examples in each subset. They are disjoint; ``test`` may be empty.
    fingerprint : str
        Hexadecimal digest of the content, the split and the format.
    facts : mapping
        JSON values that a prediction on new data needs, such as the columns and how they were scaled.
    signal : Signal, optional
        The class whose efficiency is measured; not stored with the examples.

    Examples
    --------
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import prepare_table
    >>> examples = prepare_table(DataSpec(table={"bundled": "breast_cancer"})).examples
    >>> examples.inputs[0].shape, examples.y_true.shape, examples.classes
    ((569, 30), (569,), ('benign', 'malignant'))
    >>> len(examples.train), len(examples.val), len(examples.test)
    (341, 115, 113)
    """

    inputs: tuple[NDArray[Any], ...]
    y_true: NDArray[Any]
    classes: tuple[str, ...]
    targets: tuple[Target, ...]
    train: NDArray[np.int32]
    val: NDArray[np.int32]
    test: NDArray[np.int32]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    signal: Signal | None = None

    @property
    def labels(self) -> NDArray[np.int32]:
        """Class of each example, shape (n,), where classes are predicted."""
        return self.y_true if self.y_true.ndim == 1 else self.y_true[:, 0].astype(np.int32)

    @property
    def numbers(self) -> NDArray[np.float32]:
        """Scaled target values, shape (n, targets), where numbers are predicted."""
        return self.y_true[:, 1:] if self.classes else self.y_true


@dataclass(frozen=True)
class PreparedExamples:
    """Examples that are ready to train on.

    Attributes
    ----------
    examples : ExampleSet
        The examples, memory-mapped from the cache.
    location : Path
        Folder of the cache that :func:`open_examples` opens in another process.
    lines : sequence of str
        Readable summary: counts, skipped rows and columns, classes or targets.
    files : FileTable
        File that each example came from.
    columns : sequence of dict
        What each column of a table or of series, or band of images, was taken for, its unit, range, missing entries,
        and why it is left out.

    Examples
    --------
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import prepare_table
    >>> prepared = prepare_table(DataSpec(table={"bundled": "breast_cancer"}))
    >>> print(prepared.lines[0])
    table breast_cancer: 569 rows, 31 columns
    """

    examples: ExampleSet
    location: Path
    lines: Sequence[str]
    files: FileTable
    columns: Sequence[Mapping[str, Any]] = ()


def store_examples(
    inputs: Sequence[NDArray[Any]],
    y_true: NDArray[Any],
    subsets: Mapping[str, NDArray[np.int32]],
    *,
    classes: Sequence[str] = (),
    targets: Sequence[Target] = (),
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Store examples in the cache, unless they are there, and return the location for :func:`open_examples`.

    Memory-mapped arrays are not loaded, so a set larger than the memory can be stored.

    Raises
    ------
    StorageError
        If the cache cannot be written.
    """
    arrays = {f"input{i}": np.ascontiguousarray(array) for i, array in enumerate(inputs)}
    arrays["y_true"] = np.ascontiguousarray(y_true)
    stored = {
        "version": VERSION,
        "classes": list(classes),
        "targets": [asdict(target) for target in targets],
        "facts": dict(facts or {}),
        **{subset: subsets[subset].tolist() for subset in SUBSETS},
    }
    digests = [[name, str(a.dtype), a.shape, digest_of_array(a)] for name, a in arrays.items()]
    stored["fingerprint"] = digest_of(json.dumps([digests, stored], sort_keys=True).encode())
    folder = cache_root().absolute() / f"examples-{stored['fingerprint'][:24]}"

    def fill(partial: Path) -> None:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        (partial / "facts.json").write_text(json.dumps(stored))

    if not (folder / "facts.json").exists():
        with storing(folder.parent):
            write_folder(folder, fill)
    return folder


def open_examples(location: Path) -> ExampleSet:
    """Open prepared examples from the cache, in any process of this machine.

    The arrays are memory-mapped copy-on-write: nothing is copied, and changes stay in this process.

    Parameters
    ----------
    location : Path
        ``location`` of the :class:`PreparedExamples`.

    Returns
    -------
    ExampleSet
        The examples as they were prepared.

    Raises
    ------
    NotFoundError
        If the entry was deleted, is damaged or has another version of the format.

    Examples
    --------
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import open_examples, prepare_table
    >>> prepared = prepare_table(DataSpec(table={"bundled": "breast_cancer"}))
    >>> open_examples(prepared.location).classes
    ('benign', 'malignant')
    """
    try:
        stored = json.loads((location / "facts.json").read_bytes())
        if stored["version"] != VERSION:
            raise ValueError(f"version {stored['version']!r} of the format; this release reads {VERSION}")
        files = sorted(location.glob("input*.npy"))
        inputs = tuple(np.asarray(np.load(file, mmap_mode="c", allow_pickle=False)) for file in files)
        y_true = np.asarray(np.load(location / "y_true.npy", mmap_mode="c", allow_pickle=False))
        train, val, test = (np.asarray(stored[subset], np.int32) for subset in SUBSETS)
        targets = tuple(Target(**target) for target in stored["targets"])
        return ExampleSet(
            inputs, y_true, tuple(stored["classes"]), targets, train, val, test, stored["fingerprint"], stored["facts"]
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        text = f"prepared data {location}: missing or damaged ({error}); prepare the data again"
        raise NotFoundError(text) from error
