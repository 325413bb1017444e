"""Response models of the routes for the photos and files of a trial."""

from __future__ import annotations

from pydantic import BaseModel


class TrialFileResponse(BaseModel):
    """Photo or another file of a trial: its name, type by the ending of the name, size in bytes and hash."""

    id: str
    name: str
    media_type: str
    n_bytes: int
    sha256: str
    added_at: str


class TrialFilesResponse(BaseModel):
    """Files of a trial, in the order in which they were added."""

    trial: int
    files: list[TrialFileResponse]
