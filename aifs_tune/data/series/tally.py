"""Problems and remarks of many series, told in a line for each kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from aifs_tune.data.images.folder import shown
from aifs_tune.data.series.formats import Noted
from aifs_tune.errors import DataError

_MOST_KINDS = 8
_N_EXAMPLES = 2
_ENTRY = re.compile(r"'[^']*'|[-+]?\d[\d.,]*")


@dataclass
class Tally:
    """Collects what was noticed in series, and why some of them are left out.

    ``n`` counts the series that were looked at.
    """

    n: int = 0
    problems: list[tuple[str, str, DataError]] = field(default_factory=list)
    noted: dict[str, list[tuple[str, Noted]]] = field(default_factory=dict)

    def note(self, name: str, notes: Mapping[str, Noted]) -> None:
        """Add what was noticed in the series ``name``."""
        for text, one in notes.items():
            self.noted.setdefault(text, []).append((name, one))

    def problem(self, name: str, where: str, error: DataError) -> None:
        """Add the reason why the series ``name``, called ``where`` in the text, is left out."""
        self.problems.append((name, str(error).removeprefix(where).lstrip(":, "), error))

    def lines(self) -> list[str]:
        """A line for each reason and each remark, with the number of series and examples."""
        return [*self._left_out(), *self._remarks()]

    def _left_out(self) -> list[str]:
        kinds: dict[str, list[tuple[str, str]]] = {}
        for name, reason, _ in self.problems:
            kinds.setdefault(_ENTRY.sub("#", reason), []).append((name, reason))
        ordered = sorted(kinds.values(), key=lambda found: -len(found))
        lines = [
            f"left out: {len(found)} of {self.n} series: {found[0][1]} ({_examples([name for name, _ in found])})"
            for found in ordered[:_MOST_KINDS]
        ]
        rest = sum(map(len, ordered[_MOST_KINDS:]))
        return [*lines, f"left out: {rest} of {self.n} series for other reasons"] if rest else lines

    def _remarks(self) -> list[str]:
        lines = []
        ordered = sorted(self.noted.items(), key=lambda item: (not item[0].startswith("warning"), -len(item[1])))
        for text, found in ordered:
            name, first = found[0]
            total = sum(one.n for _, one in found)
            count = f": {total:,}" if total > len(found) or first.row is not None else ""
            row = "" if first.row is None else f" row {first.row}"
            where = "" if not name else f" ({len(found)} series, such as {shown(name)}{row})"
            lines.append(f"{text}{count}{where}")
        more = len(lines) - _MOST_KINDS
        return [*lines[:_MOST_KINDS], f"{more} more remarks"] if more > 0 else lines


def _examples(names: list[str]) -> str:
    some = ", ".join(map(shown, names[:_N_EXAMPLES]))
    return some if len(names) <= _N_EXAMPLES else f"{some}, ..."
