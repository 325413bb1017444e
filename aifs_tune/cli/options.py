"""Arguments and options that several commands share, their completion, and opening a study."""

from __future__ import annotations

import glob
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aifs_tune._util.formatting import printable
from aifs_tune.errors import AifsTuneError

if TYPE_CHECKING:
    from aifs_tune.study.record import StudyRecord


def complete_study(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the studies in the storage, for completion in a shell; none where a service holds the studies."""
    from aifs_tune.cli.target import URL
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import study_names

    storage = ctx.params.get("storage")
    if storage is None and os.environ.get(URL):
        return []
    with suppress(AifsTuneError):
        return [name for name in study_names(Storage(storage)) if name.startswith(incomplete)]
    return []


def complete_sweep(incomplete: str) -> list[str]:
    """Sweep files for completion in a shell: names of those that ship, then files and folders that exist here."""
    from aifs_tune.config.loading import SUFFIXES, shipped_sweep_files

    here = sorted(Path().glob(f"{glob.escape(incomplete)}*"))
    files = [f"{path}/" if path.is_dir() else str(path) for path in here if path.is_dir() or path.suffix in SUFFIXES]
    return [name for name in shipped_sweep_files() if name.startswith(incomplete)] + files


SweepArgument = Annotated[
    str,
    typer.Argument(metavar="SWEEP", help="A sweep file, or the name of one that ships.", autocompletion=complete_sweep),
]
StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="Name of the study.", autocompletion=complete_study)
]
StudyOrBundleArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="Name of the study, or the folder of a bundle.", autocompletion=complete_study
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Storage of the studies: sqlite:///FILE or postgresql+psycopg://USER@HOST/DB. Default: "
        "$AIFS_TUNE_STORAGE, else aifs_tune.db in this folder.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the sweep file. Can be repeated."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Data to learn from: a folder with one folder of images per class, a file, or a URL (s3, gs, az, file). "
        "Default: the data that the sweep file names.",
    ),
]
StudyOption = Annotated[
    str | None, typer.Option("--study", metavar="NAME", help="Name of the study. Default: the name in the sweep file.")
]
TrialsOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of trials.")]
EpochsOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Epochs of each trial that is not stopped early.")
]
SeedOption = Annotated[int | None, typer.Option(min=0, metavar="N", help="Seed of the search and of all trials.")]
WarmStartOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STUDY",
        help="Learn from this earlier study; auto takes similar ones. Can be repeated.",
        autocompletion=complete_study,
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Trials that run at the same time.")]
TimeoutOption = Annotated[
    float | None, typer.Option(min=0.001, metavar="SECONDS", help="Stop the sweep after this time.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(metavar="RAY_ADDRESS", help="Address of a Ray cluster, or auto. Default: this machine."),
]
JobAddressOption = Annotated[
    str, typer.Option(metavar="http://HEAD:8265", help="Address of the Ray cluster's dashboard.")
]
FindJobAddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="http://HEAD:8265", help="Address of the Ray dashboard, for a sweep that was submitted."
    ),
]
AllowUnauthenticatedOption = Annotated[
    bool, typer.Option("--allow-unauthenticated", help="Use a cluster that asks for no token.")
]
_CONTROL = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that control a terminal, or the direction of its text, and that JSON does not escape."""


def echo_stderr(text: str) -> None:
    """Print to stderr, where progress and remarks go."""
    typer.echo(printable(text), err=True)


def print_json(answer: Any) -> None:
    """Print one JSON document to stdout."""
    typer.echo(json_text(answer))


def json_text(answer: Any) -> str:
    """Strict JSON, indented; characters that could control a terminal are escaped."""
    text = json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def open_local_study(study: str, storage: str | None) -> StudyRecord:
    """Existing study of an existing storage on this machine."""
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study

    return get_study(Storage(storage), study)
