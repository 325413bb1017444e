"""How the examples of a sweep are divided into training, validation and test, as a record for reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aifs_tune.config.data import DataSpec


def division_of(
    data: DataSpec, kind: str, *, has_classes: bool, given: Sequence[str] = (), groups: str | None = None
) -> dict[str, Any]:
    """Return by what the examples of ``data`` are divided, as JSON values.

    ``by`` is ``folders`` (the data folder has one for each part), ``column`` (a column names the part), ``order`` (by
    the values of a column, the earliest train), ``time`` (windows of one series) or ``random``. ``column`` is that
    column, ``groups`` what is kept together, ``given`` the parts that the folders have. Of data that are divided at
    random, each class is divided alike if ``stratified``. Of images, ``given`` and ``groups`` are what was found.
    """
    column, by = None, "random"
    if kind == "images":
        by = "folders" if given else "random"
    elif kind == "series" and data.series is not None and data.series.forecast is not None:
        by = "time"
    else:
        of = getattr(data, kind)
        order = getattr(of, "order", None)
        sets = getattr(of, "sets", None)
        if of is not None:
            groups = of.group
            if kind == "table" and data.table is not None and (near := data.table.group_near) is not None:
                columns = ", ".join(near.columns)
                groups = f"rows whose {columns} differ by at most {near.distance:g} in total"
            by = "folders" if sets else "column" if of.part else "order" if order else "random"
            given = ("train", "val") if sets else given
            column = of.part or order
    drawn = by == "random" or (by == "folders" and "val" not in given)
    return {
        "by": by,
        "column": column,
        "groups": groups if drawn else None,
        "given": list(given),
        "stratified": has_classes and drawn,
        "seed": data.split.seed if drawn else None,
        "val": data.split.val,
        "test": data.split.test,
    }
