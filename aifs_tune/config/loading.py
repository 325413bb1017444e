"""Reading sweep files: from YAML, overrides or plain data to a checked :class:`SweepSpec`.

Every problem becomes a :class:`SweepFileError` that names file, line, key, the value that came and what is
allowed; its attributes describe the first problem, its text lists them all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from aifs_tune._util.scalars import brief, did_you_mean, is_same, number, show
from aifs_tune.config.messages import validation_problems
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.config.yaml import Data, Document, KeyPath, dotted, read_yaml
from aifs_tune.errors import NotFoundError, SweepFileError

SET = "--set"
"""What an error names as the source of an override."""

MAX_VALUE_LENGTH = 10_000


def apply_overrides(sweep: dict[str, Data], overrides: Sequence[str]) -> frozenset[KeyPath]:
    """Change ``sweep`` in place, in order; returns the keys that were set, and those made on the way.

    Raises
    ------
    SweepFileError
        If an override is not ``key=value``, or its key leads nowhere. Whether the value is allowed is
        for the check of the whole sweep to say.
    """
    return frozenset(path for override in overrides for path in _apply(sweep, override))


def _apply(sweep: dict[str, Data], override: str) -> list[KeyPath]:
    key, equals, text = override.partition("=")
    path: KeyPath = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise SweepFileError(f"{brief(override)} is not key=value", source=SET, allowed="such as search.trials=100")
    value = _value(text, path)
    if path[0] == "space" and len(path) > 1:
        value = _known_parameter(sweep, path, value)
    here, touched = sweep, [path]
    for i, part in enumerate(path[:-1], start=1):
        if here.get(str(part)) is None:
            touched.append(path[:i])
        here = _inside(here, str(part), path[:i])
    here[str(path[-1])] = value
    return touched


def _value(text: str, path: KeyPath) -> Data:
    if len(text) > MAX_VALUE_LENGTH:
        raise _refusal(path, f"{len(text)} characters", f"at most {MAX_VALUE_LENGTH}")
    try:
        value = read_yaml(text, source=SET).data
    except SweepFileError as error:
        raise _refusal(path, f"{brief(text)}: {error.problem}", error.allowed or "a value as YAML has it") from None
    if isinstance(value, list | dict) and text.lstrip()[:1] not in ("[", "{"):
        raise _refusal(path, brief(text), "a value, [a, list] or {a: mapping}; text with ': ' or '- ' in quotes")
    return value


def _inside(parent: dict[str, Data], key: str, path: KeyPath) -> dict[str, Data]:
    """The mapping under ``key``; made where there is none, spelled out where the file has the short form."""
    value = parent.get(key)
    if value is None:
        value = {}
    elif path == ("trainer",) and isinstance(value, str):
        value = {"name": value}
    elif path[0] == "space" and len(path) == 2 and not isinstance(value, list | dict):
        value = {"type": "fixed", "value": value}
    if not isinstance(value, dict):
        raise _refusal(path, f"{brief(value)} has no keys of its own", "to set it as a whole")
    parent[key] = value
    return value


def _known_parameter(sweep: dict[str, Data], path: KeyPath, value: Data) -> Data:
    """``value``, or what stands for it when it fixes a parameter; refuses to start a parameter by a typing error."""
    space, name = sweep.get("space"), str(path[1])
    if not isinstance(space, dict):
        return value
    if name not in space:
        if len(path) == 2 and isinstance(value, dict) and "type" in value:
            return value
        raise _refusal(
            path,
            f"no parameter {brief(name)}{did_you_mean(name, list(space))}",
            f"{', '.join(space)}; or a new one as a whole, {{type: fixed, value: ...}}",
        )
    entry = space[name]
    if len(path) > 2 or not isinstance(entry, dict) or isinstance(value, list | dict):
        return value
    kept = {key: kept for key, kept in entry.items() if key in ("when", "unit", "description")}
    return {"type": "fixed", "value": _of_kind(entry, path, value), **kept}


def _of_kind(entry: dict[str, Data], path: KeyPath, value: Data) -> Data:
    """``value`` as the kind of value that the parameter had; a number may leave the range it was searched in."""
    real, choices = number(value), entry.get("choices")
    if entry.get("type") == "float":
        if real is None:
            raise _refusal(path, f"{brief(value)} is not a number", "a number, which fixes the parameter")
        return float(real)
    if entry.get("type") == "int" and not isinstance(real, int):
        raise _refusal(path, f"{brief(value)} is not a whole number", "a whole number, which fixes the parameter")
    if not isinstance(choices, list) or any(is_same(value, choice) for choice in choices):
        return value
    if real is None or all(number(choice) is None for choice in choices):
        raise _refusal(path, f"{brief(value)} is not a choice", f"one of {', '.join(map(show, choices))}")
    return value


def _refusal(path: KeyPath, problem: str, allowed: str) -> SweepFileError:
    return SweepFileError(problem, source=SET, key=dotted(path), allowed=allowed)


MAX_FILE_BYTES = 256 * 1024
"""Bytes; a sweep file of a few dozen parameters has a few thousand."""
MAX_PROBLEMS = 10
"""How many problems one error lists."""

SUFFIXES = (".yaml", ".yml")


def load_sweep_file(path: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file, given by its path or the name of one that ships, and apply ``overrides``.

    An override is ``key=value`` with a dotted key and a value as YAML has it: ``search.trials=100``,
    ``space.learning_rate.high=0.1``. A parameter that is set to one value, ``space.dropout=0.3``, is no
    longer searched: it becomes fixed, and keeps its condition.

    Raises
    ------
    NotFoundError
        If there is no such file.
    SweepFileError
        If the file or an override does not say a valid sweep.
    """
    file = find_sweep_file(path)
    document = read_yaml(_read_text(file), source=str(file))
    if not isinstance(document.data, dict):
        text = "empty" if document.data is None else f"{brief(document.data)} at the top level"
        raise SweepFileError(text, source=file, line=1, allowed="a mapping with name and space")
    touched = apply_overrides(document.data, overrides)
    return _checked(document.data, _Origin(str(file), document, touched))


def parse_sweep(sweep: Mapping[str, Any]) -> SweepSpec:
    """A sweep from plain data, as ``SweepSpec.model_dump(mode="json")`` gives it or as typed in Python.

    Raises
    ------
    SweepFileError
        If it is not a valid sweep; its source is ``"sweep"``.
    """
    return _checked(sweep, _Origin("sweep", Document(None, {}), frozenset()))


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a sweep file, for editors and other programs."""
    schema = SweepSpec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Sweep file of aifs-tune"}


def find_sweep_file(name_or_path: str | Path) -> Path:
    """An existing path, or the sweep file that ships under this name, such as ``quick_sky``.

    Raises
    ------
    NotFoundError
        If there is neither; lists what ships.
    """
    wanted = str(name_or_path)
    if os.path.exists(wanted):
        return Path(wanted)
    shipped = shipped_sweep_files()
    if wanted in shipped:
        return shipped[wanted]
    near = did_you_mean(Path(wanted).name, [*shipped, *_neighbours(Path(wanted))])
    raise NotFoundError(f"no sweep file {brief(wanted)}{near}; there are, by name: {', '.join(shipped) or 'none'}")


def _neighbours(path: Path) -> list[str]:
    """Names of the sweep files in the folder of ``path``; none where the folder cannot be read."""
    try:
        return sorted(file.name for file in path.parent.iterdir() if file.suffix in SUFFIXES)
    except OSError:
        return []


def shipped_sweep_files() -> dict[str, Path]:
    """The sweep files that come with the package, by name."""
    package = Path(__file__).parents[1]
    # A wheel holds them inside the package, a checkout beside it.
    folder = next((f for f in (package / "search_spaces", package.parent / "search_spaces") if f.is_dir()), package)
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES}


class _Origin(NamedTuple):
    """Where the data came from, to say where a problem is."""

    source: str
    document: Document
    touched: frozenset[KeyPath]

    def of(self, path: KeyPath) -> tuple[str, int | None]:
        """Source and line of the nearest key at or above ``path``."""
        above = [path[:i] for i in range(len(path), -1, -1)]
        if any(key in self.touched for key in above):
            return SET, None
        return self.source, next((self.document.lines[key] for key in above if key in self.document.lines), None)


def _checked(data: Mapping[str, Any], origin: _Origin) -> SweepSpec:
    try:
        return SweepSpec.model_validate(data)
    except ValidationError as error:
        found = validation_problems(error, data, SweepSpec.model_json_schema(), most=MAX_PROBLEMS)
        more = error.error_count()
    errors = []
    for path, text, allowed in found:
        source, line = origin.of(path)
        errors.append(SweepFileError(text, source=source, line=line, key=dotted(path), allowed=allowed))
    first = errors[0]
    first.problems = tuple((path, text + (f"; allowed: {allowed}" if allowed else "")) for path, text, allowed in found)
    first.args = ("\n".join(map(str, errors)) + (f"\nand more, {more} in all" if more > MAX_PROBLEMS else ""),)
    raise first


def _read_text(file: Path) -> str:
    """The text of a regular file of at most ``MAX_FILE_BYTES`` bytes; never waits for a writer."""
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SweepFileError("not a regular file", source=file, allowed="a YAML file")
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SweepFileError(f"cannot be read ({error.strerror})", source=file, allowed="a YAML file") from None
    if len(content) > MAX_FILE_BYTES:
        raise SweepFileError(
            f"larger than {MAX_FILE_BYTES // 1024} KiB", source=file, allowed=f"at most {MAX_FILE_BYTES} bytes"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SweepFileError(f"byte 0x{content[error.start]:02x}", source=file, line=line, allowed="UTF-8") from None


def spec_document(
    *,
    space: Mapping[str, Any],
    metric: str,
    mode: Literal["max", "min"],
    trade_off: Mapping[str, Literal["max", "min"]] | None,
    sampler: str | None,
    seed: int,
    constraints: Sequence[str],
    mixtures: Sequence[Mapping[str, Any]] = (),
    exclude: Sequence[Mapping[str, Any]] = (),
    limits: Sequence[str] = (),
    initial: Mapping[str, Any] | None = None,
    replicates: int = 1,
) -> dict[str, Any]:
    """The document; see :func:`aifs_tune.study.open.open_study` for what each part means."""
    chosen = {} if sampler is None else {"sampler": sampler}
    designed = {} if initial is None else {"initial": dict(initial)}
    return {
        "space": dict(space),
        "constraints": list(constraints),
        "objective": {"metric": metric, "mode": mode},
        "trade_off": [{"metric": name, "mode": wanted} for name, wanted in (trade_off or {}).items()],
        "search": {**chosen, "seed": seed, **designed, "replicates": replicates},
        "mixtures": [dict(mixture) for mixture in mixtures],
        "exclude": [dict(entry) for entry in exclude],
        "limits": list(limits),
    }
