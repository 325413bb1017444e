"""A bundle that somebody else made: its files are those that its metadata describe, or it is not read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune.bundle.crate import check_bundle
from aifs_tune.bundle.exporting import BEST, RELATED, RESULTS, STUDY, VERSION
from aifs_tune.bundle.model_files import WEIGHTS
from aifs_tune.bundle.noise_record import RecordedNoise
from aifs_tune.bundle.sweep_files import local_data, read_sweep
from aifs_tune.data_spec import DataSpec
from aifs_tune.data_url import is_url, url_problem
from aifs_tune.errors import DamagedError, DataError, RequestError
from aifs_tune.spec import SweepSpec
from aifs_tune.study_document import spec_in
from aifs_tune.trainers.by_name import check_trainer, find_trainer_entry

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
        """The examples with their files and parts, see :func:`~aifs_tune.study_files.study_files`; None if they were
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
