"""Ensemble of a study's best configuration: the rows it learns from, its training, and its calibrated uncertainty."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import brief
from aifs_tune.analysis.design.calibration import Calibration, calibrate
from aifs_tune.analysis.design.candidates import columns_of
from aifs_tune.analysis.model import Model, model_in
from aifs_tune.config.data import TableSpec
from aifs_tune.config.sweep import Refit, SweepSpec
from aifs_tune.data.columns import as_numbers
from aifs_tune.data.examples import ExampleSet, store_examples
from aifs_tune.data.file_table import FileTable
from aifs_tune.data.new_files import NewExamples, Preparation
from aifs_tune.data.split import units_of
from aifs_tune.data.table_columns import entry_settings
from aifs_tune.data.tables import load_table
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.factory import find_trainer_entry, make_trainer
from aifs_tune.trainers.predictions import point_predictions

Floats = NDArray[np.float64]

_N_REPORTED = 4
"""Training rows that a trainer reports as its validation part; no epoch is chosen by them."""
_ROWS = 512


@dataclass(frozen=True)
class Rows:
    """Measured rows: inputs (n, inputs), scaled targets (n, targets) with NaN, and the group of each."""

    inputs: NDArray[np.float32]
    y_true: NDArray[np.float32]
    groups: tuple[str, ...]


class Source:
    """The table of a study: how its columns became inputs, and its targets."""

    def __init__(self, spec: SweepSpec, examples: ExampleSet) -> None:
        assert spec.data is not None
        self.spec, self.examples = spec, examples
        self.columns = columns_of(examples.facts["columns"])
        self.targets = tuple(target.name for target in examples.targets)
        self.units = tuple(target.unit or "" for target in examples.targets)
        self._table = spec.data.table or TableSpec()
        self._preparation = Preparation("table", spec.data, examples.facts)

    def read(self, file: Path) -> NewExamples:
        """Inputs of the rows of another table, read as the training rows were."""
        if not file.is_file():
            raise DataError(f"{file}: there is no such file; allowed: a table with the columns of the study")
        (found,) = self._preparation.batches([file])
        return found

    def results(self, file: Path) -> Floats:
        """Targets (n, targets) of the rows of another table, NaN where one is missing.

        Raises
        ------
        DataError
            If it has none of them, or an entry is no number.
        """
        frame = load_table(self._table.model_copy(update={"file": file, "labels": None})).frame
        if not any(name in frame.columns for name in self.targets):
            raise DataError(
                f"{file}: none of the columns {', '.join(self.targets)}; allowed: at least one, with results"
            )
        values = np.full((len(frame), len(self.targets)), np.nan)
        for i, name in enumerate(self.targets):
            if name not in frame.columns or frame[name].isna().all():
                continue
            numbers = as_numbers(frame[name], entry_settings(self._table, name), mostly=0.0)
            is_wrong = frame[name].notna() if numbers is None else frame[name].notna() & np.isnan(numbers.values)
            if is_wrong.any() or numbers is None:
                entry = frame[name][is_wrong].iloc[0]
                raise DataError(f"{file}: {name} is {brief(entry)}; allowed: a number, or empty if it was not measured")
            values[:, i] = numbers.values
        return values

    def in_units(self, y_true: NDArray[Any]) -> Floats:
        """Scaled targets (n, targets) in their units."""
        centres, scales = self._scaling
        return np.asarray(y_true.astype(np.float64) * scales + centres)

    def scaled(self, values: Floats) -> NDArray[np.float32]:
        """Targets (n, targets) in units, scaled as the trainer gets them."""
        centres, scales = self._scaling
        return ((values - centres) / scales).astype(np.float32)

    @property
    def _scaling(self) -> tuple[Floats, Floats]:
        targets = self.examples.targets
        return np.array([each.centre for each in targets]), np.array([each.scale for each in targets])


def check_table(spec: SweepSpec, study: str) -> None:
    entry = find_trainer_entry(spec)
    if entry is None or entry.kind != "table" or spec.data is None or spec.data.has_classes("table"):
        text = f"Study {study!r} does not predict numbers alone, of a table"
        raise RequestError(f"{text}; allowed: data.table with targets or predict: values")
    if spec.data.table is not None and spec.data.table.labels is not None:
        raise RequestError(
            f"Study {study!r} has its targets in data.table.labels; allowed: targets in the table itself"
        )


def training_rows(examples: ExampleSet, files: FileTable | None) -> Rows:
    """All rows but those of the test set, in the order of the table."""
    rows = np.sort(np.concatenate([examples.train, examples.val]))
    inputs = np.asarray(examples.inputs[0][rows], np.float32)
    group_of = {} if files is None else dict(zip(files.example, files.group, strict=True))
    groups = [group_of.get(row) or f"row {row}" for row in rows.tolist()]
    units = units_of([row.tobytes().hex() for row in inputs], groups)
    return Rows(inputs, np.asarray(examples.y_true[rows]), tuple(f"group {unit}" for unit in units.tolist()))


def with_results(rows: Rows, file: Path, source: Source) -> tuple[Rows, list[str]]:
    """The rows with those of a table of new results, and what is to be said of it."""
    found, values = source.read(file), source.results(file)
    known = ~np.isnan(values).all(axis=1)
    remarks = [f"{file.name}: {text}" for text in found.remarks]
    remarks += [f"{file.name}: {int(known.sum())} rows with results joined the measured ones"]
    if not known.all():
        remarks.append(f"{file.name}: {int((~known).sum())} rows without any result were left out")
    remarks += _interval_remarks(file, values, source)
    added = tuple(f"{file} row {row}" for row in np.flatnonzero(known).tolist())
    inputs = np.concatenate([rows.inputs, np.asarray(found.inputs[0][known], np.float32)])
    return Rows(inputs, np.concatenate([rows.y_true, source.scaled(values[known])]), rows.groups + added), remarks


def _interval_remarks(file: Path, values: Floats, source: Source) -> list[str]:
    """How many results lie in the intervals that an earlier design gave them."""
    frame = load_table(TableSpec(file=file)).frame
    told = []
    for i, name in enumerate(source.targets):
        ends = [f"{end} {name}" for end in ("low", "high")]
        if all(end in frame.columns for end in ends):
            low, high = (np.asarray(frame[end], np.float64) for end in ends)
            known = ~np.isnan(values[:, i])
            if n := int(known.sum()):
                inside = int(((values[:, i] >= low) & (values[:, i] <= high))[known].sum())
                told.append(f"{file.name}: {inside} of {n} results of {name} are in the 90 % intervals given for them")
    return told


@dataclass(frozen=True)
class Ensemble:
    """Trained models, and the calibration of each target."""

    models: Model
    n_targets: int
    calibrations: tuple[Calibration, ...]

    def predict(self, inputs: NDArray[np.float32]) -> Floats:
        """Predictions of each model, shape (models, n, targets), in units; of quantiles, the median."""
        n = len(inputs)
        # Programs are compiled for each number of rows, so there are few numbers of them.
        padded = np.concatenate([inputs, np.repeat(inputs[:1], -n % _ROWS, axis=0)])
        found = np.stack([member.predict(padded)[:n] for member in self.models.members])
        return point_predictions(found, self.n_targets).astype(np.float64)


def left_out_of(groups: Sequence[str], n: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows each of ``n`` models does not learn from, shape (n, rows): a third of the groups.

    Three models after each other leave out all rows once.
    """
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes = np.bincount(codes)
    thirds = list[NDArray[np.bool_]]()
    while len(thirds) < n:
        part, filled = np.zeros(len(sizes), np.int64), np.zeros(3)
        for group in random.permutation(len(sizes)):
            part[group] = int(np.argmin(filled))
            filled[part[group]] += sizes[group]
        thirds += [part[codes] == third for third in range(3)]
    return np.array(thirds[:n])


def train_ensemble(
    source: Source, rows: Rows, refit: Refit, *, n: int, seed: int, progress: Callable[[str, int, int], None]
) -> Ensemble:
    """Train each model on two thirds of the groups, and calibrate on the rest of them."""
    random = np.random.default_rng([seed, 11])
    left_out = left_out_of(rows.groups, n, random)
    if not (~left_out).sum(axis=1).min() > 2 * _N_REPORTED:
        raise DataError(f"{len(rows.inputs)} rows in {len(set(rows.groups))} groups are too few; allowed: more groups")
    trainers = list[Any]()
    for i in range(n):
        location = _stored(source, rows, random.permutation(np.flatnonzero(~left_out[i])))
        trainers.append(make_trainer(source.spec, location, params=refit.params, seed=seed * 1000 + i))
    if hasattr(trainers[0], "share_train_functions"):
        trainers[0].share_train_functions(trainers[1:])
    with tempfile.TemporaryDirectory() as folder:
        folders = []
        for i, trainer in enumerate(trainers):
            trainer.reset(refit.params, seed=seed * 1000 + i)
            for _ in range(refit.epoch):
                trainer.epoch()
            folders.append(Path(folder) / str(i))
            folders[-1].mkdir()
            trainer.save_best(folders[-1])
            progress("training models", i + 1, n)
        models = model_in("the ensemble", source.spec, folders, source.spec.name)
    assert isinstance(models, Model)
    ensemble = Ensemble(models, len(source.targets), ())
    return replace(ensemble, calibrations=_calibrations(source, rows, ensemble.predict(rows.inputs), left_out))


def _stored(source: Source, rows: Rows, bag: NDArray[np.int64]) -> Path:
    """Examples whose training part is ``bag``; some of it, with as many targets as there are, is the validation part.

    A trainer that is given a configuration and its epochs trains on both.
    """
    n_missing = np.isnan(rows.y_true[bag]).sum(axis=1)
    ordered = bag[np.argsort(-n_missing, kind="stable")].astype(np.int32)
    subsets = {
        "train": ordered[:-_N_REPORTED],
        "val": ordered[-_N_REPORTED:],
        "test": np.zeros(0, np.int32),
    }
    examples = source.examples
    return store_examples([rows.inputs], rows.y_true, subsets, targets=examples.targets, facts=examples.facts)


def _calibrations(
    source: Source, rows: Rows, predicted: Floats, left_out: NDArray[np.bool_]
) -> tuple[Calibration, ...]:
    y_true = source.in_units(rows.y_true)
    masked = np.where(left_out[:, :, None], predicted, np.nan)
    mean, spread = np.nanmean(masked, axis=0), np.nanstd(masked, axis=0, ddof=1)
    made = []
    for i, (name, unit) in enumerate(zip(source.targets, source.units, strict=True)):
        known = np.flatnonzero(~np.isnan(y_true[:, i]))
        groups = [rows.groups[row] for row in known.tolist()]
        made.append(calibrate(name, unit, (mean - y_true)[known, i], spread[known, i], groups))
    return tuple(made)
