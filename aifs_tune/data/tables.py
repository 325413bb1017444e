"""Preparation of tables: rows of CSV or Parquet files as examples, filled and scaled by the training set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import DataSpec, Genes, TableSpec
from aifs_tune.data.columns import MISSING, EntrySettings, as_numbers
from aifs_tune.data.examples import PreparedExamples, open_examples, store_examples
from aifs_tune.data.file_table import FileTable, file_table, sha256_of
from aifs_tune.data.images.folder import SUBSETS, shown
from aifs_tune.data.split import Subsets, assign_subsets, fold_given_subsets, given_subsets, predicted_of
from aifs_tune.data.table_columns import (
    ReadColumn,
    ask_for_clocks,
    contents_of,
    crossing_text,
    entry_settings,
    label_findings,
    leak_findings,
    left_out_columns,
    matrix_columns,
    read_column,
    row_findings,
    thousands_hint,
    told,
    warnings_of,
)
from aifs_tune.data.table_files import NamelessError, TableFile, is_number
from aifs_tune.data.table_layouts import read_layout
from aifs_tune.data.table_rows import groups_of, left_out_rows, rows_of, rows_that_sum_up, without_rare
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


_MOST_NOTES = 10
_MOST_REASONS = 5
_MOST_CLASSES = 12
_MIN_ROWS = 10
_MAX_CLASSES = 20
_MOST_LETTERS = 80


def prepare_table(data: DataSpec, *, strict: bool = False) -> PreparedExamples:
    """Read a table, split its rows, and fill and scale its columns.

    Numbers are centred and divided by their standard deviation, and missing numbers become the median. A column of
    text with few distinct entries becomes one column per entry, 0.5 where the entry occurs and -0.5 elsewhere. All
    statistics come from the training set. Rows without any target and columns without information are left out and
    named; a target that a row lacks beside others is NaN.

    Parameters
    ----------
    data : DataSpec
        Section ``data`` of a sweep. Its ``table`` names a file, a bundled table or a simulation; by default genes are
        simulated.
    strict : bool, default False
        Raise if an entry of a column of numbers is none, instead of filling it.

    Returns
    -------
    PreparedExamples
        The examples, with one input array of shape (rows, columns).

    Raises
    ------
    DataError
        If the table cannot be used; the text names the file and the column, what was found and what is allowed.
    StorageError
        If the cache cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import prepare_table
    >>> rows = [f"{i * i % 11 + i / 100},{i * 3 % 7},{'ab'[i % 2]}" for i in range(20)]
    >>> _ = Path("samples.csv").write_text("\\n".join(["mass,age,kind", *rows]))
    >>> prepared = prepare_table(DataSpec(table={"file": "samples.csv", "target": "kind"}))
    >>> for line in prepared.lines:
    ...     print(line)
    table samples.csv: 20 rows, 3 columns
    classes: a 10, b 10
    train 12, val 4, test 4 rows of 2 inputs; 0 missing values filled with the median
    """
    spec = data.table or TableSpec()
    table, where = load_table(spec), name_of(spec)
    _check_names(table, spec, where)
    n_columns = len(table.frame.columns) + (0 if table.matrix is None else len(table.matrix.names))
    lines = [f"{where}: {len(table.frame)} rows, {n_columns} columns", *table.notes]
    used = _used_rows(table, data, spec, where, strict=strict)
    table, labels, values, columns, contents = used.table, used.labels, used.values, used.columns, used.contents
    findings = list(used.findings)
    targets_of_rows = labels if labels is not None else [repr(row) for row in np.asarray(values).tolist()]
    subsets, group_lines = _subsets(
        table, data, spec, labels, where, [f"{a}|{b}" for a, b in zip(contents, targets_of_rows, strict=True)]
    )
    of_matrix, matrix_lines = matrix_columns(table, spec, subsets["train"], where)
    columns += of_matrix
    inputs, made = _inputs(columns, subsets["train"], where)
    lines += left_out_rows(used.left_out)
    lines += [f"left out: {reason}" for reason in left_out_columns(columns, most=_MOST_REASONS)]
    lines += [*matrix_lines, *_target_notes(table, spec, values), *told(columns, most=_MOST_NOTES), *group_lines]
    findings += row_findings(contents, targets_of_rows, subsets, labels)
    usable = [column for column in columns if column.left_out is None]
    findings += leak_findings(usable, labels, values, n_rows=len(table.frame))
    if data.near_duplicates == "refuse" and (crossing := crossing_text(contents, subsets)) is not None:
        raise DataError(f"{where}: {crossing}; allowed with data.near_duplicates refuse: none")
    facts: dict[str, Any] = {"columns": made}
    if table.matrix is not None:
        facts["counts"] = "log" if table.matrix.is_log else "raw"
    y_true, classes, targets = predicted_of(labels, values, subsets["train"], spec.predicted, where)
    location = store_examples([inputs], y_true, subsets, classes=classes, targets=targets, facts=facts)
    lines += [] if labels is None else [_classes_line(labels, classes)]
    counts = ", ".join(f"{subset} {len(subsets[subset])}" for subset in SUBSETS)
    n_missing = sum(column["missing"] for column in made)
    lines.append(f"{counts} rows of {inputs.shape[1]} inputs; {n_missing} missing values filled with the median")
    lines += [f"warning: {text}" for text in findings]
    return PreparedExamples(
        open_examples(location),
        location,
        lines,
        _files(table, spec, where, used.numbers, subsets, labels),
        [column.to_json() for column in columns],
    )


@dataclass(frozen=True)
class _UsedRows:
    """Rows that are examples: their ``numbers`` in the file from 1, and how many are ``left_out`` for what reason.

    ``values`` has the shape (rows, targets), NaN where a row lacks a target.
    """

    table: TableFile
    numbers: NDArray[np.int64]
    labels: list[str] | None
    values: NDArray[np.float64] | None
    columns: list[ReadColumn]
    contents: list[str]
    left_out: Mapping[str, int]
    findings: Sequence[str]


def _used_rows(table: TableFile, data: DataSpec, spec: TableSpec, where: str, *, strict: bool) -> _UsedRows:
    """Leave out rows that sum up others, those without a target, and those of classes that are too rare."""
    is_total, words = rows_that_sum_up(table.frame)
    is_known = ~is_total & ~np.all([_missing_in(table.frame[name], spec) for name in spec.needed_columns], axis=0)
    left_out = {
        f"at the end that sum up others ({', '.join(map(shown, words))})": int(is_total.sum()),
        f"without {' or '.join(spec.needed_columns)}": int((~is_total & ~is_known).sum()),
    }
    found = _read(rows_of(table, is_known), np.flatnonzero(is_known) + 1, spec, where, left_out)
    if strict and (problems := [text for column in found.columns for text in column.problems]):
        raise DataError(f"{where}: {problems[0]}; allowed when strict: none")
    if found.labels is None:
        return found
    kept, reasons = without_rare(found.table, data, spec, found.labels, found.contents, where)
    if not reasons:
        return found
    if strict or len(set(np.array(found.labels)[kept].tolist())) < 2:
        alike = f" ({'; '.join(found.findings)})" if found.findings else ""
        allowed = "when strict: none of them" if strict else "at least 2 other classes"
        raise DataError(f"{where}: {'; '.join(_shortened(reasons))}{alike}; allowed {allowed}")
    left_out["of classes that are too rare"] = int((~kept).sum())
    less = _read(rows_of(found.table, kept), found.numbers[kept], spec, where, left_out)
    rare = [f"left out: {reason}" for reason in _shortened(reasons)]
    return replace(less, findings=[*found.findings, *rare])


def _read(
    table: TableFile, numbers: NDArray[np.int64], spec: TableSpec, where: str, left_out: Mapping[str, int]
) -> _UsedRows:
    if len(table.frame) < _MIN_ROWS:
        also = "; ".join(left_out_rows(left_out))
        raise DataError(
            f"{where}: {len(table.frame)} rows with a {' or '.join(spec.needed_columns)}; allowed: at least {_MIN_ROWS}"
            f"{f' ({also})' if also else ''}"
        )
    labels, values = _targets(table, spec, where)
    columns = _columns(table, spec, where)
    findings = [] if labels is None else label_findings(table.frame[spec.target], labels)
    return _UsedRows(table, numbers, labels, values, columns, _contents(table, columns), left_out, findings)


def _check_names(table: TableFile, spec: TableSpec, where: str) -> None:
    """Raise DataError if a column that the sweep file names is not there."""
    frame = table.frame
    of_matrix = () if table.matrix is None else table.matrix.names
    near = () if spec.group_near is None else spec.group_near.columns
    asked = [*spec.target_columns, *filter(None, (spec.group, spec.part)), *near]
    chosen = spec.columns if isinstance(spec.columns, tuple) else ()
    for column in (*asked, *spec.leave_out, *spec.keep, *chosen):
        if column not in frame.columns and (column in asked or column not in of_matrix):
            raise DataError(
                f"{where}: no column {column!r}; allowed: {listed_names(frame.columns)}{_transposed_hint(frame)}"
                f"{_sheets_hint(table)}"
            )
    if isinstance(spec.columns, int) and table.matrix is None:
        raise DataError(
            f"{where}: data.table.columns is {spec.columns}; allowed for a table whose columns are of different kinds: "
            "names of columns"
        )


def _targets(table: TableFile, spec: TableSpec, where: str) -> tuple[list[str] | None, NDArray[np.float64] | None]:
    labels = None
    if spec.has_classes:
        labels = class_labels(table.frame[spec.target], where, otherwise="data.table.predict: values")
    if not spec.predicted:
        return labels, None
    values = np.full((len(table.frame), len(spec.predicted)), np.nan)
    for i, name in enumerate(spec.predicted):
        is_known = ~_missing_in(table.frame[name], spec)
        column = table.frame[name][is_known]
        values[is_known, i] = target_numbers(column, where, entry_settings(spec, name, table)) if len(column) else []
    return labels, values


def _columns(table: TableFile, spec: TableSpec, where: str) -> list[ReadColumn]:
    """Columns of the table; those beside a matrix are used only if they are to be kept."""
    made = []
    for at, name in _candidates(table.frame, spec):
        column = read_column(name, table.frame.iloc[:, at], spec, where, table)
        if column.left_out is None and name not in spec.keep:
            if table.matrix is not None:
                column.left_out = "not one of the matrix; data.table.keep uses it"
            elif isinstance(spec.columns, tuple) and name not in spec.columns:
                column.left_out = "not in data.table.columns"
        if column.left_out is not None and (table.matrix is not None or isinstance(spec.columns, tuple)):
            column.notes.clear()
            column.warnings.clear()
        made.append(column)
    ask_for_clocks(made)
    return made


def _contents(table: TableFile, columns: Sequence[ReadColumn]) -> list[str]:
    """What identifies the content of each row."""
    usable = [column for column in columns if column.left_out is None]
    if table.matrix is None:
        return contents_of(usable, len(table.frame))
    of_matrix = table.matrix.digests()
    if not usable:
        return of_matrix
    return [f"{a}|{b}" for a, b in zip(of_matrix, contents_of(usable, len(table.frame)), strict=True)]


def _classes_line(labels: Sequence[str], classes: Sequence[str]) -> str:
    counts = Counter(labels)
    some = ", ".join(f"{shown(name)} {counts[name]}" for name in classes[:_MOST_CLASSES])
    if len(classes) <= _MOST_CLASSES:
        return f"classes: {some}"
    return f"{len(classes)} classes of {min(counts.values())} to {max(counts.values())} rows: {some}, ..."


def _candidates(frame: pandas.DataFrame, spec: TableSpec) -> list[tuple[int, str]]:
    aside = {*spec.target_columns, spec.group, spec.part}
    return [(at, str(name)) for at, name in enumerate(frame.columns) if name not in aside]


def _missing_in(column: pandas.Series[Any], spec: TableSpec) -> NDArray[np.bool_]:
    """Where a target is missing: of numbers all texts that mean so, of classes empty entries alone."""
    is_missing = np.asarray(column.isna()) | np.asarray(column.isin(list(spec.missing)))
    if column.name in spec.predicted and column.dtype.kind not in "biufmM":
        is_missing |= np.array([isinstance(entry, str) and entry.lower() in MISSING for entry in column])
    return np.asarray(is_missing, np.bool_)


def _transposed_hint(frame: pandas.DataFrame) -> str:
    """A hint for a table without names, or whose rows are the variables, such as genes, and columns the samples."""
    if sum(is_number(str(name)) for name in frame.columns) * 2 > len(frame.columns):
        return "; if the first line of the file is a row: data.table.header: false, for columns column1, column2, ..."
    if len(frame) < _MIN_ROWS or len(frame.columns) < 3 or frame.iloc[:, 0].dtype.kind in "biuf":
        return ""
    has_names = frame.iloc[:, 0].nunique() == len(frame)
    is_numeric = all(frame.iloc[:, i].dtype.kind in "biuf" for i in range(1, len(frame.columns)))
    if not has_names or not is_numeric:
        return ""
    return "; if its rows are genes and its columns samples: data.table.orientation: columns, and data.table.labels"


def _sheets_hint(table: TableFile) -> str:
    return f"; of another sheet ({listed_names(table.sheets)}): data.table.sheet" if table.sheets else ""


def _target_notes(table: TableFile, spec: TableSpec, values: NDArray[np.float64] | None) -> list[str]:
    """How targets of numbers were read, a number in them that seems to mean a missing one, and how many are missing."""
    notes = list[str]()
    for i, target in enumerate(spec.predicted):
        name, found = shown(target), as_numbers(table.frame[target], entry_settings(spec, target, table))
        if found is None or values is None:
            continue
        notes += [f"column {name}: {note}" for note in found.notes]
        notes += [f"column {name}: {hint}"] if (hint := thousands_hint(found)) is not None else []
        notes += [f"warning: column {name}: {warning}" for warning in warnings_of(found, name)]
        if n_missing := int(np.isnan(values[:, i]).sum()):
            notes.append(f"target {name}: {n_missing} rows lack it, and teach and test the other targets alone")
    return notes


def _files(
    table: TableFile,
    spec: TableSpec,
    where: str,
    numbers: NDArray[np.int64],
    subsets: Subsets,
    labels: Sequence[str] | None,
) -> FileTable:
    """Return the table of files; ``numbers`` are the row numbers below the header, from 1."""
    read = table.files or (() if spec.file is None else (spec.file,))
    hashes: dict[str, str | None] = {shown(file.name): sha256_of(file) for file in read}
    if spec.file is not None and spec.file.is_file():
        hashes[shown(spec.file.name)] = sha256_of(spec.file)
    name = shown(read[0].name) if read and spec.file not in read else where
    name = shown(spec.file.name) if spec.file is not None and spec.file.is_file() else name
    return file_table(
        [([name], f"row {number}") for number in numbers.tolist()],
        hashes or {name: None},
        subsets,
        labels=None if labels is None else [shown(label) for label in labels],
        groups=_shown_groups(table, spec, where),
        lists=[each for each in hashes if each != name],
    )


def _shown_groups(table: TableFile, spec: TableSpec, where: str) -> list[str] | None:
    """Groups in the table of files; a row without an entry is told by the entry."""
    if spec.group is not None:
        return [shown(str(entry)) for entry in table.frame[spec.group]]
    return groups_of(table, spec, where)


def name_of(spec: TableSpec) -> str:
    """Return the name of the table in messages."""
    if spec.file is not None:
        return f"table {shown(str(spec.file))}"
    if spec.bundled:
        return f"table {spec.bundled}"
    return "simulated genes" if spec.showers is None else "simulated showers"


def load_table(spec: TableSpec) -> TableFile:
    """Load the table as it is stored.

    Raises
    ------
    DataError
        If it cannot be read, has no rows or has a duplicate column.
    """
    if spec.file is None:
        return TableFile(_without_file(spec))
    where = name_of(spec)
    try:
        loaded = read_layout(spec.file, spec, where)
    except NamelessError as error:
        hint = ", or data.table.header: false for columns called column1, column2, ..."
        raise DataError(f"{error}{hint}") from error
    if loaded.frame.empty:
        names = listed_names(loaded.frame.columns)
        raise DataError(f"{where}: has a line of column names ({names}) and no rows; allowed: at least {_MIN_ROWS}")
    matrix = loaded.matrix
    if spec.counts == "log" and matrix is None:
        raise DataError(f"{where}: data.table.counts: log needs numbers alone; allowed: a table of counts, or auto")
    if matrix is None or spec.counts == "raw" or (spec.counts == "auto" and not matrix.seems_counted):
        return loaded
    return replace(loaded, matrix=matrix.log_normalised())


def _without_file(spec: TableSpec) -> pandas.DataFrame:
    if spec.bundled:
        return _bundled()
    if spec.showers is None:
        return simulate_genes(spec.simulate or Genes())
    from aifs_tune.data.simulate.showers import simulate_showers

    return simulate_showers(spec.showers)


def _bundled() -> pandas.DataFrame:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer(as_frame=True)
    frame: pandas.DataFrame = bunch.frame
    frame["target"] = [str(bunch.target_names[i]) for i in frame["target"]]
    return frame


def simulate_genes(genes: Genes) -> pandas.DataFrame:
    """Simulate the expression of many genes in few samples of three tissues, in log2 counts, with a column ``target``.

    Genes form modules of ten correlated genes. ``informative`` genes differ between tissues by 0.5 to 1.5 standard
    deviations. An eighth of the samples are twice as noisy, and the share ``missing`` of the values is not measured.
    """
    import pandas

    random = np.random.default_rng([genes.seed, 7])
    names = np.array(["liver", "kidney", "lung"])
    tissue = random.permutation(np.arange(genes.samples) % len(names))
    n_modules = -(-genes.genes // 10)
    shared = random.normal(size=(genes.samples, n_modules))[:, np.arange(genes.genes) // 10]
    values = 0.6 * shared + 0.8 * random.normal(size=(genes.samples, genes.genes))
    values *= np.where(random.random(genes.samples) < 1 / 8, 2.0, 1.0)[:, None]
    informative = random.permutation(genes.genes)[: min(genes.informative, genes.genes)]
    effects = random.choice([-1.0, 1.0], (len(names), len(informative))) * random.uniform(0.25, 0.75, len(informative))
    values[:, informative] += effects[tissue]
    values = 6 + 1.5 * values + random.normal(0, 2, genes.genes)
    values[random.random(values.shape) < genes.missing] = np.nan
    frame = pandas.DataFrame(values.round(4), columns=[f"gene{i:05d}" for i in range(genes.genes)])
    return frame.assign(target=names[tissue])


def class_labels(column: pandas.Series[Any], where: str, *, otherwise: str) -> list[str]:
    """Return the entries of the column as class names.

    Raises
    ------
    DataError
        If there are fewer than two classes or the entries hardly repeat; ``otherwise`` says how to predict numbers.
    """
    labels = [str(int(entry)) if isinstance(entry, float) and entry.is_integer() else str(entry) for entry in column]
    n = len(set(labels))
    if n < 2:
        raise DataError(f"{where}: {column.name} has {n} class(es); allowed: at least 2")
    if n > max(_MAX_CLASSES, len(labels) // 5):
        raise DataError(
            f"{where}: {column.name} has {n} distinct entries in {len(labels)} rows; allowed: classes that repeat, "
            f"or {otherwise} for numbers"
        )
    return labels


def target_numbers(
    column: pandas.Series[Any], where: str, settings: EntrySettings | None = None
) -> NDArray[np.float64]:
    """Return the column as numbers; raise DataError that names the first row without a finite number."""
    found = as_numbers(column, settings)
    strange = np.arange(len(column)) if found is None else np.flatnonzero(np.isnan(found.values))
    if found is None or len(strange):
        row, entry = list(column.items())[int(strange[0])]
        value = entry.item() if isinstance(entry, np.generic) else entry
        raise DataError(f"{where}: {column.name} is {value!r} in row {int(str(row)) + 1}; allowed: finite numbers")
    return found.values


def _subsets(
    table: TableFile,
    data: DataSpec,
    spec: TableSpec,
    labels: list[str] | None,
    where: str,
    contents: Sequence[str],
) -> tuple[Subsets, list[str]]:
    frame, groups, lines = table.frame, groups_of(table, spec, where), list[str]()
    if spec.group_near is not None and groups is not None:
        near, sizes = spec.group_near, Counter(groups).values()
        lines.append(
            f"{len(sizes)} groups of 1 to {max(sizes)} near rows, which stay in one part: rows whose "
            f"{listed_names(near.columns, 3)} differ by at most {near.distance:g} in total, and rows linked by them"
        )
    if spec.group is not None and (n_empty := int(frame[spec.group].isna().sum())):
        lines.append(f"{n_empty} rows have no {spec.group}: each counts as a group of its own")
    strata = labels or ["all"] * len(frame)
    if spec.part is not None:
        subsets = given_subsets(list(frame[spec.part]), f"{where}: {spec.part}")
        n = len(frame)
        folded = fold_given_subsets(data.split.fold, subsets, n, where, contents=contents, groups=groups, labels=strata)
        return folded, lines
    return assign_subsets(data.split, where, contents=contents, groups=groups, labels=strata), lines


def _inputs(
    columns: Sequence[ReadColumn], train: NDArray[np.int32], where: str
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Return the inputs (n, columns), and how each was made; a column without information is marked as left out."""
    arrays, made = [], []
    for column in columns:
        for array, how in column.arrays(train):
            arrays.append(array)
            made.append({"name": column.name, **how})
    if not arrays:
        found = "; ".join(left_out_columns(columns, most=_MOST_REASONS)) or "only the target"
        raise DataError(
            f"{where}: no column to learn from ({found}); allowed: at least one column of numbers, or data.table.keep"
        )
    return np.stack(arrays, axis=1).astype(np.float32), made


def _shortened(reasons: Sequence[str], most: int = 5) -> list[str]:
    if len(reasons) <= most:
        return list(reasons)
    return [*reasons[:most], f"{len(reasons) - most} more columns"]


def listed_names(names: Iterable[str], most: int = 12) -> str:
    """Return the first names as text, and the number of all if there are more."""
    some = ", ".join(shown(str(name)[:_MOST_LETTERS]) for name in list(names)[:most])
    n = len(list(names))
    return some if n <= most else f"{some}, ... ({n} in all)"
