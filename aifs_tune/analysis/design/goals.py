"""What the next experiments are to reach, and where they may lie, written as text such as ``elongation >= 10``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aifs_tune._util.scalars import brief, did_you_mean
from aifs_tune.errors import RequestError

_LIMIT = re.compile(r"^(?P<name>.+?)\s*(?P<sign><=|>=)\s*(?P<bound>\S+)$")
_SUM = re.compile(r"^(?P<names>.+?)\s*(?P<sign><=|>=|=)\s*(?P<total>\S+)$")
_RANGE = re.compile(r"^(?P<name>.+?)\s*=\s*(?P<range>\S.*)$")


@dataclass(frozen=True)
class Objective:
    """Target to make as large (``sign`` 1) or as small (-1) as possible."""

    target: str
    sign: Literal[1, -1]


@dataclass(frozen=True)
class Limit:
    """Bound of a target: at least (``sign`` 1) or at most (-1) ``bound``, in its unit."""

    target: str
    sign: Literal[1, -1]
    bound: float

    @property
    def text(self) -> str:
        """As it was written."""
        return f"{self.target} {'>=' if self.sign == 1 else '<='} {self.bound:g}"


@dataclass(frozen=True)
class Sum:
    """Sum of columns: equal to (``=``), at most (``<=``) or at least (``>=``) ``total``."""

    columns: tuple[str, ...]
    sign: Literal["=", "<=", ">="]
    total: float


@dataclass(frozen=True)
class Range:
    """Values that a column may have: numbers from ``low`` to ``high``, or one of the ``entries`` of text."""

    column: str
    low: float
    high: float
    entries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goals:
    """Objectives and limits of targets, sums and ranges of columns."""

    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...] = ()
    sums: tuple[Sum, ...] = ()
    ranges: tuple[Range, ...] = ()


def parse_goals(
    *,
    maximise: Sequence[str],
    minimise: Sequence[str],
    subject_to: Sequence[str],
    sums: Sequence[str],
    ranges: Sequence[str],
    targets: Sequence[str],
    columns: Sequence[str],
    texts: Sequence[str] = (),
) -> Goals:
    """Read goals.

    Parameters
    ----------
    maximise, minimise
        Targets.
    subject_to
        Limits of targets, such as ``elongation >= 10``, or of sums of columns, such as ``ni + co <= 30``.
    sums
        Sums of columns, such as ``resin + hardener = 1``.
    ranges
        Ranges of columns, such as ``ni=0:20``, ``co=0`` or ``furnace=A|B``.
    targets, columns, texts
        The names that there are: the targets, all columns of inputs, and those of text.

    Raises
    ------
    RequestError
        If there is no objective, or a text cannot be read; names it, and what is allowed.
    """
    wanted = [(name, 1) for name in maximise] + [(name, -1) for name in minimise]
    if not wanted:
        raise RequestError(f"maximise, minimise: none given; allowed: one or several of {', '.join(targets)}")
    objectives = tuple(Objective(_known("target", name, targets), 1 if sign == 1 else -1) for name, sign in wanted)
    names = [each.target for each in objectives]
    if len(set(names)) < len(names):
        raise RequestError(f"maximise, minimise: {', '.join(names)} has a target twice; allowed: each once")
    limits, all_sums = list[Limit](), [_sum("sum", text, columns, texts) for text in sums]
    for text in subject_to:
        found = _LIMIT.match(text.strip())
        if found is None:
            raise RequestError(f"subject-to: {brief(text)} is no limit; allowed: such as {targets[0]} >= 10")
        if found["name"] in targets:
            bound = _number("subject-to", text, found["bound"])
            limits.append(Limit(found["name"], 1 if found["sign"] == ">=" else -1, bound))
        else:
            all_sums.append(_sum("subject-to", text, columns, texts, targets))
    return Goals(objectives, tuple(limits), tuple(all_sums), tuple(_range(text, columns, texts) for text in ranges))


def _known(what: str, name: str, allowed: Sequence[str]) -> str:
    if name not in allowed:
        hint = did_you_mean(name, list(allowed))
        raise RequestError(f"{what}: no {what} {brief(name)}{hint}; allowed: {', '.join(allowed)}")
    return name


def _number(key: str, text: str, entry: str) -> float:
    try:
        value = float(entry)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RequestError(f"{key}: {brief(text)} ends with {brief(entry)}; allowed: a finite number")
    return value


def _sum(key: str, text: str, columns: Sequence[str], texts: Sequence[str], targets: Sequence[str] = ()) -> Sum:
    found = _SUM.match(text.strip())
    if found is None:
        raise RequestError(f"{key}: {brief(text)} is no sum; allowed: such as {' + '.join(columns[:2])} = 1")
    # A column whose own name has a plus sign is taken by its whole name.
    whole = found["names"].strip()
    names = [whole] if whole in columns else [name.strip() for name in whole.split("+")]
    for name in names:
        if name not in columns or name in texts:
            hint = did_you_mean(name, [*targets, *columns])
            allowed = ", ".join([*targets, *(each for each in columns if each not in texts)])
            what = "is text" if name in texts else f"is not there{hint}"
            raise RequestError(f"{key}: {brief(text)}: column {brief(name)} {what}; allowed: {allowed}")
    sign: Literal["=", "<=", ">="] = "=" if found["sign"] == "=" else "<=" if found["sign"] == "<=" else ">="
    return Sum(tuple(names), sign, _number(key, text, found["total"]))


def _range(text: str, columns: Sequence[str], texts: Sequence[str]) -> Range:
    found = _RANGE.match(text.strip())
    if found is None:
        raise RequestError(f"range: {brief(text)} is no range; allowed: such as {columns[0]}=0:20")
    name = _known("column", found["name"], columns)
    if name in texts:
        return Range(name, math.nan, math.nan, tuple(entry.strip() for entry in found["range"].split("|")))
    low, colon, high = found["range"].partition(":")
    ends = [_number("range", text, end.strip()) for end in ((low, high) if colon else (low, low))]
    if ends[0] > ends[1]:
        raise RequestError(f"range: {brief(text)} falls; allowed: the smaller number first")
    return Range(name, ends[0], ends[1])
