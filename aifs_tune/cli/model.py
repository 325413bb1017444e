"""Commands that train the final model of a study, and predict new files with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from aifs_tune.cli.files import progress_callback
from aifs_tune.cli.options import (
    AddressOption,
    AllowUnauthenticatedOption,
    JsonOption,
    StorageOption,
    StudyArgument,
    StudyOrBundleArgument,
    TimeoutOption,
    WorkersOption,
    echo_stderr,
    print_json,
)
from aifs_tune.cli.result import next_command, out, storage_option
from aifs_tune.errors import ConflictError, RequestError, WorkError

_MOST_SKIPPED = 5


def finalize(
    study: StudyArgument,
    ensemble: Annotated[
        int, typer.Option(min=1, max=100, metavar="K", help="Number of models whose predictions are averaged.")
    ] = 1,
    members: Annotated[
        Literal["seeds", "configurations"],
        typer.Option(help="Whether they are the best configuration with K seeds, or the K best configurations."),
    ] = "seeds",
    test: Annotated[
        bool, typer.Option("--test", help="Evaluate the final model on the test set. This can be done only once.")
    ] = False,
    storage: StorageOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    address: AddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the best configuration on all data but the test set.

    The training and validation sets are joined; predict and export use the model from then on.
    """
    from aifs_tune.cli.tables import render_final_model, render_test_results
    from aifs_tune.execution.confirm import SweepOptions
    from aifs_tune.execution.finalize import evaluate_final
    from aifs_tune.execution.finalize import finalize as finalize_study

    with progress_callback() as callback:
        options = SweepOptions(workers, timeout, address, allow_unauthenticated, callback)
        made = finalize_study(
            study, storage=storage, ensemble=ensemble, members=members, for_test=test, options=options
        )
    tested, refused = None, None
    if test:
        try:
            tested = evaluate_final(made)
        except ConflictError as error:
            refused = error  # the final model is printed first
    if as_json:
        print_json(made.to_json() | ({"test": tested.to_json()} if tested else {}))
    else:
        out().print(render_final_model(made))
        if tested is not None:
            out().print(render_test_results(tested))
    if refused is not None:
        raise refused
    if not as_json:
        if made.expected is None:
            confirm = next_command("confirm", study)
            echo_stderr(f"\nThe score to expect of it is not known, as the study was not confirmed; see: {confirm}")
        echo_stderr(f"\nNext: {next_command('predict', study, 'FILES')}{storage_option(made.study.storage)}")


def predict(
    study: StudyOrBundleArgument,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files or folders of new examples, as the study's data are.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="CSV or Parquet file to write, instead of stdout."),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Trial whose model to use. Default: final model, or best."),
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict new files with the model of a study or a bundle.

    They are read as the training data were: the same size, scaling and columns. Files that cannot be read are named.
    """
    from aifs_tune.publishing.bundle.model import load_model
    from aifs_tune.study.dataframe import write_table

    if output is not None and (as_json or output.suffix.lower() not in (".csv", ".parquet")):
        raise RequestError(f"--output: {output} is not allowed; allowed: a file .csv or .parquet, without --json")
    model = load_model(study, storage=storage, trial=trial)
    with progress_callback() as callback:
        answers = model.predict_files(files, progress=callback.on_progress)
    for remark in answers.remarks:
        echo_stderr(f"note: {remark}")
    for skipped in answers.skipped[:_MOST_SKIPPED]:
        echo_stderr(f"left out: {skipped}")
    if len(answers.skipped) > _MOST_SKIPPED:
        echo_stderr(f"left out: {len(answers.skipped) - _MOST_SKIPPED} more files")
    if answers.table.empty and "score" not in answers.table.columns:  # a detector may find no body
        raise WorkError(f"no file could be predicted, of {len(answers.skipped)}")
    if as_json:
        print_json(
            {
                "model": model.name,
                "predictions": answers.table.to_dict("records"),
                "left_out": [{"file": each.name, "reason": each.reason} for each in answers.skipped],
            }
        )
    elif output is not None:
        write_table(answers.table, output, "csv" if output.suffix.lower() == ".csv" else "parquet")
        echo_stderr(f"{len(answers.table)} predictions of {model.name}: {output}")
    else:
        from aifs_tune.cli.tables import render_answers

        out().print(render_answers(answers.table))
        echo_stderr(f"\n{len(answers.table)} predictions of {model.name}")


def explain(
    study: StudyOrBundleArgument,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files or folders of new examples, as the study's data are.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write; it must be new or empty.")
    ],
    of: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Class or target to explain. Default: the likeliest class, or first target."),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Examples to explain at most. Default: 20 images or series, 200 rows."),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Trial whose model to use. Default: final model, or best."),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Show what the answers of a model for new files come from.

    Pixels, time steps or columns that raised or lowered each answer, as pictures and tables. They are no causes.
    """
    from aifs_tune.publishing.explanation.write import explain as write_explanations

    with progress_callback() as callback:
        found = write_explanations(
            study, files, output, storage=storage, trial=trial, of=of, most=most, progress=callback.on_progress
        )
    for remark in found.remarks:
        echo_stderr(f"note: {remark}")
    for skipped in found.skipped[:_MOST_SKIPPED]:
        echo_stderr(f"left out: {skipped}")
    if len(found.skipped) > _MOST_SKIPPED:
        echo_stderr(f"left out: {len(found.skipped) - _MOST_SKIPPED} more files")
    if found.importance:
        from aifs_tune.cli.tables import render_contributions

        out().print(render_contributions(found.importance, found.unit))
    echo_stderr(f"{len(found.each)} answers of {found.model} explained: {output}; start with its README.md")
