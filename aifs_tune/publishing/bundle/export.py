"""Export of a study as a bundle: an RO-Crate of its trials, best configuration and model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from aifs_tune._util.atomic_files import write_folder
from aifs_tune._util.environment import ENVIRONMENT, environment
from aifs_tune.analysis.final_model import FinalModel
from aifs_tune.errors import ConflictError, StorageError
from aifs_tune.publishing.bundle.citation import Citation, citation_file, zenodo_metadata
from aifs_tune.publishing.bundle.files import (
    FINAL_MODEL,
    MODEL,
    DataRecord,
    ModelFiles,
    data_of,
    write_final_model,
    write_model,
)
from aifs_tune.publishing.bundle.model_card import card_text
from aifs_tune.publishing.bundle.noise import RelatedResults, related
from aifs_tune.publishing.bundle.ro_crate import Provenance, check_bundle, write_metadata
from aifs_tune.publishing.bundle.script import SCRIPT, write_script
from aifs_tune.publishing.bundle.sweep_files import best_sweep, data_name, local_data, published, sweep_text
from aifs_tune.publishing.summary import best_summary
from aifs_tune.storage.storage import Storage
from aifs_tune.study.dataframe import table_bytes, trials_table
from aifs_tune.study.document import study_document
from aifs_tune.study.index import get_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

RESULTS, STUDY, BEST, SWEEP = "results.json", "study.json", "best.yaml", "sweep.yaml"
RELATED = "related"
VERSION = 1
_KINDS: tuple[Literal["csv", "parquet"], ...] = ("csv", "parquet")

_ABOUT = {
    "README.md": ("Model card", "Best configuration, scores, limits, and how to use the files."),
    RESULTS: ("Results", "Best trial, scores, confirmations, noise and seeds."),
    STUDY: ("Study", "The whole study with all trials and epochs, for aifs-tune import."),
    BEST: ("Best configuration", "Sweep file of the best configuration alone, for aifs-tune run."),
    SWEEP: ("Sweep file", "Sweep file of the search, with all defaults."),
    "trials.csv": ("Trials", "One row for each trial: state, value, parameters, metrics of its best epoch, seed."),
    "trials.parquet": ("Trials", "The same as trials.csv, with data types."),
    "curves.csv": ("Learning curves", "One row for each trial and epoch: metrics and seconds."),
    "curves.parquet": ("Learning curves", "The same as curves.csv, with data types."),
    "split.csv": ("Split", "One row for each example: its file with SHA-256, and its split (train, val or test)."),
    "split.parquet": ("Split", "The same as split.csv, with data types."),
    "environment.json": (
        "Environment",
        "Versions and hardware of the search, and all packages installed at the export.",
    ),
    "CITATION.cff": ("Citation", "How to cite these results."),
    ".zenodo.json": ("Zenodo metadata", "Metadata for an upload to Zenodo."),
}


@dataclass(frozen=True)
class ExportResult:
    """The bundle that :func:`export` wrote.

    Attributes
    ----------
    folder
        The folder of the bundle.
    study
        Name of the study.
    files
        Relative paths of all files.
    missing
        Content that could not be exported, and the reason.
    sha256
        SHA-256 of the metadata, which hold the SHA-256 of every other file.
    needs_data
        Whether data outside the bundle are needed to train again.
    """

    folder: Path
    study: str
    files: Sequence[str]
    missing: Mapping[str, str]
    sha256: str
    needs_data: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object, as ``aifs-tune export --json`` prints it."""
        return {
            "folder": str(self.folder),
            "study": self.study,
            "sha256": self.sha256,
            "files": list(self.files),
            "missing": dict(self.missing),
        }


def export(
    study: str,
    folder: str | Path,
    *,
    storage: str | None = None,
    title: str | None = None,
    authors: Sequence[str] = (),
    licence: str | None = None,
    zenodo: bool = False,
) -> ExportResult:
    """Export a study as a bundle: a folder to publish.

    The bundle is an RO-Crate with the trials, the best configuration, its model and its scores. The folder is written
    as a whole or not at all. No network is used.

    Parameters
    ----------
    study
        Name of the study.
    folder
        The folder to write. It must be new or empty.
    storage : str, optional
        URL of the storage. Default: the storage that commands use without ``--storage``.
    title : str, optional
        Title of the bundle. Default: made from the name of the study.
    authors : sequence of str
        Authors as ``NAME`` or ``NAME;ORCID``, with the name as ``Given Family`` or ``Family, Given``. Default: none.
    licence : str, optional
        SPDX identifier of a licence, such as ``CC-BY-4.0``. Default: no licence.
    zenodo : bool
        Whether to write ``.zenodo.json`` too, the metadata for an upload to Zenodo. Default: False.

    Returns
    -------
    ExportResult
        The written files, what is missing and why, and the SHA-256 of the metadata.

    Raises
    ------
    NotFoundError
        If the study does not exist, or if none of its trials is complete.
    ConflictError
        If the folder already exists and is not empty.
    RequestError
        If the title, an author or the licence is invalid, or if a package is not installed.
    DamagedError
        If the stored weights are not those of the study.
    StorageError
        If the folder cannot be written.

    Examples
    --------
    >>> study = aifs_tune.open_study("oven", space={"heat": {"type": "float", "low": 20, "high": 90, "unit": "K"}})
    >>> trial = study.tell(study.ask(), 0.5)
    >>> made = aifs_tune.export("oven", "oven-bundle", authors=["Jane Doe"], licence="CC0-1.0")
    >>> "best.yaml" in made.files
    True
    >>> made.missing["split"]
    'an instrument has no training data'
    """
    target = Path(folder)
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise ConflictError(f"{target}: already exists; allowed: a new or an empty folder")
    found = get_study(Storage(storage), study)
    summary = best_summary(found)
    citation = Citation.of(title or f"{found.name}: best configuration and trials", authors, licence)
    writer = _BundleWriter(found, summary, citation, zenodo)
    try:
        write_folder(target, writer.write)
    except shutil.Error as error:
        raise StorageError(f"{target}: cannot be written ({error})") from error
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    return ExportResult(
        target, found.name, names, writer.missing, check_bundle(target), local_data(found.spec) is not None
    )


class _BundleWriter:
    """Writer of one bundle; it records the description of each file."""

    def __init__(self, study: StudyRecord, summary: Mapping[str, Any], citation: Citation, zenodo: bool) -> None:
        self._study, self._summary, self._citation, self._zenodo = study, summary, citation, zenodo
        self._trials = study.all_trials()
        self._best: Trial = study.trial(summary["trial"])
        self._spec = published(study.spec)
        self._about: dict[str, tuple[str, str]] = {}
        self.missing: dict[str, str] = {}
        ended = [trial.finished_at for trial in self._trials if trial.finished_at is not None]
        began = [trial.started_at for trial in self._trials if trial.started_at is not None]
        self._ended = max(ended, default=datetime.fromtimestamp(0, UTC))
        self._began = min(began, default=self._ended)

    def write(self, folder: Path) -> None:
        """Write all files into the new ``folder``."""
        folder.chmod(0o755)
        related_results, data = related(self._study, self._best), data_of(self._study)
        self._write_study(folder, related_results)
        self._write_tables(folder, data)
        model = self._write_models(folder, related_results.final)
        self.missing |= {f"model, {kind}": why for kind, why in model.missing.items()}
        results = self._results(related_results, data) | {"precision": model.precision}
        self._json(folder, RESULTS, results)
        self._write_texts(folder, results, model)
        provenance = Provenance(self._description, self._began.isoformat(), self._ended.isoformat(), _version())
        write_metadata(folder, self._about, self._citation, provenance)
        for path in folder.rglob("*"):  # a bundle is made to be shared, so everybody may read it
            path.chmod(0o755 if path.is_dir() else 0o644)

    def _write_models(self, folder: Path, final: FinalModel | None) -> ModelFiles:
        """Write the best trial's model, a final model of which all members are trained, and the script."""
        model = write_model(self._study, self._best, folder, self._ended)
        self._about |= model.about
        members, name = [MODEL], f"trial {self._best.number}"
        if final is not None and len(final.members) == final.n_members:
            self._about |= write_final_model(final, folder, self._ended).about
            members, name = [f"{FINAL_MODEL}/{number}" for number in range(final.n_members)], final.name
        if "weights" in model.missing:
            return model
        script = write_script(folder, self._spec, members, name)
        self._about |= script.about
        return model if script.missing is None else replace(model, missing={**model.missing, SCRIPT: script.missing})

    @property
    def _description(self) -> str:
        objective = self._study.spec.objective
        return (
            f"{len(self._trials)} trials of a hyperparameter search for the best {objective.metric} "
            f"({objective.mode}), with the best configuration, its scores and its model."
        )

    def _write_study(self, folder: Path, related_results: RelatedResults) -> None:
        self._json(folder, STUDY, _published_document(self._study))
        for each in related_results.studies:
            short = each.name.rpartition("/")[2]
            about = (
                "A related study (confirmation, comparison, noise, test or final model), in the format of study.json."
            )
            self._json(folder, f"{RELATED}/{short}.json", _published_document(each), (short, about))
        comment = f"Sweep file of the study {self._study.name}, with all defaults."
        self._text(folder, SWEEP, sweep_text(self._spec, comment))
        comment = f"Trial {self._best.number} of the study {self._study.name}: aifs-tune run best.yaml"
        self._text(folder, BEST, sweep_text(best_sweep(self._spec, self._summary), comment))

    def _write_tables(self, folder: Path, data: DataRecord) -> None:
        tables = {"trials": trials_table(self._trials, list(self._spec.space.root)), "curves": self._curves()}
        for name, table in tables.items():
            for kind in _KINDS:
                self._bytes(folder, f"{name}.{kind}", table_bytes(table, kind))
        if data.files is None:
            self.missing["split"] = data.missing or ""
        else:
            for kind in _KINDS:
                self._bytes(folder, f"split.{kind}", table_bytes(data.files, kind))
        content = {
            "search": self._study.fact(ENVIRONMENT),
            "export": environment(None),
            "workers": sorted({t.worker for t in self._trials if t.worker}),
        }
        self._json(folder, "environment.json", content)

    def _curves(self) -> Any:
        import pandas as pd

        rows = [
            {"trial": trial.number, "epoch": measured.epoch, "seconds": measured.seconds, **measured.metrics}
            for trial in self._trials
            for measured in self._study.curve(trial)
        ]
        table = pd.DataFrame(rows, columns=None if rows else ["trial", "epoch", "seconds"])
        return table.astype({name: "Int64" if name in ("trial", "epoch") else "Float64" for name in table.columns})

    def _results(self, related_results: RelatedResults, data: DataRecord) -> dict[str, Any]:
        spec, best = self._spec, self._best
        facts = {} if spec.data is None else {"split": spec.data.split.seed}
        return {
            "format": "aifs-tune bundle",
            "version": VERSION,
            "study": self._study.name,
            "description": spec.description,
            "objective": spec.objective.model_dump(),
            "best": {
                key: value for key, value in self._summary.items() if key not in ("study", "objective", "n_trials")
            },
            "n_trials": self._summary["n_trials"],
            "seeds": {"search": spec.search.seed, "best_trial": best.seed, **facts},
            "data": data.to_json() | {"name": data_name(spec), "local": local_data(spec) is not None},
            "environment_of": "export" if self._study.fact(ENVIRONMENT) is None else "search",
            **related_results.to_json(),
        }

    def _write_texts(self, folder: Path, results: Mapping[str, Any], model: ModelFiles) -> None:
        import yaml

        released = self._ended.date().isoformat()
        if self._citation.authors:
            content = citation_file(self._citation, released, _version())
            self._text(folder, "CITATION.cff", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        else:
            self.missing["CITATION.cff"] = "no author is given; use --author NAME"
        if self._zenodo:
            self._json(folder, ".zenodo.json", zenodo_metadata(self._citation, self._description, released))
        self._about["README.md"] = _ABOUT["README.md"]
        self._text(folder, "README.md", card_text(results, self._citation, model, self._about))

    def _json(self, folder: Path, name: str, content: Any, about: tuple[str, str] | None = None) -> None:
        self._text(folder, name, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", about)

    def _text(self, folder: Path, name: str, text: str, about: tuple[str, str] | None = None) -> None:
        self._bytes(folder, name, text.encode(), about)

    def _bytes(self, folder: Path, name: str, content: bytes, about: tuple[str, str] | None = None) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        self._about[name] = about or _ABOUT[name]


def _published_document(study: StudyRecord) -> dict[str, Any]:
    return study_document(study) | {"spec": published(study.spec).model_dump(mode="json")}


def _version() -> str:
    return version("aifs-tune")
