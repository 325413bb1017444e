"""Base model and field types of the sections of a sweep file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from aifs_tune._util.scalars import brief, problem

Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="1 to 63 lower-case letters, digits, '-' and '_', the first a letter or digit",
    ),
]
"""Short name of a sweep."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise problem("", f"{brief(text)} has control characters", "printable text")
    return text


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Unit = Annotated[str, Field(max_length=40), AfterValidator(_printable)]


def _prose(text: str) -> str:
    bad = next((c for c in text if not (c.isprintable() or c in "\n\t\u200d\u2028\ufeff")), None)
    if bad is not None:
        raise problem("", f"control character U+{ord(bad):04X} is not allowed", "printable text and line breaks")
    return text


Prose = Annotated[str, AfterValidator(_prose)]
"""Text of any length, with line breaks; a sweep file can hold it, and it controls no terminal."""


class StrictModel(BaseModel):
    """Base class of the sections of a sweep file: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


def _printable_path(path: Path) -> Path:
    _printable(str(path))
    return path


def _no_url(given: Any) -> Any:
    if isinstance(given, str) and "://" in given:
        raise problem("", f"{brief(given)} is a URL", "a path; data in an object store are given by data.url")
    return given


FilePath = Annotated[Path, Field(strict=False), BeforeValidator(_no_url), AfterValidator(_printable_path)]
"""Path of a file or folder; a relative path starts at the current folder."""
