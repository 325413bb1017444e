"""Many image files to pixels, in several processes; a file that kills its process costs that file alone."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from aifs_tune.data.decode import ChangedFileError, Decoded, DecodeSettings, Facts, decode_file
from aifs_tune.data.folder import shown
from aifs_tune.data.worker_pool import WorkerDied, n_workers, run_requests
from aifs_tune.errors import DataError

_WORKER = "aifs_tune.data.decode_worker"

ImageFileDigest = tuple[str, str]
"""Path and digest of a file."""


def decode_all(
    sources: Sequence[ImageFileDigest],
    settings: DecodeSettings,
    *,
    lock_file: Path,
    processes: int | None = None,
    worker: str = _WORKER,
) -> Generator[tuple[int, Decoded], None, None]:
    """Index into ``sources`` and what became of that file, in the order they are ready.

    ``processes`` are those of :func:`~aifs_tune.data.worker_pool.n_workers`. ``worker`` is the module that runs in
    each process. Closing the generator ends the processes.

    Raises
    ------
    DataError
        If a file changed since its digest was taken.
    WorkError
        If no process can be started.
    """
    n = n_workers(len(sources), processes)
    if n == 0:
        for i, (path, digest) in enumerate(sources):
            try:
                yield i, decode_file(path, digest, settings)
            except ChangedFileError as error:
                raise _changed(path, str(error)) from None
        return
    command = [worker, json.dumps(asdict(settings)), str(lock_file)]
    with closing(run_requests(sources, command, n, does="decodes images")) as answers:
        for i, answer in answers:
            if isinstance(answer, WorkerDied):
                yield i, Decoded(Facts(problem=f"ends the process that decodes it ({answer.how})"))
                continue
            told, payload = answer
            if "changed" in told:
                raise _changed(sources[i][0], told["changed"])
            yield i, _decoded(told, payload)


def _decoded(told: dict[str, Any], payload: bytes) -> Decoded:
    facts = Facts(**told["facts"])
    if told["pixels"] is None:
        return Decoded(facts)
    dtype, *shape = told["pixels"]
    return Decoded(facts, np.frombuffer(payload, dtype=np.dtype(dtype)).reshape(shape))


def _changed(path: str, how: str) -> DataError:
    return DataError(f"{shown(path)} {how}; run again when the data folder stays as it is")
