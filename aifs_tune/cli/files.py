"""Commands about sweep files and data, and the progress display of a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from aifs_tune.cli.options import (
    DataOption,
    JsonOption,
    SetOption,
    StrictOption,
    SweepArgument,
    complete_sweep,
    echo_stderr,
    print_json,
)
from aifs_tune.cli.result import out, program_name
from aifs_tune.errors import RequestError


@contextmanager
def progress_callback() -> Iterator[Any]:
    """Progress display for this terminal: a live table, or plain lines if stdout is not a terminal."""
    from rich.console import Console

    from aifs_tune.cli.progress import LiveTable, PlainLines

    console = Console(stderr=True)
    if sys.stdout.isatty() and sys.stderr.isatty():
        with LiveTable(console) as table:
            yield table
    else:
        yield PlainLines(console)


def space(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="SWEEP", help="A sweep file, or the name of one that ships.", autocompletion=complete_sweep
        ),
    ] = None,
    overrides: SetOption = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of sweep files.")] = False,
) -> None:
    """Check a sweep file as run does, and show its search space."""
    from aifs_tune.config.loading import find_sweep_file, json_schema, load_sweep_file

    if schema:
        print_json(json_schema())
        return
    if sweep is None:
        raise RequestError("space: give a sweep file, or --schema")
    from aifs_tune.cli.tables import render_space
    from aifs_tune.samplers.proposer import check_sampler
    from aifs_tune.trainers.effects import check_effects
    from aifs_tune.trainers.factory import check_trainer, compiled_anew

    spec = load_sweep_file(find_sweep_file(sweep), overrides or ())
    out().print(render_space(spec))
    if spec.trainer is not None:
        check_trainer(spec)
        check_effects(spec)
        if names := compiled_anew(spec):
            out().print(f"compiled anew for each value of: {', '.join(names)}")
    check_sampler(spec)


def check_data(
    sweep: SweepArgument,
    data: DataOption = None,
    overrides: SetOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check the data of a sweep before any training.

    Shows the training, validation and test sets, classes, groups, duplicates and the fingerprint.
    """
    from aifs_tune.cli.tables import data_summary, render_data
    from aifs_tune.execution.data import prepared_data
    from aifs_tune.execution.sweep import load_sweep

    spec = load_sweep(sweep, data=data, overrides=overrides or ()).spec
    with progress_callback() as callback:
        prepared = prepared_data(spec, strict=strict, callback=callback)
    if as_json:
        print_json(data_summary(prepared))
    else:
        out().print(render_data(prepared))


def simulate_sky(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder to write.")],
    images: Annotated[int, typer.Option(metavar="N", help="Number of images.")] = 1000,
    size: Annotated[int, typer.Option(metavar="PX", help="Width and height of an image in pixels.")] = 64,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed; the same seed gives the same images.")] = 0,
    difficulty: Annotated[
        float, typer.Option(metavar="X", help="From 0 (bright and sharp) to 1 (faint, blurred and crowded).")
    ] = 0.5,
) -> None:
    """Simulate a sky survey: a folder of labelled images.

    The classes are stars, galaxies and artifacts.
    """
    from aifs_tune.data.simulate.sky import simulate_sky as draw

    with progress_callback() as callback:
        survey = draw(folder, images=images, size=size, seed=seed, difficulty=difficulty, progress=callback.on_progress)
    if survey.is_reused:
        echo_stderr(f"{folder} contains this survey already.")
    for name, count in survey.counts.items():
        typer.echo(f"{name}\t{count}")
    echo_stderr(f"\nNext: {program_name()} run celestial_cnn --data {folder}")
