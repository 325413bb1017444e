"""Rows of a table that are examples, and those that are left out: rows that sum up others, and rare classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import DataSpec, NearRows, TableSpec
from aifs_tune.data.columns import as_numbers
from aifs_tune.data.images.folder import shown
from aifs_tune.data.split import given_subsets, units_of, units_per_class
from aifs_tune.data.table_columns import entry_settings
from aifs_tune.data.table_files import TableFile
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


_FIRST = 5
_MOST_TOTALS = 10
_TOTALS = frozenset(
    {"sum", "total", "totals", "grand total", "subtotal", "mean", "average", "avg", "median", "std", "sd", "stdev"}
    | {"standard deviation", "min", "max", "count", "summe", "gesamt", "mittelwert", "mittel", "durchschnitt"}
    | {"standardabweichung", "insgesamt", "total general", "moyenne", "somme", "media", "suma", "promedio"}
)
"""First entries, in lower case, of rows that sum up the rows above."""


def rows_of(table: TableFile, kept: NDArray[np.bool_]) -> TableFile:
    """The table with some of its rows (n,)."""
    if kept.all():
        return table
    frame = table.frame[kept].reset_index(drop=True)
    return replace(table, frame=frame, matrix=None if table.matrix is None else table.matrix.rows(kept))


def rows_that_sum_up(frame: pandas.DataFrame) -> tuple[NDArray[np.bool_], list[str]]:
    """Rows (n,) at the end of a table whose first entry of text is a word such as Total, and these words."""
    total, words = np.zeros(len(frame), bool), list[str]()
    texts = [i for i in range(min(len(frame.columns), _FIRST)) if frame.iloc[:, i].dtype.kind == "O"]
    for row in range(len(frame) - 1, max(-1, len(frame) - 1 - _MOST_TOTALS), -1):
        first = next((e for i in texts if isinstance(e := frame.iat[row, i], str) and e.strip()), "")
        if first.strip(" :.").lower() not in _TOTALS:
            break
        total[row] = True
        words.insert(0, first)
    is_class = any((frame.iloc[:, i][~total].astype(str).isin(words)).any() for i in texts) if words else False
    return (np.zeros(len(frame), bool), []) if is_class else (total, words)


def left_out_rows(left_out: Mapping[str, int]) -> list[str]:
    """One line with the number of rows that are left out, and the reasons."""
    told = {reason: n for reason, n in left_out.items() if n}
    if not told:
        return []
    if len(told) == 1:
        return [f"left out: {n} rows {reason}" for reason, n in told.items()]
    return [f"left out: {sum(told.values())} rows: " + ", ".join(f"{n} {reason}" for reason, n in told.items())]


def groups_of(table: TableFile, spec: TableSpec, where: str) -> list[str] | None:
    """Group of each row, its own for a row without one; None if there are no groups.

    Raises
    ------
    DataError
        If a column that near rows are told by has no numbers.
    """
    frame = table.frame
    if spec.group_near is not None:
        return _near_groups(table, spec, spec.group_near, where)
    if spec.group is None:
        return None
    entries = enumerate(zip(frame[spec.group].tolist(), frame[spec.group].isna().tolist(), strict=True))
    return [f"row {row}" if is_empty else str(entry) for row, (entry, is_empty) in entries]


def _near_groups(table: TableFile, spec: TableSpec, near: NearRows, where: str) -> list[str]:
    """Groups of rows that are linked by pairs with a distance of at most ``near.distance``, named by their first row.

    A row without one of the numbers is a group of its own.
    """
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import radius_neighbors_graph

    columns = list[NDArray[np.float64]]()
    for name in near.columns:
        found = as_numbers(table.frame[name], entry_settings(spec, name, table))
        if found is None:
            raise DataError(f"{where}: data.table.group_near compares {name!r}, which has no numbers; allowed: numbers")
        columns.append(found.values)
    values = np.stack(columns, axis=1)
    known = np.flatnonzero(~np.isnan(values).any(axis=1))
    first = np.arange(len(values))
    if len(known):
        # Sums of differences such as 0.1 + 0.2 exceed their decimal value by a rounding error.
        radius = near.distance * (1 + 1e-9)
        linked = radius_neighbors_graph(values[known], radius, mode="connectivity", metric="manhattan")
        _, codes = connected_components(linked, directed=False)
        first[known] = known[np.unique(codes, return_index=True)[1]][codes]
    return [f"near row {row + 1}" for row in first.tolist()]


def without_rare(
    table: TableFile, data: DataSpec, spec: TableSpec, labels: Sequence[str], contents: Sequence[str], where: str
) -> tuple[NDArray[np.bool_], list[str]]:
    """Rows (n,) of classes that can be in every subset, and why the others cannot.

    Raises
    ------
    DataError
        If the column of subsets has other entries, or a column that near rows are told by has no numbers.
    """
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    reasons, lacking = list[str](), set[int]()
    if spec.part is not None:
        subsets = given_subsets(list(table.frame[spec.part]), f"{where}: {spec.part}")
        for code, name in enumerate(names):
            missing = [part for part in ("train", "val") if not (codes[subsets[part]] == code).any()]
            if missing:
                lacking.add(code)
                reasons.append(f"class {shown(str(name))} has no row in {', '.join(missing)}")
    else:
        least = 3 if data.split.test > 0 else 2
        groups = groups_of(table, spec, where)
        what = "different rows" if groups is None else "groups"
        units = units_of([f"{a}|{b}" for a, b in zip(contents, labels, strict=True)], groups)
        for code, n in enumerate(units_per_class(codes.astype(np.int64), units, len(names)).tolist()):
            if n < least:
                lacking.add(code)
                reasons.append(
                    f"class {shown(str(names[code]))} has {n} {what}; allowed: at least {least}, one for each subset"
                )
    return ~np.isin(codes, list(lacking)), reasons
