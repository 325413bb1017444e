"""Model files of a bundle (weights, ONNX and Keras), and the record of its data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune._util.quiet import silence_stderr
from aifs_tune.analysis.final_model import FinalModel
from aifs_tune.artifacts.data_files import find_study_files
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.data.images.folder import SUBSETS
from aifs_tune.errors import NotFoundError, RequestError
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial
from aifs_tune.trainers.factory import find_trainer_entry
from aifs_tune.trainers.trees import BOOSTING

if TYPE_CHECKING:
    import pandas


MODEL, FINAL_MODEL = "model", "final_model"
WEIGHTS = f"{MODEL}/weights"
ONNX, KERAS = "model.onnx", "model.keras"


@dataclass(frozen=True)
class ModelFiles:
    """Model files of a bundle.

    ``about`` has the name and description of each written file, ``missing`` the reason for each file that was not
    written. ``inputs`` and ``outputs`` describe the network, empty without one; its scores were measured in
    ``precision``.
    """

    about: dict[str, tuple[str, str]]
    missing: dict[str, str]
    inputs: str = ""
    outputs: str = ""
    precision: str | None = None


def write_model(study: StudyRecord, trial: Trial, folder: Path, written_at: datetime) -> ModelFiles:
    """Write the stored weights of ``trial``, and its network for other software, into ``model`` below ``folder``.

    Raises
    ------
    DamagedError
        If the hashes of the stored weights are not those of the study.
    StorageError
        If the store of the weights cannot be read.
    """
    return _written(study, trial, folder, MODEL, written_at)


def write_final_model(final: FinalModel, folder: Path, written_at: datetime) -> ModelFiles:
    """Write the members of a final model like :func:`write_model`, each into ``final_model/NUMBER``."""
    written = [
        _written(final.study, trial, folder, f"{FINAL_MODEL}/{number}", written_at)
        for number, trial in enumerate(final.members)
    ]
    about = {path: text for each in written for path, text in each.about.items()}
    return replace(written[0], about=about)


def _written(study: StudyRecord, trial: Trial, folder: Path, below: str, written_at: datetime) -> ModelFiles:
    try:
        kept = kept_weights(study, trial)
    except NotFoundError as error:
        return ModelFiles({}, {"weights": str(error)})
    shutil.copytree(kept, folder / below / "weights")
    about = {
        f"{below}/weights/{path.relative_to(kept).as_posix()}": _about_weights(path.name, study.trainer)
        for path in sorted(kept.rglob("*"))
        if path.is_file()
    }
    return _with_exchange_files(study, kept, folder, below, written_at, about)


def _with_exchange_files(
    study: StudyRecord, kept: Path, folder: Path, below: str, written_at: datetime, about: dict[str, tuple[str, str]]
) -> ModelFiles:
    name = study.trainer or "none"
    with silence_stderr():
        from aifs_tune.trainers.export import inputs_of, write_keras, write_onnx
        from aifs_tune.trainers.load import NETWORKS, load_network
    if name not in NETWORKS:
        why = f"the trainer {name} has no built-in network; its own files are in {below}/weights"
        return ModelFiles(about, {"onnx": why, "keras": why})

    loaded, missing = load_network(kept, precision="float32"), {}
    writers: dict[str, tuple[str, Callable[[Path], Any], str]] = {
        "onnx": (
            ONNX,
            lambda file: write_onnx(loaded, file),
            "The same network for ONNX Runtime and similar software.",
        ),
        "keras": (
            KERAS,
            lambda file: write_keras(loaded, file, written_at),
            "The same network for Keras, without aifs-tune.",
        ),
    }
    for kind, (path, write, text) in writers.items():
        try:
            write(folder / below / path)
            about[f"{below}/{path}"] = (f"Model, {kind}", text)
        except RequestError as error:
            missing[kind] = str(error)
    inputs = [f"{each} {kind} (n{''.join(f', {size}' for size in shape)})" for each, shape, kind in inputs_of(loaded)]
    targets = ", ".join(f"{one.name} [{one.unit}]" if one.unit else one.name for one in loaded.targets)
    outputs = [f"probabilities: {', '.join(loaded.classes)}"] if loaded.classes else []
    outputs += [f"numbers: {targets}"] if targets else []
    return ModelFiles(about, missing, "; ".join(inputs), "; ".join(outputs), str(loaded.facts["precision"]))


def _about_weights(name: str, trainer: str | None) -> tuple[str, str]:
    if trainer == BOOSTING and name == "weights.json":
        return "Description", "Parameters and training data of the trees; load_trees reads it."
    if trainer == BOOSTING and name == "weights.npz":
        return "Trees", "Trees up to the best epoch as plain arrays; load_trees reads them."
    if name == "weights.json":
        return "Architecture", "Architecture, parameters and training data of the network; load_network reads it."
    if name == "weights.npz":
        return "Weights", "Weights of the best epoch as plain arrays; load_network reads them."
    return name, "File that the trainer wrote at its best epoch."


@dataclass(frozen=True)
class DataRecord:
    """Record of the data; ``files`` has one row for each example and file, or is None, and ``missing`` says why."""

    fingerprint: str | None
    kind: str | None
    files: pandas.DataFrame | None
    missing: str | None

    def to_json(self) -> dict[str, Any]:
        """The object ``data`` of ``results.json``."""
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
    """The data that ``study`` recorded."""
    trainer_entry = find_trainer_entry(study.spec)
    if trainer_entry is None:
        why = "the trainer reads its own data" if study.spec.trainer else "an instrument has no training data"
        return DataRecord(None, None, None, why)
    files = find_study_files(study)
    missing = None if files is not None else "the study has no record of its data files"
    return DataRecord(study.fingerprint, trainer_entry.kind, files, missing)
