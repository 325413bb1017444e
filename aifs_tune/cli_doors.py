"""What the commands share: their common arguments, and how they open a study and print JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from aifs_tune.study import Study

SweepFile = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of one that ships.")]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study.")]
StorageUrl = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="sqlite:///FILE or postgresql+psycopg://USER@HOST/DB; default $AIFS_TUNE_STORAGE or aifs_tune.db here.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the sweep file; repeatable.")
]
NewStudy = Annotated[str | None, typer.Option(metavar="NAME", help="Default: the sweep file's name.")]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials to run.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs of a trial that is not stopped.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seeds the search and every trial.")]
WarmStart = Annotated[
    list[str] | None,
    typer.Option(metavar="STUDY", help="Begin with what this study found, or auto: those like this one; repeatable."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first unreadable image.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Trials at the same time.")]
Timeout = Annotated[float | None, typer.Option(min=0.001, metavar="SECONDS", help="Stop the sweep after this long.")]
Address = Annotated[str | None, typer.Option(metavar="RAY_ADDRESS", help="A Ray cluster, or auto; default: local.")]
JobAddress = Annotated[str, typer.Option(metavar="http://HEAD:8265", help="The dashboard of the Ray cluster.")]
OfJobs = Annotated[str | None, typer.Option("--address", metavar="http://HEAD:8265", help="Of a submitted sweep.")]
Unauthenticated = Annotated[
    bool, typer.Option("--allow-unauthenticated", help="Use a cluster that lets everybody in without a token.")
]


def say(text: str) -> None:
    """Talk goes to stderr."""
    typer.echo(text, err=True)


def print_json(answer: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json_text(answer))


def json_text(answer: Any) -> str:
    """Strict JSON, readable."""
    return json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False)


def open_study_named(study: str, storage: str | None) -> Study:
    """An existing study of an existing storage."""
    from aifs_tune.storage import Storage
    from aifs_tune.studies import get_study

    return get_study(Storage(storage), study)
