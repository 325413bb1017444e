"""What all sections of a sweep file have in common."""

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
"""A sweep's or study's short name."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise problem("", f"{brief(text)} has control characters", "printable text")
    return text


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class StrictModel(BaseModel):
    """A part of a sweep file: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


def _printable_path(path: Path) -> Path:
    _printable(str(path))
    return path


def _no_url(given: Any) -> Any:
    if isinstance(given, str) and "://" in given:
        raise problem("", f"{brief(given)} is a URL", "a path; what is learnt from may be named by data.url instead")
    return given


FilePath = Annotated[Path, Field(strict=False), BeforeValidator(_no_url), AfterValidator(_printable_path)]
"""A file or folder; relative ones start where the command is typed."""
