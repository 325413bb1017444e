"""The directive ``command-reference``: every command of ``aifs-tune`` with its arguments, from the typer app.

Each command gets the label ``command-NAME``, so that a page can link to it.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from aifs_tune.cli.main import app


def leaf_commands(command: Any, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """All commands that can be typed, with the words after ``aifs-tune``, in the order of ``--help``."""
    if not hasattr(command, "commands"):
        return [(words, command)]
    below = [(name, child) for name, child in command.commands.items() if not child.hidden]
    return [leaf for name, child in below for leaf in leaf_commands(child, (*words, name))]


def group_of(command: Any) -> str:
    """The title that ``--help`` shows the command under, or an empty text."""
    panel = getattr(command, "rich_help_panel", None)
    return panel if isinstance(panel, str) else ""


def usage(words: tuple[str, ...], command: Any) -> str:
    """The line that ``--help`` begins with."""
    context = command.make_context(" ".join(("aifs-tune", *words)), [], resilient_parsing=True)
    return str(command.get_usage(context)).removeprefix("Usage: ")


def argument_rows(command: Any) -> list[tuple[str, str]]:
    """Name and meaning of each argument and option, but for ``--help``."""
    context = command.make_context("aifs-tune", [], resilient_parsing=True)
    rows = []
    for parameter in command.get_params(context):
        record = None if "--help" in parameter.opts else parameter.get_help_record(context)
        if record is not None:
            rows.append(record)
        elif parameter.param_type_name == "argument":
            rows.append((parameter.human_readable_name, getattr(parameter, "help", None) or ""))
    return rows


class CommandReference(SphinxDirective):
    """A section for each group of commands, and in it one for each command."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        leaves = leaf_commands(typer.main.get_command(app))
        result: list[nodes.Node] = []
        for title, group in groupby(leaves, key=lambda leaf: group_of(leaf[1])):
            sections = [self._section(words, command) for words, command in group]
            if title:
                result.append(self._titled(title, f"commands-{nodes.make_id(title)}", *sections))
            else:
                result.extend(sections)
        return result

    def _section(self, words: tuple[str, ...], command: Any) -> nodes.section:
        name = " ".join(words)
        line = nodes.literal_block("", usage(words, command), language="text")
        parts: list[nodes.Node] = [*paragraphs(command.help or ""), line]
        rows = argument_rows(command)
        if rows:
            parts.append(definitions(rows))
        return self._titled(name, f"command-{'-'.join(words)}", *parts)

    def _titled(self, title: str, label: str, *parts: nodes.Node) -> nodes.section:
        section = nodes.section("", nodes.title("", title), *parts, names=[label])
        self.state.document.note_explicit_target(section, section)
        return section


def paragraphs(text: str) -> list[nodes.paragraph]:
    """Plain text as paragraphs, which an empty line divides."""
    return [nodes.paragraph("", " ".join(part.split())) for part in text.split("\n\n") if part.strip()]


def definitions(rows: list[tuple[str, str]]) -> nodes.definition_list:
    """Each name with its meaning under it."""
    items = [
        nodes.definition_list_item(
            "",
            nodes.term("", "", nodes.literal("", name)),
            nodes.definition("", nodes.paragraph("", " ".join(meaning.split()))),
        )
        for name, meaning in rows
    ]
    return nodes.definition_list("", *items)


def setup(app_of_site: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app_of_site.add_directive("command-reference", CommandReference)
    return {"parallel_read_safe": True}
