"""Reading sweep files: from YAML, overrides or plain data to a checked :class:`SweepSpec`.

Every problem becomes a :class:`SweepFileError` that names file, line, key, the value that came and what is
allowed; its attributes describe the first problem, its text lists them all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from aifs_tune.errors import NotFoundError, SweepFileError
from aifs_tune.overrides import SET, apply_overrides
from aifs_tune.scalars import brief
from aifs_tune.spec import SweepSpec
from aifs_tune.strict_yaml import Document, KeyPath, dotted, read_yaml
from aifs_tune.wording import validation_problems

LARGEST_FILE = 256 * 1024
"""Bytes; a sweep file of a few dozen parameters has a few thousand."""
MOST_PROBLEMS = 10
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
    raise NotFoundError(f"no sweep file {brief(wanted)}; there are, by name: {', '.join(shipped) or 'none'}")


def shipped_sweep_files() -> dict[str, Path]:
    """The sweep files that come with the package, by name."""
    package = Path(__file__).parent
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
        found = validation_problems(error, data, SweepSpec.model_json_schema(), most=MOST_PROBLEMS)
        more = error.error_count()
    errors = []
    for path, text, allowed in found:
        source, line = origin.of(path)
        errors.append(SweepFileError(text, source=source, line=line, key=dotted(path), allowed=allowed))
    first = errors[0]
    first.problems = tuple((path, text + (f"; allowed: {allowed}" if allowed else "")) for path, text, allowed in found)
    first.args = ("\n".join(map(str, errors)) + (f"\nand more, {more} in all" if more > MOST_PROBLEMS else ""),)
    raise first


def _read_text(file: Path) -> str:
    """The text of a regular file of at most ``LARGEST_FILE`` bytes; never waits for a writer."""
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SweepFileError("not a regular file", source=file, allowed="a YAML file")
            content = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SweepFileError(f"cannot be read ({error.strerror})", source=file, allowed="a YAML file") from None
    if len(content) > LARGEST_FILE:
        raise SweepFileError(
            f"larger than {LARGEST_FILE // 1024} KiB", source=file, allowed=f"at most {LARGEST_FILE} bytes"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SweepFileError(f"byte 0x{content[error.start]:02x}", source=file, line=line, allowed="UTF-8") from None
