"""Models of the routes for reports and bundles."""

from __future__ import annotations

from pydantic import BaseModel, Field

from aifs_tune._util.models import StrictModel
from aifs_tune.publishing.publications import PublicationFormat
from aifs_tune.service.publisher import JobState


class PublicationRequest(StrictModel):
    """Report or bundle to make."""

    format: PublicationFormat = Field(description="html and pdf are reports, zip is a bundle.")


class PublicationResponse(BaseModel):
    """Report or bundle: ``trial`` is the one that was the best when it was begun, ``sha256`` is that of its file."""

    id: str
    format: PublicationFormat
    made_at: str
    trial: int
    file: str
    n_bytes: int
    sha256: str


class PublicationJobResponse(BaseModel):
    """Making of a report or a bundle: ``step`` is what is done now, ``problem`` why it failed."""

    id: str
    format: PublicationFormat
    state: JobState
    started_at: str
    step: str | None
    problem: str | None


class PublicationsResponse(BaseModel):
    """Reports and bundles of a study, the newest first, and the last ``job`` since the service started."""

    study: str
    publications: list[PublicationResponse]
    job: PublicationJobResponse | None
