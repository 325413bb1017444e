"""A graph of columns as GraphML (Brandes et al. 2002), which Cytoscape, Gephi, igraph and NetworkX read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from xml.etree import ElementTree

from aifs_tune.analysis.column_selection import SelectedColumns

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_NODE = {"group": "int", "frequency": "double", "importance": "double"}
_EDGE = ("partial_correlation", "correlation", "frequency")


def graphml_of(found: SelectedColumns) -> bytes:
    """GraphML file: a node for each column of the graph, and an undirected edge for each pair that is connected."""
    root = ElementTree.Element("graphml", xmlns=_NAMESPACE)
    for name, kind in _NODE.items():
        _declared(root, "node", name, kind)
    for name in _EDGE:
        _declared(root, "edge", name, "double")
    graph = ElementTree.SubElement(root, "graph", id="columns", edgedefault="undirected")
    about = found.table.set_index("column").to_dict("index")
    for name in found.graph.columns:
        node = ElementTree.SubElement(graph, "node", id=name)
        _described(node, "node", {key: about[name][key] for key in _NODE})
    for edge in found.graph.edges:
        element = ElementTree.SubElement(graph, "edge", source=edge.first, target=edge.second)
        _described(element, "edge", {key: asdict(edge)[key] for key in _EDGE})
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _declared(root: ElementTree.Element, of: str, name: str, kind: str) -> None:
    key = {"id": f"{of}_{name}", "for": of, "attr.name": name, "attr.type": kind}
    ElementTree.SubElement(root, "key", key)


def _described(element: ElementTree.Element, of: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        ElementTree.SubElement(element, "data", key=f"{of}_{name}").text = f"{value:.6g}"
