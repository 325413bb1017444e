"""Names of classes that are easily confused."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection

_PARTS = re.compile(r"(?:^|[^a-z])(part|batch|chunk|shard|split|volume|archive|images|imgs|dataset|set)s?[\W_]*#", re.I)
"""Words with a number behind them that mean a part of a data set."""


def alike_classes(names: Collection[str]) -> list[str]:
    """Sentences on classes whose names differ in capitals, spaces or hyphens alone, such as ``Cat`` and ``cat``."""
    alike = defaultdict[str, set[str]](set)
    for name in set(names):
        has_letters = any(map(str.isalpha, name))
        alike[re.sub(r"[\s_-]+", "", name.casefold()) if has_letters else name].add(name)
    found = []
    for _, group in sorted(alike.items()):
        if len(group) > 1:
            only = "capitals" if len({name.casefold() for name in group}) == 1 else "capitals, spaces or hyphens"
            printable = sorted(name if name.isprintable() else ascii(name) for name in group)
            found.append(f"the classes {', '.join(printable)} differ in {only} alone")
    return found


def in_parentheses(names: Collection[str]) -> str:
    """What to add to a message that says that a class is missing; empty if no names are alike."""
    return f" ({'; '.join(alike)})" if (alike := alike_classes(names)) else ""


def numbered_parts(names: Collection[str]) -> str | None:
    """A sentence on classes that look like numbered parts of one data set, such as ``images_part_1``; None if none."""
    stems = {re.sub(r"\d+", "#", name) for name in names}
    if len(names) < 2 or len(stems) > 1 or not _PARTS.search(next(iter(stems))):
        return None
    first = sorted(names)[:2]
    return (
        f"the classes {' and '.join(first)} look like parts of one data set, not classes; if the classes stand in a "
        "list: data.labels"
    )
