"""Choice between a storage on this machine and the service that ``$AIFS_TUNE_URL`` names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from aifs_tune.cli.options import echo_stderr, open_local_study
from aifs_tune.errors import RequestError

if TYPE_CHECKING:
    from aifs_tune.client.client import Client
    from aifs_tune.client.study import RemoteStudy
    from aifs_tune.study.record import StudyRecord


URL = "AIFS_TUNE_URL"
TOKEN = "AIFS_TUNE_TOKEN"
TOKEN_FILE = "AIFS_TUNE_TOKEN_FILE"
PROJECT = "AIFS_TUNE_PROJECT"


def find_service(storage: str | None) -> Client | None:
    """Service that the environment names; None if it names none, or if ``storage`` is given.

    Raises
    ------
    RequestError
        If the environment also names a storage, names two tokens, or names a token file that cannot be read.
    """
    url = os.environ.get(URL)
    if not url or storage is not None:
        return None
    if os.environ.get("AIFS_TUNE_STORAGE"):
        raise RequestError(f"${URL} and $AIFS_TUNE_STORAGE are both set; allowed: only one of them, or --storage")
    from aifs_tune.client.client import Client

    return Client(url, _token(), project=os.environ.get(PROJECT) or None)


def find_target_study(study: str, storage: str | None) -> StudyRecord | RemoteStudy:
    """Existing study of the service or storage that the command uses."""
    service = find_service(storage)
    return open_local_study(study, storage) if service is None else service.study(study)


def _token() -> str | None:
    token, file = os.environ.get(TOKEN), os.environ.get(TOKEN_FILE)
    if token and file:
        raise RequestError(f"${TOKEN} and ${TOKEN_FILE} are both set; allowed: only one of them")
    if not file:
        return token or None
    try:
        if Path(file).stat().st_mode & 0o077:
            echo_stderr(f"${TOKEN_FILE}: other users of this machine may read {file}; run: chmod 600 {file}")
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"${TOKEN_FILE}: {file} cannot be read ({error})") from None
