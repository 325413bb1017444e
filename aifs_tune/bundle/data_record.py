"""What a study learnt from, as a bundle says it: its fingerprint, its files with their hashes and parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aifs_tune.data.folder import PARTS
from aifs_tune.study import Study
from aifs_tune.study_files import find_study_files
from aifs_tune.trainers.by_name import find_trainer_entry

if TYPE_CHECKING:
    import pandas


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
            counts = {part: int(found[part]) for part in PARTS if part in found.index}
        return {
            "fingerprint": self.fingerprint,
            "kind": self.kind,
            "examples": counts,
            "n_files": None if self.files is None else int(self.files["path"].nunique()),
            "split": "split.csv" if self.files is not None else None,
            "missing": self.missing,
        }


def data_of(study: Study) -> DataRecord:
    """What is recorded with ``study``."""
    trainer_entry = find_trainer_entry(study.spec)
    if trainer_entry is None:
        why = "what the trainer learns from is its own" if study.spec.trainer else "an instrument learns from no data"
        return DataRecord(None, None, None, why)
    files = find_study_files(study)
    missing = None if files is not None else "the study has no record of the files that it learnt from"
    return DataRecord(study.fingerprint, trainer_entry.kind, files, missing)
