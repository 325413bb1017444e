"""Preparation of tables: rows of CSV or Parquet files as examples, filled and scaled by the training set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import DataSpec, Genes, TableSpec
from aifs_tune.data.examples import PreparedExamples, open_examples, store_examples
from aifs_tune.data.file_table import FileTable, file_table, sha256_of
from aifs_tune.data.images.folder import SUBSETS, shown
from aifs_tune.data.split import Subsets, assign_subsets, fold_given_subsets, given_subsets, scaled
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


MAX_LEVELS = 20
"""Largest number of distinct entries of a text column; columns with more, such as identifiers, are left out."""
_MIN_ROWS = 10


def prepare_table(data: DataSpec) -> PreparedExamples:
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
    >>> rows = [f"{i},{i % 7},{'ab'[i % 2]}" for i in range(20)]
    >>> _ = Path("samples.csv").write_text("\\n".join(["mass,age,kind", *rows]))
    >>> prepared = prepare_table(DataSpec(table={"file": "samples.csv", "target": "kind"}))
    >>> for line in prepared.lines:
    ...     print(line)
    table samples.csv: 20 rows, 3 columns
    classes: a 10, b 10
    train 12, val 4, test 4 rows of 2 inputs; 0 missing values filled with the median
    """
    spec = data.table or TableSpec()
    frame, where = load_table(spec), name_of(spec)
    lines = [f"{where}: {len(frame)} rows, {len(frame.columns)} columns"]
    for column in (spec.target, *filter(None, (spec.group, spec.part)), *spec.leave_out):
        if column not in frame.columns:
            raise DataError(f"{where}: no column {column!r}; allowed: {listed_names(frame.columns)}")
    is_known = frame[spec.target].notna()
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
    subsets = _subsets(frame, data, spec, labels, where)
    inputs, columns, dropped = _inputs(frame, spec, subsets["train"], where)
    lines += [f"left out: {reason}" for reason in dropped]
    facts = {"columns": columns}
    if labels is not None:
        classes = tuple(sorted(set(labels)))
        y_true: NDArray[Any] = np.array([classes.index(label) for label in labels], np.int32)
        location = store_examples([inputs], y_true, subsets, classes=classes, facts=facts)
        lines.append("classes: " + ", ".join(f"{shown(c)} {labels.count(c)}" for c in classes))
    else:
        values = finite_numbers(frame[spec.target], where)[:, None]
        y_true, targets = scaled(values, subsets["train"], {spec.target: spec.unit}, where)
        location = store_examples([inputs], y_true, subsets, targets=targets, facts=facts)
    counts = ", ".join(f"{subset} {len(subsets[subset])}" for subset in SUBSETS)
    n_missing = sum(column["missing"] for column in columns)
    lines.append(f"{counts} rows of {inputs.shape[1]} inputs; {n_missing} missing values filled with the median")
    return PreparedExamples(
        open_examples(location), location, lines, _files(spec, where, numbers, subsets, labels, frame)
    )


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


def load_table(spec: TableSpec) -> pandas.DataFrame:
    """Load the table as it is stored.

    Raises
    ------
    DataError
        If it cannot be read, has no rows or has a duplicate column.
    """
    if spec.file is None:
        return _bundled() if spec.bundled else simulate_genes(spec.simulate or Genes())
    where = name_of(spec)
    frame = read_frame(spec.file, where)
    if frame.empty:
        raise DataError(f"{where}: has no rows; allowed: at least {_MIN_ROWS}")
    return frame


def read_frame(file: Path, where: str) -> pandas.DataFrame:
    """Read a CSV or Parquet file into a DataFrame whose column names are strings.

    Raises
    ------
    DataError
        If it cannot be read or has a duplicate column; the text begins with ``where``.
    """
    import pandas

    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            frame = pandas.read_parquet(file)
        else:
            separator = _separator(file)
            header = pandas.read_csv(file, nrows=1, header=None, sep=separator, dtype=str)
            names = [str(name).strip() for name in header.iloc[0]]
            twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
            if twice is not None:
                raise DataError(f"{where}: column {twice!r} is duplicated; allowed: distinct names in the first line")
            frame = pandas.read_csv(file, sep=separator, low_memory=False)
            frame.columns = pandas.Index(names)
    except FileNotFoundError:
        raise DataError(f"{where}: there is no such file; allowed: a CSV or Parquet file") from None
    except (OSError, ValueError, UnicodeError, IndexError) as error:
        text = " ".join(str(error).split())[:200]
        raise DataError(f"{where}: cannot be read as a table ({text}); allowed: CSV or Parquet") from error
    frame.columns = pandas.Index([str(name) for name in frame.columns])
    return frame


def _separator(file: Path) -> str:
    """Return the most frequent of comma, semicolon and tab in the first line."""
    with file.open(encoding="utf-8-sig") as opened:
        first = opened.readline()
    return max((",", ";", "\t"), key=first.count)


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
    if n > max(MAX_LEVELS, len(labels) // 5):
        raise DataError(
            f"{where}: {column.name} has {n} distinct entries in {len(labels)} rows; allowed: classes that repeat, "
            f"or {otherwise} for numbers"
        )
    return labels


def finite_numbers(column: pandas.Series[Any], where: str) -> NDArray[np.float64]:
    """Return the column as numbers; raise DataError that names the first row without a finite number."""
    import pandas

    numbers = np.asarray(pandas.to_numeric(column, errors="coerce"), np.float64)
    strange = np.flatnonzero(~np.isfinite(numbers))
    if len(strange):
        row, entry = list(column.items())[int(strange[0])]
        value = entry.item() if isinstance(entry, np.generic) else entry
        raise DataError(f"{where}: {column.name} is {value!r} in row {int(str(row)) + 1}; allowed: finite numbers")
    return numbers


def _subsets(frame: pandas.DataFrame, data: DataSpec, spec: TableSpec, labels: list[str] | None, where: str) -> Subsets:
    import pandas

    rest = frame.drop(columns=[c for c in (spec.group, *spec.leave_out) if c is not None])
    contents = [format(code, "x") for code in pandas.util.hash_pandas_object(rest, index=False)]
    groups = None if spec.group is None else [str(entry) for entry in frame[spec.group]]
    strata = labels or ["all"] * len(frame)
    if spec.part is not None:
        subsets = given_subsets(list(frame[spec.part]), f"{where}: {spec.part}")
        for subset in ("train", "val") if labels is not None else ():
            assert labels is not None
            missing = sorted(set(labels) - {labels[i] for i in subsets[subset]})
            if missing:
                raise DataError(f"{where}: no {subset} row of class {missing[0]}; allowed: every class in {subset}")
        n = len(frame)
        return fold_given_subsets(data.split.fold, subsets, n, where, contents=contents, groups=groups, labels=strata)
    return assign_subsets(data.split, where, contents=contents, groups=groups, labels=strata)


def _inputs(
    frame: pandas.DataFrame, spec: TableSpec, train: NDArray[np.int32], where: str
) -> tuple[NDArray[np.float32], list[dict[str, Any]], list[str]]:
    """Return the inputs (n, columns), how each was made, and the columns left out with reasons."""
    aside = {spec.target, spec.group, spec.part, *spec.leave_out}
    arrays, columns, dropped = [], [], list[str]()
    for name in frame.columns:
        if name in aside:
            continue
        made, reason = _column(frame[name], train)
        if reason is not None:
            dropped.append(f"column {shown(name)}, {reason}")
        for array, how in made:
            arrays.append(array)
            columns.append({"name": name, **how})
    if not arrays:
        found = "; ".join(dropped) or "only the target"
        raise DataError(f"{where}: no column to learn from ({found}); allowed: at least one column of numbers")
    return np.stack(arrays, axis=1).astype(np.float32), columns, _shortened(dropped)


def _column(
    column: pandas.Series[Any], train: NDArray[np.int32]
) -> tuple[list[tuple[NDArray[np.float64], dict[str, Any]]], str | None]:
    import pandas

    if column.dtype.kind not in "biuf":
        levels = sorted({str(entry) for entry in column.iloc[train].dropna()})
        numbers = pandas.to_numeric(column, errors="coerce")
        if numbers.notna().sum() < 0.9 * column.notna().sum():
            if not 2 <= len(levels) <= MAX_LEVELS:
                return [], f"text with {len(levels)} distinct entries"
            entries = column.astype(str)
            ones = [np.asarray(entries == level, np.float64) - 0.5 for level in levels]
            missing = int(column.isna().sum())
            return [(one, {"level": level, "missing": missing}) for one, level in zip(ones, levels, strict=True)], None
        column = numbers
    values = np.asarray(column, np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    known = values[train][~np.isnan(values[train])]
    if len(known) == 0:
        return [], "no value in the training set"
    centre, spread, median = float(known.mean()), float(known.std()), float(np.median(known))
    if not spread > 1e-12 * max(1.0, abs(centre)):
        return [], "constant in the training set"
    missing = int(np.isnan(values).sum())
    filled = (np.where(np.isnan(values), median, values) - centre) / spread
    return [(filled, {"centre": centre, "scale": spread, "median": median, "missing": missing})], None


def _shortened(reasons: Sequence[str], most: int = 5) -> list[str]:
    if len(reasons) <= most:
        return list(reasons)
    return [*reasons[:most], f"{len(reasons) - most} more columns"]


def listed_names(names: Iterable[str], most: int = 12) -> str:
    """Return the first names as text, and the number of all if there are more."""
    some = ", ".join(shown(str(name)) for name in list(names)[:most])
    n = len(list(names))
    return some if n <= most else f"{some}, ... ({n} in all)"
