"""The tables of a study's analysis, by name; loads nothing."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

TableName: TypeAlias = Literal[
    "importance",
    "interactions",
    "explained",
    "slices",
    "contour",
    "parallel",
    "curves",
    "saved",
    "pareto",
    "failures",
    "suggestions",
]
TABLES: tuple[TableName, ...] = get_args(TableName)
"""Methods of :class:`~aifs_tune.analysis.of_study.Analysis` that make a table."""
