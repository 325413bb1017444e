"""Static pages of the service, which read all data from the routes under ``/v1``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parents[1] / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
"""Content security policy: no content from other sites, no inline scripts, and no text that becomes a script."""
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def studies_page(request: Request) -> Response:
    """Page with the studies of a project."""
    return _file(request, "studies.html")


@router.get("/sign-in")
async def sign_in_page(request: Request) -> Response:
    """Page where a person signs in with a token."""
    return _file(request, "sign_in.html")


@router.get("/compare")
async def compare_page(request: Request) -> Response:
    """Page that compares studies, which its query names."""
    return _file(request, "compare.html")


@router.get("/studies/{study}")
async def study_page(request: Request, study: str) -> Response:
    """Page of one study; it is the same for every name, and ``/v1`` tells whether the study exists."""
    return _file(request, "study.html")


@router.get("/studies/{study}/measure")
async def measure_page(request: Request, study: str) -> Response:
    """Page to get the next configuration of a study and to enter its result, for a phone beside the instrument."""
    return _file(request, "measure.html")


@router.get("/studies/{study}/trials")
async def trials_page(request: Request, study: str) -> Response:
    """Page with all trials of a study."""
    return _file(request, "trials.html")


@router.get("/studies/{study}/trials/{trial}")
async def trial_page(request: Request, study: str, trial: str) -> Response:
    """Page of one trial."""
    return _file(request, "trial.html")


@router.get("/page/{name:path}")
async def page_file(request: Request, name: str) -> Response:
    """Script, style sheet or image of the pages."""
    return _file(request, name)


def _load() -> dict[str, tuple[bytes, str, str]]:
    """Read all files by name, with their media types and ETags; no path is ever built from a request."""
    loaded = {}
    for file in sorted(path for path in FOLDER.rglob("*") if path.is_file()):
        content = file.read_bytes()
        tag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
        loaded[file.relative_to(FOLDER).as_posix()] = content, _KINDS[file.suffix], tag
    return loaded


_FILES = _load()


def _file(request: Request, name: str) -> Response:
    if name not in _FILES:
        raise HTTPException(404)
    content, kind, tag = _FILES[name]
    headers = {"ETag": tag, "Content-Security-Policy": POLICY}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
