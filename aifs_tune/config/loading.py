"""Loading of sweep files: from YAML, overrides or plain data to a checked :class:`SweepSpec`.

Each problem becomes a :class:`SweepFileError` that names file, line, key, the value and what is allowed. Its attributes
describe the first problem, its text lists all of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from aifs_tune._util.scalars import brief, did_you_mean, is_same, number, show
from aifs_tune.config.descriptors import read_descriptors
from aifs_tune.config.groups import flat_space, without_groups
from aifs_tune.config.messages import validation_problems
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.config.trusted_code import BUNDLE_METADATA, allow
from aifs_tune.config.yaml import Data, Document, KeyPath, dotted, key_path, read_yaml
from aifs_tune.errors import NotFoundError, SweepFileError
from aifs_tune.space.search_space import fixed_entry

SET = "--set"
"""Source of an override in error messages."""

MAX_VALUE_LENGTH = 10_000


def apply_overrides(sweep: dict[str, Data], overrides: Sequence[str]) -> frozenset[KeyPath]:
    """Apply ``overrides`` to ``sweep`` in place, in order, and return the keys that were set or created.

    Raises
    ------
    SweepFileError
        If an override is not ``key=value``, or its key cannot be set. The check of the whole sweep decides whether the
        value is allowed.
    """
    return frozenset(path for override in overrides for path in _apply(sweep, override))


def _apply(sweep: dict[str, Data], override: str) -> list[KeyPath]:
    key, equals, text = override.partition("=")
    path = key_path(key.strip(), sweep)
    if not equals or not all(dotted(path).split(".")):
        raise SweepFileError(
            f"{brief(override)} is not key=value", source=SET, allowed="key=value, such as search.trials=100"
        )
    value = _value(text, path)
    if path[0] == "space" and len(path) > 1:
        path = _of_parameter(sweep, path, value)
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
        raise _refusal(path, f"the value has {len(text)} characters", f"at most {MAX_VALUE_LENGTH}")
    try:
        value = read_yaml(text, source=SET).data
    except SweepFileError as error:
        raise _refusal(path, f"{brief(text)}: {error.problem}", error.allowed or "a YAML value") from None
    if isinstance(value, list | dict) and text.lstrip()[:1] not in ("[", "{"):
        allowed = "a value, [a, list] or {a: mapping}; put text with ': ' or '- ' in quotes"
        raise _refusal(path, f"{brief(text)} is a list or a mapping without brackets", allowed)
    return value


def _inside(parent: dict[str, Data], key: str, path: KeyPath) -> dict[str, Data]:
    """Return the mapping under ``key``: created if absent, expanded if the file has the short form."""
    value = parent.get(key)
    if value is None:
        value = {}
    elif path == ("trainer",) and isinstance(value, str):
        value = {"name": value}
    elif path[0] == "space" and len(path) == 2 and not isinstance(value, list | dict):
        value = {"type": "fixed", "value": value}
    if not isinstance(value, dict):
        raise _refusal(path, f"{brief(value)} has no keys", f"to set the whole value, {dotted(path)}=...")
    parent[key] = value
    return value


def _of_parameter(sweep: dict[str, Data], path: KeyPath, value: Data) -> KeyPath:
    """The path; that of a whole parameter if it is a new one, whose name may have dots."""
    space = sweep.get("space")
    is_new = isinstance(space, dict) and path[1] not in space and isinstance(value, dict) and "type" in value
    return ("space", dotted(path[1:])) if is_new else path


def _known_parameter(sweep: dict[str, Data], path: KeyPath, value: Data) -> Data:
    """Return ``value``, or the fixed parameter it stands for; refuse a misspelt parameter name."""
    space, name = sweep.get("space"), str(path[1])
    if not isinstance(space, dict):
        return value
    if name not in space:
        if len(path) == 2 and isinstance(value, dict) and "type" in value:
            return value
        raise _refusal(
            path,
            f"no parameter {brief(name)}{did_you_mean(name, list(space))}",
            f"{', '.join(space)}; or a new parameter as a mapping, {{type: fixed, value: ...}}",
        )
    entry = space[name]
    if len(path) > 2 or not isinstance(entry, dict) or isinstance(value, dict):
        return value
    if isinstance(value, list) and not any(is_same(value, choice) for choice in _listed(entry.get("choices"))):
        return value
    kept = {key: kept for key, kept in entry.items() if key in ("when", "unit", "description")}
    return {"type": "fixed", "value": _of_kind(entry, path, value), **kept}


def _listed(choices: Data) -> list[Data]:
    return choices if isinstance(choices, list) else []


def _of_kind(entry: dict[str, Data], path: KeyPath, value: Data) -> Data:
    """Return ``value`` in the type of the parameter; a number may lie outside the range that was searched."""
    real, choices = number(value), entry.get("choices")
    if entry.get("type") == "float":
        if real is None:
            raise _refusal(path, f"{brief(value)} is not a number", "a number, which then fixes the parameter")
        return float(real)
    if entry.get("type") == "int" and not isinstance(real, int):
        raise _refusal(path, f"{brief(value)} is not a whole number", "a whole number, which then fixes the parameter")
    if not isinstance(choices, list) or any(is_same(value, choice) for choice in choices):
        return value
    if real is None or all(number(choice) is None for choice in choices):
        raise _refusal(path, f"{brief(value)} is not a choice", f"one of {', '.join(map(show, choices))}")
    return value


def _refusal(path: KeyPath, problem: str, allowed: str) -> SweepFileError:
    return SweepFileError(problem, source=SET, key=dotted(path), allowed=allowed)


MAX_FILE_BYTES = 256 * 1024
"""Largest sweep file; a file with a few dozen parameters has a few thousand bytes."""
MAX_PROBLEMS = 10
"""Largest number of problems that one error lists."""

SUFFIXES = (".yaml", ".yml")


def load_sweep_file(path: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read and check a sweep file.

    Parameters
    ----------
    path
        Path of a YAML file, or the name of a sweep file that ships with the package, such as ``"quick_sky"``.
    overrides
        Changes of the file, applied in order: ``key=value`` with a dotted key and a YAML value, such as
        ``"search.trials=100"`` or ``"space.learning_rate.high=0.1"``. A parameter that is set to one value,
        ``"space.dropout=0.3"``, is fixed: it is no longer searched, and keeps its condition. Default none.

    Returns
    -------
    SweepSpec
        The content of the file.

    Raises
    ------
    NotFoundError
        If there is no such file.
    SweepFileError
        If the file or an override is not valid.

    Examples
    --------
    >>> from aifs_tune.config import load_sweep_file
    >>> spec = load_sweep_file("quick_sky", ["search.trials=100"])
    >>> spec.name, spec.search.trials
    ('quick-sky', 100)
    """
    file = find_sweep_file(path)
    document = without_groups(read_yaml(_read_text(file), source=str(file)), str(file))
    if not isinstance(document.data, dict):
        text = "the file is empty" if document.data is None else f"{brief(document.data)} is not a mapping"
        raise SweepFileError(text, source=file, line=1, allowed="a mapping with name and space")
    touched = apply_overrides(document.data, overrides)
    folders = {*file.absolute().parents, *file.resolve().parents}  # a link may lead into a bundle
    is_own = not any((folder / BUNDLE_METADATA).exists() for folder in folders)
    space = document.data.get("space")
    if isinstance(space, dict):
        document.data["space"] = _with_descriptors(space, document, str(file), is_own)
    spec = _checked(document.data, _Origin(str(file), document, touched))
    if is_own:
        allow(spec)  # the code that it names is of the person who names the file
    return spec


def _with_descriptors(space: Mapping[str, Any], document: Document, source: str, reads_files: bool) -> dict[str, Any]:
    try:
        return read_descriptors(space, source, reads_files=reads_files)
    except SweepFileError as error:
        line = document.lines.get(key_path(error.key or "", document.data))
        raise SweepFileError(error.problem, source=source, line=line, key=error.key, allowed=error.allowed) from None


def parse_sweep(sweep: Mapping[str, Any]) -> SweepSpec:
    """Check a sweep given as plain data, such as the output of ``SweepSpec.model_dump(mode="json")``.

    Raises
    ------
    SweepFileError
        If the sweep is not valid; the source of the error is ``"sweep"``.
    """
    space = sweep.get("space")
    flat = {**sweep, "space": flat_space(space)} if isinstance(space, Mapping) else sweep
    return _checked(flat, _Origin("sweep", Document(None, {}), frozenset()))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of sweep files, for editors and other programs."""
    schema = SweepSpec.model_json_schema()
    [(names, entry)] = schema["$defs"]["Space"]["patternProperties"].items()
    schema["$defs"]["Group"] = {
        "description": "A group of parameters: the names of these begin with that of the group and a dot.",
        "type": "object",
        "not": {"required": ["type"]},
        "patternProperties": {names: {"anyOf": [*entry["anyOf"], {"$ref": "#/$defs/Group"}]}},
        "additionalProperties": False,
    }
    entry["anyOf"] = [*entry["anyOf"], {"$ref": "#/$defs/Group"}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Sweep file of aifs-tune"}


def find_sweep_file(name_or_path: str | Path) -> Path:
    """Return an existing path, or the path of the shipped sweep file of this name, such as ``quick_sky``.

    Raises
    ------
    NotFoundError
        If there is neither; the message lists the shipped sweep files.
    """
    wanted = str(name_or_path)
    if os.path.exists(wanted):
        return Path(wanted)
    shipped = shipped_sweep_files()
    if wanted in shipped:
        return shipped[wanted]
    near = did_you_mean(Path(wanted).name, [*shipped, *_neighbours(Path(wanted))])
    raise NotFoundError(
        f"no sweep file {brief(wanted)}{near}; allowed: a path, or the name of a file that ships with the package: "
        f"{', '.join(shipped)}"
    )


def _neighbours(path: Path) -> list[str]:
    """Return the names of the sweep files in the folder of ``path``, or an empty list if it cannot be read."""
    try:
        return sorted(file.name for file in path.parent.iterdir() if file.suffix in SUFFIXES)
    except OSError:
        return []


def shipped_sweep_files() -> dict[str, Path]:
    """Return the paths of the sweep files that ship with the package, by name."""
    package = Path(__file__).parents[1]
    # A wheel has them inside the package, a checkout beside it.
    folder = next((f for f in (package / "search_spaces", package.parent / "search_spaces") if f.is_dir()), package)
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES}


class _Origin(NamedTuple):
    """Origin of the data, which locates a problem."""

    source: str
    document: Document
    touched: frozenset[KeyPath]

    def of(self, path: KeyPath) -> tuple[str, int | None]:
        """Return source and line of the nearest key at or above ``path``."""
        above = [path[:i] for i in range(len(path), -1, -1)]
        if any(key in self.touched for key in above):
            return SET, None
        return self.source, next((self.document.lines[key] for key in above if key in self.document.lines), None)


def _checked(data: Mapping[str, Any], origin: _Origin) -> SweepSpec:
    try:
        return SweepSpec.model_validate(data)
    except ValidationError as error:
        found = validation_problems(error, data, SweepSpec.model_json_schema(), most=MAX_PROBLEMS)
        n_problems = error.error_count()
    errors = []
    for path, text, allowed in found:
        source, line = origin.of(path)
        errors.append(SweepFileError(text, source=source, line=line, key=dotted(path), allowed=allowed))
    first = errors[0]
    first.problems = tuple((path, text + (f"; allowed: {allowed}" if allowed else "")) for path, text, allowed in found)
    more = f"\n{len(errors)} of {n_problems} problems shown" if n_problems > MAX_PROBLEMS else ""
    first.args = ("\n".join(map(str, errors)) + more,)
    raise first


def _read_text(file: Path) -> str:
    """Return the text of a regular file of at most ``MAX_FILE_BYTES`` bytes, without waiting for a writer."""
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SweepFileError("is not a regular file", source=file, allowed="a YAML file")
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SweepFileError(f"cannot be read ({error.strerror})", source=file, allowed="a YAML file") from None
    if len(content) > MAX_FILE_BYTES:
        raise SweepFileError(
            f"is larger than {MAX_FILE_BYTES // 1024} KiB", source=file, allowed=f"at most {MAX_FILE_BYTES} bytes"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        text = f"byte 0x{content[error.start]:02x} is not UTF-8"
        raise SweepFileError(text, source=file, line=line, allowed="text in UTF-8") from None


def python_space(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return a space that was given in Python as a sweep file has it: None is the fixed value null."""
    entries = {name: fixed_entry(None) if entry is None else entry for name, entry in flat_space(space).items()}
    return read_descriptors(entries)


def spec_document(
    *,
    space: Mapping[str, Any],
    metric: str,
    mode: Literal["max", "min"],
    trade_off: Mapping[str, Literal["max", "min"]] | None,
    sampler: str | Mapping[str, Any] | None,
    seed: int,
    constraints: Sequence[str],
    mixtures: Sequence[Mapping[str, Any]] = (),
    exclude: Sequence[Mapping[str, Any]] = (),
    limits: Sequence[str] = (),
    initial: Mapping[str, Any] | None = None,
    replicates: int = 1,
    shared: str | Sequence[str] = (),
    cost: str | None = None,
    budget: float | None = None,
) -> dict[str, Any]:
    """Build the document of a sweep from the arguments of :func:`aifs_tune.study.open.open_study`."""
    chosen = {} if sampler is None else {"sampler": sampler if isinstance(sampler, str) else dict(sampler)}
    designed = {} if initial is None else {"initial": dict(initial)}
    priced = {name: value for name, value in (("cost", cost), ("budget", budget)) if value is not None}
    batched = {"shared": [shared] if isinstance(shared, str) else list(shared)} if shared else {}
    return {
        "space": python_space(space),
        "constraints": list(constraints),
        "objective": {"metric": metric, "mode": mode},
        "trade_off": [{"metric": name, "mode": wanted} for name, wanted in (trade_off or {}).items()],
        "search": {**chosen, "seed": seed, **designed, "replicates": replicates, **batched, **priced},
        "mixtures": [dict(mixture) for mixture in mixtures],
        "exclude": [dict(entry) for entry in exclude],
        "limits": list(limits),
    }
