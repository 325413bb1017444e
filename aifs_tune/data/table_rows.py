"""Rows of a table that are examples, and those that are left out: rows that sum up others, and rare classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import DataSpec, TableSpec
from aifs_tune.data.images.folder import shown
from aifs_tune.data.split import given_subsets, units_of, units_per_class
from aifs_tune.data.table_files import TableFile

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


def groups_of(frame: pandas.DataFrame, spec: TableSpec) -> list[str] | None:
    """Group of each row, its own for a row without one; None if there are no groups."""
    if spec.group is None:
        return None
    entries = enumerate(zip(frame[spec.group].tolist(), frame[spec.group].isna().tolist(), strict=True))
    return [f"row {row}" if is_empty else str(entry) for row, (entry, is_empty) in entries]


def without_rare(
    frame: pandas.DataFrame, data: DataSpec, spec: TableSpec, labels: Sequence[str], contents: Sequence[str], where: str
) -> tuple[NDArray[np.bool_], list[str]]:
    """Rows (n,) of classes that can be in every subset, and why the others cannot.

    Raises
    ------
    DataError
        If the column of subsets has other entries.
    """
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    reasons, lacking = list[str](), set[int]()
    if spec.part is not None:
        subsets = given_subsets(list(frame[spec.part]), f"{where}: {spec.part}")
        for code, name in enumerate(names):
            missing = [part for part in ("train", "val") if not (codes[subsets[part]] == code).any()]
            if missing:
                lacking.add(code)
                reasons.append(f"class {shown(str(name))} has no row in {', '.join(missing)}")
    else:
        least = 3 if data.split.test > 0 else 2
        groups = groups_of(frame, spec)
        what = "different rows" if groups is None else "groups"
        units = units_of([f"{a}|{b}" for a, b in zip(contents, labels, strict=True)], groups)
        for code, n in enumerate(units_per_class(codes.astype(np.int64), units, len(names)).tolist()):
            if n < least:
                lacking.add(code)
                reasons.append(
                    f"class {shown(str(names[code]))} has {n} {what}; allowed: at least {least}, one for each subset"
                )
    return ~np.isin(codes, list(lacking)), reasons
