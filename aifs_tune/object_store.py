"""Object stores, as fsspec speaks to them: how one is opened, and what goes wrong with it in our words."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from aifs_tune.errors import AifsTuneError

_PACKAGES = {"s3": "'aifs-tune[s3]'", "gs": "gcsfs", "az": "adlfs"}
_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What this machine's disk says, not the store."""
_SECRET = re.compile("KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION_STRING|SAS")
_SHORTEST_SECRET = 6


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
        if len(value) >= _SHORTEST_SECRET and _SECRET.search(name.upper()):
            text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)
