"""Reading and import of a bundle, after all of its files are checked."""

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
from aifs_tune.errors import ConflictError, DamagedError, DataError, RequestError, UntrustedCodeError
from aifs_tune.publishing.bundle.export import BEST, RELATED, RESULTS, STUDY, VERSION
from aifs_tune.publishing.bundle.files import WEIGHTS
from aifs_tune.publishing.bundle.noise import RecordedNoise
from aifs_tune.publishing.bundle.ro_crate import check_bundle
from aifs_tune.publishing.bundle.sweep_files import local_data, read_sweep
from aifs_tune.storage.storage import Storage
from aifs_tune.study.document import copied_study, spec_in
from aifs_tune.study.index import study_names
from aifs_tune.study.serialization import FACT
from aifs_tune.study.study import Study
from aifs_tune.trainers.factory import check_trainer, find_trainer_entry

if TYPE_CHECKING:
    import pandas


_FORMAT = "aifs-tune bundle"
MAX_JSON_BYTES = 2**28
"""Largest size of a document of a bundle."""
MAX_ROWS, MAX_COLUMNS, MAX_TABLE_BYTES = 10_000_000, 100, 2**30
"""Largest size of its table of files: rows, columns, and bytes before it was compressed."""


@dataclass(frozen=True)
class Bundle:
    """Content of a bundle; ``sha256`` is the SHA-256 of its metadata, which hold the SHA-256 of every other file."""

    folder: Path
    sha256: str
    results: Mapping[str, Any]
    study: Mapping[str, Any]
    best: SweepSpec

    @property
    def name(self) -> str:
        """Name of the exported study."""
        return str(self.results["study"])

    @property
    def value(self) -> float:
        """Objective value of the best trial."""
        return float(self.results["best"]["value"])

    @property
    def seed(self) -> int:
        """Seed of the best trial."""
        return int(self.results["seeds"]["best_trial"])

    @property
    def noise(self) -> RecordedNoise | None:
        """Noise of the score of one training run; None if it was not measured."""
        entry = self.results["noise"]
        return None if entry is None else RecordedNoise.from_json(entry)

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the data; None for a custom trainer or an instrument."""
        found: str | None = self.results["data"]["fingerprint"]
        return found

    @property
    def spec(self) -> SweepSpec:
        """Specification of the sweep."""
        return spec_in(self.study)

    @property
    def weights(self) -> Path | None:
        """Folder of the best trial's weights; None without weights."""
        folder = self.folder / WEIGHTS
        return folder if folder.is_dir() else None

    def files(self) -> pandas.DataFrame | None:
        """Examples with their files and splits, see :func:`~aifs_tune.artifacts.data_files.study_files`.

        None if they were not recorded.
        """
        import pandas as pd
        import pyarrow.parquet

        file = self.folder / "split.parquet"
        if not file.is_file():
            return None
        try:
            told = pyarrow.parquet.read_metadata(file)
            n_bytes = sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups))
            if told.num_rows > MAX_ROWS or n_bytes > MAX_TABLE_BYTES or told.num_columns > MAX_COLUMNS:
                raise DamagedError(
                    f"{file}: says {told.num_rows:,} rows, {told.num_columns:,} columns and {n_bytes:,} bytes; "
                    f"allowed: {MAX_ROWS:,}, {MAX_COLUMNS} and {MAX_TABLE_BYTES:,}"
                )
            return pd.read_parquet(file)
        except (pyarrow.lib.ArrowException, OSError) as error:
            raise DamagedError(f"{file}: cannot be read ({error})") from error

    def related(self) -> dict[str, Mapping[str, Any]]:
        """Documents of the related studies, by name."""
        found = [_json(file) for file in sorted((self.folder / RELATED).glob("*.json"))]
        return {str(document["name"]): document for document in found if spec_in(document)}


def open_bundle(folder: str | Path) -> Bundle:
    """Check every file of a bundle, and read it. Nothing in it is executed.

    Raises
    ------
    NotFoundError
        If ``folder`` is not a bundle.
    DamagedError
        If a file is not the one that the metadata describe, or cannot be read. The message names the file.
    """
    location = Path(folder)
    sha256 = check_bundle(location)
    results, study = _json(location / RESULTS), _json(location / STUDY)
    if results.get("format") != _FORMAT or results.get("version") != VERSION:
        found = f"{results.get('format')!r}, version {results.get('version')!r}"
        raise DamagedError(f"{location / RESULTS}: is {found}; allowed: {_FORMAT!r}, version {VERSION}")
    bundle = Bundle(location, sha256, results, study, read_sweep(location / BEST))
    try:
        _ = bundle.name, bundle.value, bundle.seed, bundle.noise, bundle.fingerprint, bundle.results["objective"]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(
            f"{location / RESULTS}: an entry is missing or invalid ({type(error).__name__}: {error})"
        ) from error
    return bundle


def with_data_at(spec: SweepSpec, data: str | Path | None) -> SweepSpec:
    """``spec`` with its data at ``data``: a folder, file or URL, as for ``run --data``. None changes nothing.

    Raises
    ------
    DataError
        If the trainer takes no data, or if the URL is invalid.
    """
    trainer_entry = find_trainer_entry(spec)
    if data is None:
        return spec
    if trainer_entry is None:
        raise DataError("--data: the trainer of this study takes no data; allowed: no --data")
    location: Path | str = data if isinstance(data, str) and is_url(data) else Path(data).absolute()
    if isinstance(location, str) and (wrong := url_problem(location)) is not None:
        raise DataError(f"--data: {wrong}")
    return spec.model_copy(update={"data": (spec.data or DataSpec()).at(location, trainer_entry.kind)})


def needs_data(spec: SweepSpec) -> bool:
    """Whether the folder or file of the data of ``spec`` does not exist here."""
    name = local_data(spec)
    return name is not None and not Path(name).exists()


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise DamagedError(f"{file}: has {file.stat().st_size:,} bytes; allowed: at most {MAX_JSON_BYTES:,}")
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{file}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise DamagedError(f"{file}: is not a JSON object")
    return content


def check_trainer_here(spec: SweepSpec) -> None:
    """Check that a custom trainer can be imported here: a bundle contains no code.

    Raises
    ------
    RequestError
        If it cannot be imported. The message names the module.
    """
    try:
        check_trainer(spec)
    except UntrustedCodeError:
        raise
    except RequestError as error:
        if spec.trainer is not None and spec.trainer.code is not None:
            raise RequestError(
                f"{error}\nA bundle contains no code, and {spec.trainer.code} is code of its author. Put its module "
                "into the current folder, or install it"
            ) from error
        raise


IMPORTED = "imported"
"""Fact of an imported study: the SHA-256 of the bundle's metadata, and the name of the study there."""


def import_study(
    folder: str | Path, *, storage: str | None = None, study: str | None = None, data: str | Path | None = None
) -> Study:
    """Import the study of a bundle into a storage, with its related studies and the weights of its best trial.

    Every file is compared with its SHA-256 first. Nothing in the bundle is executed.

    Parameters
    ----------
    folder
        The folder of the bundle, or the JSON document of one study: ``study.json`` of a bundle, or the file that was
        written when a storage had gone. A document has no weights and no table of data files.
    storage : str, optional
        URL of the storage. Default: the storage that commands use without ``--storage``.
    study : str, optional
        New name of the study, ``PROJECT/NAME`` in a project. Default: its name in the bundle.
    data : str or Path, optional
        Folder, file or URL of the data, as for ``run --data``. It is needed to continue the search, not to read the
        study. Default: the location in the sweep file.

    Returns
    -------
    Study
        The imported study.

    Raises
    ------
    NotFoundError
        If the folder is not a bundle.
    DamagedError
        If a file is not the one that the metadata describe, or if the study in it is invalid.
    ConflictError
        If the storage already has a study with this name, or with the name of a related study.

    Examples
    --------
    >>> study = aifs_tune.open_study("oven", space={"heat": {"type": "float", "low": 20, "high": 90, "unit": "K"}})
    >>> trial = study.tell(study.ask(), 0.5)
    >>> made = aifs_tune.export("oven", "oven-bundle")
    >>> copy = aifs_tune.import_study("oven-bundle", storage="sqlite:///other.db", study="lab/oven")
    >>> copy.name, copy.best.value
    ('lab/oven', 0.5)
    """
    if Path(folder).suffix == ".json" and Path(folder).is_file():
        return _import_document(Path(folder), storage, study, data)
    bundle = open_bundle(folder)
    name = study or bundle.name
    documents = {name: bundle.study} | {
        _renamed(each, bundle.name, name): document for each, document in bundle.related().items()
    }
    frame = bundle.files()
    best = None if bundle.weights is None else _best_of(bundle, bundle.weights)
    specs = {each: with_data_at(spec_in(document), data) for each, document in documents.items()}
    opened = Storage(storage, create=True)
    with opened.writing():
        taken = [each for each in documents if each in study_names(opened)]
        if taken:
            raise ConflictError(f"{opened.shown} already has a study {taken[0]!r}; choose another name with --study")
        made = {
            each: copied_study(opened, each, _imported(document, bundle, name), specs[each])
            for each, document in documents.items()
        }
    if frame is not None:
        keep_files(made[name], frame)
    if best is not None:
        TrialArtifacts(made[name].artifacts, best).save_weights(
            lambda target: shutil.copytree(str(bundle.weights), target, dirs_exist_ok=True)
        )
    return made[name].as_study()


def _import_document(file: Path, storage: str | None, study: str | None, data: str | Path | None) -> Study:
    document = _json(file)
    spec = with_data_at(spec_in(document), data)
    name = study or document.get("name")
    if not isinstance(name, str):
        raise DamagedError(f"{file}: the document has no name of a study; choose one with --study")
    document["attributes"] = _without_files(document, file)
    return copied_study(Storage(storage, create=True), name, document, spec).as_study()


def _without_files(document: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """The attributes of a study without its record of data files, which names a folder of the storage."""
    try:
        return {key: value for key, value in document["attributes"].items() if key != f"{FACT}{FILES}"}
    except (KeyError, AttributeError) as error:
        raise DamagedError(f"{place}: the document of a study has no attributes ({error})") from error


def _renamed(related: str, exported: str, name: str) -> str:
    """New name of a related study: the suffix stays, and the name of the study before it changes."""
    short = related.rpartition("/")[2].removeprefix(exported.rpartition("/")[2])
    return f"{name}{short}" if short.startswith("-") else f"{name}-{short}"


def _imported(document: Mapping[str, Any], bundle: Bundle, name: str) -> dict[str, Any]:
    """The document of a study with its new names, and without its file record, which is stored separately."""
    attributes = _without_files(document, bundle.folder)
    if attributes.get(f"{FACT}{DATA_OF}") is not None:
        attributes[f"{FACT}{DATA_OF}"] = name
    attributes[f"{FACT}{IMPORTED}"] = {"sha256": bundle.sha256, "study": document.get("name")}
    return {**document, "attributes": attributes}


def _best_of(bundle: Bundle, folder: Path) -> int:
    """The number of the best trial, whose weights ``folder`` of the bundle must be."""
    try:
        number = int(bundle.results["best"]["trial"])
        hashes = dict(bundle.study["trials"][number]["user"]["weights"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DamagedError(
            f"{bundle.folder}: has weights, but names no best trial with weights ({type(error).__name__}: {error})"
        ) from error
    check_hashes(folder, hashes)
    return number
