"""Selection of the columns of a table that predict its target on one training set after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.analysis.column_graph import ColumnGraph, standardised
from aifs_tune.data.examples import ExampleSet
from aifs_tune.trainers.feature_selection import ranked_columns

if TYPE_CHECKING:
    import pandas

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ColumnGroup:
    """Columns that go together, so that one of them can stand in for another.

    Parameters
    ----------
    columns
        Names, the most frequent first.
    frequencies
        Share of the training sets that select each of them.
    frequency
        Share of the training sets that select at least one of them.
    importances
        On each training set, how much the error of the model on rows that it has not seen grows if all columns of the
        group are permuted together; empty of a group that is not chosen.

    Examples
    --------
    >>> from aifs_tune.analysis import ColumnGroup
    >>> ColumnGroup(("GATA1", "KLF1"), (0.9, 0.2), 1.0, (0.25, 0.75)).importance
    0.5
    """

    columns: tuple[str, ...]
    frequencies: tuple[float, ...]
    frequency: float
    importances: tuple[float, ...] = ()

    @property
    def importance(self) -> float:
        """Mean of the importances; NaN if there are none."""
        return float(np.mean(self.importances)) if self.importances else float("nan")

    @property
    def importance_sd(self) -> float:
        """Standard deviation of the importances over the training sets; NaN of fewer than two."""
        return float(np.std(self.importances, ddof=1)) if len(self.importances) > 1 else float("nan")


@dataclass(frozen=True)
class SelectedColumns:
    """Columns that predict the target of a table on one training set after the other.

    Parameters
    ----------
    study
        Name of the study.
    model
        Whose importances they are.
    groups
        Every group of columns that a training set selects, the most frequent and most important first.
    min_frequency
        Share of the training sets that must select a group that is chosen.
    by_chance
        Number of groups that are chosen if the target is shuffled, a mean over shuffles.
    graph
        Which columns of the chosen groups depend on each other directly.
    remarks
        What else should be known.

    Examples
    --------
    >>> import numpy as np
    >>> from aifs_tune.analysis import ColumnGraph, ColumnGroup, SelectedColumns
    >>> groups = ColumnGroup(("GATA1",), (1.0,), 1.0, (0.2,)), ColumnGroup(("ACTB",), (0.1,), 0.1)
    >>> alone = ColumnGraph(("GATA1",), np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), float("nan"))
    >>> found = SelectedColumns("tissues", "trial 3", groups, 0.8, 0.05, alone, ())
    >>> [group.columns for group in found.chosen]
    [('GATA1',)]
    """

    study: str
    model: str
    groups: tuple[ColumnGroup, ...]
    min_frequency: float
    by_chance: float
    graph: ColumnGraph
    remarks: tuple[str, ...]

    @property
    def chosen(self) -> tuple[ColumnGroup, ...]:
        """The groups that enough training sets select."""
        return tuple(group for group in self.groups if group.frequency >= self.min_frequency)

    @property
    def table(self) -> pandas.DataFrame:
        """A row for each column of each group: ``column``, ``group`` from 1, ``is_chosen``, ``frequency`` and
        ``group_frequency``, and the group's ``importance`` and ``importance_sd``."""
        import pandas

        rows = [
            {
                "column": name,
                "group": number,
                "is_chosen": group.frequency >= self.min_frequency,
                "frequency": frequency,
                "group_frequency": group.frequency,
                "importance": group.importance,
                "importance_sd": group.importance_sd,
            }
            for number, group in enumerate(self.groups, start=1)
            for name, frequency in zip(group.columns, group.frequencies, strict=True)
        ]
        return pandas.DataFrame(rows)


@dataclass(frozen=True)
class StableInputs:
    """Inputs that go together: their ``places``, the most frequent first, and how often each and any is selected."""

    places: tuple[int, ...]
    frequencies: tuple[float, ...]
    frequency: float


def selected_inputs(splits: Sequence[ExampleSet], n: int) -> list[NDArray[np.intp]]:
    """The ``n`` inputs of each split that predict the target best on their own, in its training part."""
    return [ranked_columns(split)[:n] for split in splits]


def stable_inputs(
    values: NDArray[np.float32], selected: Sequence[NDArray[np.intp]], *, correlated: float
) -> list[StableInputs]:
    """Group the inputs that any training set selects, and count the training sets that select each and any.

    Parameters
    ----------
    values
        Values of all inputs, shape (rows, inputs), by which they are correlated.
    selected
        Places of the inputs that each training set selects.
    correlated
        Absolute correlation, from 0 to 1, that all pairs of a group have at least.
    """
    seen = np.unique(np.concatenate(selected))
    is_selected = np.array([np.isin(seen, places) for places in selected])
    made = []
    for members in correlated_groups(values[:, seen], at_least=correlated):
        shares = is_selected[:, members].mean(axis=0)
        order = np.argsort(-shares, kind="stable")
        made.append(
            StableInputs(
                tuple(seen[members][order].tolist()),
                tuple(shares[order].tolist()),
                float(is_selected[:, members].any(axis=1).mean()),
            )
        )
    return sorted(made, key=lambda group: (-group.frequency, group.places))


def correlated_groups(values: NDArray[np.float32], *, at_least: float) -> list[NDArray[np.intp]]:
    """Divide columns (rows, n) into groups whose pairs all have an absolute correlation of ``at_least``.

    Complete linkage: the two groups whose least correlated pair is the most correlated are joined first.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    n = values.shape[1]
    if n < 2:
        return [np.arange(n)]
    scaled = standardised(values.astype(np.float64))
    distances = np.clip(1 - np.abs(scaled.T @ scaled) / len(scaled), 0, 1)
    joined = linkage(squareform(distances, checks=False), "complete")
    numbers = fcluster(joined, 1 - at_least, criterion="distance")
    return [np.flatnonzero(numbers == number) for number in np.unique(numbers)]


@dataclass(frozen=True)
class Selection:
    """How columns are selected: the ``n`` best of each training set, in groups whose pairs all have the correlation
    ``correlated``, of which at least the share ``min_frequency`` of the training sets must select one."""

    n: int
    correlated: float
    min_frequency: float

    def groups(self, splits: Sequence[ExampleSet], values: NDArray[np.float32]) -> list[StableInputs]:
        """The groups that the training part of any split selects; ``values`` (rows, inputs) correlate them."""
        return stable_inputs(values, selected_inputs(splits, self.n), correlated=self.correlated)

    def is_chosen(self, group: StableInputs) -> bool:
        """Whether enough training sets select the group."""
        return group.frequency >= self.min_frequency


def chosen_by_chance(
    selection: Selection,
    splits: Sequence[ExampleSet],
    values: NDArray[np.float32],
    *,
    rows: NDArray[np.intp],
    units: NDArray[np.int64],
    shuffles: int,
    seed: int,
) -> float:
    """Mean number of groups that are chosen if the target is shuffled.

    Training sets overlap, so that what one selects by chance, the next may select too. Targets of the ``rows`` that are
    equal within each of their ``units`` are shuffled among units, others within them.
    """
    random, counts = np.random.default_rng([seed, 13]), list[int]()
    y_true = splits[0].y_true
    for _ in range(shuffles):
        mixed = y_true.copy()
        mixed[rows] = y_true[rows][shuffled(y_true[rows], units, random)]
        groups = selection.groups([replace(each, y_true=mixed) for each in splits], values)
        counts.append(sum(map(selection.is_chosen, groups)))
    return float(np.mean(counts))


def shuffled(y_true: NDArray[Any], units: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.intp]:
    """Row (n,) whose target each row gets: that of another unit, or of the same one if targets differ within units."""
    _, first, codes = np.unique(units, return_index=True, return_inverse=True)
    if np.array_equal(y_true, y_true[first][codes], equal_nan=y_true.dtype.kind == "f"):
        return np.asarray(random.permutation(first)[codes])
    found = np.arange(len(units))
    for code in range(len(first)):
        rows = np.flatnonzero(codes == code)
        found[rows] = random.permutation(rows)
    return found


def permutation_importances(
    predict: Callable[[NDArray[np.float32]], Floats],
    inputs: NDArray[np.float32],
    y_true: Floats,
    groups: Sequence[Sequence[int]],
    *,
    n_permutations: int,
    seed: int,
) -> Floats:
    """How much the squared error grows if the columns of a group are permuted together (Breiman 2001, section 10).

    Parameters
    ----------
    predict
        Outputs (n, outputs) of rows (n, columns).
    inputs, y_true
        Rows (n, columns) that the model has not seen, and their outputs (n, outputs); NaN are left out. Of classes,
        outputs are probabilities, and the error is the Brier score.
    groups
        Places of the columns of each group.
    n_permutations, seed
        How often each group is permuted, and the seed.

    Returns
    -------
    numpy.ndarray
        Means over the permutations, shape (groups,).

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[1, 5], [3, 5], [5, 5]], np.float32)
    >>> first = lambda x: x[:, :1]
    >>> grown = permutation_importances(first, rows, rows[:, :1], [[0], [1]], n_permutations=50, seed=0)
    >>> bool(grown[0] > 1), float(grown[1])
    (True, 0.0)
    """
    random = np.random.default_rng(seed)
    before, grown = _squared_error(predict(inputs), y_true), np.zeros(len(groups))
    for i, columns in enumerate(groups):
        mixed, places = inputs.copy(), np.asarray(columns, np.int64)
        for _ in range(n_permutations):
            mixed[:, places] = inputs[np.ix_(random.permutation(len(inputs)), places)]
            grown[i] += _squared_error(predict(mixed), y_true) - before
    return grown / n_permutations


def _squared_error(y_pred: Floats, y_true: Floats) -> float:
    """Mean squared error over rows, summed over outputs."""
    return float(np.nanmean((y_pred - y_true) ** 2, axis=0).sum())


def values_within_classes(examples: ExampleSet, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Inputs of some rows, shape (rows, inputs), less the mean of their class; as they are if there are no classes.

    Columns that merely differ between the same classes are then no longer correlated.
    """
    values = np.asarray(examples.inputs[0][rows], np.float32)
    if examples.classes:
        labels = examples.y_true[rows]
        for label in np.unique(labels):
            values[labels == label] -= values[labels == label].mean(axis=0)
    return np.asarray(values)
