"""Command that selects the columns that count in the table of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aifs_tune.cli.confirm import FoldSeedOption, RepeatsOption
from aifs_tune.cli.files import progress_callback
from aifs_tune.cli.options import StorageOption, StudyArgument, echo_stderr
from aifs_tune.cli.result import out


def select_columns(
    study: StudyArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write; it must be new or empty.")
    ],
    top: Annotated[int, typer.Option(min=1, metavar="K", help="Columns that each training set selects.")] = 20,
    folds: Annotated[
        int, typer.Option(min=2, max=100, help="Folds of the training set; each is left out of a training set once.")
    ] = 5,
    repeats: RepeatsOption = 3,
    seed: FoldSeedOption = 0,
    correlated: Annotated[
        float, typer.Option(metavar="R", help="Absolute correlation of columns that are named together.")
    ] = 0.7,
    min_frequency: Annotated[
        float, typer.Option(metavar="X", help="Share of the training sets that must select one of a group.")
    ] = 0.8,
    storage: StorageOption = None,
) -> None:
    """Find the columns of a table, such as genes, that count.

    Which predict the target on many training sets, how important they are to the best configuration, which go together,
    and a sparse graph of which depend on each other directly. They are no causes.
    """
    from aifs_tune.cli.tables import render_columns
    from aifs_tune.publishing.columns.write import select_columns as write_columns

    with progress_callback() as callback:
        found = write_columns(
            study,
            output,
            top=top,
            folds=folds,
            repeats=repeats,
            seed=seed,
            correlated=correlated,
            min_frequency=min_frequency,
            storage=storage,
            callback=callback,
        )
    for remark in found.remarks:
        echo_stderr(f"note: {remark}")
    out().print(render_columns(found))
    chance = f"{found.by_chance:.3g} with a shuffled target"
    echo_stderr(f"{len(found.chosen)} groups of columns, {chance}: {output}; start with its README.md")
