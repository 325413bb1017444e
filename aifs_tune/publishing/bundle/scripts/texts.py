"""Reading of CSV files in plain form: anything that could be read in two ways is refused."""

import csv
import re

import numpy as np
from reading import UnreadableError

PLAIN = {".": r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", ",": r"[-+]?\d+(,\d+)?([eE][-+]?\d+)?"}


def read_csv(file, wanted):
    """Columns of a CSV file by name, as lists of text without spaces around it, and its separator."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError("is no text in UTF-8") from None
    if any(line.lstrip().startswith("#") for line in text.splitlines()):
        raise UnreadableError("has lines that begin with #; remove them")
    lacking = wanted
    for separator in ",;\t|":
        rows = [
            row for row in csv.reader(text.splitlines(keepends=True), delimiter=separator, skipinitialspace=True) if row
        ]
        names = [name.strip() for name in rows[0]] if rows else []
        missing = [name for name in wanted if name not in names]
        if missing:
            lacking = min(lacking, missing, key=len)
            continue
        if len(rows) < 2 or len(set(names)) < len(names) or any(len(row) != len(names) for row in rows):
            raise UnreadableError("is no plain table: a line of different names, then rows with as many entries")
        columns = zip(*rows[1:], strict=True)
        return {
            name: [entry.strip() for entry in column] for name, column in zip(names, columns, strict=True)
        }, separator
    raise UnreadableError(f"has no column {', '.join(lacking[:3])} in its first line")


def numbers(columns, separator, name, settings, decimal="."):
    """A column as numbers, NaN where an entry is missing; UnreadableError if an entry is anything else."""
    gaps = {*settings["missing_words"], *(str(entry) for entry in settings["missing"])}
    has_commas = any(re.fullmatch(r"[-+]?\d+,\d+", entry) for column in columns.values() for entry in column)
    known = [entry for entry in columns[name] if entry.lower() not in gaps and entry not in gaps]
    for entry in known:
        if not re.fullmatch(PLAIN[decimal], entry):
            example = f"1{decimal}5"
            raise UnreadableError(f"has {entry!r} in the column {name}; only plain numbers such as {example} are read")
    marked = [entry for entry in known if "." in entry]
    are_doubtful = decimal == "." and (separator == ";" or has_commas) and bool(marked)
    if are_doubtful and all(re.fullmatch(r"[-+]?[1-9]\d{0,2}(\.\d{3})+", entry) for entry in marked):
        raise UnreadableError(f"has numbers such as {marked[0]} in the column {name}, which may mean thousands")
    is_known = set(known)
    values = np.array([float(e.replace(",", ".")) if e in is_known else np.nan for e in columns[name]])
    for number in settings["missing"]:
        if not isinstance(number, str):
            values[values == number] = np.nan
    values[np.isinf(values)] = np.nan
    return values
