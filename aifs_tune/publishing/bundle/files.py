"""The trained model of a bundle: our weights, and where it is a network ONNX and a Keras file for others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune._util.quiet import silence_stderr
from aifs_tune.artifacts.data_files import find_study_files
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.data.images.folder import SUBSETS
from aifs_tune.errors import NotFoundError, RequestError
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial
from aifs_tune.trainers.factory import find_trainer_entry

if TYPE_CHECKING:
    import pandas


WEIGHTS = "model/weights"
ONNX, KERAS = "model/model.onnx", "model/model.keras"


@dataclass(frozen=True)
class ModelFiles:
    """Name and description of each file that was written, and why others were not; ``inputs`` and ``outputs`` of the
    network in words, empty where it is none, and the ``precision`` that it was measured in."""

    about: dict[str, tuple[str, str]]
    missing: dict[str, str]
    inputs: str = ""
    outputs: str = ""
    precision: str | None = None


def write_model(study: StudyRecord, trial: Trial, folder: Path, written_at: datetime) -> ModelFiles:
    """Write what is kept of ``trial`` below ``folder``.

    Raises
    ------
    DamagedError
        If the kept weights are not those that the study has the hashes of; StorageError if their store does not answer.
    """
    try:
        kept = kept_weights(study, trial)
    except NotFoundError as error:
        return ModelFiles({}, {"weights": str(error)})
    shutil.copytree(kept, folder / WEIGHTS)
    about = {
        f"{WEIGHTS}/{path.relative_to(kept).as_posix()}": _of_weights(path.name)
        for path in sorted(kept.rglob("*"))
        if path.is_file()
    }
    return _for_others(study, kept, folder, written_at, about)


def _for_others(
    study: StudyRecord, kept: Path, folder: Path, written_at: datetime, about: dict[str, tuple[str, str]]
) -> ModelFiles:
    name = study.trainer or "none"
    with silence_stderr():
        from aifs_tune.trainers.export import inputs_of, write_keras, write_onnx
        from aifs_tune.trainers.load import NETWORKS, load_network
    if name not in NETWORKS:
        why = f"the trainer {name} is no network of ours; its own files are in {WEIGHTS}"
        return ModelFiles(about, {"onnx": why, "keras": why})

    loaded, missing = load_network(kept, precision="float32"), {}
    writers: dict[str, tuple[str, Callable[[Path], Any], str]] = {
        "onnx": (ONNX, lambda file: write_onnx(loaded, file), "The same network for ONNX Runtime and others."),
        "keras": (KERAS, lambda file: write_keras(loaded, file, written_at), "The same network for Keras alone."),
    }
    for kind, (path, write, text) in writers.items():
        try:
            write(folder / path)
            about[path] = (f"Model, {kind}", text)
        except RequestError as error:
            missing[kind] = str(error)
    told = [f"{each} {kind} (n{''.join(f', {size}' for size in shape)})" for each, shape, kind in inputs_of(loaded)]
    targets = ", ".join(f"{one.name} [{one.unit}]" if one.unit else one.name for one in loaded.targets)
    outputs = f"numbers: {targets}" if targets else f"probabilities: {', '.join(loaded.classes)}"
    return ModelFiles(about, missing, "; ".join(told), outputs, str(loaded.facts["precision"]))


def _of_weights(name: str) -> tuple[str, str]:
    if name == "weights.json":
        return "Architecture", "Shape of the network, its parameters and what it learnt from; load_network reads it."
    if name == "weights.npz":
        return "Weights", "Plain arrays of the best epoch; load_network reads them."
    return name, "What the trainer wrote of its best epoch."


@dataclass(frozen=True)
class DataRecord:
    """``files`` has a row for each example and its file; None where ``missing`` says why."""

    fingerprint: str | None
    kind: str | None
    files: pandas.DataFrame | None
    missing: str | None

    def to_json(self) -> dict[str, Any]:
        """As ``data.json`` has it."""
        counts = {}
        if self.files is not None:
            found = self.files.groupby("part")["example"].nunique()
            counts = {part: int(found[part]) for part in SUBSETS if part in found.index}
        return {
            "fingerprint": self.fingerprint,
            "kind": self.kind,
            "examples": counts,
            "n_files": None if self.files is None else int(self.files["path"].nunique()),
            "split": "split.csv" if self.files is not None else None,
            "missing": self.missing,
        }


def data_of(study: StudyRecord) -> DataRecord:
    """What is recorded with ``study``."""
    trainer_entry = find_trainer_entry(study.spec)
    if trainer_entry is None:
        why = "what the trainer learns from is its own" if study.spec.trainer else "an instrument learns from no data"
        return DataRecord(None, None, None, why)
    files = find_study_files(study)
    missing = None if files is not None else "the study has no record of the files that it learnt from"
    return DataRecord(study.fingerprint, trainer_entry.kind, files, missing)
