"""Reports and bundles among the artifacts of their study, in a folder and in an object store."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pytest
from studies_to_export import instrument

from aifs_tune.errors import DamagedError, NotFoundError
from aifs_tune.publishing.publications import (
    find_publication,
    make_publication,
    new_id,
    publication_file,
    publications_of,
)
from aifs_tune.study.record import StudyRecord

UNKNOWN = "20260101T000000Z-00000000"


@pytest.fixture(params=["folder", "object store"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> StudyRecord:
    made = instrument(f"sqlite:///{tmp_path}/lab.db")
    if request.param == "object store":
        request.getfixturevalue("s3")
        made.storage.artifacts = f"s3://lab/{tmp_path.parent.name}/{tmp_path.name}"
    return made


def begun(second: int) -> str:
    return new_id(datetime(2026, 12, 3, 6, 45, second, tzinfo=UTC))


def test_what_was_made_is_listed_the_newest_first_and_can_be_read(study: StudyRecord) -> None:
    assert publications_of(study) == []
    steps: list[str] = []
    bundle = make_publication(study, "zip", begun(1), tell=steps.append)
    report = make_publication(study, "html", begun(2), tell=steps.append)
    assert publications_of(study) == [report, bundle]
    assert find_publication(study, bundle.id) == bundle
    assert (bundle.file, report.file, report.trial) == ("furnace-bundle.zip", "furnace-report.html", study.best.number)
    for each in (bundle, report):
        content = publication_file(study, each).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (each.n_bytes, each.sha256)
    assert b"Study furnace" in content
    names = ZipFile(io.BytesIO(publication_file(study, bundle).read_bytes())).namelist()
    assert {"furnace-bundle/ro-crate-metadata.json", "furnace-bundle/best.yaml"} <= set(names)
    assert {"exporting the study", "drawing the figures", "storing the file"} <= set(steps)


@pytest.mark.parametrize("unknown", [UNKNOWN, "..", "../trial-000000", f"{UNKNOWN}/..", ""])
def test_an_unknown_id_is_refused_whatever_it_looks_like(unknown: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has no publication"):
        find_publication(instrument(f"sqlite:///{tmp_path}/lab.db"), unknown)


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    study = instrument(f"sqlite:///{tmp_path}/lab.db")
    made = make_publication(study, "zip", begun(1), tell=lambda _: None)
    file = publication_file(study, made)
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(DamagedError, match="was changed; make a new one"):
        publication_file(study, made)
    record = Path(study.artifacts) / "publications" / made.id / "publication.json"
    record.write_text(made.model_copy(update={"file": "../../lab.db"}).model_dump_json())
    with pytest.raises(DamagedError, match="was changed"):
        publication_file(study, find_publication(study, made.id))
    record.write_text("{}")
    with pytest.raises(DamagedError, match="cannot be read"):
        publications_of(study)
