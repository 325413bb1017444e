"""The directive ``rest-reference``: every route of the service with its parameters, from its OpenAPI document."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from aifs_tune.service.application import routes

METHODS = ("get", "post", "put", "delete")
EVERYWHERE = {"Aifs-Tune-Project", "Idempotency-Key"}
"""Headers that the page explains once."""


def parameter_names(operation: dict[str, Any]) -> list[str]:
    """What a request says beside its path and body."""
    given = operation.get("parameters", [])
    return [each["name"] for each in given if each["in"] != "path" and each["name"] not in EVERYWHERE]


def body_keys(operation: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    """The keys of the JSON body."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    schema = schemas.get(content.get("$ref", "").rpartition("/")[2], content)
    return list(schema.get("properties", {}))


def line_of_names(title: str, names: list[str]) -> list[nodes.Node]:
    """A title and its names in code, with commas between."""
    parts: list[nodes.Node] = [nodes.emphasis("", title), nodes.Text(" ")]
    for i, name in enumerate(names):
        parts += [nodes.Text(", ")] if i else []
        parts.append(nodes.literal("", name))
    return parts


class RestReference(SphinxDirective):
    """A list of all routes."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        document = routes(None).openapi()  # type: ignore[arg-type] # a description needs no open storage
        schemas = document["components"]["schemas"]
        items = [
            self._item(method, path, at[method], schemas)
            for path, at in document["paths"].items()
            for method in METHODS
            if method in at
        ]
        return [nodes.definition_list("", *items)]

    def _item(
        self, method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]
    ) -> nodes.definition_list_item:
        told = " ".join(str(operation.get("description", "")).replace("``", "").split())
        parts = [nodes.paragraph("", told)]
        for title, names in (("Parameters:", parameter_names(operation)), ("Body:", body_keys(operation, schemas))):
            if names:
                parts.append(nodes.paragraph("", "", *line_of_names(title, names)))
        done = [status for status in operation["responses"] if status < "400"]
        parts.append(nodes.paragraph("", "", *line_of_names("Status:", done)))
        term = nodes.term("", "", nodes.literal("", f"{method.upper()} {path}"))
        return nodes.definition_list_item("", term, nodes.definition("", *parts))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("rest-reference", RestReference)
    return {"parallel_read_safe": True}
