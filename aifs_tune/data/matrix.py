"""Tables with very many columns of one kind, such as genes: sparse until the columns to learn from are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.hashing import digest_of
from aifs_tune.errors import DataError

MOST_VARIABLE = 2000
"""Number of columns of a sparse matrix that are chosen if the sweep file names none."""
MAX_VALUES = 2**28
"""Largest number of values, rows times columns, that become dense."""
_PER_ROW = 1e4
_LEAST_COUNT = 10


@dataclass(frozen=True)
class Matrix:
    """Values (n, columns), a sparse CSR array or a dense one with NaN for gaps, and the names of the columns.

    With ``is_log`` they are log(1 + 10,000 count / sum of the row).
    """

    values: Any
    names: tuple[str, ...]
    is_log: bool = False

    @property
    def is_sparse(self) -> bool:
        """Whether only values that are not zero are stored."""
        return not isinstance(self.values, np.ndarray)

    @property
    def seems_counted(self) -> bool:
        """Whether all values are whole numbers from 0, and some are above 9: fewer may be 0, 1 and 2 of a genotype."""
        stored = self._stored
        known = stored[~np.isnan(stored)]
        is_whole = len(known) > 0 and known.min() >= 0 and bool((known == np.floor(known)).all())
        return is_whole and bool(known.max() >= _LEAST_COUNT)

    @property
    def _stored(self) -> NDArray[Any]:
        return np.ravel(self.values.data if self.is_sparse else self.values)

    def rows(self, kept: NDArray[np.bool_]) -> Matrix:
        """Return the matrix of some rows."""
        return replace(self, values=self.values[np.flatnonzero(kept)])

    def log_normalised(self) -> Matrix:
        """Return the matrix with each row divided by its sum, times 10,000, and log(1 + x) of that."""
        sums = np.asarray(self.values.sum(axis=1) if self.is_sparse else np.nansum(self.values, axis=1)).ravel()
        factors = (_PER_ROW / np.where(sums > 0, sums, 1)).astype(np.float32)
        if not self.is_sparse:
            return replace(self, values=np.log1p(self.values * factors[:, None]), is_log=True)
        values = self.values.copy()
        values.data = np.log1p(values.data * np.repeat(factors, np.diff(values.indptr)))
        return replace(self, values=values, is_log=True)

    def digests(self) -> list[str]:
        """Digest of the content of each row."""
        if not self.is_sparse:
            return [digest_of(np.ascontiguousarray(row).tobytes()) for row in self.values]
        bounds = zip(self.values.indptr[:-1].tolist(), self.values.indptr[1:].tolist(), strict=True)
        indices, stored = self.values.indices, self.values.data
        return [digest_of(indices[a:b].tobytes() + b"|" + stored[a:b].tobytes()) for a, b in bounds]

    def most_variable(self, n: int, train: NDArray[np.int32]) -> NDArray[np.int64]:
        """Positions, rising, of the ``n`` columns with the largest variance in the rows ``train``."""
        some = self.values[train]
        if self.is_sparse:
            mean = np.asarray(some.mean(axis=0)).ravel()
            variance = np.asarray(some.multiply(some).mean(axis=0)).ravel() - mean**2
        else:
            with np.errstate(invalid="ignore"):
                counts = np.maximum((~np.isnan(some)).sum(axis=0), 1)
                mean = np.nansum(some, axis=0) / counts
                variance = np.nansum((some - mean) ** 2, axis=0) / counts
        order = np.argsort(-variance, kind="stable")[:n]
        return np.sort(order).astype(np.int64)

    def dense(self, columns: Sequence[int] | NDArray[np.int64], where: str) -> NDArray[np.float32]:
        """Return the values (n, len(columns)) of some columns, at these positions.

        Raises
        ------
        DataError
            If they are more than fit in memory.
        """
        n_rows = self.values.shape[0]
        if n_rows * len(columns) > MAX_VALUES:
            raise DataError(
                f"{where}: {n_rows:,} rows of {len(columns):,} columns are more than {MAX_VALUES:,} values; allowed: "
                "fewer columns: data.table.columns: 2000, for those that vary most, or their names"
            )
        chosen = self.values[:, np.asarray(columns, np.int64)]
        return np.asarray(chosen.toarray() if self.is_sparse else chosen, np.float32)


def classes_of_one_hot(y: NDArray[Any]) -> NDArray[np.int64] | None:
    """Classes (n,) from 0 of an array (n, classes) with a single 1 in each row and 0 elsewhere; None if it is none."""
    if y.ndim != 2 or y.shape[1] < 2 or len(y) == 0 or y.dtype.kind not in "biuf":
        return None
    if not np.isin(y, (0, 1)).all() or not (y.sum(axis=1) == 1).all():
        return None
    return np.asarray(np.argmax(y, axis=1), np.int64)


def one_hot_note(y: NDArray[Any]) -> str:
    """What is said of an array that ``classes_of_one_hot`` read."""
    return f"y {y.shape} has a single 1 in each row (one-hot): its position, from 0, is the class"


def distinct_names(names: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Names that differ, as AnnData makes them (``TBCE``, ``TBCE-1``), and how many had to be changed."""
    seen, made, n_changed = set(names), list[str](), 0
    used = set[str]()
    for name in names:
        new, i = name, 0
        while new in used or (i and new in seen):
            i += 1
            new = f"{name}-{i}"
        n_changed += new != name
        used.add(new)
        made.append(new)
    return tuple(made), n_changed
