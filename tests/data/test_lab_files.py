"""Files of tables as labs have them: padded titles, sheets, quotes of ARFF, NUL bytes and too large ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from aifs_tune.config.data import DataSpec
from aifs_tune.data import PreparedExamples, prepare_series, prepare_table, table_files
from aifs_tune.data.table_files import read_table
from aifs_tune.errors import DataError

N = 60
RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {"x": RANDOM.normal(size=N).round(3), "k": RANDOM.integers(0, 99, N), "z": -1.5, "y": ["a", "b"] * (N // 2)}
)


def prepared(file: Path, **section: Any) -> PreparedExamples:
    return prepare_table(DataSpec(table={"file": file, "target": "y", **section}))


@pytest.mark.parametrize(
    ("above", "separator", "told"),
    [
        ("Titel der Messung;;;\n", ";", "the title line is skipped: Titel der Messung"),
        ("Created by X,,,\n,,,\n", ",", "2 lines above the table are skipped: Created by X"),
        (",Report 2024,,\n", ",", "the title line is skipped: Report 2024"),
        ("Run\t\t\t\nDate\t2024-03-01\t\t\nOperator\tAda\t\t\n", "\t", "3 lines above the table are skipped: Run"),
        ('"Created by X, Y",,,\nOperator,Ada,Lab,\n', ",", "2 lines above the table are skipped: Created by X, Y"),
        ("left,,right,\n", ",", "the title line is skipped: left"),
    ],
)
def test_padded_lines_above_a_table_are_titles(above: str, separator: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(above + FRAME.to_csv(index=False, sep=separator))
    found = read_table(tmp_path / "t.csv", "table")
    assert list(found.frame.columns) == list(FRAME.columns)
    assert found.frame["x"].tolist() == FRAME["x"].tolist()
    assert told in found.notes


@pytest.mark.parametrize(
    "lines",
    [
        ",,y\n" + "".join(f"{i},{i % 7},{'ab'[i % 2]}\n" for i in range(20)),  # two columns without a name
        ",,y\n" + "".join(f"s{i},t{i % 7},{'ab'[i % 2]}\n" for i in range(20)),
        "x,,\n" + "".join(f"{i},{i % 7},{'ab'[i % 2]}\n" for i in range(20)),
    ],
)
def test_names_of_some_columns_alone_are_no_title(lines: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(lines)
    found = read_table(tmp_path / "t.csv", "table")
    assert len(found.frame) == 20
    assert [name for name in found.frame.columns if name] == [lines[0] if lines[0] != "," else "y"]


def book(file: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    made = pytest.importorskip("openpyxl").Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    made.save(file)
    return file


ROWS = [list(FRAME.columns), *FRAME.to_numpy(object).tolist()]


def test_another_sheet_of_an_excel_file(tmp_path: Path) -> None:
    file = book(tmp_path / "t.xlsx", {"about": [["note"], ["made by us"]], "cells": ROWS, "old": [["y"], ["a"]]})
    with pytest.raises(DataError, match=r"no column 'y'; .*; of another sheet \(cells, old\): data.table.sheet"):
        prepared(file)
    found = prepared(file, sheet="cells")
    assert "sheet cells is read; left out: about, old" in found.lines
    assert len(found.examples.y_true) == N
    with pytest.raises(DataError, match="no sheet 'cell'; allowed: about, cells, old"):
        prepared(file, sheet="cell")


def test_titles_and_formulas_without_results_in_an_excel_file(tmp_path: Path) -> None:
    rows = [["Report"], [], [*ROWS[0], "twice"], *([*row, f"=A{i + 4}*2"] for i, row in enumerate(ROWS[1:]))]
    found = prepared(book(tmp_path / "t.xlsx", {"cells": rows}))
    assert len(found.examples.y_true) == N
    assert "2 lines above the table are skipped: Report" in found.lines
    assert any(
        line.startswith("warning: 60 formulas, such as in E10, have no result in the file and are missing entries")
        for line in found.lines
    )


HEAD = """% made here
@RELATION 'r s'
@attribute x numeric
@attribute 'my col' {'lo, w', "hi gh", 'it\\'s', plain}
@attribute y{'a b', "c d"}
@DATA
"""


def test_arff_with_spaces_commas_and_quotes(tmp_path: Path) -> None:
    levels = ["'lo, w'", '"hi gh"', "'it\\'s'", "plain", "?"]
    classes = ['"a b"', "'c d'"]
    rows = [f"{i * i % 17}, {levels[i % 5]} ,{classes[i % 2]}" for i in range(40)]
    (tmp_path / "t.arff").write_text(HEAD + "\n".join(rows))
    found = prepared(tmp_path / "t.arff")
    assert found.examples.classes == ("a b", "c d")
    columns = found.examples.facts["columns"]
    assert [c["level"] for c in columns if c["name"] == "my col"] == ["hi gh", "it's", "lo, w", "plain"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,plain,a b", "line 8: y is 'a c'; allowed: a b, c d"),
        ("1,'lo, w", r"line 8 has quotes that do not end"),
        ("1,plain", r"line 8 has 2 values; allowed: 3, one for each attribute"),
        ("{0 1}", r"line 8 is a sparse row; allowed: all values of a row"),
    ],
)
def test_a_bad_row_of_arff_is_named(row: str, message: str, tmp_path: Path) -> None:
    row = "1,plain,'a c'" if "a c" in message else row
    (tmp_path / "t.arff").write_text(f"{HEAD}1,plain,'a b'\n{row}\n")
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "t.arff")


def test_nul_bytes(tmp_path: Path) -> None:
    text = FRAME.to_csv(index=False).encode()
    (tmp_path / "end.csv").write_bytes(text + b"\0" * 4000)
    found = prepared(tmp_path / "end.csv")
    assert len(found.examples.y_true) == N
    assert "warning: 4000 NUL bytes at its end are left out; was its recording interrupted?" in found.lines
    (tmp_path / "inside.csv").write_bytes(text.replace(b"-1.5", b"-1\0.5", 3))
    (tmp_path / "alone.csv").write_bytes(b"\0" * 5000)
    for name, line in (("inside", 2), ("alone", 1)):
        with pytest.raises(DataError, match=rf"is no text file \(line {line} has a NUL byte\)"):
            prepared(tmp_path / f"{name}.csv")
    for encoding in ("utf-16-le", "utf-16-be"):
        (tmp_path / "wide.csv").write_bytes(text.decode().encode(encoding))
        assert "read as UTF-16" in prepared(tmp_path / "wide.csv").lines


def test_a_first_row_of_missing_numbers_is_no_line_of_units(tmp_path: Path) -> None:
    frame = FRAME.astype(object)
    frame.loc[0, ["x", "k", "z"]] = "NA"
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert len(read_table(tmp_path / "t.csv", "table").frame) == N


@pytest.mark.parametrize("row", ["-3,12,1024,walk", "901,35,-4,sit"])
def test_a_first_row_whose_numbers_happen_to_rise_is_asked_about(row: str, tmp_path: Path) -> None:
    rows = [f"{a},{b},{c},{'walk' if a > b else 'sit'}" for a, b, c in RANDOM.integers(-999, 999, (40, 3)).tolist()]
    (tmp_path / "imu.csv").write_text("\n".join([row, *rows]))
    notes = read_table(tmp_path / "imu.csv", "table").notes
    assert any("numbers are column names" in note for note in notes)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.bz2", "t.csv.xz", "t.zip"])
def test_a_file_that_takes_more_than_the_free_memory_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = FRAME.to_csv(index=False).encode() * 300
    if name == "t.zip":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("t.csv", text)
    else:
        packed = {".csv": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
        (tmp_path / name).write_bytes(packed[Path(name).suffix](text))
    monkeypatch.setattr(table_files, "_PIECE", 2**12)
    monkeypatch.setattr(table_files, "_CHECKED", 4)
    assert len(read_table(tmp_path / name, "table").frame) > N
    monkeypatch.setattr(table_files, "free_mb", lambda: 0.1)
    with pytest.raises(DataError, match=r"or more unpacked, .* and 105 kB of memory are free; allowed: a quarter"):
        read_table(tmp_path / name, "table")


def test_an_excel_file_that_unpacks_to_more_than_the_free_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = book(tmp_path / "t.xlsx", {"cells": ROWS})
    monkeypatch.setattr(table_files, "free_mb", lambda: 0.01)
    with pytest.raises(DataError, match=r"of memory are free"):
        prepared(file)


def of_parts(folder: Path, form: str) -> Path:
    """An HDF5 file whose X stands in another file."""
    x = RANDOM.normal(size=(N, 4))
    with h5py.File(folder / "other.h5", "w") as file:
        file["X"] = x
    (folder / "raw.bin").write_bytes(x.tobytes())
    with h5py.File(folder / "t.h5", "w") as file:
        file["y"] = np.arange(N) % 2
        if form == "link":
            file["X"] = h5py.ExternalLink("other.h5", "X")
        elif form == "virtual":
            layout = h5py.VirtualLayout((N, 4), "f8")
            layout[:] = h5py.VirtualSource("other.h5", "X", (N, 4))
            file.create_virtual_dataset("X", layout)
        else:
            file.create_dataset("X", (N, 4), "f8", external=[(str(folder / "raw.bin"), 0, x.nbytes)])
    return folder / "t.h5"


@pytest.mark.parametrize("form", ["link", "virtual", "raw"])
def test_values_of_an_hdf5_file_that_stand_in_another_file_are_refused(form: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its dataset X is kept in another file; allowed: values in the file itself"):
        prepared(of_parts(tmp_path, form))


def test_arrays_that_are_far_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("X", (N, 10**9), "f8", chunks=(1, 10**6))
        file["y"] = np.arange(N) % 2
    with pytest.raises(DataError, match=r"is 480 GB or more unpacked"):
        prepared(tmp_path / "t.h5")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 12)})
    (tmp_path / "X.npy").write_bytes(head.getvalue() + b"1234")
    np.save(tmp_path / "y.npy", np.arange(N) % 2)
    with pytest.raises(DataError, match="cannot be read as NPY"):
        prepare_series(DataSpec(series={"path": tmp_path / "X.npy"}))


def test_a_packed_light_curve_that_takes_more_than_the_free_memory_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(12):
        file = tmp_path / "s" / "ab"[i % 2] / f"{i}.fits.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        n = 200_000 if i == 3 else 50
        columns = {"TIME": np.arange(n), "RATE": RANDOM.normal(size=n)}
        table = fits.BinTableHDU.from_columns([fits.Column(k, "D", array=v) for k, v in columns.items()])
        table.writeto(file)
    monkeypatch.setattr(table_files, "free_mb", lambda: 8.0)
    found = prepare_series(DataSpec(series={"path": tmp_path / "s"}))
    assert len(found.examples.y_true) == 11
    assert any("left out: 1 of 12 series: is 3.21 MB or more unpacked" in line for line in found.lines)


@pytest.mark.parametrize("section", ["table", "series"])
def test_an_npz_file_that_unpacks_to_more_than_the_free_memory_is_refused(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "t.npz", X=np.zeros((N, 20_000)), y=np.arange(N) % 2)
    monkeypatch.setattr(table_files, "free_mb", lambda: 1.0)
    with pytest.raises(DataError, match=r"is 9.6 MB or more unpacked"):
        prepared(tmp_path / "t.npz") if section == "table" else prepare_series(
            DataSpec(series={"path": tmp_path / "t.npz"})
        )


def test_counts_in_the_first_line_and_lines_of_text_above_are_told(tmp_path: Path) -> None:
    rows = [f"{i}.5,{i * i % 7},{i % 3},0.2,{i % 2}" for i in range(20)]
    (tmp_path / "iris.csv").write_text("\n".join(["20,4,setosa,versicolor,virginica", *rows]))
    told = "warning: numbers are column names (20, 4); if the first line is a row: header: false"
    assert told in read_table(tmp_path / "iris.csv", "table").notes
    (tmp_path / "text.csv").write_text("One\ntwo\nthree lines\n" + "\n".join(rows[:2]))
    with pytest.raises(DataError, match=r"\(line 4 has 5 fields, and lines above it 1\)"):
        read_table(tmp_path / "text.csv", "table")
