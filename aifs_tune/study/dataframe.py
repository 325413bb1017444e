"""Pandas table of trials.

========================= ==================== ===================================================
column                    dtype                meaning
========================= ==================== ===================================================
``trial``                 Int64                number, from 0
``state``                 string               waiting, running, complete, pruned or failed
``value``                 Float64              best value of the objective so far
``epoch``                 Int64                epoch of that value, from 1
``epochs``                Int64                epochs measured
``seconds``               Float64              time spent on training and evaluation
``worker``                string               host:process that ran it
``started_at``            datetime64[us, UTC]
``finished_at``           datetime64[us, UTC]
``seed``                  Int64                seed of everything random in the trial
``reason``                string               why it failed or was pruned
``params_<name>``         Float64, Int64,      the configuration; missing where inactive
                          boolean or string    (null and lists as JSON text)
``metrics_<name>``        Float64              all metrics of ``epoch``
``label``, ``owner``      string               name of the sample, and who has it; these and the
                                               next three only if any trial has a lease
``due_at``                datetime64[us, UTC]  when its lease runs out
``is_overdue``            boolean              whether its lease has run out
``superseded_by``         Int64                trial that took over its configuration
``note``                  string               what was noted of the trial; only if any has a note
========================= ==================== ===================================================

Missing values are ``pandas.NA`` (``NaT`` in times).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from aifs_tune._util.atomic_files import write_file
from aifs_tune._util.formatting import csv_cell
from aifs_tune._util.packages import missing_packages_named
from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import StorageError
from aifs_tune.study.trial import Trial


def trials_table(
    trials: Sequence[Trial], parameters: Sequence[str], notes: Mapping[int, str] | None = None
) -> pd.DataFrame:
    """One row for each trial, with the columns and dtypes listed at the top of this module.

    ``parameters`` are the names of the space in its order; each is a column, even if no trial has it. ``notes`` are
    those of trials by their number.
    """
    columns: dict[str, pd.Series] = {
        "trial": pd.Series([t.number for t in trials], dtype="Int64"),
        "state": pd.Series([t.state for t in trials], dtype="string"),
        "value": pd.Series([t.value for t in trials], dtype="Float64"),
        "epoch": pd.Series([t.epoch for t in trials], dtype="Int64"),
        "epochs": pd.Series([t.epochs for t in trials], dtype="Int64"),
        "seconds": pd.Series([t.seconds for t in trials], dtype="Float64"),
        "worker": pd.Series([t.worker for t in trials], dtype="string"),
        "started_at": _times([t.started_at for t in trials]),
        "finished_at": _times([t.finished_at for t in trials]),
        "seed": pd.Series([t.seed for t in trials], dtype="Int64"),
        "reason": pd.Series([t.reason for t in trials], dtype="string"),
    }
    for name in parameters:
        columns[f"params_{name}"] = _column([t.coded_params.get(name) for t in trials])
    for name in dict.fromkeys(name for t in trials for name in t.metrics):
        columns[f"metrics_{name}"] = pd.Series([t.metrics.get(name) for t in trials], dtype="Float64")
    if any(t.lease is not None for t in trials):
        columns |= _lease_columns(trials)
    if notes:
        columns["note"] = pd.Series([notes.get(t.number) for t in trials], dtype="string")
    return pd.DataFrame(columns)


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON objects; None for missing values."""
    columns = {
        str(name): [None if pd.isna(x) else getattr(x, "item", lambda x=x: x)() for x in table[name]]
        for name in table.columns
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def table_bytes(table: pd.DataFrame, file_format: Literal["csv", "parquet"]) -> bytes:
    """The content of a CSV or Parquet file; in Parquet a column with values of several types becomes text.

    In CSV an apostrophe precedes text that a spreadsheet would read as a formula.
    """
    buffer = io.BytesIO()
    if file_format == "csv":
        texts = [name for name in table.columns if table[name].dtype in ("string", object)]
        safe = table.assign(**{name: table[name].map(_safe, na_action="ignore") for name in texts})
        safe.rename(columns=csv_cell).to_csv(buffer, index=False)
    else:
        mixed = [name for name in table.columns if table[name].dtype == object and table[name].map(type).nunique() > 1]
        table = table.astype(dict.fromkeys(mixed, "string"))
        with missing_packages_named():
            import pyarrow  # noqa: F401 - pandas writes Parquet with it
        table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _safe(value: Any) -> Any:
    return csv_cell(value) if isinstance(value, str) else value


def write_table(table: pd.DataFrame, file: Path, file_format: Literal["csv", "parquet"]) -> None:
    """Write a table to a file, atomically: an existing file is replaced once the new one is complete.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    try:
        write_file(file, table_bytes(table, file_format))
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror or error}") from error


def _lease_columns(trials: Sequence[Trial]) -> dict[str, pd.Series]:
    leases = [t.lease for t in trials]
    return {
        "label": pd.Series([lease and lease.label for lease in leases], dtype="string"),
        "owner": pd.Series([lease and lease.owner for lease in leases], dtype="string"),
        "due_at": _times([None if lease is None else lease.due_at for lease in leases]),
        "is_overdue": pd.Series([lease and lease.is_overdue for lease in leases], dtype="boolean"),
        "superseded_by": pd.Series([t.superseded_by for t in trials], dtype="Int64"),
    }


def _times(moments: Sequence[datetime | None]) -> pd.Series:
    return pd.Series(list(moments), dtype="datetime64[us, UTC]")


def _column(values: Sequence[Scalar | None]) -> pd.Series:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    if kinds == {int}:
        return pd.Series(values, dtype="Int64")
    if kinds and kinds <= {int, float}:
        return pd.Series(values, dtype="Float64")
    return pd.Series([None if value is None else str(value) for value in values], dtype="string")
