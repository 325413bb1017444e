"""An exported study in another storage: the same trials, and a search that can go on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aifs_tune.artifacts import TrialArtifacts
from aifs_tune.bundle.reading import Bundle, open_bundle, with_data_at
from aifs_tune.errors import ConflictError, DamagedError
from aifs_tune.hashes import check_hashes
from aifs_tune.storage import Storage
from aifs_tune.studies import study_names
from aifs_tune.study import Study
from aifs_tune.study_document import copied_study, spec_in
from aifs_tune.study_files import DATA_OF, FILES, keep_files
from aifs_tune.study_reading import FACT

IMPORTED = "imported"
"""Fact of a study that came from a bundle: the SHA-256 of its metadata, and the study's name there."""


def import_study(
    folder: str | Path, *, storage: str | None = None, study: str | None = None, data: str | Path | None = None
) -> Study:
    """Store the study of the bundle in ``folder``, with the confirmations beside it and the best trial's weights.

    ``study`` is what it is called here, ``PROJECT/NAME`` in a project; None for its own name. ``data`` is where the
    data lie here, as for ``run --data``: needed to go on with the search, not to look at it.

    Raises
    ------
    NotFoundError
        If it is no bundle; DamagedError if a file is not what the metadata say, or no study could be so.
    ConflictError
        If the storage has a study of that name, or of one beside it.
    """
    bundle = open_bundle(folder)
    name = study or bundle.name
    documents = {name: bundle.study} | {
        _renamed(each, bundle.name, name): document for each, document in bundle.related().items()
    }
    specs = {each: with_data_at(spec_in(document), data) for each, document in documents.items()}
    opened = Storage(storage, create=True)
    with opened.writing():
        taken = [each for each in documents if each in study_names(opened)]
        if taken:
            raise ConflictError(f"{opened.shown} has a study {taken[0]!r} already; choose another name with --study")
        made = {
            each: copied_study(opened, each, _here(document, bundle, name), specs[each])
            for each, document in documents.items()
        }
    _take_files(made[name], bundle)
    return made[name]


def _renamed(related: str, exported: str, name: str) -> str:
    """What a study beside is called: as before, with another beginning."""
    short = related.rpartition("/")[2].removeprefix(exported.rpartition("/")[2])
    return f"{name}{short}" if short.startswith("-") else f"{name}-{short}"


def _here(document: Mapping[str, Any], bundle: Bundle, name: str) -> dict[str, Any]:
    """The document with what is only true here: names of studies, and no files but those that are stored next."""
    try:
        attributes = {key: value for key, value in document["attributes"].items() if key != f"{FACT}{FILES}"}
    except (KeyError, AttributeError) as error:
        raise DamagedError(f"{bundle.folder}: the document of a study has no attributes ({error})") from error
    if attributes.get(f"{FACT}{DATA_OF}") is not None:
        attributes[f"{FACT}{DATA_OF}"] = name
    attributes[f"{FACT}{IMPORTED}"] = {"sha256": bundle.sha256, "study": document.get("name")}
    return {**document, "attributes": attributes}


def _take_files(study: Study, bundle: Bundle) -> None:
    frame = bundle.files()
    if frame is not None:
        keep_files(study, frame)
    if bundle.weights is not None:
        best = study.trial(int(bundle.results["best"]["trial"]))
        check_hashes(bundle.weights, best.weights)
        TrialArtifacts(study.artifacts, best.number).save_weights(
            lambda target: shutil.copytree(str(bundle.weights), target, dirs_exist_ok=True)
        )
