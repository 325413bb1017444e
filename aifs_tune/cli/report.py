"""Command ``report``: write a report of a study, or store a measurement of a running trial."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from aifs_tune.cli.instrument import MetricOption, report_measurement
from aifs_tune.cli.options import StorageOption, StudyArgument, echo_stderr, open_local_study
from aifs_tune.errors import RequestError


def report(
    study: StudyArgument,
    trial: Annotated[
        int | None, typer.Argument(min=0, metavar="TRIAL", help="Number of the trial, for a measurement.")
    ] = None,
    epoch: Annotated[int | None, typer.Argument(min=1, metavar="EPOCH", help="Epoch, for a measurement.")] = None,
    value: Annotated[
        float | None,
        typer.Argument(metavar="VALUE", help="Value of the objective, for a measurement; or use --metric."),
    ] = None,
    metric: MetricOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write.")] = None,
    report_format: Annotated[
        Literal["html", "pdf", "md", "latex", "csv"] | None,
        typer.Option(
            "--format", help="Format. Default: the one that FILE's name ends with. latex and csv write one table."
        ),
    ] = None,
    table: Annotated[
        Literal["results", "test", "space", "trials"] | None,
        typer.Option(help="Table that latex and csv write. Default: results."),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Write a report of a study, or store a measurement.

    STUDY -o report.html (or .pdf, .md) writes a report. STUDY TRIAL EPOCH VALUE stores what a running trial measured at
    an epoch.
    """
    if trial is not None:
        if output is not None or report_format is not None or table is not None:
            raise RequestError(
                "report: TRIAL stores a measurement, -o and --format write a report; allowed: one of the two"
            )
        if epoch is None:
            raise RequestError("report: a measurement needs TRIAL and EPOCH")
        report_measurement(study, trial, epoch, value, metric, storage)
        return
    if metric:
        raise RequestError("report: --metric belongs to a measurement; allowed with it: TRIAL EPOCH")
    _write(study, output, report_format, table, storage)


def _write(
    study: str,
    output: Path | None,
    report_format: Literal["html", "pdf", "md", "latex", "csv"] | None,
    table: Literal["results", "test", "space", "trials"] | None,
    storage: str | None,
) -> None:
    from aifs_tune.publishing.report.write import format_of, table_text, write_report

    wanted = report_format if output is None else format_of(output, report_format)
    if table is not None and wanted not in ("latex", "csv"):
        raise RequestError("--table: a report contains all tables; allowed with it: --format latex or csv")
    if output is None:
        if wanted not in ("latex", "csv"):
            raise RequestError(
                "report: give -o FILE.html, FILE.pdf or FILE.md for a report (or TRIAL EPOCH VALUE for a measurement)"
            )
        opened = open_local_study(study, storage)
        typer.echo(table_text(opened, wanted, table or "results"), nl=False)
        return
    opened = open_local_study(study, storage)
    written = write_report(opened, output, format=wanted, table=table or "results", tell=echo_stderr)
    more = f" and {len(written) - 1} pictures in {written[1].parent}" if len(written) > 1 else ""
    echo_stderr(f"wrote {written[0]}{more}")
