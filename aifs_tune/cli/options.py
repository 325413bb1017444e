"""What the commands share: their common arguments, and how they open a study and print JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from aifs_tune.study.record import StudyRecord


SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of one that ships.")]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study.")]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="sqlite:///FILE or postgresql+psycopg://USER@HOST/DB; default $AIFS_TUNE_STORAGE or aifs_tune.db here.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the sweep file; repeatable.")
]
StudyOption = Annotated[str | None, typer.Option(metavar="NAME", help="Default: the sweep file's name.")]
TrialsOption = Annotated[int | None, typer.Option(min=1, help="Trials to run.")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Epochs of a trial that is not stopped.")]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Seeds the search and every trial.")]
WarmStartOption = Annotated[
    list[str] | None,
    typer.Option(metavar="STUDY", help="Begin with what this study found, or auto: those like this one; repeatable."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first unreadable image.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Trials at the same time.")]
TimeoutOption = Annotated[
    float | None, typer.Option(min=0.001, metavar="SECONDS", help="Stop the sweep after this long.")
]
AddressOption = Annotated[
    str | None, typer.Option(metavar="RAY_ADDRESS", help="A Ray cluster, or auto; default: local.")
]
JobAddressOption = Annotated[str, typer.Option(metavar="http://HEAD:8265", help="The dashboard of the Ray cluster.")]
FindJobAddressOption = Annotated[
    str | None, typer.Option("--address", metavar="http://HEAD:8265", help="Of a submitted sweep.")
]
AllowUnauthenticatedOption = Annotated[
    bool, typer.Option("--allow-unauthenticated", help="Join a cluster that asks for no token.")
]


def echo_stderr(text: str) -> None:
    """Talk goes to stderr."""
    typer.echo(text, err=True)


def print_json(answer: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json_text(answer))


def json_text(answer: Any) -> str:
    """Strict JSON, readable."""
    return json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False)


def open_local_study(study: str, storage: str | None) -> StudyRecord:
    """An existing study of an existing storage."""
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study

    return get_study(Storage(storage), study)
