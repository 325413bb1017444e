"""Help pages of the command line: commands under titles, and an example at the end of each page."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup


def examples(*commands: str) -> str:
    """Last lines of a help page: ``commands``, without the name of the program, as they are typed."""
    title = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join([title, *(f"  aifs-tune {command}" for command in commands)])


_NEGATIVE_NUMBER = re.compile(r"-(\d|\.\d|inf$|nan$)")


class CommandWithExample(TyperCommand):
    """Command whose examples are printed as they are, without wrapping, and that takes negative numbers."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; a negative number is a value, not an option."""
        takes_value = {name for p in self.params if not getattr(p, "is_flag", False) for name in p.opts}
        before = ["", *args]
        given = [
            f" {arg}" if _NEGATIVE_NUMBER.match(arg) and before[i] not in takes_value else arg
            for i, arg in enumerate(args)
        ]
        return list(super().parse_args(ctx, given))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        _write_examples(self.epilog, formatter)


class TitledGroup(TyperGroup):
    """Group whose help page lists its commands under titles and cuts off no summary."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each title; all have the same width of names."""
        commands = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        width = max(len(name) for name, _ in commands)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in commands:
            title = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(title, []).append((name.ljust(width), command.get_short_help_str(limit=1000)))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        _write_examples(self.epilog, formatter)


def _write_examples(text: str | None, formatter: Any) -> None:
    if text:
        formatter.write(f"\n{text}\n")
