"""The directive ``error-reference``: each error class with its exit code and HTTP status, from the code."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from aifs_tune.errors import AifsTuneError


def families(error: type[AifsTuneError] = AifsTuneError, depth: int = 0) -> list[tuple[int, type[AifsTuneError]]]:
    """The class and all that extend it, with how far below the base each stands."""
    below = [row for child in error.__subclasses__() for row in families(child, depth + 1)]
    return [(depth, error), *below]


class ErrorReference(SphinxDirective):
    """A table of all errors."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        rows = [("Error", "Meaning", "Exit code", "HTTP status")]
        for depth, error in families():
            summary = (error.__doc__ or "").split("\n\n")[0].replace("``", "")
            rows.append(
                ("\u00a0\u00a0\u00a0" * depth + error.__name__, summary, str(error.exit_code), str(error.http_status))
            )
        lines = [nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in row)) for row in rows]
        widths = (30, 50, 10, 10)
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(widths))
        group += [nodes.thead("", lines[0]), nodes.tbody("", *lines[1:])]
        return [nodes.table("", group)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("error-reference", ErrorReference)
    return {"parallel_read_safe": True}
