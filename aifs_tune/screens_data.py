"""The data of a sweep for a terminal and as JSON, before any training."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from aifs_tune.data.sources import Prepared

_PARTS = ("train", "val", "test")


def data_summary(prepared: Prepared) -> dict[str, Any]:
    """What is in each part, how the data are named, what was found in words, and near duplicates across parts, which
    are None where they were not looked for."""
    near = prepared.near_duplicates
    return {
        "fingerprint": prepared.fingerprint,
        "subsets": {part: _of_part(prepared, part) for part in _PARTS},
        "found": list(prepared.lines),
        "near_duplicates": None if near is None else near.to_json(),
    }


def _of_part(prepared: Prepared, part: str) -> dict[str, Any]:
    """Examples, those of each class, and how many groups they are of; None where there are no groups."""
    files = prepared.files
    rows = {example: i for i, example in enumerate(files.example) if files.part[i] == part}.values()
    counts = Counter(label for i in rows if (label := files.label[i]) is not None)
    groups = {group for i in rows if (group := files.group[i]) is not None}
    return {"examples": len(rows), "classes": dict(sorted(counts.items())), "groups": len(groups) or None}


def render_data(prepared: Prepared) -> RenderableType:
    """The parts as a table, then what was found, then the fingerprint."""
    answer = data_summary(prepared)
    parts = answer["subsets"]
    table = Table("", *_PARTS)
    classes = sorted({name for part in parts.values() for name in part["classes"]})
    for name in classes:
        table.add_row(Text(name), *(str(part["classes"].get(name, 0)) for part in parts.values()))
    table.add_row("all", *(str(part["examples"]) for part in parts.values()), style="bold")
    if any(part["groups"] for part in parts.values()):
        table.add_row("groups", *(str(part["groups"] or 0) for part in parts.values()))
    told = [Text(line) for line in answer["found"] if not line.startswith(tuple(f"{part}: " for part in _PARTS))]
    near = prepared.near_duplicates
    if near is not None:
        told += [Text(f"  {pair}") for pair in near.worst]
        if not near.n_pairs:
            told.append(Text("no images in different parts look alike"))
    return Group(table, *told, Text(f"fingerprint {prepared.fingerprint}"))
