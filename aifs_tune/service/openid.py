"""Sign-in with OpenID Connect: the accounts of a provider, and the projects and scopes that their claims give them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from pydantic import AfterValidator, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from aifs_tune._util.models import FilePath, StrictModel, Text
from aifs_tune._util.scalars import MAX_TEXT_LENGTH, brief, problem
from aifs_tune.config.messages import validation_problems
from aifs_tune.config.yaml import dotted, read_yaml
from aifs_tune.errors import AccessError, RequestError, ServiceError
from aifs_tune.service.tokens import Caller, Scope
from aifs_tune.storage.projects import PROJECT_PATTERN

SIGN_IN_TTL_S = 600.0
"""Seconds within which a person must come back from the provider."""
MAX_SIGN_INS = 1000
"""Maximum number of sign-ins that have begun; one more ends the oldest."""
CLOCK_SKEW_S = 60
"""Seconds by which the clock of the provider may differ."""
_SIGNATURES = ("RS", "PS", "ES", "Ed")
"""Beginnings of the names of signatures with a public key; others prove nothing to this service."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _checked_issuer(issuer: str) -> str:
    parts = urlsplit(issuer)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not is_safe or not parts.hostname or parts.query or parts.fragment:
        raise problem("", f"{brief(issuer)} is not an issuer", "its address, such as https://login.lab/realms/lab")
    return issuer.rstrip("/")


class Right(StrictModel):
    """Project and scope of all accounts whose ``claim`` is ``value``, or a list that has it."""

    claim: Text
    value: Text
    project: Annotated[str, Field(pattern=PROJECT_PATTERN)]
    scope: Scope

    def is_of(self, claims: Mapping[str, Any]) -> bool:
        """Return whether an account has this right; an address of e-mail counts only if the provider verified it."""
        if self.claim == "email" and claims.get("email_verified") is not True:
            return False
        found = claims.get(self.claim)
        return self.value in found if isinstance(found, list) else self.value == found


class OpenIdSettings(StrictModel):
    """Provider of accounts, this service's registration there, and the rights of accounts."""

    issuer: Annotated[Text, AfterValidator(_checked_issuer)]
    client_id: Text
    client_secret_file: FilePath
    scopes: list[Text] = Field(default_factory=lambda: ["email"])
    rights: Annotated[list[Right], Field(min_length=1)]


def load_openid_settings(file: Path) -> OpenIdSettings:
    """Load the settings from a YAML file; a relative ``client_secret_file`` starts at its folder.

    Raises
    ------
    RequestError
        If the file cannot be read, or what is in it is not valid.
    """
    data = read_yaml(_text_of(file), source=str(file)).data
    try:
        settings = OpenIdSettings.model_validate(data)
    except ValidationError as error:
        first = validation_problems(error, data, OpenIdSettings.model_json_schema(), most=1)[0]
        raise RequestError(
            f"{file}: {dotted(first.path)}: {first.problem}" + (f"; allowed: {first.allowed}" if first.allowed else "")
        ) from None
    return settings.model_copy(update={"client_secret_file": file.parent / settings.client_secret_file})


def callers_of(rights: Sequence[Right], claims: Mapping[str, Any]) -> dict[str, Caller]:
    """Return the caller that an account is in each of its projects, with the highest of its scopes there."""
    name = claims["email"] if claims.get("email_verified") is True and "email" in claims else claims["sub"]
    found: dict[str, Caller] = {}
    for right in rights:
        known = found.get(right.project)
        if right.is_of(claims) and (known is None or not known.may(right.scope)):
            found[right.project] = Caller(right.project, right.scope, label=str(name)[:MAX_TEXT_LENGTH])
    return found


@dataclass(frozen=True)
class Wanted:
    """What a person who signs in wants: a page, a scope, and a project, None for the only one of the account."""

    page: str
    scope: Scope
    project: str | None


@dataclass(frozen=True)
class _SignIn:
    flow: dict[str, Any]
    wanted: Wanted
    until: float


class OpenId:
    """Sign-ins with the accounts of one provider. ``clock`` returns monotonic seconds.

    Raises
    ------
    RequestError
        If the file with the secret cannot be read.
    """

    def __init__(self, settings: OpenIdSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.rights = urlsplit(settings.issuer).hostname or settings.issuer, settings.rights
        self._issuer, self._clock = settings.issuer, clock
        self._lock = threading.Lock()
        self._begun: dict[str, _SignIn] = {}
        self._provider: Any = OAuth().register(
            "openid",
            client_id=settings.client_id,
            client_secret=_text_of(settings.client_secret_file).strip(),
            server_metadata_url=f"{settings.issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": " ".join(dict.fromkeys(["openid", *settings.scopes])),
                "code_challenge_method": "S256",
            },
        )

    async def begin(self, request: Request, redirect_uri: str, wanted: Wanted) -> tuple[str, Response]:
        """Return the id of a sign-in, which only the browser of ``request`` may know, and the way to the provider.

        Raises
        ------
        ServiceError
            If the provider cannot be reached.
        """
        flow: dict[str, Any] = {}
        request.scope["session"] = flow
        with self._translated():
            await self._load_metadata()
            response: Response = await self._provider.authorize_redirect(request, redirect_uri)
        begun, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            while len(self._begun) >= MAX_SIGN_INS:
                del self._begun[min(self._begun, key=lambda entry: self._begun[entry].until)]
            self._begun[begun] = _SignIn(flow, wanted, now + SIGN_IN_TTL_S)
        return begun, response

    def wanted(self, sign_in: str | None) -> Wanted:
        """Return what the person wanted who began a sign-in.

        Raises
        ------
        AccessError
            If none with this id has begun, or if it took too long.
        """
        return self._find(sign_in).wanted

    async def finish(self, request: Request, sign_in: str | None) -> dict[str, Any]:
        """Return the claims of the account with which the provider sends a person back; each sign-in ends once.

        Raises
        ------
        AccessError
            If the provider refused, or if what it sent is not the end of this sign-in.
        ServiceError
            If the provider cannot be reached.
        """
        request.scope["session"] = self._find(sign_in).flow
        with self._lock:
            self._begun.pop(sign_in or "", None)
        with self._translated():
            metadata = await self._load_metadata()
            token = await self._provider.authorize_access_token(request, leeway=CLOCK_SKEW_S)
            proven = token.get("userinfo")
            if proven is None:
                raise AccessError("the provider sent no ID token")
            told = await self._provider.userinfo(token=token) if "userinfo_endpoint" in metadata else {}
        if told and told.get("sub") != proven["sub"]:
            raise AccessError("the provider told of another account than the one that signed in")
        return {**told, **proven}

    def _find(self, sign_in: str | None) -> _SignIn:
        with self._lock:
            found = self._begun.get(sign_in or "")
        if found is None or found.until < self._clock():
            raise AccessError("this sign-in has not begun in this browser, or it took too long")
        return found

    async def _load_metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = await self._provider.load_server_metadata()
        if str(metadata.get("issuer", "")).rstrip("/") != self._issuer:
            raise ServiceError(f"the provider at {self._issuer} says that it is {brief(metadata.get('issuer'))}")
        supported = metadata.get("id_token_signing_alg_values_supported", ["RS256"])
        metadata["id_token_signing_alg_values_supported"] = [a for a in supported if a.startswith(_SIGNATURES)]
        return metadata

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (AuthlibBaseError, JoseError) as error:
            raise AccessError(f"the provider did not confirm the account: {brief(str(error))}") from error
        except (httpx2.HTTPError, ValueError, KeyError, RuntimeError) as error:
            raise ServiceError(f"the provider at {self._issuer} cannot be used: {brief(str(error))}") from error


def _text_of(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--openid: {file} cannot be read: {error}") from None
