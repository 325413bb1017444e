"""Tables in other layouts: arrays, genes in rows, GEO series matrices, 10x matrices and AnnData."""

from __future__ import annotations

import csv
import io
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.config.data import LabelsSpec, TableSpec
from aifs_tune.data.arff import frame_of
from aifs_tune.data.hdf import check_contained, pandas_advice, pandas_key
from aifs_tune.data.images.folder import is_zarr, shown
from aifs_tune.data.matrix import Matrix, classes_of_one_hot, distinct_names, one_hot_note
from aifs_tune.data.table_files import (
    TableFile,
    check_kind,
    check_memory,
    check_unpacked,
    decoded_text,
    head_of,
    read_table,
    suffix_of,
)
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator


_X = ("x", "x_train", "data", "features", "values")
_Y = ("y", "y_train", "labels", "label", "target", "targets")
_NAMES = ("feature_names", "features_names", "column_names", "columns", "var_names", "names")
_HDF = (".h5", ".hdf5", ".hdf")
_ARRAYS = "X (rows, columns) and y (rows,)"
_MOST_NAMED = 3
NO_GENES = frozenset(
    {"__no_feature", "__ambiguous", "__too_low_aQual", "__not_aligned", "__alignment_not_unique"}
    | {"N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous"}
)
"""Names beside the genes in counts of HTSeq and STAR: reads that belong to none."""
_OF_GENES = frozenset({"Chr", "Start", "End", "Strand", "Length"})
"""Columns of featureCounts that describe genes; they are no samples."""
_GENE = "Gene Expression"


def read_layout(file: Path, spec: TableSpec, where: str) -> TableFile:
    """Read a table in any layout that is known.

    Genes of a matrix are columns in its ``matrix``, and what is known of each sample is its ``frame``.

    Raises
    ------
    DataError
        If it cannot be read; the text begins with ``where``.
    MissingPackageError
        If a package is missing that reads it.
    """
    suffix = suffix_of(file)
    if not file.exists():
        raise DataError(f"{where}: there is no such file; allowed: a CSV or Parquet file")
    reader: Callable[[Path, TableSpec, str], TableFile] = _of_text
    if is_zarr(file):
        check_kind(file, where)
    if file.is_dir() or suffix == ".mtx":
        reader = _of_10x
    elif suffix == ".npz":
        reader = _of_npz
    elif suffix == ".h5ad":
        reader = _of_anndata
    elif suffix in _HDF:
        reader = _of_hdf
    elif suffix == ".arff":
        reader = _of_arff
    with _readable(where):
        found = reader(file, spec, where)
    return found if spec.labels is None else _labelled(found, spec.labels, spec, where)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(
            f"{where}: says that it holds more than fits in memory ({error}); allowed: a whole file"
        ) from error
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError, BadZipFile) as error:
        text = " ".join(str(error).split())[:200]
        raise DataError(f"{where}: cannot be read ({text}); allowed: a file as its program writes it") from error


def _of_text(file: Path, spec: TableSpec, where: str) -> TableFile:
    if suffix_of(file) in (".csv", ".tsv", ".txt", ".tab", ".dat", "") and head_of(file).lstrip().startswith(b"!"):
        return _of_series_matrix(file, where)
    found = read_table(file, where, header=spec.header, sheet=spec.sheet)
    return _transposed(found, where) if spec.orientation == "columns" else found


def _transposed(found: TableFile, where: str) -> TableFile:
    """A table whose rows are the variables: their names stand in its first column, and each other column is a row."""
    import pandas

    frame = found.frame
    if frame.shape[1] < 2:
        raise DataError(f"{where}: {frame.shape[1]} column; allowed with orientation columns: a name and a column each")
    notes = list(found.notes)
    of_rows = ["" if e is None or e != e else str(e).strip() for e in frame.iloc[:, 0]]
    if no_genes := [name for name in of_rows if name in NO_GENES]:
        notes.append(_counts_line(no_genes))
        frame = frame[[name not in NO_GENES for name in of_rows]].reset_index(drop=True)
    names, n_changed = distinct_names([name for name in of_rows if name not in NO_GENES])
    samples = pandas.DataFrame({"sample": [str(name) for name in frame.columns[1:]]})
    rest = frame.iloc[:, 1:]
    of_genes = _OF_GENES if set(rest.columns) >= _OF_GENES else frozenset()
    is_text = [_is_annotation(rest.iloc[:, i]) or rest.columns[i] in of_genes for i in range(rest.shape[1])]
    if any(is_text) and not all(is_text):
        about = [str(name) for name, left_out in zip(rest.columns, is_text, strict=True) if left_out]
        notes.append(f"left out: {_some(about, 5)}, which describe the rows of the file and are no samples")
        rest = rest.iloc[:, [i for i, left_out in enumerate(is_text) if not left_out]]
        samples = pandas.DataFrame({"sample": [str(name) for name in rest.columns]})
    notes += [f"its {rest.shape[1]} columns became rows, and its {len(frame)} rows columns", *_renamed(n_changed)]
    if all(rest.iloc[:, i].dtype.kind in "biuf" for i in range(rest.shape[1])):
        values = np.ascontiguousarray(rest.to_numpy(np.float64).T)
        return TableFile(samples, tuple(notes), matrix=Matrix(values, names))
    table = pandas.DataFrame({name: rest.iloc[i].tolist() for i, name in enumerate(names)})
    table.insert(0, "sample" if "sample" not in names else "", samples["sample"])
    return TableFile(table, tuple(notes), found.separator, found.decimal)


def _is_annotation(column: Any) -> bool:
    """Whether a column holds text alone, as of names and descriptions of genes."""
    import pandas

    return bool(column.dtype.kind not in "biufM" and not pandas.to_numeric(column, errors="coerce").notna().any())


def _of_series_matrix(file: Path, where: str) -> TableFile:
    """Series matrix of the Gene Expression Omnibus: facts about samples, then a table with genes in rows."""
    import pandas

    about, table, is_table = dict[str, list[list[str]]](), list[str](), False
    for line in decoded_text(file, where).splitlines():
        if line.lower().startswith("!series_matrix_table"):
            is_table = line.lower().startswith("!series_matrix_table_begin")
        elif is_table:
            table.append(line)
        elif line.startswith("!Sample_"):
            name, *cells = next(csv.reader([line], delimiter="\t"))
            about.setdefault(name.removeprefix("!Sample_"), []).append([cell.strip() for cell in cells])
    if len(table) < 2:
        raise DataError(
            f"{where}: is a GEO series matrix without values, which then stand in a supplementary file of the series; "
            "allowed: that file, with orientation: columns and labels"
        )
    values = pandas.read_csv(io.StringIO("\n".join(table)), sep="\t", na_values=["null", "NULL"], index_col=0)
    samples = [str(name) for name in values.columns]
    frame = pandas.DataFrame({"sample": samples})
    for key, entries in _of_samples(about, len(samples)).items():
        frame[key] = entries
    names, n_changed = distinct_names([str(name) for name in values.index])
    note = f"a GEO series matrix: {len(samples)} samples of {len(names)} genes; known of each sample: "
    notes = (note + _some(list(frame.columns), 8), *_renamed(n_changed))
    return TableFile(frame, notes, matrix=Matrix(np.ascontiguousarray(values.to_numpy(np.float64).T), names))


def _of_samples(about: Mapping[str, list[list[str]]], n: int) -> dict[str, list[str | None]]:
    """What a series matrix tells of each of ``n`` samples: title, source and its characteristics, ``key: value``."""
    told: dict[str, list[str | None]] = {}
    for name in ("title", "source_name_ch1"):
        if name in about and len(about[name][0]) == n:
            told[name] = [*about[name][0]]
    for cells in about.get("characteristics_ch1", []):
        for i, cell in enumerate(cells[:n]):
            key, sign, value = cell.partition(":")
            if sign:
                told.setdefault(key.strip(), [None] * n)[i] = value.strip() or None
    return told


def _of_10x(file: Path, spec: TableSpec, where: str) -> TableFile:
    """Matrix of 10x Genomics: ``matrix.mtx``, ``barcodes.tsv`` and ``features.tsv`` or ``genes.tsv``, also packed."""
    from scipy.io import mmread

    found = [file] if file.is_file() else _ending(file, "matrix.mtx")
    if len(found) != 1:
        raise DataError(f"{where}: {len(found)} files matrix.mtx or matrix.mtx.gz; allowed in a folder: one")
    return _named_beside(
        found[0], lambda: mmread(found[0], spmatrix=False), spec, where, kind="a 10x matrix", genes_first=True
    )


def _named_beside(
    file: Path, read: Callable[[], Any], spec: TableSpec, where: str, *, kind: str, genes_first: bool
) -> TableFile:
    """A matrix whose cells and genes are named by files beside it, as those of 10x.

    Their numbers tell the rows from the columns; if they are equal, the rows are genes with ``genes_first``.
    """
    from scipy.sparse import csr_array

    prefix = file.name.partition("matrix.")[0] if "matrix." in file.name else ""
    barcodes = _beside(file.parent, prefix, ("barcodes.tsv", "barcodes.txt"), where)
    features = _beside(file.parent, prefix, ("features.tsv", "genes.tsv", "features.txt", "genes.txt"), where)
    cells = [line.split("\t")[0].strip() for line in decoded_text(barcodes, where).splitlines() if line.strip()]
    genes = [line.split("\t") for line in decoded_text(features, where).splitlines() if line.strip()]
    values = read()
    if values.shape == (len(genes), len(cells)) and (genes_first or len(genes) != len(cells)):
        values = values.T
    elif values.shape != (len(cells), len(genes)):
        raise DataError(
            f"{where}: {file.name} has {values.shape[0]} x {values.shape[1]} entries; allowed: "
            f"{len(genes)} genes ({features.name}) x {len(cells)} cells ({barcodes.name})"
        )
    made = _of_cells(csr_array(values, dtype=np.float32), cells, genes, spec, where, kind=kind)
    return replace(made, files=(file, barcodes, features))


def _of_cells(
    values: Any,
    cells: Sequence[str],
    genes: Sequence[Sequence[str]],
    spec: TableSpec,
    where: str,
    *,
    kind: str = "a 10x matrix",
) -> TableFile:
    """A matrix as 10x names it: of each gene its identifier, name and type, of which only the first must be there."""
    import pandas

    types = [gene[2].strip() for gene in genes if len(gene) > 2]
    kept, notes = _genes_among([gene[min(1, len(gene) - 1)].strip() for gene in genes], types, spec, where)
    names, n_changed = distinct_names([genes[i][min(1, len(genes[i]) - 1)].strip() for i in kept])
    if len(kept) < len(genes):
        values = values[:, kept]
    values.sort_indices()
    note = f"{kind}: {len(cells)} cells of {len(genes)} genes"
    frame = pandas.DataFrame({"barcode": list(cells)})
    return TableFile(frame, (note, *notes, *_renamed(n_changed)), matrix=Matrix(values, names))


def _genes_among(
    names: Sequence[str], types: Sequence[str], spec: TableSpec, where: str
) -> tuple[list[int], list[str]]:
    """Places of the genes, or what else ``spec`` asks for, among the variables of a matrix, and what is left out.

    ``types`` are theirs in the words of 10x, such as Gene Expression and Antibody Capture; empty if they are not told.
    """
    is_gene = [name not in NO_GENES for name in names]
    notes = [] if all(is_gene) else [_counts_line([name for name in names if name in NO_GENES])]
    kept = [i for i, is_it in enumerate(is_gene) if is_it]
    counts = Counter(types) if len(types) == len(names) else Counter[str]()
    if (unknown := next((each for each in spec.feature_types if each not in counts), None)) is not None:
        there = ", ".join(map(shown, counts)) or "none, as the file has no types"
        raise DataError(f"{where}: no features of type {unknown!r}; allowed in data.table.feature_types: {there}")
    wanted = spec.feature_types or ((_GENE,) if _GENE in counts else tuple(counts))
    others = {name: n for name, n in counts.items() if name not in wanted}
    if others:
        some = ", ".join(f"{n} of type {shown(name)}" for name, n in others.items())
        notes.append(f"left out: {some}, which are no genes; data.table.feature_types keeps them")
        kept = [i for i in kept if types[i] in wanted]
    return kept, notes


def _counts_line(names: Sequence[str]) -> str:
    return f"left out: {_some(names)}, counts of reads without a gene"


def _ending(folder: Path, name: str) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.name.endswith((name, f"{name}.gz")) and not f.name.startswith("."))


def _beside(folder: Path, prefix: str, names: Sequence[str], where: str) -> Path:
    places = [folder / f"{prefix}{name}{packed}" for name in names for packed in ("", ".gz")]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DataError(f"{where}: no {prefix}{names[0]} beside the matrix; allowed: {', '.join(names)}, also as .gz")
    return found


def _of_npz(file: Path, spec: TableSpec, where: str) -> TableFile:
    arrays, pickled = dict[str, NDArray[Any]](), list[str]()
    check_unpacked(file, where)
    with np.load(file, allow_pickle=False) as archive:
        if {"format", "shape", "data"} <= set(archive.files):
            return _named_beside(file, lambda: _sparse(file), spec, where, kind="a sparse matrix", genes_first=False)
        for name in archive.files:
            try:
                arrays[name] = np.asarray(archive[name])
            except ValueError:
                pickled.append(name)
    return _of_arrays(arrays, pickled, spec, where)


def _sparse(file: Path) -> Any:
    """Matrix that ``scipy.sparse.save_npz`` wrote."""
    from scipy.sparse import load_npz

    values = load_npz(file)
    if hasattr(values, "check_format"):
        values.check_format(full_check=True)  # indices out of range would read other memory
    return values


def _of_arrays(arrays: Mapping[str, NDArray[Any]], pickled: Sequence[str], spec: TableSpec, where: str) -> TableFile:
    import pandas

    by_lower = {name.lower(): array for name, array in arrays.items()}
    x = next((by_lower[name] for name in _X if name in by_lower), None)
    y = next((by_lower[name] for name in _Y if name in by_lower), None)
    shapes = ", ".join(f"{shown(name)} {array.shape}" for name, array in arrays.items())
    lost = f"; not read, as they hold Python objects: {_some(pickled)}" if pickled else ""
    if x is None or x.ndim != 2 or x.dtype.kind not in "biuf":
        raise DataError(f"{where}: holds {shapes or 'no arrays'}{lost}; allowed: {_ARRAYS}")
    named = next((by_lower[name] for name in _NAMES if name in by_lower and by_lower[name].shape == x.shape[1:]), None)
    columns = [f"x{i}" for i in range(x.shape[1])] if named is None else [_text(name) for name in named.tolist()]
    columns_of = dict(zip(distinct_names(columns)[0], x.T, strict=True))
    notes = [f"arrays: {shapes}{lost}"]
    if y is not None:
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if spec.predict == "classes" and (classes := classes_of_one_hot(y)) is not None:
            notes.append(one_hot_note(y))
            y = classes
        if y.shape != x.shape[:1]:
            raise DataError(f"{where}: holds {shapes}; allowed: {_ARRAYS}")
        columns_of[spec.target] = np.array([_text(e) for e in y.tolist()], object) if y.dtype.kind in "SUO" else y
    for name in filter(None, (spec.group, spec.part)):
        if name in arrays and arrays[name].shape == x.shape[:1]:
            columns_of[name] = np.array([_text(entry) for entry in arrays[name].tolist()], object)
    if "x_test" in by_lower:
        notes.append("left out: x_test; the rows of x_train are divided into training, validation and test sets")
    return TableFile(pandas.DataFrame(columns_of), tuple(notes))


def _of_hdf(file: Path, spec: TableSpec, where: str) -> TableFile:
    with missing_packages_named():
        import h5py

    with h5py.File(file, "r") as opened:
        check_contained(opened, where)
        if {"obs", "var", "X"} <= set(opened):
            return _of_anndata(file, spec, where)
        if {"barcodes", "data", "indices", "indptr", "shape"} <= set(opened.get("matrix", ())):
            return _of_10x_hdf(opened["matrix"], spec, where)
        if (key := pandas_key(opened)) is not None:
            raise DataError(
                f"{where}: was written by pandas, which stores Python objects in it that would be executed; "
                f"{pandas_advice(key)}"
            )
        datasets = {key: opened[key] for key in opened if isinstance(opened[key], h5py.Dataset)}
        check_memory(sum(dataset.size * dataset.dtype.itemsize for dataset in datasets.values()), where)
        arrays = {key: dataset[()] for key, dataset in datasets.items()}
    return _of_arrays({key: np.asarray(array) for key, array in arrays.items()}, (), spec, where)


def _of_10x_hdf(group: Any, spec: TableSpec, where: str) -> TableFile:
    from scipy.sparse import csr_array

    n_genes, n_cells = (int(n) for n in group["shape"][()])
    values = csr_array(
        (group["data"][()].astype(np.float32), group["indices"][()], group["indptr"][()]), (n_cells, n_genes)
    )
    values.check_format(full_check=True)
    features = group["features"]
    about = [features[key][()] for key in ("id", "name", "feature_type") if key in features]
    genes = [[_text(entry) for entry in each] for each in zip(*about, strict=True)]
    return _of_cells(values, [_text(cell) for cell in group["barcodes"][()]], genes, spec, where)


def _of_anndata(file: Path, spec: TableSpec, where: str) -> TableFile:
    with missing_packages_named():
        import anndata.io
        import h5py
    from scipy.sparse import csr_array, issparse

    with h5py.File(file, "r") as opened:
        check_contained(opened, where)
        layers = sorted(opened.get("layers", ()))
        if spec.layer is not None and spec.layer not in layers:
            raise DataError(f"{where}: no layer {spec.layer!r}; allowed: {', '.join(layers) or 'none, there are none'}")
        source, key = (opened, "X") if spec.layer is None else (opened["layers"], spec.layer)
        elements = (opened["obs"], opened["var"], source[key])
        is_old = not any("encoding-type" in element.attrs for element in elements[2:])
        for name, element in zip(("obs", "var", key), elements, strict=True):
            _check_encoding(element, name, where, is_old=is_old)
        if not is_old:
            obs, var, values = (anndata.io.read_elem(element) for element in elements)
    if is_old:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the age of the file, which is read all the same
            made = anndata.io.read_h5ad(file)
        obs, var, values = made.obs, made.var, made.X if spec.layer is None else made.layers[spec.layer]
    types = [str(each) for each in var["feature_types"]] if "feature_types" in var.columns else []
    kept, notes = _genes_among([str(name) for name in var.index], types, spec, where)
    names, n_changed = distinct_names([str(var.index[i]) for i in kept])
    cells = [str(name) for name in obs.index]
    frame = obs.reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    for name in frame.columns:
        if frame[name].dtype.name == "category":
            frame[name] = frame[name].astype(object)
    frame.insert(0, "cell" if "cell" not in frame.columns else "", cells)
    if issparse(values):
        values.check_format(full_check=True)  # indices out of range would read other memory
        values = csr_array(values, dtype=np.float32)
        values.sort_indices()
    else:
        values = np.asarray(values, np.float64)
    values = values if len(kept) == len(var) else values[:, kept]
    part = "X" if spec.layer is None else f"layer {shown(spec.layer)}"
    note = f"AnnData: {len(cells)} observations of {len(var)} variables from {part}; obs has {_some(list(frame), 8)}"
    return TableFile(frame, (note, *notes, *_renamed(n_changed)), matrix=Matrix(values, names))


def _check_encoding(element: Any, name: str, where: str, *, is_old: bool) -> None:
    """Raise DataError if a part of an AnnData file is in a form that is not read; before version 0.7 it has no name."""
    found = str(element.attrs.get("encoding-type", "an unknown form"))
    allowed = ("dataframe",) if name in ("obs", "var") else ("array", "csr_matrix", "csc_matrix")
    if found not in allowed and not (is_old and "encoding-type" not in element.attrs):
        raise DataError(
            f"{where}: {name} is stored as {shown(found)}; allowed: {', '.join(allowed)}; to convert it: "
            "anndata.read_h5ad(file).write_h5ad(...)"
        )


def _of_arff(file: Path, spec: TableSpec, where: str) -> TableFile:
    return TableFile(frame_of(decoded_text(file, where), where))


def _labelled(found: TableFile, labels: LabelsSpec, spec: TableSpec, where: str) -> TableFile:
    """The table with the target and other columns that a second one has, by the names of its samples."""
    place = f"labels {shown(str(labels.file))}"
    table = read_table(labels.file, place).frame
    there = ", ".join(shown(str(name)) for name in list(table.columns)[:12])
    for given in (labels.name, labels.label):
        if given is not None and given not in table.columns:
            raise DataError(f"{place}: no column {given!r}; allowed: {there}")
    samples = [_text(entry) for entry in found.frame.iloc[:, 0]]
    name = labels.name or max(table.columns, key=lambda each: len(set(map(_text, table[each])) & set(samples)))
    rows_of_name: dict[str, list[int]] = {}
    for row, entry in enumerate(table[name]):
        rows_of_name.setdefault(_text(entry), []).append(row)
    rows = [rows_of_name[one][0] if len(rows_of_name.get(one, ())) == 1 else None for one in samples]
    if all(row is None for row in rows):
        raise DataError(
            f"{place}: no entry of {name!r} ({_some(list(rows_of_name))}) is a name of {where} ({_some(samples)}); "
            "allowed: the same names, in the column that data.table.labels.name gives"
        )
    frame, target = found.frame.copy(), labels.label or spec.target
    wanted = {spec.target: target} | {each: each for each in (spec.group, spec.part, *spec.keep) if each}
    for own, its in wanted.items():
        if its in table.columns:
            entries = table[its].tolist()
            frame[own] = [None if row is None else entries[row] for row in rows]
    if spec.target not in frame.columns:
        raise DataError(f"{place}: no column {target!r}; allowed: {there}; name it in data.table.labels.label")
    notes = [f"{shown(spec.target)} is {shown(target)} of {shown(labels.file.name)}, by {shown(str(name))}"]
    twice = [one for one in samples if len(rows_of_name.get(one, ())) > 1]
    missing = [one for one in samples if one not in rows_of_name]
    other = [one for one in rows_of_name if one not in set(samples)]
    for found_, text in ((missing, "rows are not in"), (twice, "rows are several times in")):
        if found_:
            notes.append(f"{len(found_)} {text} {shown(labels.file.name)} ({_some(found_)})")
    if other:
        notes.append(f"{len(other)} entries of {shown(labels.file.name)} are no rows ({_some(other)})")
    files = (*found.files, labels.file)
    return TableFile(frame, (*found.notes, *notes), found.separator, found.decimal, found.matrix, files)


def _renamed(n_changed: int) -> list[str]:
    return [f"{n_changed} names occur several times, and got a number: NAME-1, NAME-2"] if n_changed else []


def _text(entry: Any) -> str:
    if isinstance(entry, bytes):
        return entry.decode("utf-8", errors="replace")
    return str(int(entry)) if isinstance(entry, float) and entry.is_integer() else str(entry)


def _some(entries: Sequence[str], most: int = _MOST_NAMED) -> str:
    text = ", ".join(shown(str(entry)) for entry in entries[:most])
    return f"{text}, ..." if len(entries) > most else text
