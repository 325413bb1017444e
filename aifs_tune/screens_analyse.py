"""What an analysis found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aifs_tune.progress import number
from aifs_tune.table import table_rows

if TYPE_CHECKING:
    import pandas

_MAX_PAIRS = 5


def render_importance(
    importance: pandas.DataFrame, interactions: pandas.DataFrame, suggestions: pandas.DataFrame
) -> RenderableType:
    """Importances with their intervals, the strongest interactions, suggestions."""
    parts: list[RenderableType] = []
    for objective, rows in _by_objective(importance):
        n, evaluator = rows[0]["n_trials"], rows[0]["evaluator"]
        table = Table("parameter", "importance", "95 % interval")
        for row in rows:
            table.add_row(row["parameter"], _share(row["importance"]), _interval(row))
        parts += [Text(f"{objective}: {evaluator}, {n} complete trials", style="bold"), table]
    for objective, rows in _by_objective(interactions):
        table = Table("together", "share", "95 % interval")
        for row in rows[:_MAX_PAIRS]:
            table.add_row(f"{row['first']}, {row['second']}", _share(row["share"]), _interval(row))
        more = f", the first {_MAX_PAIRS} of {len(rows)} pairs" if len(rows) > _MAX_PAIRS else ""
        parts += [Text(f"{objective}: by two parameters and neither alone{more}", style="bold"), table]
    if len(suggestions):
        table = Table("parameter", "suggestion", "evidence")
        for row in table_rows(suggestions):
            table.add_row(Text(row["parameter"] or ""), Text(row["text"]), Text(row["evidence"]))
        parts += [Text("suggestions", style="bold"), table]
    else:
        parts.append(Text(f"suggestions: {suggestions.attrs['remark']}"))
    return Group(*parts)


def render_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> RenderableType:
    """Rows as they are."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    return table


def _by_objective(table: pandas.DataFrame) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for objective in table["objective"].unique():
        yield str(objective), table_rows(table[table["objective"] == objective])


def _interval(row: dict[str, Any]) -> str:
    return f"{_share(row['low'])} to {_share(row['high'])}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) else str(value)
