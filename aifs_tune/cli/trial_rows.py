"""Table of trials for the terminal, at any width: one line a trial, and no number is cut."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from aifs_tune._util.formatting import assignments
from aifs_tune._util.scalars import Scalar
from aifs_tune.cli.plain_text import Text

_MIN_WIDTH = 14
"""Least width of the configurations, and of the reasons; where there is less, they are left out."""
_BORDER, _GAP = 3, "  "


@dataclass(frozen=True)
class Column:
    """Column of short cells that keeps its whole width, or ``is_optional`` where the configurations need its place."""

    name: str
    cells: Sequence[Text]
    is_optional: bool = False

    @property
    def width(self) -> int:
        """Width of its longest cell."""
        return max([cell_len(self.name), *(cell.cell_len for cell in self.cells)])


class TrialRows:
    """Trials, one line each: ``columns``, the configurations with as many parameters as fit, and ``reasons``, if any.

    Parameters that differ between these trials come first, of those in ``tuned``. A text of ``instead`` takes the place
    of the configuration in that row. What has no place is named below.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        configurations: Sequence[Mapping[str, Scalar]],
        reasons: Sequence[str] = (),
        *,
        tuned: Container[str] | None = None,
        instead: Mapping[int, str] | None = None,
        title: str | None = None,
    ) -> None:
        self._columns, self._title = columns, title
        self._parameters = _parameters(configurations, tuned)
        self._instead = instead or {}
        self._reasons = [Text(reason) for reason in reasons] if any(reasons) else []

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wanted = max(map(cell_len, map(_GAP.join, self._parameters)), default=0)
        if self._reasons:
            wanted = max(wanted, _MIN_WIDTH) + _BORDER + _MIN_WIDTH
        shown = list(self._columns)
        for column in reversed(self._columns):
            if column.is_optional and options.max_width - _used(shown) < min(wanted, 3 * _MIN_WIDTH):
                shown.remove(column)
        left_out = [column.name for column in self._columns if column not in shown]
        room = max(0, options.max_width - _used(shown) - _BORDER)
        for_reasons = 0
        if self._reasons and room >= 2 * _MIN_WIDTH + _BORDER:
            longest = max(reason.cell_len for reason in self._reasons)
            for_reasons = min(max(longest, len("reason")), max(_MIN_WIDTH, room // 3))
            room -= for_reasons + _BORDER
        elif self._reasons:
            left_out.append("reason")
        table = Table(title=self._title)
        for column in shown:
            table.add_column(Text(column.name), no_wrap=True, width=column.width)
        if room >= _MIN_WIDTH:
            table.add_column("configuration", no_wrap=True, overflow="ellipsis", max_width=room)
        else:
            left_out.append("configuration")
        if for_reasons:
            table.add_column("reason", no_wrap=True, overflow="ellipsis", width=for_reasons)
        for i, parameters in enumerate(self._parameters):
            text = self._instead.get(i) or _fitting(parameters, room)
            texts = [Text(text)] if room >= _MIN_WIDTH else []
            texts += [self._reasons[i]] if for_reasons else []
            table.add_row(*(column.cells[i] for column in shown), *texts)
        yield table
        if left_out:
            yield Text(f"no place for: {', '.join(left_out)}", style="dim")


def _used(columns: Sequence[Column]) -> int:
    """Width of a table of these columns, with its left border."""
    return 1 + sum(column.width + _BORDER for column in columns)


def _parameters(configurations: Sequence[Mapping[str, Scalar]], tuned: Container[str] | None) -> list[list[str]]:
    """The assignments of each configuration; those first that differ between the configurations."""
    names = list(dict.fromkeys(name for params in configurations for name in params if tuned is None or name in tuned))
    values = {name: {repr(params.get(name)) for params in configurations} for name in names}
    names.sort(key=lambda name: len(values[name]) == 1)  # stable, so each half keeps the order of the space
    return [list(assignments({name: params[name] for name in names if name in params})) for params in configurations]


def _fitting(parameters: Sequence[str], width: int) -> str:
    """As many parameters as fit in ``width``, in their order, and how many do not."""
    if cell_len(_GAP.join(parameters)) <= width:
        return _GAP.join(parameters)
    shown: list[str] = []
    for parameter in parameters:
        if cell_len(_GAP.join([*shown, parameter, f"+{len(parameters)} more"])) <= width:
            shown.append(parameter)
    return _GAP.join([*shown, f"+{len(parameters) - len(shown)} more"])
