"""Commands of the HTTP service: run it, manage its tokens, and read its audit log."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aifs_tune._util.atomic_files import write_file
from aifs_tune._util.formatting import printable
from aifs_tune.cli.help import CommandWithExample, TitledGroup, examples
from aifs_tune.cli.options import AllowUnauthenticatedOption, JsonOption, StorageOption, echo_stderr, print_json
from aifs_tune.errors import RequestError

if TYPE_CHECKING:
    from aifs_tune.service.openid import OpenId
    from aifs_tune.service.tls import TlsFiles
    from aifs_tune.service.tokens import TokenStore


tokens = typer.Typer(
    cls=TitledGroup,
    no_args_is_help=True,
    help="Create, list and revoke tokens of the service.",
    epilog=examples("token list"),
)


def serve(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address of this machine to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 takes a free one.")] = 8000,
    storage: StorageOption = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Require a token from this machine too.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name under which other machines reach the service; they need a token. Can be repeated.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="Another web site whose pages may use the service with a token. Can be repeated."
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM file of a certificate, for HTTPS; it is read again when it is renewed."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM file of its key, without password.")] = None,
    trust_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address or network of a proxy whose X-Forwarded-For and -Proto are believed. Can be repeated.",
        ),
    ] = None,
    openid: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="YAML file of an OpenID Connect provider with whose accounts people sign in."
        ),
    ] = None,
    sweeps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of sweep files that clients may start by name.")
    ] = None,
    sweeps_at_once: Annotated[
        int, typer.Option(min=1, metavar="N", help="Sweeps that run at the same time; more than 1 needs PostgreSQL.")
    ] = 1,
    address: Annotated[
        str | None,
        typer.Option(metavar="http://HEAD:8265", help="Run sweeps as jobs of this Ray cluster. Default: here."),
    ] = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
) -> None:
    """Serve the studies of a storage over HTTP, with web pages."""
    from aifs_tune.service.server import resolve_bind_address
    from aifs_tune.service.server import serve as run
    from aifs_tune.service.sweep_processes import SweepProcesses
    from aifs_tune.storage.storage import Storage

    cluster = [] if address is None else ["--address", address, *["--allow-unauthenticated"] * allow_unauthenticated]
    tls = _tls_files(tls_certificate, tls_key)
    bind, opened = resolve_bind_address(host, port), Storage(storage, create=True)
    processes = (
        None if sweeps is None else partial(SweepProcesses, opened, sweeps, at_once=sweeps_at_once, cluster=cluster)
    )
    with suppress(KeyboardInterrupt):  # by then all requests are answered
        run(
            opened,
            bind,
            allow_hosts=allow_host or (),
            allow_origins=allow_origin or (),
            require_token=require_token,
            tls=tls,
            trust_proxies=trust_proxy or (),
            openid=None if openid is None else _provider_in(openid),
            sweeps=processes,
            on_ready=lambda url: echo_stderr(f"serving at {url}; open it in a browser, or read {url}/v1/openapi.json"),
        )


def _tls_files(certificate: Path | None, key: Path | None) -> TlsFiles | None:
    from aifs_tune.service.tls import TlsFiles

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "--tls-certificate" if certificate is None else "--tls-key"
        raise RequestError(f"{missing} is missing; allowed: --tls-certificate and --tls-key together")
    return TlsFiles(certificate, key)


def _provider_in(file: Path) -> OpenId:
    from aifs_tune.service.openid import OpenId, load_openid_settings

    return OpenId(load_openid_settings(file))


def audit(
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only entries of this project. Default: of all.")
    ] = None,
    study: Annotated[str | None, typer.Option(metavar="NAME", help="Only entries of studies with this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="Number of entries.")] = 100,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print who changed what through the service, the newest entries first."""
    from aifs_tune.service.audit import AuditLog
    from aifs_tune.storage.storage import Storage

    entries = AuditLog(Storage(storage)).entries(project, study=study, limit=limit)
    if as_json:
        print_json([entry.to_json() for entry in entries])
        return
    for entry in entries:
        who = " ".join(filter(None, [entry.token_id, entry.label])) or "no token"
        about = [entry.study or "", "" if entry.trial is None else f"trial {entry.trial}"]
        what = [who, entry.address or "", f"{entry.method} {entry.route}", *about, str(entry.status)]
        typer.echo(printable("  ".join(filter(None, [str(entry.to_json()["at"]), entry.project, *what]))))


@tokens.command(
    "create",
    cls=CommandWithExample,
    epilog=examples("token create --project default --scope measure --expires-days 30"),
)
def create_token(
    project: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Project whose studies the token opens; the command line uses the project default."
        ),
    ],
    scope: Annotated[
        Literal["read", "measure", "manage"],
        typer.Option(help="What the token allows; each scope includes the ones before it."),
    ],
    expires_days: Annotated[
        float | None, typer.Option(metavar="N", help="Days until it expires. Default: never.")
    ] = None,
    label: Annotated[str, typer.Option(metavar="TEXT", help="Person or machine that has the token.")] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="New file for the token, readable by you alone."),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Create a token and print it, or write it to a file; it cannot be shown again."""
    if output is not None and output.exists():
        raise RequestError(f"--output: {output} exists already; choose another file")
    token = _token_store(storage, create=True).create(project, scope, expires_days=expires_days, label=label)
    if output is None:
        typer.echo(token)
    else:
        write_file(output, f"{token}\n".encode())  # with the mode 0600


@tokens.command("list", cls=CommandWithExample, epilog=examples("token list --json"))
def list_tokens(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List all tokens, without their secrets."""
    listed = [
        {
            "id": token.id,
            "project": token.project,
            "scope": token.scope,
            "state": state,
            "label": token.label,
            "created_at": _moment(token.created_at),
            "expires_at": _moment(token.expires_at),
            "revoked_at": _moment(token.revoked_at),
        }
        for token, state in _token_store(storage).tokens()
    ]
    if as_json:
        print_json(listed)
        return
    for entry in listed:
        until = f", until {entry['expires_at']}" if entry["expires_at"] else ""
        typer.echo(f"{entry['id']}  {entry['project']}  {entry['scope']}  {entry['state']}{until}  {entry['label']}")


@tokens.command("revoke", cls=CommandWithExample, epilog=examples("token revoke 0123456789ab"))
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the token: the twelve characters after aifs_.")],
    storage: StorageOption = None,
) -> None:
    """Revoke a token at once."""
    _token_store(storage).revoke(token_id)
    echo_stderr(f"Token {token_id} is revoked.")


def _token_store(storage: str | None, *, create: bool = False) -> TokenStore:
    from aifs_tune.service.tokens import TokenStore
    from aifs_tune.storage.storage import Storage

    return TokenStore(Storage(storage, create=create))


def _moment(seconds: int | None) -> str | None:
    from datetime import UTC, datetime

    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
