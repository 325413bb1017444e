"""URLs of data in an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from aifs_tune.scalars import brief, problem

SCHEMES = ("s3", "gs", "az", "file")


def is_url(text: str) -> bool:
    """Whether a place of data is a URL and not a path."""
    return "://" in text


def url_problem(url: str) -> str | None:
    """What is wrong with the URL of data; None if nothing is."""
    scheme, _, location = url.partition("://")
    if scheme not in SCHEMES or not location.strip("/"):
        return f"{brief(url)} is not a URL of data; allowed: {', '.join(f'{one}://...' for one in SCHEMES)}"
    if scheme == "file" and not location.startswith("/"):
        return f"{brief(url)} names no absolute path; allowed: file:///..."
    if any(mark in location for mark in ("@", "?", "#", "::")) or not url.isprintable():
        return f"{scheme}://... has one of @ ? # :: or a control character; allowed: a bucket and a path, and no secret"
    return None


def below(location: Path | str, name: str) -> Path | str:
    """What is called ``name`` in a folder, or below a URL."""
    return location / name if isinstance(location, Path) else f"{location}/{name}"


def _is_of_data(url: str) -> str:
    if (wrong := url_problem(url)) is not None:
        text, _, allowed = wrong.partition("; allowed: ")
        raise problem("", text, allowed)
    return url


DataUrl = Annotated[str, Field(max_length=2000), AfterValidator(_is_of_data)]
"""Where a folder or a file is in an object store."""
