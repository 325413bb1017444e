"""Examples that are not images to be classified: arrays of numbers with what is to be predicted, on disk and mapped.

One folder of the cache for each content: ``CACHE/examples-<key>/{input0.npy, ..., y_true.npy, facts.json}``.
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
from aifs_tune.errors import NotFoundError

VERSION = 2
"""Of the layout of an entry; entries of other versions are prepared again."""
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Target:
    """A number to predict, in ``unit``; a truth is stored as ``(value - centre) / scale``, of the training part."""

    name: str
    unit: str | None
    centre: float
    scale: float


@dataclass(frozen=True)
class ExampleSet:
    """What a trainer sees of a data set.

    ``inputs`` are arrays whose first axis counts examples. ``truths`` is int32 of shape (n,), an index into
    ``classes``, or float32 of shape (n, targets), scaled as each of ``targets`` says; the other of the two is empty.
    ``train``, ``val`` and ``test`` are int32 indices, disjoint; ``test`` may be empty. ``facts`` are JSON values that
    somebody who predicts with the trained network needs, such as the columns and how they were scaled.
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


@dataclass(frozen=True)
class PreparedExamples:
    """Examples ready to train on; ``location`` is what :func:`open_examples` takes in other processes, ``lines`` say
    what was found, ``files`` where each example came from."""

    examples: ExampleSet
    location: Path
    lines: Sequence[str]
    files: FileTable


def store_examples(
    inputs: Sequence[NDArray[Any]],
    y_true: NDArray[Any],
    parts: Mapping[str, NDArray[np.int32]],
    *,
    classes: Sequence[str] = (),
    targets: Sequence[Target] = (),
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write them into the cache if they are not there yet: the location that :func:`open_examples` takes.

    Mapped arrays stay mapped, so that a set larger than the memory can be stored.

    Raises
    ------
    StorageError
        If the cache cannot be written.
    """
    arrays = {f"input{i}": np.ascontiguousarray(array) for i, array in enumerate(inputs)}
    arrays["y_true"] = np.ascontiguousarray(y_true)
    told = {
        "version": VERSION,
        "classes": list(classes),
        "targets": [asdict(target) for target in targets],
        "facts": dict(facts or {}),
        **{part: parts[part].tolist() for part in PARTS},
    }
    digests = [[name, str(a.dtype), a.shape, digest_of_array(a)] for name, a in arrays.items()]
    told["fingerprint"] = digest_of(json.dumps([digests, told], sort_keys=True).encode())
    folder = cache_root().absolute() / f"examples-{told['fingerprint'][:24]}"

    def fill(partial: Path) -> None:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        (partial / "facts.json").write_text(json.dumps(told))

    if not (folder / "facts.json").exists():
        with storing(folder.parent):
            write_folder(folder, fill)
    return folder


def open_examples(location: Path) -> ExampleSet:
    """Map what was prepared, in any process of this machine; copies nothing.

    Raises
    ------
    NotFoundError
        If the cache has lost it since.
    """
    try:
        told = json.loads((location / "facts.json").read_bytes())
        if told["version"] != VERSION:
            raise ValueError(f"version {told['version']!r} of the format; this release reads {VERSION}")
        files = sorted(location.glob("input*.npy"))
        inputs = tuple(np.asarray(np.load(file, mmap_mode="c", allow_pickle=False)) for file in files)
        y_true = np.asarray(np.load(location / "y_true.npy", mmap_mode="c", allow_pickle=False))
        train, val, test = (np.asarray(told[part], np.int32) for part in PARTS)
        targets = tuple(Target(**target) for target in told["targets"])
        return ExampleSet(
            inputs, y_true, tuple(told["classes"]), targets, train, val, test, told["fingerprint"], told["facts"]
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise NotFoundError(f"prepared data {location}: missing or damaged ({error}); prepare them again") from error
