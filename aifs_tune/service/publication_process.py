"""Process that makes one report or bundle of a study, beside the service, which stays responsive.

    python -m aifs_tune.service.publication_process STUDY_ID STUDY FORMAT ID

The storage is the one in ``$AIFS_TUNE_STORAGE``. Each line on stdout is a JSON object: ``{"step": TEXT}`` at a step,
and ``{"problem": TEXT}`` if the report cannot be made. Other output goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import get_args

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.errors import AifsTuneError, NotFoundError
from aifs_tune.publishing.publications import PublicationFormat, make_publication
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study


def make(study_id: int, name: str, wanted: PublicationFormat, publication_id: str, tell: Callable[[str], None]) -> None:
    """Make a report or a bundle of the study ``name``, unless another study has that name by now."""
    study = get_study(Storage(None), name)
    if study.id != study_id:
        raise NotFoundError("the study was deleted meanwhile")
    make_publication(study, wanted, publication_id, tell=tell)


def main(arguments: list[str]) -> int:
    """Run the process; return its exit code."""
    study_id, name, given, publication_id = arguments
    wanted = next(each for each in get_args(PublicationFormat) if each == given)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # so that no library writes among the answers

        def send(kind: str, text: str) -> None:
            print(json.dumps({kind: text}), file=answers, flush=True)

        try:
            with missing_packages_named():
                make(int(study_id), name, wanted, publication_id, lambda text: send("step", text))
        except AifsTuneError as error:
            send("problem", str(error))
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
