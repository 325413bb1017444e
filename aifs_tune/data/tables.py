"""Preparation of tables: rows of CSV or Parquet files as examples, filled and scaled by the training set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import DataSpec, Genes, TableSpec
from aifs_tune.data.columns import MISSING, EntrySettings, as_numbers
from aifs_tune.data.examples import PreparedExamples, open_examples, store_examples
from aifs_tune.data.file_table import FileTable, file_table, sha256_of
from aifs_tune.data.images.folder import SUBSETS, shown
from aifs_tune.data.split import Subsets, assign_subsets, fold_given_subsets, given_subsets, scaled
from aifs_tune.data.table_columns import (
    ReadColumn,
    contents_of,
    crossing_text,
    entry_settings,
    label_findings,
    leak_findings,
    read_column,
    row_findings,
)
from aifs_tune.data.table_files import NamelessError, TableFile, is_number, read_table
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


_MOST_NOTES = 10
_MIN_ROWS = 10
_MAX_CLASSES = 20


def prepare_table(data: DataSpec, *, strict: bool = False) -> PreparedExamples:
    """Read a table, split its rows, and fill and scale its columns.

    Numbers are centred and divided by their standard deviation, and missing numbers become the median. A column of
    text with few distinct entries becomes one column per entry, 0.5 where the entry occurs and -0.5 elsewhere. All
    statistics come from the training set. Rows without a target and columns without information are left out and
    named.

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
    loaded, where = load_table(spec), name_of(spec)
    frame = loaded.frame
    lines = [f"{where}: {len(frame)} rows, {len(frame.columns)} columns", *loaded.notes]
    named = (spec.target, *filter(None, (spec.group, spec.part)), *spec.leave_out, *spec.keep)
    for column in named:
        if column not in frame.columns:
            raise DataError(
                f"{where}: no column {column!r}; allowed: {listed_names(frame.columns)}{_transposed_hint(frame)}"
            )
    is_known = ~_missing_in(frame[spec.target], spec)
    numbers = np.flatnonzero(is_known) + 1
    if not is_known.all():
        lines.append(f"left out: {int((~is_known).sum())} rows without {spec.target}")
        frame = frame[is_known].reset_index(drop=True)
    if len(frame) < _MIN_ROWS:
        raise DataError(f"{where}: {len(frame)} rows with a {spec.target}; allowed: at least {_MIN_ROWS}")
    labels = (
        class_labels(frame[spec.target], where, otherwise="data.table.predict: values")
        if spec.predict == "classes"
        else None
    )
    values = None if labels is not None else target_numbers(frame[spec.target], where, entry_settings(spec))
    columns = [read_column(name, frame.iloc[:, at], spec, where) for at, name in _candidates(frame, spec)]
    usable = [column for column in columns if column.left_out is None]
    contents = contents_of(usable, len(frame))
    targets_of_rows = labels if labels is not None else [repr(value) for value in np.asarray(values).tolist()]
    subsets, group_lines = _subsets(
        frame, data, spec, labels, where, [f"{a}|{b}" for a, b in zip(contents, targets_of_rows, strict=True)]
    )
    inputs, made = _inputs(columns, subsets["train"], where)
    lines += [f"left out: {reason}" for reason in _shortened(_left_out(columns))]
    lines += [
        *_target_notes(frame[spec.target], spec),
        *[text for column in columns for text in column.notes][:_MOST_NOTES],
    ]
    lines += group_lines
    findings = [*label_findings(frame[spec.target], labels), *row_findings(contents, targets_of_rows, subsets, labels)]
    findings += leak_findings(usable, labels, values, n_rows=len(frame))
    if strict and (problems := [text for column in columns for text in column.problems]):
        raise DataError(f"{where}: {problems[0]}; allowed when strict: none")
    if data.near_duplicates == "refuse" and (crossing := crossing_text(contents, subsets)) is not None:
        raise DataError(f"{where}: {crossing}; allowed with data.near_duplicates refuse: none")
    facts = {"columns": made}
    if labels is not None:
        classes = tuple(sorted(set(labels)))
        y_true: NDArray[Any] = np.array([classes.index(label) for label in labels], np.int32)
        location = store_examples([inputs], y_true, subsets, classes=classes, facts=facts)
        lines.append("classes: " + ", ".join(f"{shown(c)} {labels.count(c)}" for c in classes))
    else:
        assert values is not None
        y_true, targets = scaled(values[:, None], subsets["train"], {spec.target: spec.unit}, where)
        location = store_examples([inputs], y_true, subsets, targets=targets, facts=facts)
    counts = ", ".join(f"{subset} {len(subsets[subset])}" for subset in SUBSETS)
    n_missing = sum(column["missing"] for column in made)
    lines.append(f"{counts} rows of {inputs.shape[1]} inputs; {n_missing} missing values filled with the median")
    lines += [f"warning: {text}" for text in findings]
    return PreparedExamples(
        open_examples(location),
        location,
        lines,
        _files(spec, where, numbers, subsets, labels, frame),
        [column.to_json() for column in columns],
    )


def _candidates(frame: pandas.DataFrame, spec: TableSpec) -> list[tuple[int, str]]:
    aside = {spec.target, spec.group, spec.part}
    return [(at, str(name)) for at, name in enumerate(frame.columns) if name not in aside]


def _missing_in(column: pandas.Series[Any], spec: TableSpec) -> NDArray[np.bool_]:
    """Where a target is missing: of numbers all texts that mean so, of classes empty entries alone."""
    is_missing = np.asarray(column.isna()) | np.asarray(column.isin(list(spec.missing)))
    if spec.predict == "values" and column.dtype.kind not in "biufmM":
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
    return (
        "; if its rows are genes and its columns samples, transpose it and add a column with the class of each sample"
    )


def _target_notes(column: pandas.Series[Any], spec: TableSpec) -> list[str]:
    """How a target of numbers was read, and a number in it that seems to mean a missing one."""
    found = as_numbers(column, entry_settings(spec)) if spec.predict == "values" else None
    if found is None:
        return []
    notes = [f"column {shown(spec.target)}: {note}" for note in found.notes]
    if found.sentinel is not None:
        asked = f"is {found.sentinel:g} a missing value? If so: data.table.missing: [{found.sentinel:g}]"
        notes.append(f"warning: column {shown(spec.target)}: {asked}")
    return notes


def _left_out(columns: Sequence[ReadColumn]) -> list[str]:
    return [f"column {column.shown}, {column.left_out}" for column in columns if column.left_out is not None]


def _files(
    spec: TableSpec,
    where: str,
    numbers: NDArray[np.int64],
    subsets: Subsets,
    labels: Sequence[str] | None,
    frame: pandas.DataFrame,
) -> FileTable:
    """Return the table of files; ``numbers`` are the row numbers below the header, from 1."""
    name = where if spec.file is None else shown(spec.file.name)
    return file_table(
        [([name], f"row {number}") for number in numbers.tolist()],
        {name: None if spec.file is None else sha256_of(spec.file)},
        subsets,
        labels=None if labels is None else [shown(label) for label in labels],
        groups=None if spec.group is None else [shown(str(entry)) for entry in frame[spec.group]],
    )


def name_of(spec: TableSpec) -> str:
    """Return the name of the table in messages."""
    if spec.file is not None:
        return f"table {shown(str(spec.file))}"
    return f"table {spec.bundled}" if spec.bundled else "simulated genes"


def load_table(spec: TableSpec) -> TableFile:
    """Load the table as it is stored.

    Raises
    ------
    DataError
        If it cannot be read, has no rows or has a duplicate column.
    """
    if spec.file is None:
        return TableFile(_bundled() if spec.bundled else simulate_genes(spec.simulate or Genes()))
    where = name_of(spec)
    try:
        loaded = read_table(spec.file, where, header=spec.header)
    except NamelessError as error:
        hint = ", or data.table.header: false for columns called column1, column2, ..."
        raise DataError(f"{error}{hint}") from error
    if loaded.frame.empty:
        raise DataError(f"{where}: has no rows; allowed: at least {_MIN_ROWS}")
    return loaded


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
    frame: pandas.DataFrame,
    data: DataSpec,
    spec: TableSpec,
    labels: list[str] | None,
    where: str,
    contents: Sequence[str],
) -> tuple[Subsets, list[str]]:
    groups, lines = None, list[str]()
    if spec.group is not None:
        empty = np.asarray(frame[spec.group].isna())
        entries = enumerate(zip(frame[spec.group].tolist(), empty.tolist(), strict=True))
        groups = [f"row {row}" if is_empty else str(entry) for row, (entry, is_empty) in entries]
        if empty.any():
            lines.append(f"{int(empty.sum())} rows have no {spec.group}: each counts as a group of its own")
    strata = labels or ["all"] * len(frame)
    if spec.part is not None:
        subsets = given_subsets(list(frame[spec.part]), f"{where}: {spec.part}")
        for subset in ("train", "val") if labels is not None else ():
            assert labels is not None
            missing = sorted(set(labels) - {labels[i] for i in subsets[subset]})
            if missing:
                raise DataError(f"{where}: no {subset} row of class {missing[0]}; allowed: every class in {subset}")
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
        found = "; ".join(_shortened(_left_out(columns))) or "only the target"
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
    some = ", ".join(shown(str(name)) for name in list(names)[:most])
    n = len(list(names))
    return some if n <= most else f"{some}, ... ({n} in all)"
