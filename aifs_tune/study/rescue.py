"""A study as a JSON file, where its database is no longer at its place."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from aifs_tune._util.atomic_files import write_file
from aifs_tune.errors import AifsTuneError
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.study.document import study_document
from aifs_tune.study.record import record_of
from aifs_tune.study.study import Study


def rescued(study: Study) -> str:
    """Write what this process can still read of ``study``, a step that is being stored included; return a sentence that
    says where, and how to import it.

    The file is written beside the database, else into the current folder, else into that of temporary files; later
    calls of this process replace it.
    """
    try:
        with translated_database_errors(study.storage.shown):
            content = json.dumps(study_document(record_of(study)), indent=1).encode()
    except (AifsTuneError, KeyError, TypeError, ValueError) as error:
        return f"What this process knew of study {study.name!r} cannot be read any more ({error})"
    name = f"rescued-study-{study._optuna._study_id}-{os.getpid()}.json"
    folders = [Path(), Path(tempfile.gettempdir())]
    if isinstance(study.storage.artifacts, Path) and study.storage.artifacts.parent.is_dir():
        folders.insert(0, study.storage.artifacts.parent)
    for folder in folders:
        try:
            write_file(folder / name, content)
        except OSError:
            continue
        return (
            f"Study {study.name!r} as this process knew it is in {folder / name}; to continue it in "
            f"another storage: aifs-tune import {folder / name} --storage sqlite:///NEW.db"
        )
    return f"Study {study.name!r} as this process knew it could not be written to any of {', '.join(map(str, folders))}"
