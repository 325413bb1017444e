"""Access to object stores with fsspec: opening, checks of URLs, and translation of errors."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from aifs_tune._util.scalars import brief, problem
from aifs_tune.errors import AifsTuneError

_PACKAGES = {"s3": "'aifs-tune[s3]'", "gs": "gcsfs", "az": "adlfs"}
_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of this machine's disk, not of the store."""
_SECRET = re.compile("KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION_STRING|SAS")
_MIN_SECRET_LENGTH = 6


def open_filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """Return the file system of ``url`` and the path in it, without contacting the store."""
    import fsspec

    found: tuple[Any, str] = fsspec.core.url_to_fs(url, **options)
    return found


@contextmanager
def translated_store_errors(
    what: str, url: str, wanted: str, *, refused: type[AifsTuneError], failed: type[AifsTuneError]
) -> Iterator[None]:
    """Translate the errors of an object store: to ``refused`` if the request is wrong, else to ``failed``.

    ``what`` names the setting with the URL, ``wanted`` the content that is expected. Messages contain no secrets of
    the environment.
    """
    try:
        yield
    except AifsTuneError:
        raise
    except ImportError as error:
        package = _PACKAGES.get(url.partition(":")[0])
        install = f"run pip install {package}" if package else str(error)
        raise refused(f"{what}: {url} needs a package that is not installed; {install}") from error
    except FileNotFoundError as error:
        raise refused(f"{what}: {url} does not exist; allowed: {wanted}") from error
    except PermissionError as error:
        raise refused(f"{what}: access to {url} is denied ({without_secrets(str(error))})") from error
    except TimeoutError as error:
        raise failed(f"{what}: {url} does not answer") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        told = without_secrets(" ".join(str(error).split())[:300])
        raise failed(f"{what}: {url} cannot be used ({type(error).__name__}: {told})") from error


def without_secrets(text: str) -> str:
    """Return ``text`` without keys, tokens and passwords of the environment and of URLs."""
    for name, value in os.environ.items():
        if len(value) >= _MIN_SECRET_LENGTH and _SECRET.search(name.upper()):
            text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)


SCHEMES = ("s3", "gs", "az", "file")


def is_url(text: str) -> bool:
    """Whether the location of data is a URL and not a path."""
    return "://" in text


def url_problem(url: str) -> str | None:
    """Return the problem with a URL of data; None if there is none."""
    scheme, _, location = url.partition("://")
    if scheme not in SCHEMES or not location.strip("/"):
        return f"{brief(url)} is not a supported URL; allowed: {', '.join(f'{one}://...' for one in SCHEMES)}"
    if scheme == "file" and not location.startswith("/"):
        return f"{brief(url)} has no absolute path; allowed: file:///..."
    if any(mark in location for mark in ("@", "?", "#", "::")) or not url.isprintable():
        return (
            f"{scheme}://... contains @, ?, #, :: or a control character; allowed: a bucket and a path, without secrets"
        )
    return None


def below(location: Path | str, name: str) -> Path | str:
    """Return the location of ``name`` in a folder or below a URL."""
    return location / name if isinstance(location, Path) else f"{location}/{name}"


def _is_of_data(url: str) -> str:
    if (wrong := url_problem(url)) is not None:
        text, _, allowed = wrong.partition("; allowed: ")
        raise problem("", text, allowed)
    return url


DataUrl = Annotated[str, Field(max_length=2000), AfterValidator(_is_of_data)]
"""URL of a folder or a file in an object store."""
