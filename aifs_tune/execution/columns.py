"""Selection of the columns that count in the table of a study: on many training sets, with its best configuration."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.analysis.column_graph import column_graph
from aifs_tune.analysis.column_selection import (
    ColumnGroup,
    SelectedColumns,
    Selection,
    StableInputs,
    chosen_by_chance,
    permutation_importances,
    values_within_classes,
)
from aifs_tune.analysis.design.ensemble import training_rows
from aifs_tune.analysis.final_model import final_candidates
from aifs_tune.analysis.model import Model, model_in
from aifs_tune.config.cross_validation import CrossValidation
from aifs_tune.config.data import Fold
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.data.examples import ExampleSet, open_examples, store_examples
from aifs_tune.data.file_table import FileTable
from aifs_tune.data.images.folder import SUBSETS
from aifs_tune.data.split import refold_subsets
from aifs_tune.errors import RequestError, WorkError
from aifs_tune.execution.callbacks import NullCallback, SweepCallback
from aifs_tune.execution.data import data_for
from aifs_tune.execution.finalize import check_has_model
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.trainers.factory import find_trainer_entry, make_trainer
from aifs_tune.trainers.predictions import point_predictions

Floats = NDArray[np.float64]


def stable_columns(
    study: str,
    *,
    cv: CrossValidation,
    selection: Selection,
    permutations: int,
    shuffles: int,
    storage: str | None = None,
    callback: SweepCallback | None = None,
) -> SelectedColumns:
    """See :func:`aifs_tune.select_columns`, which writes what this returns."""
    told = callback or NullCallback()
    found = get_study(Storage(storage), study)
    check_has_model(found)
    spec = _without_folds(found.spec)
    entry = find_trainer_entry(spec)
    if entry is None or entry.kind != "table":
        raise RequestError(f"Study {study!r} does not learn from a table; allowed: a study with data.table")
    if spec.data is not None and spec.data.has_classes("table") and spec.data.targets("table"):
        raise RequestError(f"Study {study!r} learns classes and numbers together; allowed: one that learns either")
    (candidate,), _ = final_candidates(found, 1)
    prepared = data_for(spec, strict=False, callback=NullCallback())
    assert prepared.location is not None
    source = _Source(open_examples(prepared.location), prepared.files)
    splits = source.splits(cv)
    values = values_within_classes(source.examples, source.rows)
    groups = selection.groups(splits, values)
    chosen = [group for group in groups if selection.is_chosen(group)]
    if not chosen:
        raise WorkError(
            f"no column is among the {selection.n} best of {selection.min_frequency:.0%} of the {len(splits)} "
            f"training sets; the most frequent one has {groups[0].frequency:.0%}"
        )
    told.on_status("shuffling the target")
    by_chance = chosen_by_chance(
        selection, splits, values, rows=source.rows, units=source.units, shuffles=shuffles, seed=cv.seed
    )
    importances = _importances(
        spec, candidate.params, splits, chosen, n_permutations=permutations, seed=cv.seed, progress=told.on_progress
    )
    places = sorted(place for group in chosen for place in group.places)
    graph = column_graph(
        values[:, places].astype(np.float64),
        [source.names[place] for place in places],
        subsets=[np.flatnonzero(np.isin(source.rows, split.train)) for split in splits],
        folds=max(2, cv.folds),
        seed=cv.seed,
    )
    measured = [*importances.T.tolist(), *([] for _ in groups[len(chosen) :])]
    made = [
        ColumnGroup(tuple(source.names[place] for place in group.places), group.frequencies, group.frequency, tuple(of))
        for group, of in zip(groups, measured, strict=True)
    ]
    return SelectedColumns(
        study,
        candidate.name,
        tuple(sorted(made, key=lambda group: (-group.frequency, -np.nan_to_num(group.importance)))),
        selection.min_frequency,
        by_chance,
        graph,
        tuple(source.remarks(len(splits))),
    )


@dataclass(frozen=True)
class _Source:
    """Examples of a table, and what is known of their rows outside the test set."""

    examples: ExampleSet
    files: FileTable | None

    @property
    def rows(self) -> NDArray[np.intp]:
        """Rows outside the test set, in the order of the table."""
        return np.sort(np.concatenate([self.examples.train, self.examples.val])).astype(np.intp)

    @property
    def units(self) -> NDArray[np.int64]:
        """Unit of each of these rows; rows of a unit stay together."""
        groups = training_rows(self.examples, self.files).groups
        return np.unique(groups, return_inverse=True)[1].astype(np.int64)

    @property
    def names(self) -> list[str]:
        """Name of each input: that of its column, and of a column of text also the entry."""
        columns = self.examples.facts["columns"]
        return [f"{each['name']} = {each['level']}" if "level" in each else str(each["name"]) for each in columns]

    def splits(self, cv: CrossValidation) -> list[ExampleSet]:
        """The examples divided anew: a fold of the training part is the test set, and the others train.

        Raises
        ------
        DataError
            If a class is too rare for so many folds.
        """
        examples, rows, units = self.examples, self.rows, self.units
        labels = np.asarray(examples.y_true[rows] if examples.classes else np.zeros(len(rows)), np.int64)
        part = np.isin(rows, examples.val).astype(np.int64)
        made = []
        for number in range(cv.n_splits):
            repeat, index = divmod(number, cv.folds)
            fold = Fold(index=index, of=cv.folds, seed=cv.seed + repeat, among="train")
            assigned = refold_subsets(
                fold, part, labels, units, where="the table", names=examples.classes or ("",), what="groups of rows"
            )
            parts = {name: rows[assigned == i].astype(np.int32) for i, name in enumerate(SUBSETS)}
            made.append(replace(examples, **parts))
        return made

    def remarks(self, n_splits: int) -> list[str]:
        """What the selection rests on."""
        examples, n_missing = self.examples, sum(each["missing"] for each in self.examples.facts["columns"])
        told = [
            f"{n_splits} training sets, drawn from the {len(examples.train)} rows of the training part; the "
            f"{len(examples.val)} rows of the validation part choose epochs, and the {len(examples.test)} of the test "
            "set are not used"
        ]
        if n_missing:
            told.append(f"{n_missing} missing values are the median of their column, which weakens correlations")
        return told


def _without_folds(spec: SweepSpec) -> SweepSpec:
    """The sweep whose trials train on the one split that they are given."""
    document = spec.model_dump(mode="json")
    document["trainer"] |= {"folds": 1}
    document["resources"]["fused_trials"] = 1
    return parse_sweep(document)


def _importances(
    spec: SweepSpec,
    params: Mapping[str, Scalar],
    splits: Sequence[ExampleSet],
    groups: Sequence[StableInputs],
    *,
    n_permutations: int,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> Floats:
    """Importance of each group for a model of each split, shape (splits, groups)."""
    found = []
    for i, split in enumerate(splits):
        predict = _trained(spec, params, split, seed + i)
        test = split.test
        found.append(
            permutation_importances(
                predict,
                np.asarray(split.inputs[0][test], np.float32),
                _outputs(split, test),
                [group.places for group in groups],
                n_permutations=n_permutations,
                seed=seed + i,
            )
        )
        progress("training models", i + 1, len(splits))
    return np.array(found)


def _trained(
    spec: SweepSpec, params: Mapping[str, Scalar], split: ExampleSet, seed: int
) -> Callable[[NDArray[np.float32]], Floats]:
    """Probabilities, or scaled numbers, from the best epoch of a model that learns from the training part.

    Of quantiles it is the median.
    """
    subsets = {name: getattr(split, name) for name in SUBSETS}
    location = store_examples(
        split.inputs,
        split.y_true,
        subsets,
        classes=split.classes,
        targets=split.targets,
        facts=split.facts,
    )
    trainer = make_trainer(spec, location, params=params, seed=seed)
    for _ in range(spec.search.epochs):
        if trainer.is_finished:
            break
        trainer.epoch()
    with tempfile.TemporaryDirectory() as folder:
        trainer.save_best(Path(folder))  # type: ignore[attr-defined]
        model = model_in("the model of a training set", spec, [Path(folder)], spec.name)
    assert isinstance(model, Model)
    centres = np.array([target.centre for target in split.targets] or 0.0)
    scales = np.array([target.scale for target in split.targets] or 1.0)

    def predict(rows: NDArray[np.float32]) -> Floats:
        y_pred = model.predict(rows)
        points = y_pred if split.classes else point_predictions(y_pred, len(split.targets))
        return np.asarray((points.astype(np.float64) - centres) / scales)

    return predict


def _outputs(split: ExampleSet, rows: NDArray[np.int32]) -> Floats:
    """What a model that is always right gives for ``rows``, shape (rows, outputs)."""
    if split.classes:
        return np.asarray(np.eye(len(split.classes))[split.y_true[rows]])
    return np.asarray(split.y_true[rows], np.float64)
