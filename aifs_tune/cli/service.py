"""Commands of the service: run it, and say who may use it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aifs_tune.cli.options import AllowUnauthenticatedOption, JsonOption, StorageOption, echo_stderr, print_json
from aifs_tune.errors import RequestError

if TYPE_CHECKING:
    from aifs_tune.service.tokens import TokenStore


tokens = typer.Typer(no_args_is_help=True, help="Who may use the service, and for what.")


def serve(
    host: Annotated[str, typer.Option(help="An address of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8000,
    storage: StorageOption = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Every request needs a token, from this machine too.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which others reach it; repeatable; requests then need a token."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Another site whose pages may use it with a token; repeatable."),
    ] = None,
    sweeps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of sweep files that requests may start by name.")
    ] = None,
    sweeps_at_once: Annotated[int, typer.Option(min=1, metavar="N", help="Of --sweeps; above 1 in PostgreSQL.")] = 1,
    address: Annotated[
        str | None, typer.Option(metavar="http://HEAD:8265", help="Sweeps are jobs of this Ray cluster; default: here.")
    ] = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
) -> None:
    """Serve the studies of a storage over HTTP, for instruments and people elsewhere."""
    try:
        from aifs_tune.service.server import resolve_bind_address
        from aifs_tune.service.server import serve as run
        from aifs_tune.service.sweep_processes import SweepProcesses
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn"):
            raise
        raise RequestError(f"serve: {error.name} is not installed (pip install 'aifs-tune[service]')") from None
    from aifs_tune.storage.storage import Storage

    cluster = [] if address is None else ["--address", address, *["--allow-unauthenticated"] * allow_unauthenticated]
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
            sweeps=processes,
            on_ready=lambda url: echo_stderr(
                f"serving at {url}; a page for browsers, and for programs {url}/v1/openapi.json"
            ),
        )


@tokens.command("create")
def create_token(
    project: Annotated[str, typer.Option(help="Whose studies it opens; those of other commands are in default.")],
    scope: Annotated[Literal["read", "measure", "manage"], typer.Option(help="Each allows what those before do.")],
    expires_days: Annotated[float | None, typer.Option(metavar="N", help="Absent: valid until it is revoked.")] = None,
    label: Annotated[str, typer.Option(metavar="TEXT", help="Who or what has it.")] = "",
    storage: StorageOption = None,
) -> None:
    """Make a token and print it, this once."""
    typer.echo(_token_store(storage, create=True).create(project, scope, expires_days=expires_days, label=label))


@tokens.command("list")
def list_tokens(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List all tokens, without what would let anybody use them."""
    listed = [
        {
            "id": token.id,
            "project": token.project,
            "scope": token.scope,
            "state": state,
            "label": token.label,
            "created_at": _moment(token.created_at),
            "expires_at": _moment(token.expires_at),
        }
        for token, state in _token_store(storage).tokens()
    ]
    if as_json:
        print_json(listed)
        return
    for entry in listed:
        until = f", until {entry['expires_at']}" if entry["expires_at"] else ""
        typer.echo(f"{entry['id']}  {entry['project']}  {entry['scope']}  {entry['state']}{until}  {entry['label']}")


@tokens.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The twelve characters after aifs_ of the token.")],
    storage: StorageOption = None,
) -> None:
    """End a token now."""
    _token_store(storage).revoke(token_id)
    echo_stderr(f"token {token_id} is revoked")


def _token_store(storage: str | None, *, create: bool = False) -> TokenStore:
    from aifs_tune.service.tokens import TokenStore
    from aifs_tune.storage.storage import Storage

    return TokenStore(Storage(storage, create=create))


def _moment(seconds: int | None) -> str | None:
    from datetime import UTC, datetime

    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
