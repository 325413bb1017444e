"""Answers as tables for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aifs_tune.loan import Lease
from aifs_tune.progress import configuration, duration, number
from aifs_tune.remote_study import RemoteStudy
from aifs_tune.spec import SweepSpec
from aifs_tune.study import Study
from aifs_tune.trial import Trial


def render_best(answer: Mapping[str, Any]) -> RenderableType:
    """The best configuration and its scores, or a table of the best."""
    objective, others = answer["objective"], answer.get("trade_off", [])
    counts = ", ".join(f"{n} {state}" for state, n in answer["n_trials"].items() if n)
    head = Text(f"study {answer['study']}: {_objectives_text(objective, others)}, {counts}")
    if "best" in answer:
        return Group(head, _trials_table(answer["best"], objective, others))
    if others:
        count = len(answer["front"])
        front = Text(f"Pareto front: {count} trial{'s' * (count != 1)} that no other one beats in all", style="bold")
        return Group(head, front, _trials_table(answer["front"], objective, others))
    where = f" at epoch {answer['epoch']}" if answer["epoch"] is not None else ""
    title = Text(f"best: trial {answer['trial']}, {objective['metric']} {number(answer['value'])}{where}", style="bold")
    parts: list[RenderableType] = [head, title, _pairs("parameter", "value", answer["params"])]
    if "replay" in answer:
        parts.append(_schedule_table(answer["replay"]))
    if answer["metrics"]:
        parts.append(_pairs("metric", "value", answer["metrics"]))
    return Group(*parts)


def _trials_table(
    trials: Sequence[Mapping[str, Any]], objective: Mapping[str, str], others: Sequence[Mapping[str, str]]
) -> Table:
    table = Table("trial", objective["metric"], *(each["metric"] for each in others), "epoch", "configuration")
    for trial in trials:
        traded = [number(trial["values"].get(each["metric"])) for each in others]
        row = [str(trial["trial"]), number(trial["value"]), *traded, _cell(trial["epoch"])]
        table.add_row(*row, configuration(trial["params"]))
    return table


def _schedule_table(replay: Sequence[Mapping[str, Any]]) -> Table:
    """What is trained with from which epoch on; of later entries what differs from the one before."""
    table, before = Table("from epoch", "trained with"), dict[str, Any]()
    for entry in replay:
        changed = {name: x for name, x in entry["params"].items() if x != before.get(name)}
        table.add_row(str(entry["epoch"]), configuration(changed))
        before = entry["params"]
    return table


def render_profile(profile: Mapping[str, Any]) -> RenderableType:
    """Where the time of a sweep went, of the driver's stages and of its workers."""
    stages = Table("stage", "seconds", title="one after another", title_justify="left")
    for name, seconds in profile["stages_s"].items():
        stages.add_row(name, f"{seconds:.1f}")
    total = sum(profile["worker_s"].values()) or 1.0
    work = Table("worker", "seconds", "share", title=f"{profile['workers']} workers together", title_justify="left")
    for name, seconds in profile["worker_s"].items():
        work.add_row(name, f"{seconds:.1f}", f"{100 * seconds / total:.1f} %")
    share, rate = profile["driver_share_of_a_core"], profile["reports_per_s"]
    driver = Text(f"driver: {profile['driver_s']:.1f} s of processor time")
    if share is not None:
        driver.append(f", {100 * share:.1f} % of a core at {rate:g} reports a second")
    return Group(stages, work, driver, *_memory_lines(profile["memory"], profile["out_of_memory_retries"]))


def _memory_lines(memory: Mapping[str, Any], n_retries: int) -> list[Text]:
    """What the first trial took, of what is known of it."""
    lines, kinds = [], (("GPU", "gpu_peak_mb", "gpu_mb", "fit_on_gpu"), ("main", "ram_peak_mb", "ram_mb", "fit_in_ram"))
    for kind, peak, total, fit in kinds:
        if memory.get(fit) is not None:
            said = f"{kind} memory: the first trial took at most {memory[peak]:,.0f} of {memory[total]:,.0f} MB"
            lines.append(Text(f"{said}; {memory[fit]:g} such trials fit"))
    if n_retries:
        lines.append(Text(f"{n_retries} trial(s) ran out of memory and were tried again with a larger share of a GPU"))
    return lines


def render_trials(study: Study | RemoteStudy, trials: Sequence[Trial]) -> RenderableType:
    """One row for each of these trials of a study; who has it, if any was handed out."""
    metric, *others = (objective.metric for objective in study.spec.objectives)
    tuned = [name for name, parameter in study.spec.space.items() if parameter.type != "fixed"]
    leased = ("label", "owner", "due") if any(trial.lease for trial in trials) else ()
    table = Table("trial", "state", metric, *others, "epochs", "seconds", "configuration", "reason", *leased)
    for trial in trials:
        table.add_row(
            str(trial.number),
            trial.state,
            number(trial.value),
            *(number(trial.values.get(other)) for other in others),
            str(trial.epochs),
            number(trial.seconds),
            Text(configuration(trial.params, tuned)),
            Text(trial.reason or _changes(trial)),
            *(_lease_cells(trial.lease or Lease()) if leased else ()),
        )
    return table


def _lease_cells(lease: Lease) -> tuple[Text, Text, Text]:
    """Label, owner and until when they have it."""
    due = "" if lease.due_at is None else f"{lease.due_at:%Y-%m-%d %H:%M} UTC"
    return Text(lease.label or ""), Text(lease.owner or ""), Text(f"{due}, overdue" if lease.is_overdue else due)


def _changes(trial: Trial) -> str:
    """From which epochs on it trained otherwise than its configuration says."""
    return ", ".join(f"as trial {change.source} from epoch {change.epoch}, varied" for change in trial.schedule)


def render_studies(answers: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row a study."""
    table = Table("study", "objective", "best", "n_requested", "complete", "pruned", "failed", "running", "waiting")
    for answer in answers:
        objective = answer["objective"]
        counts = answer["n_trials"].values()
        table.add_row(
            answer["study"],
            _objectives_text(objective, answer.get("trade_off", [])),
            number(answer["value"]),
            str(answer["n_requested"] or "-"),
            *map(str, counts),
        )
    return table


def render_status(answer: Mapping[str, Any]) -> RenderableType:
    """How far a study is."""
    counts = answer["n_trials"]
    finished = sum(counts[state] for state in ("complete", "pruned", "failed"))
    lines = [
        f"study {answer['study']}: {finished} trials finished"
        + (f" of {answer['n_requested']}" if answer["n_requested"] else ""),
        ", ".join(f"{n} {state}" for state, n in counts.items()),
    ]
    if answer["best"] is not None:
        best = answer["best"]
        lines.append(f"best {answer['objective']['metric']} {number(best['value'])}, trial {best['trial']}")
    writer = answer["writer"]
    if writer is not None:
        lines.append(f"written by process {writer['pid']} on {writer['host']} since {writer['since']}")
    elif answer["n_requested"] > finished:
        lines.append(f"no sweep is running; continue with: aifs-tune resume {answer['study']}")
    if "job" in answer:
        lines.append(
            f"job {answer['job']['job']} {answer['job']['state']}: {answer['job']['message'] or 'nothing said'}"
        )
    return Text("\n".join(lines))


def render_space(spec: SweepSpec) -> RenderableType:
    """A sweep file: what it tunes, towards what, how long."""
    table = Table("parameter", "type", "range", "default", "when", "unit")
    for row in spec.space.rows():
        table.add_row(*(Text(cell) for cell in row))
    search = spec.search
    objective, *others = (each.model_dump() for each in spec.objectives)
    lines = [Text(f"{spec.name}: {_objectives_text(objective, others)}", style="bold")]
    if spec.description:
        lines.append(Text(spec.description.strip()))
    foot = (
        f"trainer {spec.trainer.name if spec.trainer else 'none'}; sampler {search.sampler}, scheduler "
        f"{search.scheduler}, {search.trials} trials of up to {search.epochs} epochs; a trial uses "
        f"{spec.resources.cpu:g} cpu, {_cell(spec.resources.gpu)} gpu"
    )
    if search.timeout_s is not None:
        foot += f"; stops after {duration(search.timeout_s)}"
    constraints = [Text(f"constraint: {constraint}") for constraint in spec.constraints]
    schedule = [_schedule_table([entry.model_dump() for entry in spec.replay])] if spec.replay else []
    return Group(*lines, table, *constraints, *schedule, Text(foot))


def _objectives_text(objective: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> str:
    return " against ".join(f"{each['metric']} ({each['mode']})" for each in (objective, *others))


def _pairs(left: str, right: str, entries: Mapping[str, Any]) -> Table:
    table = Table(left, right)
    for name, value in entries.items():
        table.add_row(name, _cell(value))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) else str(value)
