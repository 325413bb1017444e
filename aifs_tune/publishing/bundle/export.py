"""A study as a folder that others can read without us: an RO-Crate of its trials, best configuration and model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from aifs_tune._util.atomic_files import write_folder
from aifs_tune._util.environment import ENVIRONMENT, environment
from aifs_tune.errors import ConflictError, StorageError
from aifs_tune.publishing.bundle.citation import Citation, citation_file, zenodo_metadata
from aifs_tune.publishing.bundle.files import DataRecord, ModelFiles, data_of, write_model
from aifs_tune.publishing.bundle.model_card import card_text
from aifs_tune.publishing.bundle.noise import RelatedResults, related
from aifs_tune.publishing.bundle.ro_crate import Provenance, check_bundle, write_metadata
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
    "README.md": ("Model card", "What was found, how sure that is, and how to use it."),
    RESULTS: ("Results", "The best trial, its scores, confirmations, noise and seeds."),
    STUDY: ("Study", "All that the study has of its trials, epoch by epoch; aifs-tune import reads it."),
    BEST: ("Best configuration", "A sweep file of the best configuration alone; aifs-tune run takes it."),
    SWEEP: ("Sweep file", "What was searched, with all defaults."),
    "trials.csv": ("Trials", "A row for each trial: state, value, parameters, metrics of its best epoch, seed."),
    "trials.parquet": ("Trials", "The same as trials.csv, with types."),
    "curves.csv": ("Learning curves", "A row for each trial and epoch: metrics and seconds."),
    "curves.parquet": ("Learning curves", "The same as curves.csv, with types."),
    "split.csv": ("Split", "A row for each example: its file with SHA-256, and the part it is in."),
    "split.parquet": ("Split", "The same as split.csv, with types."),
    "environment.json": ("Environment", "Versions and hardware of the search, and all packages at the export."),
    "CITATION.cff": ("Citation", "How to cite this."),
    ".zenodo.json": ("Zenodo metadata", "What Zenodo takes of an upload."),
}


@dataclass(frozen=True)
class ExportResult:
    """What was written to ``folder``: its files, and by kind what it has none of, and why; ``sha256`` is that of its
    metadata, which have that of all others. ``needs_data``: whether data that lie elsewhere are needed to run it again.
    """

    folder: Path
    study: str
    files: Sequence[str]
    missing: Mapping[str, str]
    sha256: str
    needs_data: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
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
    """Write the study into the new ``folder``: whole, or not at all. Nothing is asked of any network.

    ``authors`` are ``NAME`` or ``NAME;ORCID``, ``licence`` is an identifier of SPDX; ``zenodo`` adds what an upload
    there asks for.

    Raises
    ------
    NotFoundError
        If there is no such study, or none of its trials is complete.
    ConflictError
        If the folder is there and not empty.
    RequestError
        If author, licence or title are not allowed, or a package is missing.
    DamagedError
        If the kept weights are not those of the study; StorageError if the folder cannot be written.
    """
    target = Path(folder)
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise ConflictError(f"{target}: is there and not empty; allowed: a new folder")
    found = get_study(Storage(storage), study)
    answer = best_summary(found)
    citation = Citation.of(title or f"{found.name}: best configuration and trials", authors, licence)
    writing = _BundleWriter(found, answer, citation, zenodo)
    try:
        write_folder(target, writing.write)
    except shutil.Error as error:
        raise StorageError(f"{target}: cannot be written ({error})") from error
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    return ExportResult(
        target, found.name, names, writing.missing, check_bundle(target), local_data(found.spec) is not None
    )


class _BundleWriter:
    """One export: gathers what the files have in common while it writes them."""

    def __init__(self, study: StudyRecord, answer: Mapping[str, Any], citation: Citation, zenodo: bool) -> None:
        self._study, self._answer, self._citation, self._zenodo = study, answer, citation, zenodo
        self._trials = study.all_trials()
        self._best: Trial = study.trial(answer["trial"])
        self._spec = published(study.spec)
        self._about: dict[str, tuple[str, str]] = {}
        self.missing: dict[str, str] = {}
        ended = [trial.finished_at for trial in self._trials if trial.finished_at is not None]
        began = [trial.started_at for trial in self._trials if trial.started_at is not None]
        self._ended = max(ended, default=datetime.fromtimestamp(0, UTC))
        self._began = min(began, default=self._ended)

    def write(self, folder: Path) -> None:
        """Fill the new ``folder``."""
        folder.chmod(0o755)
        related_results, data = related(self._study, self._best), data_of(self._study)
        self._write_study(folder, related_results)
        self._write_tables(folder, data)
        model = write_model(self._study, self._best, folder, self._ended)
        self._about |= model.about
        self.missing |= {f"model, {kind}": why for kind, why in model.missing.items()}
        results = self._results(related_results, data) | {"precision": model.precision}
        self._json(folder, RESULTS, results)
        self._write_words(folder, results, model)
        provenance = Provenance(self._description, self._began.isoformat(), self._ended.isoformat(), _version())
        write_metadata(folder, self._about, self._citation, provenance)
        for path in folder.rglob("*"):  # what is made to be passed on may be read, whoever trained it
            path.chmod(0o755 if path.is_dir() else 0o644)

    @property
    def _description(self) -> str:
        objective = self._study.spec.objective
        return (
            f"{len(self._trials)} trials of a search for the best {objective.metric} ({objective.mode}), with the best "
            "configuration, its scores and its model."
        )

    def _write_study(self, folder: Path, related_results: RelatedResults) -> None:
        self._json(folder, STUDY, _published_document(self._study))
        for each in related_results.studies:
            short = each.name.rpartition("/")[2]
            about = "A confirmation, comparison, noise or test study beside it, as study.json."
            self._json(folder, f"{RELATED}/{short}.json", _published_document(each), (short, about))
        comment = f"The sweep file of the study {self._study.name}, with all defaults."
        self._text(folder, SWEEP, sweep_text(self._spec, comment))
        comment = f"Trial {self._best.number} of the study {self._study.name}: aifs-tune run best.yaml"
        self._text(folder, BEST, sweep_text(best_sweep(self._spec, self._answer), comment))

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
        known = self._study.fact(ENVIRONMENT)
        told = {
            "search": known,
            "export": environment(None),
            "workers": sorted({t.worker for t in self._trials if t.worker}),
        }
        self._json(folder, "environment.json", told)

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
                key: value for key, value in self._answer.items() if key not in ("study", "objective", "n_trials")
            },
            "n_trials": self._answer["n_trials"],
            "seeds": {"search": spec.search.seed, "best_trial": best.seed, **facts},
            "data": data.to_json() | {"name": data_name(spec), "local": local_data(spec) is not None},
            "environment_of": "export" if self._study.fact(ENVIRONMENT) is None else "search",
            **related_results.to_json(),
        }

    def _write_words(self, folder: Path, results: Mapping[str, Any], model: ModelFiles) -> None:
        import yaml

        released = self._ended.date().isoformat()
        if self._citation.authors:
            told = citation_file(self._citation, released, _version())
            self._text(folder, "CITATION.cff", yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
        else:
            self.missing["CITATION.cff"] = "no author was given; --author NAME"
        if self._zenodo:
            self._json(folder, ".zenodo.json", zenodo_metadata(self._citation, self._description, released))
        self._about["README.md"] = _ABOUT["README.md"]
        self._text(folder, "README.md", card_text(results, self._citation, model, self._about))

    def _json(self, folder: Path, name: str, told: Any, about: tuple[str, str] | None = None) -> None:
        self._text(folder, name, json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n", about)

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
