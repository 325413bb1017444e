"""Commands for scripts and instruments that measure by themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from aifs_tune._util.scalars import decoded_params, did_you_mean
from aifs_tune.cli.options import JsonOption, StorageOption, StudyArgument, complete_sweep, print_json
from aifs_tune.cli.target import find_service, find_target_study
from aifs_tune.errors import RequestError
from aifs_tune.study.lease import lease_s_of
from aifs_tune.study.trial import ToldState

if TYPE_CHECKING:
    from aifs_tune.client.study import RemoteStudy
    from aifs_tune.config.sweep import SweepSpec
    from aifs_tune.study.study import Study


MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME=VALUE",
        help="A metric; one for each objective if the study has several. Can be repeated.",
    ),
]
LeaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Length of the lease, such as 90s, 30m, 12h, 3d or 2w. When it has expired, the configuration may be "
        "given to somebody else.",
    ),
]
TrialArgument = Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="Number of the trial, which ask prints.")]


def ask(
    study: StudyArgument,
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="SWEEP", help="Start the study from this sweep file if it is new.", autocompletion=complete_sweep
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="TEXT", help="Label of the sample.")] = None,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Instrument or person that runs the trial.")] = None,
    lease: LeaseOption = None,
    storage: StorageOption = None,
) -> None:
    """Print the next configuration to try, as JSON."""
    opened = find_target_study(study, storage) if sweep is None else _started(study, sweep, storage)
    trial = opened.ask(label=label, owner=owner, lease_s=None if lease is None else lease_s_of(lease))
    leased = {"lease": trial.lease.to_json()} if trial.lease else {}
    print_json({"study": study, "trial": trial.number, "params": dict(trial.params), "seed": trial.seed, **leased})


def _started(study: str, sweep: str, storage: str | None) -> Study | RemoteStudy:
    from aifs_tune.config.loading import find_sweep_file, load_sweep_file
    from aifs_tune.config.yaml import read_yaml

    file, service = find_sweep_file(sweep), find_service(storage)
    spec = load_sweep_file(file)
    if service is not None:
        return service.start_study(study, cast(dict[str, Any], read_yaml(file.read_text(), source=str(file)).data))
    from aifs_tune.config.trusted_code import remember
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.open import start_study

    opened = Storage(storage, create=True)
    remember(opened.shown, study, spec)
    return start_study(opened, spec, study)


ParamsArgument = Annotated[
    list[str],
    typer.Argument(metavar="NAME=VALUE...", help="A value for each parameter; fixed parameters may be left out."),
]


def enqueue(study: StudyArgument, params: ParamsArgument, storage: StorageOption = None) -> None:
    """Add a configuration to try next; ask prints it before any new proposal."""
    opened = find_target_study(study, storage)
    print_json(opened.enqueue(_params(params, opened.spec)).to_json())


def attach(
    study: StudyArgument,
    params: ParamsArgument,
    value: Annotated[float | None, typer.Option("--value", metavar="VALUE", help="Value of the objective.")] = None,
    metric: MetricOption = None,
    failed: Annotated[str | None, typer.Option(metavar="REASON", help="The trial failed, for this reason.")] = None,
    infeasible: Annotated[
        str | None, typer.Option(metavar="REASON", help="The trial broke a limit and has no value.")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Store a result that was measured elsewhere, as a new trial."""
    opened = find_target_study(study, storage)
    metrics, state = _told("attach", opened.spec, value, metric, failed, infeasible)
    if state == "complete" and not metrics:
        raise RequestError("attach: no value; allowed: --value, --metric NAME=VALUE, --failed or --infeasible REASON")
    told = opened.attach(_params(params, opened.spec), metrics, state=state, reason=failed or infeasible)
    print_json(told.to_json())


def cancel(
    study: StudyArgument,
    trial: TrialArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it is cancelled.")] = "cancelled",
    storage: StorageOption = None,
) -> None:
    """Cancel a waiting or running trial; the sampler learns nothing from it."""
    print_json(find_target_study(study, storage).cancel(trial, reason).to_json())


def renew(study: StudyArgument, trial: TrialArgument, lease: LeaseOption = None, storage: StorageOption = None) -> None:
    """Extend the lease of a running trial.

    The lease begins again now, with the length of --lease. Default: the length that it had.
    """
    opened = find_target_study(study, storage)
    print_json(opened.renew(trial, None if lease is None else lease_s_of(lease)).to_json())


def report_measurement(
    study: str, trial: int, epoch: int, value: float | None, metric: list[str] | None, storage: str | None
) -> None:
    """Report what a running trial measured at one epoch."""
    opened = find_target_study(study, storage)
    metrics = _metrics(metric)
    if value is not None:
        metrics.setdefault(opened.spec.objective.metric, value)
    print_json(opened.report(trial, epoch, metrics).to_json())


def tell(
    study: StudyArgument,
    trial: TrialArgument,
    value: Annotated[
        float | None,
        typer.Argument(metavar="VALUE", help="Value of the objective. Default: the best value that report stored."),
    ] = None,
    metric: MetricOption = None,
    failed: Annotated[str | None, typer.Option(metavar="REASON", help="The trial failed, for this reason.")] = None,
    infeasible: Annotated[
        str | None, typer.Option(metavar="REASON", help="The trial broke a limit and has no value.")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Store the final result of a trial."""
    opened = find_target_study(study, storage)
    metrics, state = _told("tell", opened.spec, value, metric, failed, infeasible)
    if metrics is None and state == "complete" and opened.trial(trial).state == "running" and not opened.curve(trial):
        raise RequestError(
            f"tell: no value, and nothing was reported for trial {trial}; allowed: a value, --metric NAME=VALUE, "
            "--failed REASON or --infeasible REASON"
        )
    told = opened.tell(trial, metrics, state=state, reason=failed or infeasible)
    print_json(told.to_json())


def recommend(study: StudyArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Recommend a configuration, and whether to stop."""
    found = find_target_study(study, storage).recommendation()
    if as_json:
        print_json({"study": study, **found.to_json()})
        return
    typer.echo(f"{'Stop.' if found.should_stop else 'Keep measuring.'} {found.reason}")
    if found.recommended is not None:
        value = f"expected value {found.expected_value:.4g}"
        typer.echo(f"Recommended: trial {found.recommended}, {value}. See: aifs-tune trials {study}")


def _told(
    command: str,
    spec: SweepSpec,
    value: float | None,
    metric: list[str] | None,
    failed: str | None,
    infeasible: str | None,
) -> tuple[float | dict[str, float | None] | None, ToldState]:
    """The result that was typed, and its state."""
    if sum([value is not None or bool(metric), failed is not None, infeasible is not None]) > 1:
        raise RequestError(f"{command}: give only one of a value, --failed REASON and --infeasible REASON")
    metrics = _metrics(metric)
    objective = spec.objective.metric
    if metrics and value is not None and metrics.setdefault(objective, value) != value:
        raise RequestError(f"{command}: {value:g} and --metric {objective}={metrics[objective]:g}; allowed: one value")
    if failed is not None:
        return None, "failed"
    if infeasible is not None:
        return None, "infeasible"
    if metrics or value is not None:
        _check_result(command, metrics or {objective: value}, spec, typed=set(metrics))
    return metrics or value, "complete"


def _params(given: list[str], spec: SweepSpec) -> dict[str, Any]:
    """The configuration of words such as ``temperature=900``, with the fixed parameters that were left out."""
    params: dict[str, Any] = {}
    for word in given:
        name, sign, text = word.partition("=")
        if not sign or name in params:
            said = "is given twice" if sign else "is not a parameter with its value"
            raise RequestError(f"{word!r} {said}; allowed: NAME=VALUE, once for each of {', '.join(spec.space.root)}")
        params[name] = _value_of(name, text, spec)
    fixed = {name: each.value for name, each in spec.space.items() if each.type == "fixed" and not each.when}
    return {**decoded_params(fixed), **params}


def _value_of(name: str, text: str, spec: SweepSpec) -> Any:
    """The value that ``text`` is in YAML; the text itself where the parameter has that as a choice."""
    from aifs_tune.config.yaml import read_yaml

    value = read_yaml(text, source=name).data
    parameter = spec.space.root.get(name)
    is_text = parameter is not None and parameter.convert(value) is None and parameter.convert(text) is not None
    return text if is_text else value


def _check_result(command: str, metrics: Mapping[str, float | None], spec: SweepSpec, typed: set[str]) -> None:
    """Refuse a result that would fail its trial for good: without an objective or limit, or not a number."""
    needed = list(dict.fromkeys([o.metric for o in spec.objectives] + [limit.metric for limit in spec.limits]))
    for name in needed if typed else list(metrics):
        value = metrics.get(name)
        if value is not None and math.isfinite(value):
            continue
        others = [other for other in metrics if other not in needed]
        near = next((f" ({other}: did you mean {name}?)" for other in others if did_you_mean(other, [name])), "")
        text = f"no value for {name}{near}" if value is None else f"{value} is not a result for {name}"
        raise RequestError(
            f"{command}: {text}; allowed: a finite number for each of {', '.join(needed)}; or --failed REASON"
        )


def _metrics(given: list[str] | None) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for entry in given or []:
        name, _, text = entry.partition("=")
        if name.strip() in metrics:
            raise RequestError(f"--metric: {name.strip()} is given twice; allowed: each metric once")
        try:
            metrics[name.strip()] = float(text)
        except ValueError:
            raise RequestError(
                f"--metric: {entry!r} is not a metric; allowed: NAME=NUMBER, such as score=0.9"
            ) from None
    return metrics
