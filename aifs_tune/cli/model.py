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


def design(
    study: StudyArgument,
    maximise: Annotated[
        list[str] | None, typer.Option("--maximise", metavar="TARGET", help="Target to make large; may be repeated.")
    ] = None,
    minimise: Annotated[
        list[str] | None, typer.Option("--minimise", metavar="TARGET", help="Target to make small; may be repeated.")
    ] = None,
    subject_to: Annotated[
        list[str] | None,
        typer.Option("--subject-to", metavar="LIMIT", help="Limit such as 'elongation >= 10'; may be repeated."),
    ] = None,
    sums: Annotated[
        list[str] | None,
        typer.Option("--sum", metavar="SUM", help="Sum of columns such as 'resin + hardener = 1'; may be repeated."),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="RANGE", help="ni=0:20, co=0 or furnace=A|B. Default: what was measured."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Number of proposals.")] = 8,
    measured: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Table with new results, such as a filled output; may be repeated."),
    ] = None,
    candidates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Table of possible experiments to choose from.")
    ] = None,
    reach: Annotated[
        float, typer.Option(metavar="X", help="Largest distance to a measured row; 1 is what the uncertainty knows.")
    ] = 1.0,
    models: Annotated[int, typer.Option(min=6, max=100, metavar="K", help="Number of models.")] = 15,
    seed: Annotated[int, typer.Option(min=0, metavar="K", help="Seed of the models and the search.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="CSV file to write, with empty columns for the results."),
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose the next experiments from a study of a table of numbers.

    Models of the best configuration, their uncertainty calibrated on rows that they had not seen, choose a batch.
    """
    from aifs_tune.cli.tables import render_answers
    from aifs_tune.execution.design import check_output
    from aifs_tune.execution.design import design as design_next

    if output is not None:
        check_output(output)
    with progress_callback() as callback:
        found = design_next(
            study,
            maximise=maximise or (),
            minimise=minimise or (),
            subject_to=subject_to or (),
            sums=sums or (),
            ranges=ranges or (),
            batch=batch,
            measured=measured or (),
            candidates=candidates,
            reach=reach,
            models=models,
            seed=seed,
            storage=storage,
            callback=callback,
        )
    if output is not None:
        found.write(output)
    if as_json:
        print_json(found.to_json())
        return
    if output is None:
        out().print(render_answers(found.table))
    for line in (*(each.text for each in found.calibrations), *found.remarks):
        echo_stderr(f"note: {line}")
    if found.best is not None:
        echo_stderr(f"best measured value within the limits: {found.best:g}")
    if output is not None:
        echo_stderr(
            f"{len(found.table)} proposals: {output}. Fill in the columns {', '.join(found.targets)}, then repeat the "
            f"command with --measured {output} and another --output"
        )


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
