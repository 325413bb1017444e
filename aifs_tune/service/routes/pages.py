"""Our own pages: files of this package, which ask the routes under ``/v1`` for all that they show."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parents[1] / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, no script in a page, and no text that becomes one."""
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def studies_page(request: Request) -> Response:
    """The studies of a project."""
    return _file(request, "studies.html")


@router.get("/sign-in")
async def sign_in_page(request: Request) -> Response:
    """Where a token is typed."""
    return _file(request, "sign_in.html")


@router.get("/studies/{study}")
async def study_page(request: Request, study: str) -> Response:
    """One study, whether there is one of this name or not: that is for ``/v1`` to say."""
    return _file(request, "study.html")


@router.get("/page/{name}")
async def page_file(request: Request, name: str) -> Response:
    """What the pages are made of."""
    return _file(request, name)


def _load() -> dict[str, tuple[bytes, str, str]]:
    """All files by name with their kinds and tags. A request names one of these; no path is made of what it says."""
    loaded = {}
    for file in sorted(FOLDER.iterdir()):
        content = file.read_bytes()
        tag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
        loaded[file.name] = content, _KINDS[file.suffix], tag
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
