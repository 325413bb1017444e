"""Data of a sweep: located, prepared, and recorded in its study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune.artifacts.data_files import NEAR_DUPLICATES, match_files
from aifs_tune.config.cross_validation import SIZES
from aifs_tune.config.data import COLUMNS, DIVISION, DataSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import DataError, RequestError
from aifs_tune.execution.callbacks import NullCallback, SweepCallback
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.similarity import DATA_FACTS
from aifs_tune.trainers.factory import find_trainer_entry

if TYPE_CHECKING:
    from aifs_tune.data.file_table import FileTable
    from aifs_tune.data.images.near_duplicates import CrossSubsetDuplicates
    from aifs_tune.data.sources import Prepared


def located(spec: SweepSpec) -> SweepSpec:
    """``spec`` with absolute paths of its data and weights, if its trainer needs any and they can be told apart."""
    trainer_entry = find_trainer_entry(spec)
    if trainer_entry is None:
        return spec
    from aifs_tune.data.sources import locate

    asked_by = f"{spec.name}: trainer {spec.trainer.name if spec.trainer else ''}"
    found: dict[str, Any] = {"data": locate(spec.data or DataSpec(), trainer_entry.kind, asked_by)}
    if spec.trainer is not None and spec.trainer.weights is not None:
        found["trainer"] = spec.trainer.model_copy(update={"weights": spec.trainer.weights.absolute()})
    return spec.model_copy(update=found)


def prepared_data(spec: SweepSpec, *, strict: bool = False, callback: SweepCallback | None = None) -> Prepared:
    """The data of ``spec`` as its trials would see them, without a study.

    Raises
    ------
    RequestError
        If its trainer is given no data; DataError if nothing can be learnt from them.
    """
    asked, trainer_entry, told = located(spec), find_trainer_entry(spec), callback or NullCallback()
    if trainer_entry is None or asked.data is None:
        raise RequestError(f"{spec.name}: its trainer takes no data, so there is nothing to check")
    from aifs_tune.data.sources import prepare

    return prepare(
        asked.data,
        trainer_entry.kind,
        strict=strict,
        tell=_say_nothing,
        progress=told.on_progress,
        tell_early=told.on_status,
    )


_MOST_COLUMNS = 200
"""Largest number of columns that a study records."""


@dataclass(frozen=True)
class SweepData:
    """Location and fingerprint of the prepared data; of several splits, also those of each and the numbers of examples
    that train and measure it."""

    location: Path | None = None
    fingerprint: str | None = None
    files: FileTable | None = None
    near_duplicates: CrossSubsetDuplicates | None = None
    splits: tuple[tuple[Path, str], ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    division: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[Mapping[str, Any]] = ()


def data_for(spec: SweepSpec, *, strict: bool, callback: SweepCallback) -> SweepData:
    """Prepare the data of ``spec`` for its trials, in all splits.

    Raises
    ------
    DataError
        If nothing can be learnt from them, or there is no test part that is to be answered.
    """
    trainer_entry = find_trainer_entry(spec)
    if trainer_entry is None or spec.data is None:
        return SweepData()
    from aifs_tune.data.sources import facts_of, prepare, sizes_of

    kind, several = trainer_entry.kind, spec.cv
    made = prepare(spec.data, kind, strict=strict, tell=callback.on_status, progress=callback.on_progress)
    if spec.evaluate_test and not sizes_of(made.location, kind)["test"]:
        raise DataError("the data have no test set; set data.split.test above 0, or add a test folder")
    if several is None:
        facts = facts_of(made.location, kind)
        return SweepData(
            made.location,
            made.fingerprint,
            made.files,
            made.near_duplicates,
            facts=facts,
            division=made.division,
            columns=made.columns,
        )
    splits = [
        prepare(
            several.select_split(spec.data, i), kind, strict=strict, tell=_say_nothing, progress=callback.on_progress
        )
        for i in range(several.n_splits)
    ]
    sizes = [sizes_of(split.location, kind) for split in splits]
    measuring = "test" if several.measures_folds else "val"
    if spec.cross_validation is None:
        n_train, n_measuring = sizes[0]["train"], sizes[0][measuring]
        text = f"about {n_train} examples to train on and {n_measuring} to validate on in each"
        callback.on_status(f"each trial is measured on {several.n_splits} folds, {text}")
    return SweepData(
        made.location,
        made.fingerprint,
        made.files,
        made.near_duplicates,
        tuple((split.location, split.fingerprint) for split in splits),
        tuple((size["train"], size[measuring]) for size in sizes),
        division=made.division,
        columns=made.columns,
    )


def record_data(study: StudyRecord, prepared: SweepData) -> None:
    """Record in ``study`` which data it is about, for comparison with later runs.

    Raises
    ------
    ConflictError
        If the study is about other data.
    """
    if prepared.files is None:
        study.match_data(prepared.fingerprint)
    else:
        match_files(study, prepared.fingerprint, prepared.files)
    if prepared.near_duplicates is not None:
        study.record_fact(NEAR_DUPLICATES, prepared.near_duplicates.to_json())
    if prepared.facts and study.fact(DATA_FACTS) is None:
        study.record_fact(DATA_FACTS, dict(prepared.facts))
    if prepared.division and study.fact(DIVISION) is None:
        study.record_fact(DIVISION, dict(prepared.division))
    if prepared.columns and study.fact(COLUMNS) is None:
        first = [dict(column) for column in prepared.columns[:_MOST_COLUMNS]]
        study.record_fact(COLUMNS, {"n": len(prepared.columns), "columns": first})
    if prepared.sizes:
        study.record_fact(SIZES, [list(size) for size in prepared.sizes])


def _say_nothing(_line: str) -> None:
    """Say nothing: findings of the first split are told already."""
