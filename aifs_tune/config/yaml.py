"""Reader of a strict subset of YAML that returns plain data with line numbers.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): ``1e-4`` is a number, ``yes``
and ``on`` are text. Tags, anchors, aliases, duplicate keys and a second document are refused. The reader handles the
parser's events one by one and stops at the first one that is not allowed, so nothing is expanded, and a file cannot
name a class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import yaml

from aifs_tune._util.scalars import brief
from aifs_tune.errors import SweepFileError

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of a document to one value."""
Data: TypeAlias = "bool | int | float | str | list[Data] | dict[str, Data] | None"

MAX_DEPTH = 16
MAX_NUMBER_LENGTH = 40
MAX_VALUES = 10_000
"""Largest number of values in a document; checking many more would take seconds."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


def dotted(path: KeyPath) -> str:
    """Return a path in dotted form, as errors show it: ``space.optimizer.choices.0``."""
    return ".".join(str(key) for key in path)


def key_path(key: str, data: object) -> KeyPath:
    """The path of a key in dotted form; of names in ``data`` that contain dots themselves, the longest counts.

    Parts that ``data`` does not have are taken as they are.
    """
    path: list[str | int] = []
    parts = key.split(".")
    while parts:
        if isinstance(data, list | tuple):
            part: str | int = int(parts[0]) if parts[0].isdecimal() else parts[0]
            n, data = 1, data[part] if isinstance(part, int) and part < len(data) else None
        else:
            known = data if isinstance(data, Mapping) else {}
            n = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known), 1)
            part = ".".join(parts[:n])
            data = known.get(part)
        path.append(part)
        del parts[:n]
    return tuple(path)


@dataclass(frozen=True)
class Document:
    """Plain data with the one-based line of each value; a value in a mapping has the line of its key."""

    data: Data
    lines: dict[KeyPath, int]


def read_yaml(text: str, *, source: str) -> Document:
    """Read the single YAML document in ``text``.

    Raises
    ------
    SweepFileError
        If ``text`` is not YAML or uses a part of YAML that is not allowed; names ``source``, line and key.
    """
    bad = _UNPRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise SweepFileError(
            f"control character U+{ord(bad[0]):04X} is not allowed", source=source, line=line, allowed="printable text"
        )
    reader = _Reader(text, source)
    try:
        data = reader.document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        at = None if mark is None else mark.line
        has_tab = at is not None and "\t" in "".join(text.splitlines()[at : at + 1])
        raise SweepFileError(
            f"not valid YAML: {getattr(error, 'problem', None) or str(error)[:200]}",
            source=source,
            line=None if at is None else at + 1,
            allowed="spaces instead of tabs" if has_tab else "",
        ) from None
    return Document(data, reader.lines)


class _Reader:
    """Converter of YAML events to data, which recurses at most ``MAX_DEPTH`` calls deep."""

    def __init__(self, text: str, source: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._source = source
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)

    def document(self) -> Data:
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        data = self._value(next(self._events), ())
        next(self._events)  # the document's end
        extra = next(self._events)
        if not isinstance(extra, yaml.StreamEndEvent):
            raise self._refusal("a second document begins here", extra, (), "one document per file")
        return data

    def _value(self, event: yaml.Event, path: KeyPath) -> Data:
        self.lines.setdefault(path, _line(event))
        self._refuse_tricks(event, path)
        if len(self.lines) > MAX_VALUES:
            raise self._refusal("too many values", event, path[:2], f"at most {MAX_VALUES}")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if len(path) >= MAX_DEPTH:
            raise self._refusal("nested too deeply", event, path, f"at most {MAX_DEPTH} levels")
        return self._list(path) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(path)

    def _refuse_tricks(self, event: yaml.Event, path: KeyPath) -> None:
        if anchor := getattr(event, "anchor", None):
            sign = "alias *" if isinstance(event, yaml.AliasEvent) else "anchor &"
            text = f"{sign}{anchor[:60]} is not allowed"
            raise self._refusal(text, event, path, "plain values, without anchors and aliases")
        if tag := getattr(event, "tag", None):
            raise self._refusal(f"tag {brief(tag)} is not allowed", event, path, "plain values, without tags")

    def _list(self, path: KeyPath) -> list[Data]:
        items: list[Data] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Data]:
        entries: dict[str, Data] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            here = (*path, key)
            if key in entries:
                first = self.lines[here]
                raise self._refusal(f"duplicate key, first given on line {first}", event, here, "each key once")
            self.lines[here] = _line(event)
            entries[key] = self._value(next(self._events), here)
        return entries

    def _key(self, event: yaml.Event, path: KeyPath) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refusal("a key is a list, a mapping or an alias", event, path, "names as keys")
        self._refuse_tricks(event, path)
        if len(event.value) > 200 or not event.value.isprintable():
            text = f"key {brief(event.value)} is too long or not printable"
            raise self._refusal(text, event, path, "printable keys of at most 200 characters")
        return str(event.value)

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Data:
        text: str = event.value
        if bad := _UNPRINTABLE.search(text):
            raise self._refusal(f"control character U+{ord(bad[0]):04X} is not allowed", event, path, "printable text")
        if event.style is not None and event.style not in ("", "plain"):
            return text
        if text in _WORDS:
            return _WORDS[text]
        is_int = _INT.fullmatch(text) is not None
        if not is_int and not _FLOAT.fullmatch(text):
            return text
        if len(text) > MAX_NUMBER_LENGTH:
            raise self._refusal(
                f"the number has {len(text)} characters", event, path, f"at most {MAX_NUMBER_LENGTH} characters"
            )
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base) if is_int else float(text)

    def _refusal(self, problem: str, event: yaml.Event, path: KeyPath, allowed: str) -> SweepFileError:
        return SweepFileError(problem, source=self._source, line=_line(event), key=dotted(path), allowed=allowed)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
