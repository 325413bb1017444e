"""Rows of a table, prepared as those that the model learnt from."""

import re

import numpy as np
from reading import UnreadableError
from texts import numbers, read_csv


def examples_in(file, settings):
    """Name of each row of a CSV file, and the inputs of the model."""
    if file.suffix.lower() not in (".csv", ".tsv", ".txt", ".tab", ".dat"):
        raise UnreadableError("is no CSV file; save it as CSV")
    wanted = list(dict.fromkeys(column["name"] for column in settings["columns"]))
    columns, separator = read_csv(file, wanted)
    inputs = []
    for column in settings["columns"]:
        name = column["name"]
        if "level" in column:  # an entry of a column of text: 0.5 where it occurs
            known = [entry for entry in columns[name] if entry]
            if known and all(
                re.fullmatch(r"[-+.,:/eE\s]*\d[-+.,:/eE\s\d]*|true|false", each.lower()) for each in known
            ):
                raise UnreadableError(f"has no text in the column {name}")
            inputs.append([0.5 if entry == column["level"] else -0.5 for entry in columns[name]])
        else:
            values = numbers(columns, separator, name, settings, column.get("decimal", "."))
            inputs.append((np.where(np.isnan(values), column["median"], values) - column["centre"]) / column["scale"])
    rows = np.stack(inputs, axis=1).astype(np.float32)
    return [f"{file} row {number}" for number in range(1, len(rows) + 1)], (rows,)
