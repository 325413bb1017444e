"""Graph of the columns of a table that depend on each other directly: a sparse inverse covariance."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import WorkError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ColumnEdge:
    """Two columns that depend on each other directly.

    Parameters
    ----------
    first, second
        Names of the columns.
    partial_correlation
        Their correlation, from -1 to 1, once all other columns of the graph are known; shrunk by the penalty.
    correlation
        Their correlation, from -1 to 1.
    frequency
        Share of the training sets whose graph has the edge.

    Examples
    --------
    >>> from aifs_tune.analysis import ColumnEdge
    >>> ColumnEdge("GATA1", "KLF1", partial_correlation=0.4, correlation=0.7, frequency=1.0).frequency
    1.0
    """

    first: str
    second: str
    partial_correlation: float
    correlation: float
    frequency: float


@dataclass(frozen=True)
class ColumnGraph:
    """Which columns depend on each other directly. The graph has no directions, and its edges are no causes.

    Parameters
    ----------
    columns
        Names of the n columns.
    correlations
        Their correlations, shape (n, n).
    partial_correlations
        Correlations of two columns once all others are known, shape (n, n), shrunk by the penalty; 0 without an edge.
    frequencies
        Share of the training sets whose graph has the edge, shape (n, n).
    penalty
        L1 penalty of the entries of the inverse covariance; NaN of fewer than two columns.

    Examples
    --------
    >>> import numpy as np
    >>> from aifs_tune.analysis import ColumnGraph
    >>> there = np.array([[1.0, 0.5], [0.5, 1.0]])
    >>> ColumnGraph(("GATA1", "KLF1"), there, there * 0.8, there > 0, penalty=0.1).edges[0].correlation
    0.5
    """

    columns: tuple[str, ...]
    correlations: Floats
    partial_correlations: Floats
    frequencies: Floats
    penalty: float

    @property
    def edges(self) -> tuple[ColumnEdge, ...]:
        """The edges, the strongest first."""
        pairs = np.argwhere(np.triu(self.partial_correlations, 1))
        made = [
            ColumnEdge(
                self.columns[i],
                self.columns[j],
                float(self.partial_correlations[i, j]),
                float(self.correlations[i, j]),
                float(self.frequencies[i, j]),
            )
            for i, j in pairs.tolist()
        ]
        return tuple(sorted(made, key=lambda edge: -abs(edge.partial_correlation)))


def column_graph(
    values: Floats, columns: Sequence[str], *, subsets: Sequence[NDArray[np.intp]], folds: int, seed: int
) -> ColumnGraph:
    """Estimate which columns depend on each other directly, by the graphical lasso (Friedman et al. 2008).

    The penalty is that with the largest likelihood of left-out rows, in cross-validation. It is kept for the graphs of
    the subsets, whose shares of edges say how stable each is.

    Parameters
    ----------
    values
        Values (rows, n), of any scale.
    columns
        Their names.
    subsets
        Rows of each training set.
    folds
        Folds of the cross-validation, from 2.
    seed
        Seed of the folds.

    Raises
    ------
    WorkError
        If there is no solution, as of columns that are the same but for rounding.
    """
    n = len(columns)
    if n < 2:
        one = np.ones((n, n))
        return ColumnGraph(tuple(columns), one, one, one, math.nan)
    from sklearn.covariance import GraphicalLassoCV, graphical_lasso
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold

    scaled = standardised(values)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # penalties of the search without a solution are left out
        try:
            chosen = GraphicalLassoCV(cv=KFold(folds, shuffle=True, random_state=seed)).fit(scaled)
            penalty = float(chosen.alpha_)
            each = [graphical_lasso(np.corrcoef(scaled[rows].T), penalty)[1] for rows in subsets]
        except (FloatingPointError, ValueError) as error:
            raise WorkError(
                f"graph: {n} columns of {len(values)} rows have no sparse inverse covariance ({error}); allowed: fewer "
                "columns, and none that are equal"
            ) from error
    frequencies = np.asarray(np.mean([precision != 0 for precision in each], axis=0))
    return ColumnGraph(
        tuple(columns),
        np.asarray(scaled.T @ scaled / len(scaled)),
        partial_correlations(chosen.precision_),
        frequencies,
        penalty,
    )


def standardised(values: Floats) -> Floats:
    """Values (rows, n) with mean 0 and standard deviation 1 in each column; 0 in a constant one."""
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0))


def partial_correlations(precision: Floats) -> Floats:
    """Partial correlations (n, n) from an inverse covariance: -p_ij / sqrt(p_ii p_jj), 1 on the diagonal."""
    scale = np.sqrt(np.diag(precision))
    found = -precision / np.outer(scale, scale) + 0.0  # no -0.0
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)
