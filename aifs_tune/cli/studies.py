"""Commands that list studies, their trials and their best configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aifs_tune.cli.options import JsonOption, StorageOption, StudyArgument, echo_stderr, print_json
from aifs_tune.cli.result import FormatOption, OutputOption, out, print_table
from aifs_tune.cli.target import find_service, find_target_study
from aifs_tune.errors import WorkError
from aifs_tune.study.trial import State, selected

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType


def studies(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List the studies of a storage."""
    from aifs_tune.cli.tables import render_studies
    from aifs_tune.publishing.summary import studies_summary
    from aifs_tune.storage.storage import Storage

    answer = studies_summary(find_service(storage) or Storage(storage))
    if as_json:
        print_json(answer)
    else:
        out().print(render_studies(answer))


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended, in an SQLite file; a copy is made first.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a storage: its database, each study and each trial.

    The exit code is 1 if something was found that is not repaired.
    """
    from aifs_tune.cli.tables import render_findings
    from aifs_tune.study.doctor import check_storage

    found, copy = check_storage(storage, repair=repair)
    if as_json:
        print_json({"findings": [finding.to_json() for finding in found], "copy": None if copy is None else str(copy)})
    else:
        out().print(render_findings(found))
        if copy is not None:
            echo_stderr(f"the storage as it was before: {copy}")
    left = [finding for finding in found if not finding.is_repaired]
    if left:
        can = sum(finding.remedy is not None for finding in left)
        hint = f"; {can} can be mended with --repair" if can else ""
        raise WorkError(f"{len(left)} finding{'s' * (len(left) != 1)}{hint}")


def best(
    study: StudyArgument,
    top: Annotated[int | None, typer.Option(min=1, metavar="K", help="Print the K best trials.")] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print YAML.")] = False,
) -> None:
    """Print the best configuration of a study."""
    from aifs_tune.cli.tables import render_best
    from aifs_tune.publishing.remarks import remarks_on
    from aifs_tune.publishing.summary import best_summary

    found = find_target_study(study, storage)
    answer = best_summary(found, top=top)
    if as_json:
        print_json(answer)
    elif as_yaml:
        import yaml

        typer.echo(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True), nl=False)
    else:
        out().print(render_best(answer))
        for text in remarks_on(found).texts:
            echo_stderr(f"{text}.")


def trials(
    study: StudyArgument,
    output_format: FormatOption = "table",
    output: OutputOption = None,
    state: Annotated[State | None, typer.Option(help="Only trials in this state.")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only trials whose lease has expired.")] = False,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Only trials of this owner.")] = None,
    label: Annotated[str | None, typer.Option(metavar="TEXT", help="Only trials with this sample label.")] = None,
    storage: StorageOption = None,
) -> None:
    """Print the trials of a study, all or some of them."""
    opened = find_target_study(study, storage)
    chosen = selected(opened.all_trials(), state=state, is_overdue=overdue, owner=owner, label=label)

    def render() -> RenderableType:
        from aifs_tune.cli.tables import render_trials

        return render_trials(opened, chosen)

    def table() -> pandas.DataFrame:
        from aifs_tune.study.dataframe import trials_table

        return trials_table(chosen, list(opened.spec.space.root), opened.trial_notes)

    def rows() -> list[dict[str, Any]]:
        notes = opened.trial_notes
        return [trial.to_json() | ({"note": notes[n]} if (n := trial.number) in notes else {}) for trial in chosen]

    print_table(output_format, output, render=render, rows=rows, table=table)
