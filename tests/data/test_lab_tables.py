"""Tables as labs have them: each is read right, or refused in words that say what to do."""

from __future__ import annotations

import csv
import decimal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aifs_tune.config.data import DataSpec, TableSpec
from aifs_tune.data import PreparedExamples, prepare_table
from aifs_tune.data.columns import EntrySettings, as_numbers
from aifs_tune.data.table_files import read_table
from aifs_tune.errors import DataError, MissingPackageError

N = 120


def base() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {"x": random.normal(size=N).round(3), "z": random.normal(size=N).round(3), "y": np.repeat(["a", "b"], N // 2)}
    )


def prepared(file: Path, **section: Any) -> PreparedExamples:
    return prepare_table(DataSpec(table=TableSpec(file=file, target="y", **section)))


def names(found: PreparedExamples) -> list[str]:
    return [column["name"] for column in found.examples.facts["columns"]]


def left_out(found: PreparedExamples) -> dict[str, str]:
    return {str(row["column"]): str(row["left_out"]) for row in found.columns if row["left_out"] is not None}


FORMS: dict[str, Callable[[Path, pd.DataFrame], Any]] = {
    "packed.csv.gz": lambda file, frame: frame.to_csv(file, index=False),
    "packed.csv.bz2": lambda file, frame: frame.to_csv(file, index=False),
    "packed.csv.xz": lambda file, frame: frame.to_csv(file, index=False),
    "packed.zip": lambda file, frame: frame.to_csv(file, index=False),
    "utf16.csv": lambda file, frame: frame.to_csv(file, index=False, encoding="utf-16"),
    "bom.csv": lambda file, frame: frame.to_csv(file, index=False, encoding="utf-8-sig"),
    "semicolon.csv": lambda file, frame: frame.to_csv(file, index=False, sep=";"),
    "decimal_comma.csv": lambda file, frame: frame.to_csv(file, index=False, sep=";", decimal=","),
    "tab.tsv": lambda file, frame: frame.to_csv(file, index=False, sep="\t"),
    "bar.txt": lambda file, frame: frame.to_csv(file, index=False, sep="|"),
    "spaces.dat": lambda file, frame: file.write_text(frame.to_string(index=False)),
    "comments.csv": lambda file, frame: file.write_text("# by us, in May, 2014\n#\n" + frame.to_csv(index=False)),
    "named_in_comment.csv": lambda file, frame: file.write_text("# x,z,y\n" + frame.to_csv(index=False, header=False)),
    "block.csv": lambda file, frame: file.write_text(
        "Instrument 4\nOperator: Ada\n\nRun 17\n" + frame.to_csv(index=False)
    ),
    "quoted_by_r.txt": lambda file, frame: frame.to_csv(file, sep=" ", index=False, quoting=csv.QUOTE_NONNUMERIC),
    "title.csv": lambda file, frame: file.write_text("Table 3\n" + frame.to_csv(index=False)),
    "units.csv": lambda file, frame: file.write_text(
        "x,z,y\nmag,km/s,class\n" + frame.to_csv(index=False, header=False)
    ),
    "trailing.csv": lambda file, frame: file.write_text(
        "\n".join(line + "," for line in frame.to_csv(index=False).splitlines())
    ),
    "carriage_returns.csv": lambda file, frame: file.write_bytes(
        frame.to_csv(index=False).replace("\n", "\r").encode()
    ),
    "minus_signs.csv": lambda file, frame: file.write_text(frame.to_csv(index=False).replace("-", "\u2212")),
    "table.parquet": lambda file, frame: frame.to_parquet(file),
    "index.parquet": lambda file, frame: frame.set_index("x").to_parquet(file),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_same_table_in_many_forms(name: str, tmp_path: Path) -> None:
    frame = base()
    FORMS[name](tmp_path / name, frame)
    read = read_table(tmp_path / name, "table").frame
    assert sorted(read.columns) == ["x", "y", "z"]
    for column in ("x", "z"):
        found = as_numbers(read[column])
        assert found is not None
        np.testing.assert_allclose(found.values, frame[column])
    assert read["y"].tolist() == frame["y"].tolist()


def test_of_an_excel_file_the_first_sheet_is_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "cells"
    for row in [list(base().columns), *base().to_numpy().tolist()]:
        book.active.append(row)
    book.create_sheet("notes")
    book.save(tmp_path / "t.xlsx")
    found = prepared(tmp_path / "t.xlsx")
    assert names(found) == ["x", "z"]
    assert "sheet cells is read; left out: notes" in found.lines


def test_what_reads_an_excel_file_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(MissingPackageError, match="openpyxl is not installed; install it with: pip install openpyxl"):
        prepared(tmp_path / "t.xlsx")


def test_names_in_latin_1_and_commas_inside_names(tmp_path: Path) -> None:
    base().rename(columns={"x": "Größe"}).to_csv(tmp_path / "latin.csv", index=False, encoding="latin-1")
    found = prepared(tmp_path / "latin.csv")
    assert names(found) == ["Größe", "z"]
    assert "it is not UTF-8, and is read as Latin-1 (Windows-1252)" in found.lines
    lines = base().to_csv(index=False).replace(",", ";").splitlines()
    (tmp_path / "named.csv").write_text("\n".join(['"x (m, s, kg)";"z, or, so";y', *lines[1:]]))
    assert names(prepared(tmp_path / "named.csv")) == ["x (m, s, kg)", "z, or, so"]


def test_a_table_without_names_says_so_and_can_be_read(tmp_path: Path) -> None:
    base().to_csv(tmp_path / "bare.csv", index=False, header=False)
    with pytest.raises(DataError, match=r"no column 'y'; .* if the first line of the file is a row: data.table.header"):
        prepared(tmp_path / "bare.csv")
    base()[["x", "z"]].to_csv(tmp_path / "numbers.csv", index=False, header=False)
    with pytest.raises(DataError, match=r"its first line holds numbers .*data.table.header: false"):
        prepared(tmp_path / "numbers.csv")
    section = TableSpec(file=tmp_path / "bare.csv", target="column3", header=False)
    assert names(prepare_table(DataSpec(table=section))) == ["column1", "column2"]


def test_row_names_of_r_are_a_column_without_a_name(tmp_path: Path) -> None:
    lines = base().to_csv(sep=" ", quoting=csv.QUOTE_NONNUMERIC).splitlines()
    (tmp_path / "r.txt").write_text("\n".join(['"x" "z" "y"', *lines[1:]]))
    found = prepared(tmp_path / "r.txt")
    assert names(found) == ["x", "z"]
    assert set(left_out(found)) == {""}


def test_a_separator_at_the_end_of_rows_shifts_no_name(tmp_path: Path) -> None:
    lines = base()[["y", "x", "z"]].to_csv(index=False).splitlines()
    (tmp_path / "t.csv").write_text("\n".join([lines[0], *(line + "," for line in lines[1:])]))
    assert names(prepared(tmp_path / "t.csv")) == ["x", "z"]
    (tmp_path / "t.csv").write_text(
        "\n".join([lines[0], *(f"{i * 7 % 3}.5," + line for i, line in enumerate(lines[1:]))])
    )
    with pytest.raises(DataError, match="its first line has 3 names and its rows have 4 fields"):
        prepared(tmp_path / "t.csv")


@pytest.mark.parametrize("above", ["", "Series: LNS14\nAge: 16 and over\n\n"])
def test_a_separator_at_the_end_of_the_names_alone_loses_no_name(above: str, tmp_path: Path) -> None:
    lines = base().to_csv(index=False).splitlines()
    (tmp_path / "t.csv").write_text(above + "\n".join([lines[0] + ",", *lines[1:]]))
    found = prepared(tmp_path / "t.csv")
    assert names(found) == ["x", "z"]
    assert len(found.examples.y_true) == N


def test_a_row_that_begins_with_a_hash_is_a_row(tmp_path: Path) -> None:
    lines = base().to_csv(index=False).splitlines()
    lines[5] = "#DIV/0!," + lines[5].split(",", 1)[1]
    (tmp_path / "t.csv").write_text("\n".join([*lines, "# measured in May"]))
    found = prepared(tmp_path / "t.csv")
    assert len(found.examples.y_true) == N
    assert "1 comment line skipped" in found.lines
    assert any("'#DIV/0!' in row 5" in line for line in found.lines)


def test_a_target_that_seems_to_be_missing_is_asked_about(tmp_path: Path) -> None:
    frame = base().assign(y=np.random.default_rng(8).normal(5, 1, N).round(3))
    frame.loc[::12, "y"] = -999
    frame.to_csv(tmp_path / "t.csv", index=False)
    asked = "warning: column y: is -999 a missing value? If so: data.table.missing: [-999]"
    assert asked in prepared(tmp_path / "t.csv", predict="values").lines
    found = prepared(tmp_path / "t.csv", predict="values", missing=[-999])
    assert asked not in found.lines
    assert "left out: 10 rows without y" in found.lines


def test_counts_that_differ_in_each_row_are_no_identifiers(tmp_path: Path) -> None:
    atoms = np.random.default_rng(7).permutation(np.arange(100, 100 + 3 * N, 3)[:N] // 2)
    base().assign(number_of_atoms=atoms).to_csv(tmp_path / "t.csv", index=False)
    assert names(prepared(tmp_path / "t.csv")) == ["x", "z", "number_of_atoms"]


def test_row_numbers_and_identifiers_are_left_out_unless_kept(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    frame = base().assign(
        star_id=random.permutation(N) * 17 + 5, shuffled=random.permutation(N), falls=np.arange(N, 0, -1.0)
    )
    frame.to_csv(tmp_path / "t.csv")  # pandas writes the row number without a name
    found = prepared(tmp_path / "t.csv")
    assert names(found) == ["x", "z"]
    assert set(left_out(found)) == {"", "star_id", "shuffled", "falls"}
    assert "like an identifier" in left_out(found)["star_id"]
    assert "like shuffled row numbers" in left_out(found)["shuffled"]
    assert "it rises or falls from row to row" in left_out(found)["falls"]
    assert names(prepared(tmp_path / "t.csv", keep=["falls"])) == ["x", "z", "falls"]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_missing_dates_are_missing(suffix: str, tmp_path: Path) -> None:
    order = np.random.default_rng(2).permutation(N)
    when = pd.Series(pd.date_range("2020-01-01", periods=N, freq="D")[order])
    when[::10] = pd.NaT
    frame = base().assign(when=when)
    file = tmp_path / f"t.{suffix}"
    frame.to_parquet(file) if suffix == "parquet" else frame.to_csv(file, index=False)
    found = prepared(file)
    row = next(row for row in found.columns if row["column"] == "when")
    assert (row["taken_for"], row["missing"]) == ("dates", 12)
    assert 18_000 < row["min"] < row["max"] < 18_500, "days since 1970"
    assert "column when: dates became days since 1970" in found.lines


@pytest.mark.parametrize(
    ("entries", "expected", "note"),
    [
        (["1,234.5", "12.5", "7", "1,000,000"], [1234.5, 12.5, 7, 1e6], "commas separate thousands"),
        (["1,5", "-2,25", "3", "0,5"], [1.5, -2.25, 3, 0.5], "decimal commas"),
        (["1.234,5", "2,5"], [1234.5, 2.5], "decimal commas"),
        (["5%", "12 %"], [5, 12], "per cent signs are left out"),
        (["5%", "0.12"], [5, 0.12], "per cent signs are left out; only a part of the entries has one"),
        (["1", "?", "3", "n/a", "NULL", "-", ""], [1, np.nan, 3, np.nan, np.nan, np.nan, np.nan], None),
        (["\u22123", "1e-3", ".5", "+4"], [-3, 1e-3, 0.5, 4], None),
        (["1", "inf", "2"], [1, np.nan, 2], "1 infinite entries count as missing"),
        ([decimal.Decimal("1.25"), None], [1.25, np.nan], None),
        ([True, False, None], [1, 0, np.nan], None),
    ],
)
def test_numbers_in_the_ways_that_people_write_them(
    entries: list[Any], expected: list[float], note: str | None
) -> None:
    found = as_numbers(pd.Series(entries, dtype=object))
    assert found is not None
    np.testing.assert_allclose(found.values, expected)
    assert found.notes == (() if note is None else (note,))
    assert not found.strange


def test_a_decimal_sign_that_is_given_is_not_guessed() -> None:
    column = pd.Series(["1,234", "5,678"], dtype=object)
    for sign, expected in ((",", [1.234, 5.678]), (".", [1234.0, 5678.0])):
        found = as_numbers(column, EntrySettings(decimal=sign))  # type: ignore[arg-type]
        assert found is not None
        assert found.values.tolist() == expected


def test_entries_below_a_limit_are_refused_until_it_is_said_what_they_are(tmp_path: Path) -> None:
    frame = base().assign(conc=[f"{value:.3f}" for value in np.random.default_rng(3).lognormal(0, 1, N)])
    frame.loc[::12, "conc"] = "<0.05"
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"column conc has 10 entries below or above a limit \('<0.05' in row 1"):
        prepared(tmp_path / "t.csv")
    for how, expected in (("half", 0.025), ("limit", 0.05), ("missing", None)):
        found = prepared(tmp_path / "t.csv", below_limit=how)
        row = next(row for row in found.columns if row["column"] == "conc")
        assert row["missing"] == (10 if expected is None else 0)
        assert expected is None or row["min"] == pytest.approx(expected)


def test_a_word_in_a_column_of_numbers_is_named(tmp_path: Path) -> None:
    frame = base().astype({"z": object})
    frame.loc[4, "z"] = "broken"
    frame.to_csv(tmp_path / "t.csv", index=False)
    line = "column z: 1 entries are no numbers ('broken' in row 5) and count as missing"
    assert line in prepared(tmp_path / "t.csv").lines
    with pytest.raises(DataError, match=r"entries are no numbers .*allowed when strict: none"):
        prepare_table(DataSpec(table=TableSpec(file=tmp_path / "t.csv", target="y")), strict=True)


def test_a_number_that_means_missing_is_asked_about_and_can_be_told(tmp_path: Path) -> None:
    frame = base().assign(conc=np.random.default_rng(4).normal(5, 1, N).round(2))
    frame.loc[::12, "conc"] = -9999
    frame.to_csv(tmp_path / "t.csv", index=False)
    asked = "warning: column conc: is -9999 a missing value? If so: data.table.missing: [-9999]"
    assert asked in prepared(tmp_path / "t.csv").lines
    found = prepared(tmp_path / "t.csv", missing=[-9999])
    assert asked not in found.lines
    row = next(row for row in found.columns if row["column"] == "conc")
    assert (row["missing"], row["min"] > 0) == (10, True)


def test_labels_keep_their_names(tmp_path: Path) -> None:
    frame = base()
    frame["y"] = np.array(["NA", "EU", "AS"])[np.arange(N) % 3]
    frame.to_csv(tmp_path / "na.csv", index=False)
    found = prepared(tmp_path / "na.csv")
    assert found.examples.classes == ("AS", "EU", "NA")
    assert any("NA is a class of y; if it means a missing one" in line for line in found.lines)
    assert prepared(tmp_path / "na.csv", missing=["NA"]).examples.classes == ("AS", "EU")
    frame["y"] = [label + " " * (i % 2) for i, label in enumerate(base()["y"])]
    frame.to_csv(tmp_path / "spaces.csv", index=False)
    assert prepared(tmp_path / "spaces.csv").examples.classes == ("a", "b")
    frame["y"] = [label.upper() if i % 2 else label for i, label in enumerate(base()["y"])]
    frame.to_csv(tmp_path / "capitals.csv", index=False)
    assert any(
        "the classes A, a differ in capitals alone" in line for line in prepared(tmp_path / "capitals.csv").lines
    )


def test_columns_of_arrays_and_bytes_are_left_out(tmp_path: Path) -> None:
    frame = base().assign(spectrum=[np.zeros(3) + i for i in range(N)], pairs=[[1, 2]] * N, raw=[b"ab"] * N)
    frame.to_parquet(tmp_path / "t.parquet")
    found = prepared(tmp_path / "t.parquet")
    assert names(found) == ["x", "z"]
    assert left_out(found) == {
        "spectrum": "holds arrays or lists",
        "pairs": "holds arrays or lists",
        "raw": "holds bytes",
    }


def test_leaks_are_told_before_training(tmp_path: Path) -> None:
    frame = base().assign(copy=np.where(base()["y"] == "a", "yes", "no"), score=np.where(base()["y"] == "a", 1.5, 2.5))
    frame.to_csv(tmp_path / "leak.csv", index=False)
    warning = next(line for line in prepared(tmp_path / "leak.csv").lines if line.startswith("warning"))
    assert warning.startswith("warning: copy, score alone each give the target of every row")
    part = ["train"] * 80 + ["val"] * 20 + ["test"] * 20
    order = np.random.default_rng(5).permutation(N)
    frame = base().iloc[order].reset_index(drop=True).assign(part=part, sample=[f"s{i}" for i in range(N)])
    frame.loc[85, ["x", "z"]] = frame.loc[3, ["x", "z"]].to_numpy() + 1e-9
    frame.loc[85, "y"] = "b" if frame.loc[3, "y"] == "a" else "a"
    frame.to_csv(tmp_path / "twice.csv", index=False)
    lines = prepared(tmp_path / "twice.csv", part="part").lines
    assert "warning: 1 rows of the validation and test sets have the inputs of a training row" in lines
    assert "warning: 2 rows have the same inputs as another row of another class" in lines
    section = TableSpec(file=tmp_path / "twice.csv", target="y", part="part")
    with pytest.raises(DataError, match=r"allowed with data.near_duplicates refuse: none"):
        prepare_table(DataSpec(table=section, near_duplicates="refuse"))


def test_rows_without_a_group_are_groups_of_their_own(tmp_path: Path) -> None:
    frame = base().assign(patient=[f"p{i // 6}" if i % 2 else None for i in range(N)])
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = prepared(tmp_path / "t.csv", group="patient")
    assert "60 rows have no patient: each counts as a group of its own" in found.lines
    parts = [len(getattr(found.examples, part)) for part in ("train", "val", "test")]
    assert parts == pytest.approx([72, 24, 24], abs=6)


def test_tables_with_genes_in_rows_say_what_to_do(tmp_path: Path) -> None:
    values = np.random.default_rng(6).normal(size=(40, 12)).round(3)
    frame = pd.DataFrame(values, columns=[f"TCGA-{i}" for i in range(12)], index=[f"ENSG{i}" for i in range(40)])
    frame.to_csv(tmp_path / "genes.tsv", sep="\t")
    with pytest.raises(
        DataError, match=r"if its rows are genes and its columns samples: data\.table\.orientation: columns"
    ):
        prepared(tmp_path / "genes.tsv")
