"""Commands that analyse the trials of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from aifs_tune.cli.options import JsonOption, StorageOption, StudyArgument, echo_stderr, print_json
from aifs_tune.cli.result import FormatOption, OutputOption, out, print_table
from aifs_tune.cli.target import find_target_study
from aifs_tune.errors import NotFoundError, RequestError

if TYPE_CHECKING:
    import pandas

    from aifs_tune.analysis.study_tables import Analysis


TableName: TypeAlias = Literal[
    "importance",
    "interactions",
    "explained",
    "slices",
    "contour",
    "parallel",
    "curves",
    "saved",
    "pareto",
    "failures",
    "suggestions",
]
"""Methods of :class:`~aifs_tune.analysis.study_tables.Analysis` that make a table."""
EvaluatorOption = Annotated[
    Literal["fanova", "pedanova"],
    typer.Option(
        "--evaluator",
        help="Measure of importance. fanova: share of the variance. pedanova: what distinguishes the best tenth.",
    ),
]


def importance(
    study: StudyArgument,
    evaluator: EvaluatorOption = "fanova",
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which parameters matter, and suggest what to change."""
    from aifs_tune.cli.tables import render_importance
    from aifs_tune.study.dataframe import table_rows

    analysis = _analysis(study, storage)
    shares, pairs, changes = analysis.importance(evaluator), analysis.interactions(), analysis.suggestions()
    if shares.empty:
        raise NotFoundError(f"study {study!r}: no importance can be computed: {shares.attrs['remark']}")
    if as_json:
        tables = {"importance": shares, "interactions": pairs, "explained": analysis.explained()}
        tables["suggestions"] = changes
        remarks = {name: table.attrs["remark"] for name, table in tables.items() if "remark" in table.attrs}
        print_json({"study": study, **{name: table_rows(table) for name, table in tables.items()}, "remarks": remarks})
        return
    out().print(render_importance(shares, pairs, changes))
    for remark in dict.fromkeys(table.attrs.get("remark") for table in (shares, pairs)):
        if remark:
            echo_stderr(f"note: {remark}")


def analyse(
    study: StudyArgument,
    table: Annotated[TableName, typer.Option("--table", help="Table to print.")],
    first: Annotated[str | None, typer.Option(metavar="PARAMETER", help="First parameter of a contour.")] = None,
    second: Annotated[str | None, typer.Option(metavar="PARAMETER", help="Second parameter of a contour.")] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Metric of a contour. Default: the first objective.")
    ] = None,
    evaluator: EvaluatorOption = "fanova",
    output_format: FormatOption = "table",
    output: OutputOption = None,
    storage: StorageOption = None,
) -> None:
    """Print one table of the analysis of a study."""
    from aifs_tune.cli.tables import render_rows
    from aifs_tune.study.dataframe import table_rows

    is_contour = table == "contour"
    given = {"--first": first, "--second": second, "--metric": metric}
    wrong = next((option for option, value in given.items() if value is not None and not is_contour), None)
    if wrong is not None:
        raise RequestError(f"{wrong} does not fit --table {table}; allowed: with --table contour")
    analysis = _analysis(study, storage)
    if is_contour:
        if first is None or second is None:
            varied = ", ".join(name for name, each in analysis.spec.space.items() if each.type != "fixed")
            raise RequestError(f"--table contour: give --first and --second; allowed: two of {varied}")
        found = analysis.contour(first, second, metric=metric)
    else:
        found = _named(analysis, table, evaluator)
    print_table(
        output_format,
        output,
        render=lambda: render_rows(table_rows(found), list(found.columns)),
        rows=lambda: table_rows(found),
        table=lambda: found,
    )
    if "remark" in found.attrs:
        echo_stderr(f"note: {found.attrs['remark']}")


def _named(analysis: Analysis, table: TableName, evaluator: Literal["fanova", "pedanova"]) -> pandas.DataFrame:
    if table == "importance":
        return analysis.importance(evaluator)
    found: pandas.DataFrame = getattr(analysis, table)()
    return found


def _analysis(study: str, storage: str | None) -> Analysis:
    from aifs_tune.analysis.study_tables import analyse as analysed

    opened = find_target_study(study, storage)
    return analysed(opened, noise=_find_noise(opened))


def _find_noise(study: object) -> float | None:
    """Noise that ``aifs-tune noise`` measured for the same sweep file in the same storage; None if it did not."""
    from aifs_tune.study.index import find_study
    from aifs_tune.study.study import Study

    if not isinstance(study, Study):
        return None
    noise_study = find_study(study.storage, f"{study.spec.name}-noise")
    if (
        noise_study is None
        or noise_study.spec.objective != study.spec.objective
        or noise_study.spec.cross_validation is None
    ):
        return None
    from aifs_tune.analysis.confirmation import read_confirmation
    from aifs_tune.analysis.noise import noise_of
    from aifs_tune.errors import WorkError

    try:
        return noise_of(read_confirmation(study.storage, noise_study.name)).sd
    except WorkError:
        return None  # the measurement is not finished
