"""Object stores, as fsspec speaks to them: how one is opened, and what goes wrong with it in our words."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import fsspec
from pydantic import AfterValidator, Field

from aifs_tune._util.scalars import brief, problem
from aifs_tune.errors import AifsTuneError

_PACKAGES = {"s3": "'aifs-tune[s3]'", "gs": "gcsfs", "az": "adlfs"}
_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What this machine's disk says, not the store."""
_SECRET = re.compile("KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION_STRING|SAS")
_MIN_SECRET_LENGTH = 6


def open_filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """The file system that ``url`` is in, and its path there. Asks nothing of the store."""
    found: tuple[Any, str] = fsspec.core.url_to_fs(url, **options)
    return found


@contextmanager
def translated_store_errors(
    what: str, url: str, wanted: str, *, refused: type[AifsTuneError], failed: type[AifsTuneError]
) -> Iterator[None]:
    """Say what goes wrong with a store in our words, as each has errors of its own: ``refused`` if the request is
    wrong, ``failed`` if the store does not answer as it should. ``what`` names what has the URL, ``wanted`` what is to
    be there. No secret of the environment is in a message."""
    try:
        yield
    except AifsTuneError:
        raise
    except ImportError as error:
        package = _PACKAGES.get(url.partition(":")[0], "what it needs")
        raise refused(f"{what}: {url} needs a package that is not installed: pip install {package}") from error
    except FileNotFoundError as error:
        raise refused(f"{what}: {url} is not there; allowed: {wanted}") from error
    except PermissionError as error:
        raise refused(f"{what}: {url} is not open to who asks here ({without_secrets(str(error))})") from error
    except TimeoutError as error:
        raise failed(f"{what}: {url} does not answer") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        told = without_secrets(" ".join(str(error).split())[:300])
        raise failed(f"{what}: {url} cannot be used ({type(error).__name__}: {told})") from error


def without_secrets(text: str) -> str:
    """``text`` without what the environment has as keys, tokens and passwords, and without those of URLs in it."""
    for name, value in os.environ.items():
        if len(value) >= _MIN_SECRET_LENGTH and _SECRET.search(name.upper()):
            text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)


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
