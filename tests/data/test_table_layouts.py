"""Tables in other layouts than rows of a CSV file: arrays, genes in rows, GEO, 10x, AnnData."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
import zarr
from pydantic import ValidationError

from aifs_tune.config.data import DataSpec, FramesSpec, LabelsSpec, SeriesSpec, TableSpec
from aifs_tune.data import PreparedExamples, prepare_table
from aifs_tune.data.frames.manifest import load_manifest
from aifs_tune.data.images.folder import scan_folder
from aifs_tune.data.matrix import Matrix, distinct_names
from aifs_tune.data.new_files import NewExamples, Preparation, files_in
from aifs_tune.data.series.files import load_collection
from aifs_tune.data.table_files import read_table
from aifs_tune.data.table_layouts import read_layout
from aifs_tune.errors import DataError, MissingPackageError

N, GENES = 90, 40
RANDOM = np.random.default_rng(0)
COUNTS = RANDOM.poisson(4, (N, GENES))
COUNTS[:, 7] *= 9 * (1 + np.arange(N) % 2)
TISSUE = [["liver", "lung"][i % 2] for i in range(N)]
CELLS = [f"AAAC{i}-1" for i in range(N)]
NAMES = [f"G{i}" for i in range(GENES)]


def prepared(file: Path, **section: Any) -> PreparedExamples:
    return prepare_table(DataSpec(table=TableSpec(file=file, **({"target": "tissue"} | section))))


def new_rows(found: PreparedExamples, file: Path, **section: Any) -> NewExamples:
    data = DataSpec(table=TableSpec(file=file, **({"target": "tissue"} | section)))
    (batch,) = Preparation("table", data, found.examples.facts).batches(files_in([file]))
    return batch


def log_counts() -> Any:
    return np.log1p(1e4 * COUNTS / COUNTS.sum(axis=1, keepdims=True))


def values(found: PreparedExamples) -> tuple[list[str], Any]:
    """Names of the inputs and their values before they were scaled."""
    columns = found.examples.facts["columns"]
    scale, centre = ([column[key] for column in columns] for key in ("scale", "centre"))
    return [column["name"] for column in columns], found.examples.inputs[0] * np.array(scale) + np.array(centre)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    frame = pd.DataFrame({"cell": CELLS, "age": RANDOM.integers(20, 80, N), "kind": TISSUE})
    frame.sample(frac=1, random_state=1).to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path / "labels.csv"


def genes_in_rows(folder: Path) -> Path:
    pd.DataFrame(COUNTS.T, NAMES, CELLS).to_csv(folder / "genes.tsv", sep="\t")
    return folder / "genes.tsv"


def tenx(folder: Path) -> Path:
    (folder / "tenx").mkdir()
    scipy.io.mmwrite(folder / "tenx" / "matrix.mtx", scipy.sparse.coo_array(COUNTS.T))
    (folder / "tenx" / "barcodes.tsv").write_text("\n".join(CELLS) + "\n")
    (folder / "tenx" / "genes.tsv").write_text("\n".join(f"ENS{i}\t{name}" for i, name in enumerate(NAMES)))
    return folder / "tenx"


def tenx_packed(folder: Path) -> Path:
    plain = tenx(folder)
    (plain / "genes.tsv").rename(plain / "features.tsv")
    for file in list(plain.iterdir()):
        (plain / f"GSM1_{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    return plain


def tenx_hdf(folder: Path) -> Path:
    cells = scipy.sparse.csr_array(COUNTS)
    with h5py.File(folder / "filtered.h5", "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = cells.data, cells.indices, cells.indptr
        group["shape"], group["barcodes"] = [GENES, N], np.array(CELLS, "S")
        group["features/id"] = np.array([f"ENS{i}" for i in range(GENES)], "S")
        group["features/name"] = np.array(NAMES, "S")
    return folder / "filtered.h5"


def sparse_npz(folder: Path) -> Path:
    plain = tenx(folder)
    (plain / "matrix.mtx").unlink()
    scipy.sparse.save_npz(plain / "matrix.npz", scipy.sparse.csr_array(COUNTS))
    return plain / "matrix.npz"


def sparse_npz_with_genes_in_rows(folder: Path) -> Path:
    file = sparse_npz(folder)
    scipy.sparse.save_npz(file, scipy.sparse.coo_array(COUNTS.T))
    return file


def of_anndata(folder: Path, x: Any, name: str = "cells.h5ad") -> Path:
    with pd.option_context("future.infer_string", False):
        obs = pd.DataFrame({"tissue": pd.Categorical(TISSUE), "n": COUNTS.sum(axis=1)}, index=CELLS)
        made = anndata.AnnData(x, obs, pd.DataFrame(index=NAMES))
        made.layers["counts"] = scipy.sparse.csr_array(COUNTS.astype(np.float32))
        made.write_h5ad(folder / name)
    return folder / name


@pytest.mark.parametrize(
    "make", [genes_in_rows, tenx, tenx_packed, tenx_hdf, sparse_npz, sparse_npz_with_genes_in_rows]
)
def test_counts_of_genes_with_labels_in_a_second_file(
    make: Callable[[Path], Path], labels: Path, tmp_path: Path
) -> None:
    section: dict[str, Any] = {"labels": {"file": labels, "label": "kind"}, "columns": 5}
    section |= {"orientation": "columns"} if make is genes_in_rows else {}
    file = make(tmp_path)
    found = prepared(file, **section)
    names, made = values(found)
    train = log_counts()[found.examples.train]
    best = np.sort(np.argsort(-train.var(axis=0))[:5])
    assert names == [NAMES[i] for i in best]
    np.testing.assert_allclose(made, log_counts()[:, best], atol=1e-4)
    assert [found.examples.classes[i] for i in found.examples.y_true] == TISSUE
    assert "learnt from: the 5 of 40 columns that vary most in the training rows" in found.lines
    assert "counts became log(1 + 10,000 count / sum of the row); data.table.counts: raw keeps them" in found.lines
    np.testing.assert_allclose(new_rows(found, file, **section).inputs[0], found.examples.inputs[0], atol=1e-5)
    raw = prepared(file, **section | {"counts": "raw", "columns": ["G3", "G1"]})
    assert values(raw)[0] == ["G3", "G1"]
    np.testing.assert_allclose(values(raw)[1], COUNTS[:, [3, 1]], atol=1e-4)
    assert "labels.csv" in found.files.path


def test_sparse_arrays_need_their_names_and_indices_that_are_there(labels: Path, tmp_path: Path) -> None:
    file = sparse_npz(tmp_path)
    section = {"labels": {"file": labels, "label": "kind"}}
    (file.parent / "barcodes.tsv").rename(tmp_path / "barcodes.tsv")
    with pytest.raises(DataError, match=r"no barcodes\.tsv beside the matrix; allowed: barcodes\.tsv, barcodes\.txt"):
        prepared(file, **section)
    (tmp_path / "barcodes.tsv").rename(file.parent / "barcodes.tsv")
    scipy.sparse.save_npz(file, scipy.sparse.csc_array(COUNTS[:, 1:]))
    with pytest.raises(DataError, match=r"matrix\.npz has 90 x 39 entries; allowed: 40 genes .* x 90 cells"):
        prepared(file, **section)
    with np.load(file) as archive:
        spoilt = {**archive, "shape": COUNTS.shape, "indices": archive["indices"] + 10**6}
    np.savez(file, **spoilt)
    with pytest.raises(DataError, match=r"matrix\.npz.* cannot be read"):
        prepared(file, **section)


def test_of_a_square_sparse_matrix_the_rows_are_cells(tmp_path: Path) -> None:
    square = np.arange(1600).reshape(40, 40)
    file = sparse_npz(tmp_path)
    (file.parent / "barcodes.tsv").write_text("\n".join(CELLS[:40]))
    scipy.sparse.save_npz(file, scipy.sparse.csr_array(square))
    table = read_layout(file, TableSpec(file=file), "table matrix.npz")
    assert table.matrix is not None
    np.testing.assert_array_equal(table.matrix.values.toarray(), square)


@pytest.mark.parametrize("is_sparse", [True, False])
def test_anndata(is_sparse: bool, tmp_path: Path) -> None:
    x = np.log2(COUNTS + 1.0)
    file = of_anndata(tmp_path, scipy.sparse.csr_array(x) if is_sparse else x)
    found = prepared(file)
    np.testing.assert_allclose(values(found)[1], x, atol=1e-4)
    assert values(found)[0] == NAMES, "fewer than 2000"
    assert not any("counts became" in line for line in found.lines)
    np.testing.assert_allclose(new_rows(found, file).inputs[0], found.examples.inputs[0], atol=1e-5)
    layer = prepared(file, layer="counts", columns=["G7"], keep=["n"], leave_out=["G2"])
    assert values(layer)[0] == ["n", "G7"]
    np.testing.assert_allclose(values(layer)[1][:, 1], log_counts()[:, 7], atol=1e-4)
    beside = {row["column"]: row["left_out"] for row in found.columns if row["column"] == "n"}
    assert beside == {"n": "not one of the matrix; data.table.keep uses it"}
    with pytest.raises(DataError, match=r"no layer 'raw'; allowed: counts"):
        prepared(file, layer="raw")


@pytest.mark.parametrize("is_sparse", [True, False])
def test_anndata_from_before_its_forms_had_names(is_sparse: bool, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        if is_sparse:
            cells = scipy.sparse.csr_array(COUNTS.astype(np.float32))
            group = file.create_group("X")
            group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", cells.shape
            group["data"], group["indices"], group["indptr"] = cells.data, cells.indices, cells.indptr
        else:
            file["X"] = COUNTS.astype(np.float32)
        about = list(zip(np.array(CELLS, "S20"), np.array(TISSUE, "S9"), strict=True))
        file["obs"] = np.array(about, [("index", "S20"), ("tissue", "S9")])
        file["var"] = np.array([(name,) for name in np.array(NAMES, "S9")], [("index", "S9")])
    found = prepared(tmp_path / "old.h5ad")
    np.testing.assert_allclose(values(found)[1], log_counts(), atol=1e-4)
    assert found.examples.classes == ("liver", "lung")


def test_anndata_of_another_version_is_refused(tmp_path: Path) -> None:
    for place in ("obs", "X"):
        file = of_anndata(tmp_path, COUNTS.astype(np.float32), f"{place}.h5ad")
        with h5py.File(file, "a") as opened:
            opened[place].attrs["encoding-type"] = "odd"
        with pytest.raises(DataError, match=rf"{place} is stored as odd; allowed: .*read_h5ad\(file\).write_h5ad"):
            prepared(file)


def test_columns_are_chosen_by_the_training_part_alone(tmp_path: Path) -> None:
    part = np.array(["train"] * 50 + ["val"] * 20 + ["test"] * 20)
    x = RANDOM.normal(size=(N, GENES))
    x[:50, 3] *= 5
    x[50:, 8] *= 50
    with pd.option_context("future.infer_string", False):
        obs = pd.DataFrame({"tissue": TISSUE, "part": part}, index=CELLS)
        anndata.AnnData(x, obs, pd.DataFrame(index=NAMES)).write_h5ad(tmp_path / "a.h5ad")
    found = prepared(tmp_path / "a.h5ad", part="part", columns=1)
    assert values(found)[0] == ["G3"]


def test_what_reads_anndata_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = of_anndata(tmp_path, COUNTS.astype(np.float32))
    for name in [name for name in sys.modules if name.split(".")[0] == "anndata"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(MissingPackageError, match=r"anndata is not installed; .*pip install 'aifs-tune\[anndata\]'"):
        prepared(file)


def series_matrix(folder: Path, *, has_values: bool = True) -> Path:
    def line(name: str, cells: list[str]) -> str:
        return "\t".join([name, *(f'"{cell}"' for cell in cells)])

    lines = [
        '!Series_title\t"Tumours"',
        line("!Sample_title", [f"sample {i}" for i in range(N)]),
        line("!Sample_geo_accession", [f"GSM{i}" for i in range(N)]),
        line("!Sample_characteristics_ch1", [f"tissue: {tissue}" for tissue in TISSUE]),
        line("!Sample_characteristics_ch1", [f"age: {i * 7 % 50}" if i % 3 else f"sex: {i % 2}" for i in range(N)]),
        "!series_matrix_table_begin",
        line('"ID_REF"', [f"GSM{i}" for i in range(N)]),
    ]
    for gene, row in zip(NAMES, np.log2(COUNTS.T + 1), strict=True):
        entries = ["null" if gene == "G2" and i == 4 else f"{value:.4f}" for i, value in enumerate(row)]
        lines += ["\t".join([f'"{gene}"', *entries])] * has_values
    lines.append("!series_matrix_table_end")
    (folder / "GSE1_series_matrix.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder / "GSE1_series_matrix.txt.gz"


def test_a_geo_series_matrix_with_the_characteristics_of_its_samples(tmp_path: Path) -> None:
    file = series_matrix(tmp_path)
    found = prepared(file, keep=["age"])
    names, made = values(found)
    assert names == ["age", *NAMES]
    np.testing.assert_allclose(made[:, 8], np.log2(COUNTS[:, 7] + 1), atol=1e-3)
    assert found.examples.facts["columns"][3]["missing"] == 1
    line = "a GEO series matrix: 90 samples of 40 genes; known of each sample: sample, title, tissue, sex, age"
    assert line in found.lines
    np.testing.assert_allclose(new_rows(found, file, keep=["age"]).inputs[0], found.examples.inputs[0], atol=1e-5)
    with pytest.raises(DataError, match=r"no column 'grade'; allowed: sample, title, tissue, sex, age"):
        prepared(file, target="grade")
    with pytest.raises(DataError, match=r"without values, which then stand in a supplementary file"):
        prepared(series_matrix(tmp_path, has_values=False))


def test_genes_in_rows_with_the_classes_in_a_row(tmp_path: Path) -> None:
    frame = pd.DataFrame(COUNTS.T.astype(object), NAMES, CELLS)
    frame.loc["tissue"] = TISSUE
    frame.to_csv(tmp_path / "t.csv")
    found = prepared(tmp_path / "t.csv", orientation="columns")
    assert values(found)[0] == NAMES
    np.testing.assert_allclose(values(found)[1], COUNTS, atol=1e-3)
    assert found.examples.classes == ("liver", "lung")


def test_names_that_do_not_match_are_told(labels: Path, tmp_path: Path) -> None:
    file = genes_in_rows(tmp_path)
    frame = pd.read_csv(labels)
    more = pd.concat([frame[frame["cell"] != CELLS[0]], frame.head(1), pd.DataFrame({"cell": ["X"], "kind": ["lung"]})])
    more.to_csv(labels, index=False)
    section: dict[str, Any] = {"orientation": "columns", "labels": {"file": labels, "label": "kind"}}
    lines = prepared(file, **section).lines
    assert "1 rows are not in labels.csv (AAAC0-1)" in lines or frame["cell"][0] == CELLS[0]
    assert any("1 rows are several times in labels.csv" in line for line in lines)
    assert "1 entries of labels.csv are no rows (X)" in lines
    assert "left out: 2 rows without tissue" in lines
    with pytest.raises(DataError, match=r"no entry of 'age' .* is a name of table .*data.table.labels.name"):
        prepared(file, **section | {"labels": LabelsSpec(file=labels, name="age", label="kind")})
    with pytest.raises(DataError, match=r"no column 'tissue'; allowed: cell, age, kind; name it in data.table.labels"):
        prepared(file, **section | {"labels": labels})


def test_damaged_and_incomplete_matrices_are_refused(tmp_path: Path, labels: Path) -> None:
    folder = tenx(tmp_path)
    (folder / "barcodes.tsv").write_text("one\n")
    with pytest.raises(DataError, match=r"matrix.mtx has 40 x 90 entries; allowed: 40 genes .* x 1 cells"):
        prepared(folder, labels=labels)
    (folder / "barcodes.tsv").unlink()
    with pytest.raises(DataError, match=r"no barcodes.tsv beside the matrix; allowed: barcodes.tsv"):
        prepared(folder, labels=labels)
    (folder / "matrix.mtx").unlink()
    with pytest.raises(DataError, match=r"0 files matrix.mtx or matrix.mtx.gz"):
        prepared(folder, labels=labels)
    for name in ("a.h5ad", "a.h5", "a.npz", "a.arff"):
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(DataError, match=rf"{name}: cannot be read \("):
            prepared(tmp_path / name)


def test_more_than_fits_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("aifs_tune.data.matrix.MAX_VALUES", 1000)
    file = of_anndata(tmp_path, scipy.sparse.csr_array(COUNTS.astype(np.float32)))
    with pytest.raises(
        DataError, match=r"90 rows of 40 columns are more than 1,000 values; .*data.table.columns: 2000"
    ):
        prepared(file)
    assert values(prepared(file, columns=11))[0].__len__() == 11


def test_of_a_sparse_matrix_2000_columns_are_chosen_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("aifs_tune.data.table_columns.MOST_VARIABLE", 6)
    found = prepared(of_anndata(tmp_path, scipy.sparse.csr_array(COUNTS.astype(np.float32))))
    assert len(values(found)[0]) == 6
    assert any(
        "the 6 of 40 columns that vary most in the training rows; data.table.columns: " in x for x in found.lines
    )


def test_genotypes_are_no_counts_and_names_become_distinct() -> None:
    assert not Matrix(RANDOM.integers(0, 3, (9, 4)).astype(float), ("a",) * 4).seems_counted
    assert not Matrix(RANDOM.normal(size=(9, 4)) + 20, ("a",) * 4).seems_counted
    assert Matrix(scipy.sparse.csr_array(COUNTS.astype(float)), tuple(NAMES)).seems_counted
    assert distinct_names(["a", "b", "a", "a-1", "a"]) == (("a", "b", "a-2", "a-1", "a-3"), 2)


@pytest.mark.parametrize("names", [("X", "y"), ("x_train", "y_train"), ("data", "labels")])
@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_arrays(names: tuple[str, str], kind: str, tmp_path: Path) -> None:
    x, y, group = COUNTS + 0.5, np.array(TISSUE, "S"), np.arange(N) // 3
    arrays = {names[0]: x, names[1]: y, "feature_names": np.array(NAMES, "S"), "patient": group}
    file = tmp_path / f"t.{kind}"
    if kind == "npz":
        np.savez(file, **arrays)
    else:
        with h5py.File(file, "w") as opened:
            for name, array in arrays.items():
                opened[name] = array
    found = prepared(file)
    assert values(found)[0] == NAMES
    np.testing.assert_allclose(values(found)[1], x, atol=1e-3)
    assert [found.examples.classes[i] for i in found.examples.y_true] == TISSUE
    grouped = prepared(file, group="patient")
    parts = [set(group[getattr(grouped.examples, part)]) for part in ("train", "val", "test")]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert values(grouped)[0] == NAMES


@pytest.mark.parametrize(("dtype", "n_classes"), [(np.float64, 2), (np.uint8, 3)])
@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_one_hot_classes_of_arrays(kind: str, dtype: Any, n_classes: int, tmp_path: Path) -> None:
    kinds = np.arange(N) % n_classes
    y, file = np.eye(n_classes, dtype=dtype)[kinds], tmp_path / f"t.{kind}"
    if kind == "npz":
        np.savez(file, X=COUNTS + 0.5, y=y)
    else:
        with h5py.File(file, "w") as opened:
            opened["X"], opened["y"] = COUNTS + 0.5, y
    found = prepared(file)
    assert found.examples.classes == tuple(map(str, range(n_classes)))
    assert found.examples.y_true.tolist() == kinds.tolist()
    assert (
        f"y ({N}, {n_classes}) has a single 1 in each row (one-hot): its position, from 0, is the class" in found.lines
    )


@pytest.mark.parametrize(("spoilt", "section"), [((0, 0, 0), {}), ((1, 0, 1), {}), ((0, 0, 1), {"predict": "values"})])
def test_arrays_of_two_axes_that_are_no_classes_are_refused(
    spoilt: tuple[int, ...], section: dict[str, Any], tmp_path: Path
) -> None:
    y = np.eye(3, dtype=int)[np.arange(N) % 3]
    y[4] = spoilt
    np.savez(tmp_path / "t.npz", X=COUNTS, y=y)
    with pytest.raises(DataError, match=r"y \(90, 3\); allowed: X \(rows, columns\) and y \(rows,\)"):
        prepared(tmp_path / "t.npz", **section)


def test_arrays_of_other_shapes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", X=np.zeros((9, 8, 8)), y=np.arange(9))
    with pytest.raises(DataError, match=r"holds X \(9, 8, 8\), y \(9,\); allowed: X \(rows, columns\) and y \(rows,\)"):
        prepared(tmp_path / "images.npz")
    np.savez(tmp_path / "t.npz", X=COUNTS, y=TISSUE, feature_names=np.array(NAMES, object), x_test=COUNTS)
    found = prepared(tmp_path / "t.npz")
    assert values(found)[0][0] == "x0"
    assert any("not read, as they hold Python objects: feature_names" in line for line in found.lines)
    assert any(line.startswith("left out: x_test; the rows of x_train") for line in found.lines)


def test_a_file_of_pandas_is_not_executed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_group("df").attrs["pandas_type"] = b"frame"
    with pytest.raises(DataError, match=r"was written by pandas, .* executed; convert it where you trust it: pandas"):
        prepared(tmp_path / "t.h5")


@pytest.mark.parametrize("declared", ["{liver,lung}", "{'liver','lung'}"])
def test_arff(declared: str, tmp_path: Path) -> None:
    rows = [f"{i * 7 % 11}.5,{'?' if i == 3 else 'rb'[i % 2]},{tissue}" for i, tissue in enumerate(TISSUE)]
    head = f"@relation r\n@attribute size numeric\n@attribute colour {{r,b}}\n@attribute tissue {declared}\n@data\n"
    (tmp_path / "t.arff").write_text(head + "\n".join(rows))
    found = prepared(tmp_path / "t.arff")
    assert [column["name"] for column in found.examples.facts["columns"]] == ["size", "colour", "colour"]
    assert found.examples.facts["columns"][1]["missing"] == 1
    assert found.examples.classes == ("liver", "lung")


def test_tables_that_pandas_wrote_into_hdf5_are_refused_with_their_key(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        made = file.create_group("runs/may")
        made.attrs["pandas_type"] = np.bytes_(b"frame")
        made["block0_values"] = np.zeros((20, 2))
    said = r"was written by pandas, .*: pandas\.read_hdf\(file, 'runs/may'\)\.to_parquet"
    with pytest.raises(DataError, match=said):
        prepared(tmp_path / "t.h5")
    for place in ("labels", "manifest"):
        with pytest.raises(DataError, match=r"\.h5 files are not read; convert it: pandas\.read_hdf"):
            read_table(tmp_path / "t.h5", place)


@pytest.mark.parametrize("name", ["t.zarr", "store"])
def test_zarr_stores_are_refused_with_the_commands_that_convert_them(name: str, tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / name, mode="w")
    for each in ("X", "y"):
        group.create_array(each, data=np.zeros((20, 2)))
    with pytest.raises(DataError, match=r"\.zarr files are not read; convert it: xarray.* anndata\.io\.read_zarr"):
        prepared(tmp_path / name)
    with pytest.raises(DataError, match=r"manifest .*: \.zarr files are not read"):
        load_manifest(FramesSpec(manifest=tmp_path / name))
    with pytest.raises(DataError, match=r"\.zarr is not read; convert it: .*zarr\.open_group"):
        load_collection(tmp_path / name, SeriesSpec())
    with pytest.raises(DataError, match=r"is a Zarr store, no folder of images; of arrays, make an npz file"):
        scan_folder(tmp_path / name)


@pytest.mark.parametrize("suffix", [".h5", ".mat", ".npy"])
def test_a_file_of_arrays_instead_of_a_folder_of_images_names_the_form_that_is_read(
    suffix: str, tmp_path: Path
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"x")
    with pytest.raises(DataError, match=r"is a file, not a folder; of arrays, make an npz file: numpy\.savez"):
        scan_folder(tmp_path / f"a{suffix}")


CONVERTED = "sav dta rds RData ods mat feather orc json jsonl sas7bdat xls db sqlite pkl loom"


@pytest.mark.parametrize("suffix", CONVERTED.split())
def test_a_format_that_is_not_read_is_refused_with_what_converts_it(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"t.{suffix}").write_bytes(b"\x00\x01")
    for read in (lambda file: read_table(file, "t"), prepared):
        with pytest.raises(DataError, match=rf"\.{suffix.lower()} files are not read; convert it: "):
            read(tmp_path / f"t.{suffix}")


def test_settings_of_other_kinds_are_refused() -> None:
    for wrong in ({"columns": 0}, {"orientation": "across"}, {"counts": "cpm"}):
        with pytest.raises(ValidationError):
            TableSpec(**wrong)


def test_columns_that_describe_the_genes_are_no_samples(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(20, (40, 30))
    frame = pd.DataFrame(counts, columns=[f"s{i}" for i in range(30)])
    frame.insert(0, "gene_id", [f"E{i}" for i in range(40)])
    frame.insert(1, "gene_name", [f"G{i}" for i in range(40)])
    frame.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    labels = pd.DataFrame({"sample": [f"s{i}" for i in range(30)], "tissue": ["ab"[i % 2] for i in range(30)]})
    labels.to_csv(tmp_path / "samples.csv", index=False)
    spec = {"file": tmp_path / "t.tsv", "orientation": "columns", "target": "tissue"}
    found = prepare_table(DataSpec(table={**spec, "labels": {"file": tmp_path / "samples.csv", "label": "tissue"}}))
    lines = found.lines
    assert any("left out: gene_name, which describe the rows of the file" in line for line in lines)
    assert any("counts became log" in line for line in lines)
    assert len(found.examples.y_true) == 30


@pytest.mark.parametrize(("at", "index"), [(0, -3), (5, 1000)])
def test_indices_out_of_range_are_refused(tmp_path: Path, at: int, index: int) -> None:
    counts = np.random.default_rng(0).poisson(1.0, (30, 20)).astype(np.float32)
    with pd.option_context("future.infer_string", False):
        obs = pd.DataFrame({"y": ["ab"[i % 2] for i in range(30)]}, index=[f"c{i}" for i in range(30)])
        anndata.AnnData(scipy.sparse.csr_matrix(counts), obs=obs).write_h5ad(tmp_path / "t.h5ad")
    with h5py.File(tmp_path / "t.h5ad", "r+") as opened:
        opened["X/indices"][at] = index
    with pytest.raises(DataError, match="cannot be read"):
        prepare_table(DataSpec(table={"file": tmp_path / "t.h5ad", "target": "y"}))


def ten_x(folder: Path, types: list[str], form: str) -> Path:
    """A 10x matrix whose last features are proteins, of which one has the name of a gene."""
    names = [*NAMES[:-2], "G0", "CD4"]
    if form == "mtx":
        (folder / "mtx").mkdir()
        scipy.io.mmwrite(folder / "mtx" / "matrix.mtx", scipy.sparse.coo_matrix(COUNTS.T))
        (folder / "mtx" / "barcodes.tsv").write_text("\n".join(CELLS))
        lines = [f"E{i}\t{name}\t{kind}" for i, (name, kind) in enumerate(zip(names, types, strict=True))]
        (folder / "mtx" / "features.tsv").write_text("\n".join(lines))
        return folder / "mtx"
    if form == "h5ad":
        with pd.option_context("future.infer_string", False):
            var = pd.DataFrame({"feature_types": types}, index=names)
            cells = pd.DataFrame(index=CELLS)
        with pytest.warns(UserWarning, match="Variable names are not unique"):
            made = anndata.AnnData(scipy.sparse.csr_matrix(COUNTS, dtype=np.float32), cells, var)
        made.write_h5ad(folder / "t.h5ad")
        return folder / "t.h5ad"
    sparse = scipy.sparse.csr_matrix(COUNTS)
    with h5py.File(folder / "t.h5", "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = sparse.data, sparse.indices, sparse.indptr
        group["shape"], group["barcodes"] = [GENES, N], np.array(CELLS, "S")
        about = {"id": [f"E{i}" for i in range(GENES)], "name": names, "feature_type": types}
        for key, entries in about.items():
            group[f"features/{key}"] = np.array(entries, "S")
    return folder / "t.h5"


@pytest.mark.parametrize("form", ["mtx", "h5", "h5ad"])
def test_antibodies_are_no_genes(form: str, labels: Path, tmp_path: Path) -> None:
    types = ["Gene Expression"] * (GENES - 2) + ["Antibody Capture"] * 2
    file = ten_x(tmp_path, types, form)
    section = {"labels": {"file": labels, "label": "kind"}, "counts": "raw"}
    names, found = values(prepared(file, **section))
    assert names == NAMES[:-2]
    np.testing.assert_allclose(found, COUNTS[:, :-2], atol=1e-4)
    told = "left out: 2 of type Antibody Capture, which are no genes; data.table.feature_types keeps them"
    assert told in prepared(file, **section).lines
    names, found = values(prepared(file, feature_types=["Antibody Capture"], **section))
    assert names == ["G0", "CD4"]
    np.testing.assert_allclose(found, COUNTS[:, -2:], atol=1e-4)
    with pytest.raises(DataError, match=r"no features of type 'Peaks'; allowed .*: Gene Expression, Antibody Capture"):
        prepared(file, feature_types=["Peaks"], **section)


def test_features_of_one_other_type_are_all_used(labels: Path, tmp_path: Path) -> None:
    file = ten_x(tmp_path, ["Peaks"] * GENES, "mtx")
    found = prepared(file, labels={"file": labels, "label": "kind"})
    assert len(values(found)[0]) == GENES
    assert not any("no genes" in line for line in found.lines)


@pytest.mark.parametrize("names", [["__no_feature", "__ambiguous"], ["N_unmapped", "N_noFeature"]])
@pytest.mark.parametrize("orientation", ["columns", "rows"])
def test_reads_without_a_gene_are_no_genes(names: list[str], orientation: str, labels: Path, tmp_path: Path) -> None:
    counts = np.concatenate([COUNTS, RANDOM.poisson(5000, (N, 2))], axis=1)
    frame = pd.DataFrame(counts, index=CELLS, columns=[*NAMES, *names])
    file = tmp_path / "counts.tsv"
    if orientation == "columns":
        frame.T.to_csv(file, sep="\t", index_label="gene")
        found = prepared(file, orientation="columns", labels={"file": labels, "label": "kind"}, counts="raw")
        assert f"left out: {', '.join(names)}, counts of reads without a gene" in found.lines
    else:
        frame.assign(tissue=TISSUE).to_csv(file, sep="\t", index=False)
        found = prepared(file)
        assert any(f"{', '.join(names)}, counts of reads without a gene" in line for line in found.lines)
        assert set(names) <= set(values(prepared(file, keep=names))[0])
    assert values(found)[0] == NAMES
    np.testing.assert_allclose(values(found)[1], COUNTS, atol=1e-3)


def test_columns_of_feature_counts_that_describe_genes_are_no_samples(tmp_path: Path) -> None:
    frame = pd.DataFrame(COUNTS.T, index=NAMES, columns=CELLS)
    about = {"Chr": range(GENES), "Start": range(GENES), "End": range(9, GENES + 9), "Strand": "+", "Length": 10}
    for i, (name, entries) in enumerate(about.items()):
        frame.insert(i, name, entries)
    frame.to_csv(tmp_path / "counts.txt", sep="\t", index_label="Geneid")
    head = '# Program:featureCounts v2.0.1; Command:"featureCounts" "-a" "genes.gtf"\n'
    (tmp_path / "counts.txt").write_text(head + (tmp_path / "counts.txt").read_text())
    pd.DataFrame({"cell": CELLS, "kind": TISSUE}).to_csv(tmp_path / "kinds.csv", index=False)
    found = prepared(
        tmp_path / "counts.txt", orientation="columns", labels={"file": tmp_path / "kinds.csv", "label": "kind"}
    )
    assert len(found.examples.y_true) == N
    assert any("Chr, Start, End, Strand, Length, which describe the rows of the file" in line for line in found.lines)
