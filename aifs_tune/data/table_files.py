"""Reading of table files: CSV in the forms that labs have, Parquet and Excel. What was not plain is said in notes."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.memory import free_mb
from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.columns import MISSING, decimal_sign
from aifs_tune.data.forecast import in_bytes
from aifs_tune.data.images.folder import is_zarr, shown
from aifs_tune.data.matrix import Matrix
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


PARQUET = (".parquet", ".pq")
TEXT = (".csv", ".tsv", ".txt", ".tab", ".dat")
_PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_EXCEL = (".xlsx",)
_CONVERT = {
    ".xls": "save it as .xlsx or CSV",
    ".ods": "save it as .xlsx or CSV",
    ".sav": "pandas.read_spss(file).to_parquet(...)",
    ".dta": "pandas.read_stata(file).to_parquet(...)",
    ".sas7bdat": "pandas.read_sas(file, encoding='utf-8').to_parquet(...)",
    ".xpt": "pandas.read_sas(file).to_parquet(...)",
    ".rds": "in R: write.csv(readRDS(file), ...)",
    ".rdata": "in R: load(file), then write.csv of the table",
    ".rda": "in R: load(file), then write.csv of the table",
    ".mat": "scipy.io.loadmat(file), then numpy.savez(..., X=..., y=...)",
    ".feather": "pandas.read_feather(file).to_parquet(...)",
    ".orc": "pandas.read_orc(file).to_parquet(...)",
    ".json": "pandas.read_json(file).to_parquet(...)",
    ".jsonl": "pandas.read_json(file, lines=True).to_parquet(...)",
    ".ndjson": "pandas.read_json(file, lines=True).to_parquet(...)",
    ".pkl": "pandas.read_pickle(file).to_parquet(...), where you trust the file",
    ".pickle": "pandas.read_pickle(file).to_parquet(...), where you trust the file",
    ".db": "pandas.read_sql('select * from TABLE', sqlite3.connect(file)).to_parquet(...)",
    ".sqlite": "pandas.read_sql('select * from TABLE', sqlite3.connect(file)).to_parquet(...)",
    ".sqlite3": "pandas.read_sql('select * from TABLE', sqlite3.connect(file)).to_parquet(...)",
    ".loom": "anndata.read_loom(file).write_h5ad(...)",
    ".fits": "astropy.table.Table.read(file).to_pandas().to_parquet(...)",
    ".npy": "numpy.savez(..., X=..., y=...)",
    ".zarr": "xarray.open_zarr(file).to_dataframe().reset_index().to_parquet(...), or of AnnData: "
    "anndata.io.read_zarr(file).write_h5ad(...)",
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), "pandas.read_hdf(file).to_parquet(...), where you trust the file"),
}
"""How to convert files that are not read."""
MAX_BYTES = 2**32
"""Largest size of a text file, unpacked."""
_SHARE = 0.25
"""Largest share of the memory that the text of a file may take; the table that is made of it takes more."""
_SAMPLE = 50
_PIECE = 2**20
_CHECKED = 64
"""Pieces after which the free memory is looked at."""
_CONSISTENT = 0.8
_MIN_RISING = 6
_SEPARATORS = (",", ";", "\t", "|")
_NUMBER = re.compile(r"[-+\u2212]?(\d+([.,]\d*)*|[.,]\d+)([eE][-+]?\d+)?|nan|inf", re.IGNORECASE)

_ZEROS = re.compile(r"(?m)(?:^|[,;\t| \"])0\d+(?=[,;\t| \"\r\n]|$)")
_POINTERS = {"version https://git-lfs": "git lfs pull", "/annex/objects/": "datalad get, or git annex get"}
_UNEVEN = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")


class NamelessError(DataError):
    """Raised if a table seems to have no line of column names."""


@dataclass(frozen=True)
class TableFile:
    """Content of a table file.

    Entries of text columns are text as it stands in the file, without spaces around it; empty entries are missing.
    ``notes`` say how the file differs from a plain table, and ``separator`` is that of its columns, empty for Parquet
    and Excel. ``decimal`` is the decimal sign of the columns whose numbers can be read in one way only; empty if there
    are none, or of both kinds. In a file where 1.037 may mean 1037, a column of such numbers is text. ``matrix`` has
    further columns, such as genes, with the same rows. ``files`` are those that were read, if there are several.
    ``sheets`` are those of an Excel file that were not read.
    """

    frame: pandas.DataFrame
    notes: tuple[str, ...] = ()
    separator: str = ""
    decimal: Literal["", ",", "."] = ""
    matrix: Matrix | None = None
    files: tuple[Path, ...] = ()
    sheets: tuple[str, ...] = ()


def suffix_of(file: Path) -> str:
    """Suffix that says what a file holds, in lower case; that of ``a.csv.gz`` is ``.csv``."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in (*_PACKED, ".zip"):
        return suffixes[-2] if len(suffixes) > 1 else ".csv"
    return suffixes[-1] if suffixes else ""


def read_table(file: Path, where: str, *, header: bool = True, sheet: str | None = None) -> TableFile:
    """Read a table into a DataFrame whose column names are strings.

    A CSV file may be packed (gz, bz2, xz, zip), in UTF-8, UTF-16 or Latin-1, separated by commas, semicolons, tabs,
    bars or spaces, and have comment lines (``#``), a title or a line of units. Without ``header`` its columns are
    called ``column1``, ``column2``, ... Of an Excel file the first sheet is read, or the one called ``sheet``.

    Raises
    ------
    NamelessError
        If its first line holds numbers, although there is to be a header.
    DataError
        If it cannot be read or has a duplicate column; the text begins with ``where``.
    """
    suffix = suffix_of(file)
    check_kind(file, where)
    check_regular(file, where)
    try:
        if suffix in PARQUET:
            return _parquet(file)
        if suffix in _EXCEL:
            return _excel(file, where, sheet)
        return _text(file, where, header)
    except FileNotFoundError:
        raise DataError(f"{where}: there is no such file; allowed: a CSV or Parquet file") from None
    except (OSError, ValueError, UnicodeError, IndexError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        text = " ".join(str(error).split())[:200]
        if (uneven := _UNEVEN.search(text)) is not None:
            text = f"line {uneven[2]} has {uneven[3]} fields, and lines above it {uneven[1]}"
        raise DataError(f"{where}: cannot be read as a table ({text}); allowed: CSV, Parquet or Excel") from error


def _parquet(file: Path) -> TableFile:
    import pandas

    frame = pandas.read_parquet(file)
    notes = []
    if not isinstance(frame.index, pandas.RangeIndex):
        names = [str(name) for name in frame.index.names if name is not None]
        if names and not set(names) & {str(name) for name in frame.columns}:
            frame = frame.reset_index()
            notes.append(f"the index became a column: {', '.join(map(shown, names))}")
    frame.columns = pandas.Index([str(name) for name in frame.columns])
    return TableFile(frame, tuple(notes))


def _excel(file: Path, where: str, sheet: str | None) -> TableFile:
    import pandas

    with missing_packages_named():
        import_module("openpyxl")  # pandas reads Excel with it
    check_unpacked(file, where)
    with pandas.ExcelFile(file, engine="openpyxl") as book:
        sheets = [str(name) for name in book.sheet_names]
        if sheet is not None and sheet not in sheets:
            raise DataError(f"{where}: no sheet {sheet!r}; allowed: {', '.join(map(shown, sheets))}")
        name = sheets[0] if sheet is None else sheet
        head = book.parse(name, header=None, nrows=_SAMPLE, dtype=object)
        rows = [["" if e is None or e != e else str(e) for e in row] for row in head.to_numpy(object).tolist()]
        n_above = next((i for i, row in enumerate(rows) if any(row)), 0)
        n_above += _padded_titles(rows[n_above:])
        frame = book.parse(name, header=n_above, keep_default_na=False, na_values=[""])
    frame.columns = pandas.Index(["" if str(n).startswith("Unnamed: ") else str(n).strip() for n in frame.columns])
    notes = [f"{n_above} lines above the table are skipped: {shown(_title(rows))}"] if _title(rows[:n_above]) else []
    notes += _formulas(file, name, frame)
    notes += _beside(list(frame.columns), [bool(n) or not frame.iloc[:, i].isna().all() for i, n in enumerate(frame)])
    others = tuple(each for each in sheets if each != name)
    if others:
        notes.append(f"sheet {shown(name)} is read; left out: {', '.join(map(shown, others))}")
    return TableFile(frame, tuple(notes), sheets=others)


def _formulas(file: Path, sheet: str, frame: pandas.DataFrame) -> list[str]:
    """A warning of formulas whose results are not stored in the file, where entries are missing."""
    if not frame.isna().to_numpy().any():
        return []
    found: dict[bool, list[str]] = {}
    for as_results in (True, False):
        book = import_module("openpyxl").load_workbook(file, read_only=True, data_only=as_results)
        cells = (cell for row in book[sheet].iter_rows() for cell in row if cell.value is not None)
        found[as_results] = [cell.coordinate for cell in cells if as_results or cell.data_type == "f"]
        book.close()
    lost = sorted(set(found[False]) - set(found[True]))
    if not lost:
        return []
    text = f"{len(lost)} formulas, such as in {lost[0]}, have no result in the file and are missing entries"
    return [f"warning: {text}; open it in Excel or LibreOffice and save it again"]


def check_unpacked(file: Path, where: str) -> None:
    """Raise DataError if the members of a zip file, which an Excel file is too, need more memory than there is."""
    with zipfile.ZipFile(file) as archive:
        n_bytes = sum(member.file_size for member in archive.infolist())
    check_memory(n_bytes, where)


def _text(file: Path, where: str, header: bool) -> TableFile:
    import pandas

    text, notes = _decoded(file, where)
    if (pointer := next((how for begin, how in _POINTERS.items() if text.startswith(begin)), None)) is not None:
        raise DataError(f"{where}: is a pointer to the file, which is not on this machine; get it: {pointer}")
    body, comments = _without_comments(text)
    if comments:
        notes.append(f"{len(comments)} comment line{'s' * (len(comments) > 1)} skipped")
    if (begins := _first_line(body)).startswith("!"):
        raise DataError(
            f"{where}: begins with {shown(begins[:40])!r}, like a GEO series matrix, which is read as "
            "data.table alone; allowed: a table with names in its first line"
        )
    separator = _separator(body)
    rows = _sample_rows(body, separator)
    if not rows:
        raise DataError(f"{where}: cannot be read as a table (it is empty); allowed: CSV, Parquet or Excel")
    width = Counter(map(len, rows)).most_common(1)[0][0]
    n_above = _first_of_width(rows, width)
    n_above += _padded_titles(rows[n_above:]) if header else 0
    if n_above:
        lines = "the title line is" if n_above == 1 else f"{n_above} lines above the table are"
        notes.append(f"{lines} skipped: {shown(_title(rows))}")
    names, header = _names(rows[n_above:], comments, separator, where, header, notes)

    def read(columns: list[int] | None = None) -> pandas.DataFrame:
        return pandas.read_csv(
            io.StringIO(body),
            sep=r"\s+" if separator == " " else separator,
            header=None,
            skiprows=_lines_of(body, n_above) + int(header),
            names=list(range(len(names))),
            usecols=columns,
            dtype=None if columns is None else str,
            index_col=False,
            keep_default_na=False,
            na_values=[""],
            skipinitialspace=True,
            low_memory=False,
            engine="c",
        )

    frame = read()
    if _ZEROS.search(body):
        _with_zeros(frame, read)
    decimal = _with_spelling(frame, separator, read, rows[n_above + int(header) :])
    frame, units = _without_units(frame)
    if units:
        notes.append(f"the line below the names holds units and is no row: {', '.join(map(shown, units[:5]))}")
    for column in frame.columns:
        if frame[column].dtype.kind not in "biuf":
            frame[column] = frame[column].astype(object).map(_stripped)
    frame.columns = pandas.Index(names)
    is_used = [bool(name) or not frame.iloc[:, i].isna().all() for i, name in enumerate(names)]
    notes += _beside(names, is_used)
    return TableFile(frame.loc[:, is_used], tuple(notes), separator, decimal)


def _beside(names: Sequence[str], is_used: Sequence[bool]) -> list[str]:
    """A warning of columns behind an empty one, which may be those of another table."""
    begin = next((i for i, used in enumerate(is_used) if used), len(names))
    gap = next((i for i in range(begin, len(names)) if not is_used[i]), len(names))
    behind = [name for name, used in zip(names[gap:], is_used[gap:], strict=True) if used]
    if not behind:
        return []
    some = ", ".join(map(shown, behind[:3])) + (f" and {len(behind) - 3} more" if len(behind) > 3 else "")
    return [f"warning: {some} stand behind an empty column without a name: are they another table? Then leave them out"]


def _with_zeros(frame: pandas.DataFrame, read_text: Callable[[list[int]], pandas.DataFrame]) -> None:
    """Put back the text of codes of one length such as 00501 and 10037, which are other codes without their zeros."""
    numeric = [i for i in map(int, frame.columns) if frame[i].dtype.kind in "iuf"]
    spelled = read_text(numeric)
    for i in numeric:
        known = spelled[i].dropna().str.strip()
        if known.str.fullmatch(r"\d+").all() and known.str.len().nunique() == 1 and known.str.startswith("0").any():
            frame[i] = spelled[i].astype(object) if known.str.len().iloc[0] > 1 else frame[i]


def _with_spelling(
    frame: pandas.DataFrame,
    separator: str,
    read_text: Callable[[list[int]], pandas.DataFrame],
    sample: Sequence[Sequence[str]],
) -> Literal["", ",", "."]:
    """Tell the decimal sign of a file, and put back the text of numbers such as 1.037 where that may mean 1037.

    ``read_text`` reads columns as text, and ``sample`` are the first rows.
    """
    columns = [int(i) for i in frame.columns]
    floats = [i for i in columns if frame[i].dtype.kind == "f"]
    texts = [i for i in columns if frame[i].dtype.kind not in "biufmM"]
    found = [_sign_in(frame[i]) for i in texts]
    has_points_alone = separator != ";" and not {",", "both"} & set(found)
    unclear = [i for i in floats if decimal_sign([row[i].strip() for row in sample if len(row) > i]) == "both"]
    unclear = [i for i in unclear if _may_be_thousands(frame[i].to_numpy())]
    if has_points_alone:  # 1.000 and 2.000 alone are rather whole numbers
        unclear = [i for i in unclear if bool((frame[i] % 1 > 0).any())]
    spelled = read_text(unclear) if unclear else None
    for i in unclear:
        assert spelled is not None
        found.append(sign := _sign_in(spelled[i]))
        if sign == "both":
            frame[i] = spelled[i].astype(object)
    if any(i not in unclear and bool((frame[i] % 1 > 0).any()) for i in floats):
        found.append(".")
    has_comma, has_point = "," in found, "." in found
    if has_comma == has_point:
        return ""
    return "," if has_comma else "."


def _sign_in(column: pandas.Series[Any]) -> Literal["", ",", ".", "both"]:
    texts = [str(entry).strip() for entry in column.dropna().unique()]
    has_digit = [text for text in texts if text[:1].isdigit() or text[1:2].isdigit()]
    return decimal_sign(texts) if len(has_digit) * 2 > len(texts) else ""


def _may_be_thousands(values: NDArray[np.float64]) -> bool:
    """Whether all numbers may have been written with three digits behind a point, such as 1.037."""
    known = values[~np.isnan(values)]
    size = np.abs(known)
    return len(known) > 0 and bool(
        ((size < 1000) & ((size >= 1) | (size == 0))).all() and (np.abs(known * 1000 % 1 - 0.5) > 0.499).all()
    )


def _names(
    rows: Sequence[Sequence[str]], comments: Sequence[str], separator: str, where: str, header: bool, notes: list[str]
) -> tuple[list[str], bool]:
    """Names of the columns, and whether they stand in the first line."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    if not header:
        return [f"column{i + 1}" for i in range(width)], False
    names = [name.strip() for name in rows[0]]
    if len(names) == width + 1 and not names[-1]:
        names.pop()
    last = comments[-1].lstrip("#").strip() if comments else ""
    named = last.split() if separator == " " else next(csv.reader([last], delimiter=separator), [])
    is_named = len(named) == width and not any(map(is_number, named))
    if is_named and any(map(is_number, names)):
        notes.append("the column names are those of the last comment line")
        names, header = [name.strip() for name in named], False
    elif all(map(is_number, names)) and not _rises(names):
        raise NamelessError(
            f"{where}: its first line holds numbers ({', '.join(map(shown, names[:3]))}, ...); allowed: a line of "
            "column names"
        )
    else:
        numeric = [name for name in names if is_number(name)]
        if numeric and not _rises(numeric):
            some = ", ".join(map(shown, numeric[:3]))
            notes.append(f"warning: numbers are column names ({some}); if the first line is a row: header: false")
        if len(names) == width - 1:
            names = _with_one_more(names, [row for row in rows[1:] if len(row) == width], where, notes)
    twice = next((name for i, name in enumerate(names) if name and name in names[:i]), None)
    if twice is not None:
        raise DataError(f"{where}: column {twice!r} is duplicated; allowed: distinct names in the first line")
    return names, header


def _with_one_more(names: list[str], rows: Sequence[Sequence[str]], where: str, notes: list[str]) -> list[str]:
    """Names for rows that have one field more: an empty one at the end, or row names at the beginning."""
    if all(not row[-1].strip() for row in rows):
        return [*names, ""]
    first = [row[0].strip() for row in rows]
    are_numbers = all(map(is_number, first))
    if len(set(first)) == len(first) and (not are_numbers or first[:2] in (["1", "2"], ["0", "1"])):
        notes.append("the first column has no name")
        return ["", *names]
    raise DataError(
        f"{where}: its first line has {len(names)} names and its rows have {len(names) + 1} fields; allowed: a name "
        "for each column"
    )


def _stripped(entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    return entry.strip() or None


def decoded_text(file: Path, where: str) -> str:
    """Text of a file, which may be packed.

    Raises
    ------
    DataError
        If it is no text, or too long.
    """
    return _decoded(file, where)[0]


def head_of(file: Path) -> bytes:
    """The first bytes of a file, unpacked; of a zip those of the archive."""
    opener = _PACKED.get(file.suffix.lower(), Path.open)
    with opener(file, "rb") as opened:
        return bytes(opened.read(64))


def _decoded(file: Path, where: str) -> tuple[str, list[str]]:
    """Text of the file, and notes on its packing and encoding."""
    content = _unpacked(file, where)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16"), ["read as UTF-16"]
    notes = list[str]()
    if b"\0" in content:
        encoding = _utf16_of(content)
        if encoding is not None:
            return content.decode(encoding, errors="replace"), ["read as UTF-16"]
        whole = content.rstrip(b"\0")
        if b"\0" in whole or not whole:
            line = whole.count(b"\n", 0, max(whole.find(b"\0"), 0)) + 1
            raise DataError(f"{where}: is no text file (line {line} has a NUL byte); allowed: CSV, Parquet or Excel")
        n_bytes = len(content) - len(whole)
        notes.append(f"warning: {n_bytes} NUL bytes at its end are left out; was its recording interrupted?")
        content = whole
    try:
        return content.decode("utf-8-sig"), notes
    except UnicodeDecodeError:
        latin = "it is not UTF-8, and is read as Latin-1 (Windows-1252)"
        return content.decode("cp1252", errors="replace"), [*notes, latin]


def _utf16_of(content: bytes) -> str | None:
    """The form of UTF-16 without a mark at its beginning, in which every second byte of English text is NUL."""
    head = np.frombuffer(content[:4096], np.uint8) == 0
    even, odd = float(head[::2].mean()), float(head[1::2].mean())
    return "utf-16-le" if odd > 0.8 > 0.2 > even else "utf-16-be" if even > 0.8 > 0.2 > odd else None


def check_kind(file: Path, where: str) -> None:
    """Raise DataError, with the command that converts it, if ``file`` is of a kind that is not read."""
    suffix = ".zarr" if is_zarr(file) else suffix_of(file)
    if suffix in _CONVERT:
        raise DataError(f"{where}: {suffix} files are not read; convert it: {_CONVERT[suffix]}")


def check_regular(file: Path, where: str) -> None:
    """Raise DataError if ``file`` is a pipe or a device, whose end may never come; a missing file passes."""
    if file.exists() and not file.is_file():
        raise DataError(f"{where}: is no regular file; allowed: a file")


def _unpacked(file: Path, where: str) -> bytes:
    suffix = file.suffix.lower()
    check_packed(file, where)
    if suffix in _PACKED:
        with _PACKED[suffix](file, "rb") as opened:
            return _limited(opened, where)
    if suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.namelist() if not m.endswith("/") and not m.startswith("__MACOSX/")]
            if len(members) != 1:
                raise DataError(f"{where}: holds {len(members)} files; allowed in a zip: one table")
            check_memory(archive.getinfo(members[0]).file_size, where)
            with archive.open(members[0]) as member:
                return _limited(member, where)
    with file.open("rb") as plain:
        return _limited(plain, where)


def check_packed(file: Path, where: str) -> None:
    """Raise DataError if a file, which may be packed, needs too much memory; the end of a gz file tells its size."""
    size = file.stat().st_size
    if file.suffix.lower() == ".gz" and size >= 4:
        with file.open("rb") as opened:
            opened.seek(-4, os.SEEK_END)
            size = int.from_bytes(opened.read(4), "little")
    check_memory(size, where)


def _limited(opened: BinaryIO | Any, where: str) -> bytes:
    pieces, n_bytes = list[bytes](), 0
    while piece := opened.read(_PIECE):
        pieces.append(piece)
        n_bytes += len(piece)
        if n_bytes > MAX_BYTES:
            raise DataError(f"{where}: has more than {MAX_BYTES:,} bytes unpacked; allowed: less, or Parquet")
        if n_bytes % (_CHECKED * _PIECE) < _PIECE:
            check_memory(n_bytes, where)
    return b"".join(pieces)


def check_memory(n_bytes: int, where: str) -> None:
    """Raise DataError if content of ``n_bytes``, unpacked, takes more than a quarter of the memory that is free."""
    free = free_mb()
    if free is not None and n_bytes > _SHARE * free * 2**20:
        raise DataError(
            f"{where}: is {in_bytes(n_bytes)} or more unpacked, of which a table takes several times as much, and "
            f"{in_bytes(free * 2**20)} of memory are free; allowed: a quarter of that, or Parquet with fewer columns"
        )


def _without_comments(text: str) -> tuple[str, list[str]]:
    """The text without lines that begin with ``#``, and these lines."""
    if not text.lstrip().startswith("#") and "\n#" not in text and "\r#" not in text:
        return text, []
    lines = text.splitlines(keepends=True)
    head = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    separator = max(_SEPARATORS, key=head.count)
    n_fields, kept, comments, is_below = head.count(separator), list[str](), list[str](), False
    for line in lines:
        is_below = is_below or line is head
        is_row = is_below and n_fields > 0 and line.count(separator) == n_fields  # such as #DIV/0! in its first field
        if line.lstrip().startswith("#") and not is_row:
            comments.append(line.strip())
        else:
            kept.append(line)
    return "".join(kept), comments


def _lines_of(text: str, n_rows: int) -> int:
    """Number of lines that the first rows take; pandas counts empty lines among those that it skips."""
    n_seen = 0
    for number, line in enumerate(text[: 1 << 20].splitlines() if n_rows else ()):
        if n_seen == n_rows:
            return number
        n_seen += bool(line.strip())
    return 0


def _first_line(text: str) -> str:
    return next((line for line in text[:4096].splitlines() if line.strip()), "")


def _separator(text: str) -> str:
    """The separator that divides most lines of a sample into equally many columns; a comma if there is one column."""
    found: list[tuple[int, int, int, int, str]] = []
    for order, separator in enumerate(_SEPARATORS):
        rows = _sample_rows(text, separator)
        if len(rows) < 2:
            continue
        width, n = Counter(map(len, rows[1:])).most_common(1)[0]
        at = _first_of_width(rows, width)
        if width > 1 and n >= _CONSISTENT * (len(rows) - 1 - at) and at < len(rows) - 1:
            found.append((-at, len(rows[at]), width, -order, separator))
    if found:
        return max(found)[4]
    rows = _sample_rows(text, " ")
    widths = Counter(map(len, rows[1:] or rows))
    return " " if len(widths) == 1 and next(iter(widths)) > 1 else ","


def _first_of_width(rows: Sequence[Sequence[str]], width: int) -> int:
    """The first row that is about as wide as the table: 0, or the row below a title or a block of other lines."""
    sizes = [len(row) - (len(row) == width + 1 and not row[-1].strip()) for row in rows]  # a separator at the end
    is_wide = (i for i, size in enumerate(sizes) if size in (width, width - 1) and (size > 1 or width <= 2))
    return next(is_wide, 0)


def _padded_titles(rows: Sequence[Sequence[str]]) -> int:
    """Number of title lines that are as wide as the table, but empty in at least half of it.

    Below them is a line of column names: full in more than half, and with text above numbers.
    """
    is_full = [2 * sum(bool(entry.strip()) for entry in row) > len(row) for row in rows]
    if not rows or len(rows[0]) < 2 or is_full[0] or any(map(is_number, rows[0])):
        return 0
    return next((at for at in np.flatnonzero(is_full).tolist() if _is_above_numbers(rows[at], rows[at + 1 :])), 0)


def _is_above_numbers(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether in a column a name stands above numbers alone."""
    below = [row for row in rows if len(row) >= len(names)]
    for i, name in enumerate(names):
        entries = [row[i] for row in below if row[i].strip()]
        if name.strip() and not is_number(name) and entries and all(map(is_number, entries)):
            return True
    return False


def _title(rows: Sequence[Sequence[str]]) -> str:
    return next((entry.strip()[:60] for row in rows for entry in row if entry.strip()), "")


def _sample_lines(text: str) -> list[str]:
    head = text[: 1 << 20]
    lines = [line for line in head.splitlines() if line.strip()]
    return lines[: _SAMPLE - 1] if len(head) < len(text) else lines[:_SAMPLE]


def _sample_rows(text: str, separator: str) -> list[list[str]]:
    lines = [line.strip() for line in _sample_lines(text)] if separator == " " else _sample_lines(text)
    try:
        return [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
    except csv.Error:
        return []


def _without_units(frame: pandas.DataFrame) -> tuple[pandas.DataFrame, Sequence[str]]:
    """The table without a first row of units: text in columns that otherwise hold numbers, and in no other way."""
    if len(frame) < 3:
        return frame, ()
    head = [str(entry) for entry in frame.iloc[0] if isinstance(entry, str)]
    rest = frame.iloc[1:_SAMPLE]
    numeric = [
        column
        for column in frame.columns
        if frame[column].dtype.kind not in "biuf" and all(is_number(str(entry)) for entry in rest[column].dropna())
    ]
    is_units = bool(numeric) and not any(frame[column].dtype.kind in "biuf" for column in frame.columns)
    if not is_units or not all(isinstance(entry, str) and _is_unit(entry) for entry in frame.loc[0, numeric]):
        return frame, ()
    return frame.iloc[1:].reset_index(drop=True), head


def _is_unit(entry: str) -> bool:
    return not is_number(entry) and entry.strip().lower() not in MISSING


def _rises(names: Sequence[str]) -> bool:
    """Whether names are numbers that rise or fall, as those of the channels of a spectrum do.

    Few numbers of a row may do so by chance, unless they count.
    """
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return False
    steps = [later - earlier for earlier, later in pairwise(numbers)]
    is_count = len(steps) > 1 and all(step == 1 for step in steps) and numbers[0] in (0, 1)
    return is_count or (len(steps) >= _MIN_RISING and (all(s > 0 for s in steps) or all(s < 0 for s in steps)))


def is_number(text: str) -> bool:
    """Whether a text is a number in any of the usual forms."""
    return _NUMBER.fullmatch(text.strip()) is not None
