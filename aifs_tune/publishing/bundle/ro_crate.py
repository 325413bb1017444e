"""RO-Crate 1.1 metadata of a bundle, with the SHA-256 and size of every file."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from aifs_tune._util.hashing import check_hashes, hashes_of
from aifs_tune.errors import DamagedError, NotFoundError, RequestError
from aifs_tune.publishing.bundle.citation import Citation

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/crate/1.1"
_SHA256 = {"sha256": "http://schema.org/sha256"}
"""A term that the context of RO-Crate 1.1 lacks."""
NO_LICENCE = "No licence is given. Ask the authors before you use these results."
_TYPES = {
    ".yaml": "application/yaml",
    ".cff": "application/yaml",
    ".parquet": "application/vnd.apache.parquet",
    ".onnx": "application/octet-stream",
    ".keras": "application/zip",
    ".npz": "application/zip",
    ".md": "text/markdown",
}


@dataclass(frozen=True)
class Provenance:
    """Provenance of a bundle: start and end of the search in ISO 8601, and the version of aifs-tune."""

    description: str
    began: str
    ended: str
    version: str


def write_metadata(
    folder: Path, about: Mapping[str, tuple[str, str]], citation: Citation, provenance: Provenance
) -> None:
    """Write ``ro-crate-metadata.json``, which describes all files in ``folder``.

    ``about`` has the name and description of each file.

    Raises
    ------
    RequestError
        If the library rocrate is not installed.
    """
    try:
        from rocrate.model.contextentity import ContextEntity
        from rocrate.model.person import Person
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise RequestError(f"export needs rocrate ({error}); pip install 'aifs-tune[export]'") from error
    crate: Any = ROCrate(version="1.1")
    crate.metadata.extra_terms.update(_SHA256)
    files = {name: _add_file(crate, folder, name, digest, about[name]) for name, digest in hashes_of(folder).items()}
    people = []
    for number, author in enumerate(citation.authors, start=1):
        identity = f"https://orcid.org/{author.orcid}" if author.orcid else f"#author-{number}"
        names = {"name": author.name, "familyName": author.family}
        people.append(crate.add(Person(crate, identity, names | ({"givenName": author.given} if author.given else {}))))
    root = crate.root_dataset
    root["name"], root["description"], root["datePublished"] = citation.title, provenance.description, provenance.ended
    if people:
        root["author"] = people[0] if len(people) == 1 else people
    root["license"] = NO_LICENCE
    if citation.licence_url is not None:
        licence = {"@type": "CreativeWork", "name": citation.licence, "identifier": citation.licence}
        root["license"] = crate.add(ContextEntity(crate, citation.licence_url, licence))
    software = {"@type": "SoftwareApplication", "name": "aifs-tune", "version": provenance.version}
    software |= {"softwareVersion": provenance.version}
    instrument = crate.add(ContextEntity(crate, "#aifs-tune", software))
    action = {
        "@type": "CreateAction",
        "name": "Hyperparameter search",
        "startTime": provenance.began,
        "endTime": provenance.ended,
    }
    search = crate.add(ContextEntity(crate, "#search", action))
    search["instrument"], search["object"] = instrument, files["sweep.yaml"]
    search["result"] = [file for name, file in files.items() if name.startswith(("trials.", "model/"))]
    root["mentions"] = search
    content = json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False)
    (folder / METADATA).write_text(content + "\n", encoding="utf-8")


def _add_file(crate: Any, folder: Path, name: str, digest: str, about: tuple[str, str]) -> Any:
    suffix = PurePosixPath(name).suffix
    kind = _TYPES.get(suffix) or mimetypes.types_map.get(suffix) or "application/octet-stream"
    properties = {
        "name": about[0],
        "description": about[1],
        "encodingFormat": kind,
        "contentSize": str((folder / name).stat().st_size),
        "sha256": digest,
    }
    return crate.add_file(folder / name, dest_path=name, properties=properties)


def check_bundle(folder: Path) -> str:
    """Check that the files in ``folder`` are exactly those that its metadata describe.

    Returns
    -------
    str
        The SHA-256 of the metadata.

    Raises
    ------
    NotFoundError
        If ``folder`` is not a bundle.
    DamagedError
        If a file is missing, unexpected or changed; the message names the first one and both hashes. Also if the
        metadata are invalid, or describe a file outside the folder.
    """
    file = folder / METADATA
    try:
        content = file.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"{folder}: is not a bundle ({METADATA}: {error.strerror}); make one with: aifs-tune export"
        ) from None
    expected = dict(_described(file, content))
    own = hashlib.sha256(content).hexdigest()
    check_hashes(folder, {**expected, METADATA: own}, says=METADATA)
    return own


def _described(file: Path, content: bytes) -> dict[str, str]:
    """The SHA-256 of each file that the metadata describe."""
    try:
        entities = {entity["@id"]: entity for entity in json.loads(content)["@graph"]}
        conforms = entities[METADATA]["conformsTo"]["@id"]
        files = {i: each for i, each in entities.items() if each["@type"] == "File" and not i.startswith("#")}
        found = {unquote(name): str(entity["sha256"]) for name, entity in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{file}: does not describe a bundle ({type(error).__name__}: {error})") from error
    if conforms != PROFILE:
        raise DamagedError(f"{file}: conforms to {conforms!r}; allowed: {PROFILE}")
    for name in found:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or "://" in name:
            raise DamagedError(f"{file}: describes {name!r}, which is outside the bundle; allowed: files in its folder")
    return found
