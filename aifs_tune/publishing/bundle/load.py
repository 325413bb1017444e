"""A bundle that somebody else made: its files are those that its metadata describe, or it is not read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune._util.hashing import check_hashes
from aifs_tune._util.object_store import is_url, url_problem
from aifs_tune.artifacts.data_files import DATA_OF, FILES, keep_files
from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.config.data import DataSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, DamagedError, DataError, RequestError
from aifs_tune.publishing.bundle.export import BEST, RELATED, RESULTS, STUDY, VERSION
from aifs_tune.publishing.bundle.files import WEIGHTS
from aifs_tune.publishing.bundle.noise import RecordedNoise
from aifs_tune.publishing.bundle.ro_crate import check_bundle
from aifs_tune.publishing.bundle.sweep_files import local_data, read_sweep
from aifs_tune.storage.storage import Storage
from aifs_tune.study.document import copied_study, spec_in
from aifs_tune.study.index import study_names
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.serialization import FACT
from aifs_tune.study.study import Study
from aifs_tune.trainers.factory import check_trainer, find_trainer_entry

if TYPE_CHECKING:
    import pandas


_FORMAT = "aifs-tune bundle"


@dataclass(frozen=True)
class Bundle:
    """What stands in a bundle; ``sha256`` is that of its metadata, which have that of all its other files."""

    folder: Path
    sha256: str
    results: Mapping[str, Any]
    study: Mapping[str, Any]
    best: SweepSpec

    @property
    def name(self) -> str:
        """That of the study which was exported."""
        return str(self.results["study"])

    @property
    def value(self) -> float:
        """The objective of its best trial."""
        return float(self.results["best"]["value"])

    @property
    def seed(self) -> int:
        """That of its best trial."""
        return int(self.results["seeds"]["best_trial"])

    @property
    def noise(self) -> RecordedNoise | None:
        """How much a single training's score scatters; None if nobody measured it."""
        told = self.results["noise"]
        return None if told is None else RecordedNoise.from_json(told)

    @property
    def fingerprint(self) -> str | None:
        """Of the data; None where the trainer is a lab's own, or an instrument."""
        found: str | None = self.results["data"]["fingerprint"]
        return found

    @property
    def spec(self) -> SweepSpec:
        """The sweep file that was searched."""
        return spec_in(self.study)

    @property
    def weights(self) -> Path | None:
        """The folder of the best trial's weights, if there are any."""
        folder = self.folder / WEIGHTS
        return folder if folder.is_dir() else None

    def files(self) -> pandas.DataFrame | None:
        """The examples with their files and parts, see :func:`~aifs_tune.artifacts.data_files.study_files`; None if
        they were
        not recorded."""
        import pandas as pd

        file = self.folder / "split.parquet"
        return pd.read_parquet(file) if file.is_file() else None

    def related(self) -> dict[str, Mapping[str, Any]]:
        """The documents of the studies beside the study, by their names."""
        found = [_json(file) for file in sorted((self.folder / RELATED).glob("*.json"))]
        return {str(document["name"]): document for document in found if spec_in(document)}


def open_bundle(folder: str | Path) -> Bundle:
    """Check every file of ``folder``, and read what it says. Nothing in it is executed.

    Raises
    ------
    NotFoundError
        If it is no bundle.
    DamagedError
        Naming the first file that is not what the metadata say, and both hashes; or what in it cannot be read.
    """
    location = Path(folder)
    sha256 = check_bundle(location)
    results, study = _json(location / RESULTS), _json(location / STUDY)
    if results.get("format") != _FORMAT or results.get("version") != VERSION:
        said = f"{results.get('format')!r}, version {results.get('version')!r}"
        raise DamagedError(f"{location / RESULTS}: is {said}; allowed: {_FORMAT!r}, version {VERSION}")
    bundle = Bundle(location, sha256, results, study, read_sweep(location / BEST))
    try:
        _ = bundle.name, bundle.value, bundle.seed, bundle.noise, bundle.fingerprint, bundle.results["objective"]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{location / RESULTS}: says too little ({type(error).__name__}: {error})") from error
    return bundle


def with_data_at(spec: SweepSpec, data: str | Path | None) -> SweepSpec:
    """``spec`` with its data at ``data``, a folder, a file or a URL as ``run --data`` takes it; None: where it says.

    Raises
    ------
    DataError
        If it names no data that could lie anywhere, or ``data`` is the URL of none.
    """
    trainer_entry = find_trainer_entry(spec)
    if data is None:
        return spec
    if trainer_entry is None:
        raise DataError("--data: the trainer is given no data by us; allowed: no --data")
    location: Path | str = data if isinstance(data, str) and is_url(data) else Path(data).absolute()
    if isinstance(location, str) and (wrong := url_problem(location)) is not None:
        raise DataError(f"--data: {wrong}")
    return spec.model_copy(update={"data": (spec.data or DataSpec()).at(location, trainer_entry.kind)})


def needs_data(spec: SweepSpec) -> bool:
    """Whether ``spec`` learns from a folder or file that is not where it says."""
    name = local_data(spec)
    return name is not None and not Path(name).exists()


def _json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{file}: cannot be read ({error})") from error
    if not isinstance(told, dict):
        raise DamagedError(f"{file}: is no JSON object")
    return told


def check_trainer_here(spec: SweepSpec) -> None:
    """Refuse a lab's own trainer that is not on this machine: code is never part of a bundle.

    Raises
    ------
    RequestError
        Naming the module.
    """
    try:
        check_trainer(spec)
    except RequestError as error:
        if spec.trainer is not None and ":" in spec.trainer.name:
            raise RequestError(
                f"{error}\nA bundle holds no code, and {spec.trainer.name} is the lab's own: put its module into the "
                "current folder or the environment"
            ) from error
        raise


IMPORTED = "imported"
"""Fact of a study that came from a bundle: the SHA-256 of its metadata, and the study's name there."""


def import_study(
    folder: str | Path, *, storage: str | None = None, study: str | None = None, data: str | Path | None = None
) -> Study:
    """Store the study of the bundle in ``folder``, with the confirmations beside it and the best trial's weights.

    ``study`` is what it is called here, ``PROJECT/NAME`` in a project; None for its own name. ``data`` is where the
    data lie here, as for ``run --data``: needed to go on with the search, not to look at it.

    Raises
    ------
    NotFoundError
        If it is no bundle; DamagedError if a file is not what the metadata say, or no study could be so.
    ConflictError
        If the storage has a study of that name, or of one beside it.
    """
    bundle = open_bundle(folder)
    name = study or bundle.name
    documents = {name: bundle.study} | {
        _renamed(each, bundle.name, name): document for each, document in bundle.related().items()
    }
    specs = {each: with_data_at(spec_in(document), data) for each, document in documents.items()}
    opened = Storage(storage, create=True)
    with opened.writing():
        taken = [each for each in documents if each in study_names(opened)]
        if taken:
            raise ConflictError(f"{opened.shown} has a study {taken[0]!r} already; choose another name with --study")
        made = {
            each: copied_study(opened, each, _here(document, bundle, name), specs[each])
            for each, document in documents.items()
        }
    _take_files(made[name], bundle)
    return made[name].as_study()


def _renamed(related: str, exported: str, name: str) -> str:
    """What a study beside is called: as before, with another beginning."""
    short = related.rpartition("/")[2].removeprefix(exported.rpartition("/")[2])
    return f"{name}{short}" if short.startswith("-") else f"{name}-{short}"


def _here(document: Mapping[str, Any], bundle: Bundle, name: str) -> dict[str, Any]:
    """The document with what is only true here: names of studies, and no files but those that are stored next."""
    try:
        attributes = {key: value for key, value in document["attributes"].items() if key != f"{FACT}{FILES}"}
    except (KeyError, AttributeError) as error:
        raise DamagedError(f"{bundle.folder}: the document of a study has no attributes ({error})") from error
    if attributes.get(f"{FACT}{DATA_OF}") is not None:
        attributes[f"{FACT}{DATA_OF}"] = name
    attributes[f"{FACT}{IMPORTED}"] = {"sha256": bundle.sha256, "study": document.get("name")}
    return {**document, "attributes": attributes}


def _take_files(study: StudyRecord, bundle: Bundle) -> None:
    frame = bundle.files()
    if frame is not None:
        keep_files(study, frame)
    if bundle.weights is not None:
        best = study.trial(int(bundle.results["best"]["trial"]))
        check_hashes(bundle.weights, best.weights)
        TrialArtifacts(study.artifacts, best.number).save_weights(
            lambda target: shutil.copytree(str(bundle.weights), target, dirs_exist_ok=True)
        )
