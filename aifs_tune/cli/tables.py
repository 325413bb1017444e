"""Tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table

from aifs_tune._util.formatting import configuration, duration, number, share_of
from aifs_tune._util.scalars import coded_params
from aifs_tune.cli.plain_text import Text
from aifs_tune.cli.trial_rows import Column, TrialRows
from aifs_tune.space.parameters import ChoiceParameter
from aifs_tune.study.lease import Lease

if TYPE_CHECKING:
    import pandas

    from aifs_tune.analysis.classification import HeldOutClasses
    from aifs_tune.analysis.column_selection import SelectedColumns
    from aifs_tune.analysis.confirmation import Confirmation
    from aifs_tune.analysis.final_model import FinalModel
    from aifs_tune.analysis.test_part import HeldOutEvaluation
    from aifs_tune.client.study import RemoteStudy
    from aifs_tune.config.sweep import SweepSpec
    from aifs_tune.data.sources import Prepared
    from aifs_tune.study.doctor import Finding
    from aifs_tune.study.study import Study
    from aifs_tune.study.trial import Trial

_NOTICES_SHOWN = 3
_COLUMNS_SHOWN = 15
_NAMES_SHOWN = 2
_SCREEN, _SCREEN_WIDTH = 40, 100
"""Lines and letters of a screen on which the findings on data are to fit."""
_FRAME = 4
"""Lines of a table around its rows."""
_LEAST_TOLD = 8
_CLASSES_SHOWN = 12
_PAIRS_SHOWN = 5


def render_best(answer: Mapping[str, Any]) -> RenderableType:
    """Best configuration and its metrics, or a table of the best trials."""
    objective, others = answer["objective"], answer.get("trade_off", [])
    counts = ", ".join(f"{n} {state}" for state, n in answer["n_trials"].items() if n)
    head = Text(f"study {answer['study']}: {_objectives_text(objective, others)}, {counts}")
    if "best" in answer:
        return Group(head, _trials_table(answer["best"], objective, others))
    if others:
        count = len(answer["front"])
        front = Text(
            f"Pareto front: {count} trial{'s' * (count != 1)} that no other trial beats in every objective",
            style="bold",
        )
        return Group(head, front, _trials_table(answer["front"], objective, others))
    where = f" at epoch {answer['epoch']}" if answer["epoch"] is not None else ""
    title = Text(f"best: trial {answer['trial']}, {objective['metric']} {number(answer['value'])}{where}", style="bold")
    parts: list[RenderableType] = [head, title, _pairs("parameter", "value", coded_params(answer["params"]))]
    if "replay" in answer:
        parts.append(_schedule_table(answer["replay"]))
    if answer["metrics"]:
        parts.append(_pairs("metric", "value", answer["metrics"]))
    return Group(*parts)


def _trials_table(
    trials: Sequence[Mapping[str, Any]], objective: Mapping[str, str], others: Sequence[Mapping[str, str]]
) -> TrialRows:
    columns = [
        Column("trial", [Text(str(trial["trial"])) for trial in trials]),
        Column(objective["metric"], [Text(number(trial["value"])) for trial in trials]),
        *(
            Column(each["metric"], [Text(number(trial["values"].get(each["metric"]))) for trial in trials])
            for each in others
        ),
        Column("epoch", [Text(_cell(trial["epoch"])) for trial in trials], is_optional=True),
    ]
    return TrialRows(columns, [trial["params"] for trial in trials])


def _schedule_table(replay: Sequence[Mapping[str, Any]]) -> Table:
    """Hyperparameters from each epoch on; later rows show only what changes."""
    table, before = Table("from epoch", "hyperparameters"), dict[str, Any]()
    for entry in replay:
        changed = {name: x for name, x in entry["params"].items() if x != before.get(name)}
        table.add_row(str(entry["epoch"]), configuration(changed))
        before = entry["params"]
    return table


def render_profile(profile: Mapping[str, Any]) -> RenderableType:
    """Time of a sweep, by stage of the driver and by activity of its workers."""
    stages = Table("stage", "seconds", title="stages, one after another", title_justify="left")
    for name, seconds in profile["stages_s"].items():
        stages.add_row(name, f"{seconds:.1f}")
    total = sum(profile["worker_s"].values()) or 1.0
    work = Table("activity", "seconds", "share", title=f"{profile['workers']} workers, sum", title_justify="left")
    for name, seconds in profile["worker_s"].items():
        work.add_row(name, f"{seconds:.1f}", f"{100 * seconds / total:.1f} %")
    share, rate = profile["driver_share_of_a_core"], profile["reports_per_s"]
    driver = Text(f"driver: {profile['driver_s']:.1f} s of processor time")
    if share is not None:
        driver.append(f", {100 * share:.1f} % of a core at {rate:g} reports a second")
    return Group(stages, work, driver, *_memory_lines(profile["memory"], profile["out_of_memory_retries"]))


def _memory_lines(memory: Mapping[str, Any], n_retries: int) -> list[Text]:
    """Memory that the first trial used, as far as it is known."""
    lines, kinds = [], (("GPU", "gpu_peak_mb", "gpu_mb", "fit_on_gpu"), ("main", "ram_peak_mb", "ram_mb", "fit_in_ram"))
    for kind, peak, total, fit in kinds:
        if memory.get(fit) is not None:
            said = f"{kind} memory: the first trial used at most {memory[peak]:,.0f} of {memory[total]:,.0f} MB"
            lines.append(Text(f"{said}; {memory[fit]:g} such trials fit"))
    if n_retries:
        lines.append(
            Text(
                f"{n_retries} trial{'s' * (n_retries != 1)} ran out of memory and ran again with a larger part of a GPU"
            )
        )
    return lines


def render_trials(study: Study | RemoteStudy, trials: Sequence[Trial]) -> RenderableType:
    """One row for each of these trials; with label, owner and lease if any trial has them."""
    metric, *others = (objective.metric for objective in study.spec.objectives)
    tuned = [name for name, parameter in study.spec.space.items() if parameter.type != "fixed"]
    columns = [
        Column("trial", [Text(str(trial.number)) for trial in trials]),
        Column("state", [Text(trial.state) for trial in trials]),
        Column(metric, [Text(number(trial.value)) for trial in trials]),
        *(Column(other, [Text(number(trial.values.get(other))) for trial in trials]) for other in others),
    ]
    if any(trial.lease for trial in trials):
        columns += _lease_columns([trial.lease or Lease() for trial in trials])
    columns += [
        Column("epochs", [Text(str(trial.epochs)) for trial in trials], is_optional=True),
        Column("seconds", [Text(number(trial.seconds)) for trial in trials], is_optional=True),
    ]

    notes = study.trial_notes
    noted = [f"note: {notes[trial.number]}" if trial.number in notes else "" for trial in trials]
    reasons = [
        "; ".join(filter(None, (trial.reason or _changes(trial), text)))
        for trial, text in zip(trials, noted, strict=True)
    ]
    return TrialRows(columns, [trial.params for trial in trials], reasons, tuned=tuned)


def _lease_columns(leases: Sequence[Lease]) -> list[Column]:
    """Label, owner and end of the lease."""

    def due(lease: Lease) -> str:
        moment = "" if lease.due_at is None else f"{lease.due_at:%Y-%m-%d %H:%M} UTC"
        return f"{moment}, overdue" if lease.is_overdue else moment

    return [
        Column("label", [Text(lease.label or "") for lease in leases]),
        Column("owner", [Text(lease.owner or "") for lease in leases], is_optional=True),
        Column("due", [Text(due(lease)) for lease in leases], is_optional=True),
    ]


def _changes(trial: Trial) -> str:
    """Changes of the configuration during training, such as those of population-based training."""
    return ", ".join(
        f"continued trial {change.source} from epoch {change.epoch}, perturbed" for change in trial.schedule
    )


def render_studies(answers: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row for each study."""
    table = Table("study", "objective", "best", "requested", "complete", "pruned", "failed", "running", "waiting")
    for answer in answers:
        if "problem" in answer:
            continue
        objective = answer["objective"]
        counts = answer["n_trials"].values()
        table.add_row(
            answer["study"],
            _objectives_text(objective, answer.get("trade_off", [])),
            number(answer["value"]),
            str(answer["n_requested"] or "-"),
            *map(str, counts),
        )
    problems = [Text(f"{answer['study']}: {answer['problem']}") for answer in answers if "problem" in answer]
    if len(problems) == len(answers) > 0:
        return Group(*problems)
    return Group(table, Text(), *problems) if problems else table


def render_findings(findings: Sequence[Finding]) -> RenderableType:
    """One row for each finding in a storage."""
    if not findings:
        return Text("nothing is wrong")
    table = Table("study", "trial", "found", "repair")
    for finding in findings:
        remedy = finding.remedy or "none"
        table.add_row(
            Text(finding.study or ""),
            "" if finding.trial is None else str(finding.trial),
            Text(finding.problem),
            Text(f"done: {remedy}" if finding.is_repaired else remedy),
        )
    return table


def render_status(answer: Mapping[str, Any]) -> RenderableType:
    """Progress of a study and who runs it."""
    counts = answer["n_trials"]
    finished = sum(counts[state] for state in ("complete", "pruned", "failed"))
    lines = [
        f"study {answer['study']}: {finished} "
        + (f"of {answer['n_requested']} trials finished" if answer["n_requested"] else "trials finished"),
        ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "no trials yet",
    ]
    if answer["note"] is not None:
        lines.append(f"note: {answer['note']}")
    if answer["best"] is not None:
        best = answer["best"]
        lines.append(f"best {answer['objective']['metric']}: {number(best['value'])} (trial {best['trial']})")
    if answer["commonest_failure"] is not None:
        lines.append(answer["commonest_failure"])
    writer = answer["writer"]
    if writer is not None:
        lines.append(f"running in process {writer['pid']} on {writer['host']} since {writer['since']}")
    elif answer["n_requested"] > finished:
        lines.append(f"No sweep is running. Continue with: aifs-tune resume {answer['study']}")
    lines += [f"{notice['at']}  {notice['text']}" for notice in answer["notices"][-_NOTICES_SHOWN:]]
    if "job" in answer:
        lines.append(f"job {answer['job']['job']} {answer['job']['state']}: {answer['job']['message'] or 'no message'}")
    return Text("\n".join(lines))


def render_space(spec: SweepSpec) -> RenderableType:
    """Search space, objective and budget of a sweep file."""
    table = Table("parameter", "type", "range", "default", "when", "unit")
    for row in spec.space.rows():
        table.add_row(*(Text(cell) for cell in row))
    search = spec.search
    objective, *others = (each.model_dump() for each in spec.objectives)
    lines = [Text(f"{spec.name}: {_objectives_text(objective, others)}", style="bold")]
    if spec.description:
        lines.append(Text(spec.description.strip()))
    options = "".join(f" {key}={value}" for key, value in search.sampler.options.items())
    up_to = "" if search.last_epoch is None else f" of up to {search.epochs} epochs"
    foot = (
        f"trainer {spec.trainer.name if spec.trainer else 'none'}; sampler {search.sampler.name}{options}, scheduler "
        f"{search.scheduler}, {search.trials} trials{up_to}; a trial uses "
        f"{spec.resources.cpu:g} CPU and {_cell(spec.resources.gpu)} GPU"
    )
    if search.timeout_s is not None:
        foot += f"; stops after {duration(search.timeout_s)}"
    constraints = [Text(f"constraint: {constraint}") for constraint in spec.constraints]
    schedule = [_schedule_table([entry.model_dump() for entry in spec.replay])] if spec.replay else []
    return Group(*lines, table, *constraints, *map(Text, _of_instruments(spec)), *schedule, Text(foot))


def _of_instruments(spec: SweepSpec) -> Iterator[str]:
    """What else of a sweep file changes which configurations are proposed."""
    for name, parameter in spec.space.items():
        if isinstance(parameter, ChoiceParameter) and parameter.descriptors is not None:
            yield f"descriptors of {name}: {', '.join(parameter.descriptors)}"
    search = spec.search
    if search.shared:
        yield f"shared by the trials of a batch: {', '.join(search.shared)}"
    if search.cost is not None:
        total = f", expected to be {search.budget:g} in all" if search.budget is not None else ""
        yield f"cost of a trial: {search.cost}{total}"


def _objectives_text(objective: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> str:
    return " against ".join(f"{each['metric']} ({each['mode']})" for each in (objective, *others))


def _pairs(left: str, right: str, entries: Mapping[str, Any]) -> Table:
    table = Table(left, right)
    for name, value in entries.items():
        table.add_row(Text(name), Text(_cell(value)))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) else str(value)


_MAX_PAIRS = 5


def render_importance(
    importance: pandas.DataFrame, interactions: pandas.DataFrame, suggestions: pandas.DataFrame
) -> RenderableType:
    """Importances with intervals, the strongest interactions, and suggestions."""
    from aifs_tune.study.dataframe import table_rows

    parts: list[RenderableType] = []
    for objective, rows in _by_objective(importance):
        n, evaluator = rows[0]["n_trials"], rows[0]["evaluator"]
        table = Table("parameter", "importance", "95 % interval")
        for row in rows:
            table.add_row(row["parameter"], _share(row["importance"]), _interval(row))
        parts += [Text(f"{objective}: {evaluator}, {n} complete trials", style="bold"), table]
    for objective, rows in _by_objective(interactions):
        table = Table("parameters", "share", "95 % interval")
        for row in rows[:_MAX_PAIRS]:
            table.add_row(f"{row['first']}, {row['second']}", _share(row["share"]), _interval(row))
        more = f", the first {_MAX_PAIRS} of {len(rows)} pairs" if len(rows) > _MAX_PAIRS else ""
        parts += [Text(f"{objective}: interactions of two parameters{more}", style="bold"), table]
    if len(suggestions):
        table = Table("parameter", "suggestion", "evidence")
        for row in table_rows(suggestions):
            table.add_row(Text(row["parameter"] or ""), Text(row["text"]), Text(row["evidence"]))
        parts += [Text("suggestions", style="bold"), table]
    else:
        parts.append(Text(f"suggestions: {suggestions.attrs['remark']}"))
    return Group(*parts)


def render_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> RenderableType:
    """Rows as a table, unchanged."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(_table_cell(row[column])) for column in columns))
    return table


def _by_objective(table: pandas.DataFrame) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    from aifs_tune.study.dataframe import table_rows

    for objective in table["objective"].unique():
        yield str(objective), table_rows(table[table["objective"] == objective])


def _interval(row: dict[str, Any]) -> str:
    return f"{_share(row['low'])} to {_share(row['high'])}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _table_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) else str(value)


_SHOWN = 10


def render_confirmation(found: Confirmation) -> RenderableType:
    """Mean scores of the candidates and the comparisons with the baseline."""
    import numpy as np

    scores, objective = found.scores, found.study.spec.objective
    head = Text(f"{found.study.name}: {objective.metric} ({objective.mode}), {len(scores.splits)} splits of the data")
    table = Table("", f"mean {objective.metric}", "sd", "trainings", "configuration")
    tuned = [name for name, parameter in found.study.spec.space.items() if parameter.type != "fixed"]
    for each in found.candidates:
        values = scores.of(each.name)
        kept = values[np.isfinite(values)]
        table.add_row(
            each.name,
            number(float(kept.mean())) if len(kept) else "-",
            number(float(kept.std(ddof=1))) if len(kept) > 1 else "-",
            f"{len(kept)} of {len(values)}",
            Text(configuration(each.params, tuned)),
        )
    return Group(head, table, *(Text(comparison.text, style="bold") for comparison in found.comparisons))


def render_final_model(found: FinalModel) -> RenderableType:
    """Configurations and epochs of a final model, and the score to expect of it."""
    spec = found.study.spec
    tuned = [name for name, parameter in spec.space.items() if parameter.type != "fixed"]
    table = Table("", "epochs", "configuration")
    for each, epochs in zip(found.candidates, found.epochs, strict=True):
        table.add_row(each.name, str(epochs), Text(configuration(each.params, tuned)))
    n = found.n_members
    head = f"{found.study.name}: {n} model{'s' * (n > 1)}, trained on the training and validation sets together"
    parts: list[RenderableType] = [Text(head), table]
    if found.equal_members:
        text = "All members are the same model: nothing in their training is random. More seeds change nothing."
        parts.append(Text(text))
    if (expected := found.expected) is not None:
        ends = "" if expected.interval is None else f" [{number(expected.interval[0])}, {number(expected.interval[1])}]"
        level = "" if expected.interval is None else f" ({expected.confidence:.0%} interval)"
        text = f"expected {expected.metric}: {number(expected.mean)}{ends}{level}, from {expected.n} trainings of "
        parts.append(Text(f"{text}{expected.confirmation}", style="bold"))
    return Group(*parts)


def render_answers(answers: pandas.DataFrame) -> RenderableType:
    """Predictions of files, one row for each."""
    table = Table(*map(str, answers.columns))
    for row in answers.itertuples(index=False):
        table.add_row(*(Text(number(float(cell)) if not isinstance(cell, str) else cell) for cell in row))
    return table


def render_contributions(importance: Mapping[str, float], unit: str) -> RenderableType:
    """Mean absolute contributions of columns, the largest first."""
    table = Table("column")
    table.add_column(Text(f"mean absolute contribution{f' [{unit}]' if unit else ''}"))
    for name, value in list(importance.items())[:_COLUMNS_SHOWN]:
        table.add_row(Text(name), number(value))
    more = len(importance) - _COLUMNS_SHOWN
    return Group(table, Text(f"and {more} more columns: columns.csv")) if more > 0 else table


def render_columns(found: SelectedColumns) -> RenderableType:
    """Chosen groups of columns, the most frequent and important first."""
    table = Table("columns", "frequency", "importance", "sd")
    for group in found.chosen[:_COLUMNS_SHOWN]:
        more = len(group.columns) - _NAMES_SHOWN
        names = ", ".join(group.columns[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        table.add_row(Text(names), f"{group.frequency:.0%}", number(group.importance), number(group.importance_sd))
    more = len(found.chosen) - _COLUMNS_SHOWN
    return Group(table, Text(f"and {more} more groups: columns.csv")) if more > 0 else table


def render_test_results(found: HeldOutEvaluation) -> RenderableType:
    """Scores on the test set with intervals, the classification report and the confusion matrix."""
    n = len(found.predictions.rows)
    head = Text(f"test set: {n} examples that no trial used, predicted by {found.candidate}", style="bold")
    parts: list[RenderableType] = [head]
    classes = found.classes
    if classes is not None:
        table = Table("score", "value [95 %]")
        for name, estimate in classes.scores.items():
            table.add_row(name, str(estimate))
        confusion = Table("true, predicted as", *classes.classes)
        for name, row in zip(classes.classes, classes.confusion.tolist(), strict=True):
            confusion.add_row(name, *map(str, row))
        parts += [table, Text(classes.report.to_text()), confusion]
        parts += [_worst_classes(found, classes)] if classes.worst and found.files else []
    for target in found.values:
        table = Table("score", "value [95 %]", title=target.name, title_justify="left")
        for name, estimate in target.scores.items():
            table.add_row(f"{name} in {target.unit}" if target.unit and name != "r2" else name, str(estimate))
        parts.append(table)
        if found.files:
            worst = Table("largest errors", "true", "predicted", title=target.name, title_justify="left")
            for miss in target.worst[:_SHOWN]:
                worst.add_row(Text(found.files[miss.index]), number(miss.truth), number(miss.predicted))
            parts.append(worst)
    if found.groups is not None:
        parts.append(Text(f"The intervals resample whole groups; there are {len(set(found.groups))}."))
    return Group(*parts)


def _worst_classes(found: HeldOutEvaluation, classes: HeldOutClasses) -> Table:
    table = Table("largest errors", "true", "predicted", "probability", "probability of true")
    for one in classes.worst[:_SHOWN]:
        row = one.truth, one.predicted, f"{one.probability:.3f}", f"{one.probability_of_truth:.3f}"
        table.add_row(Text(found.files[one.index]), *row)
    return table


_PARTS = ("train", "val", "test")


def data_summary(prepared: Prepared) -> dict[str, Any]:
    """Sizes of the training, validation and test sets, fingerprint, findings and near duplicates of prepared data.

    Near duplicates between the sets are None if they were not looked for.
    """
    near = prepared.near_duplicates
    return {
        "fingerprint": prepared.fingerprint,
        "subsets": {part: _of_part(prepared, part) for part in _PARTS},
        "found": list(prepared.lines),
        "near_duplicates": None if near is None else near.to_json(),
        "columns": [dict(column) for column in prepared.columns],
    }


def _of_part(prepared: Prepared, part: str) -> dict[str, Any]:
    """Numbers of examples, of examples in each class and of groups; None if there are no groups."""
    files = prepared.files
    rows = {example: i for i, example in enumerate(files.example) if files.part[i] == part}.values()
    counts = Counter(label for i in rows if (label := files.label[i]) is not None)
    groups = {group for i in rows if (group := files.group[i]) is not None}
    return {"examples": len(rows), "classes": dict(sorted(counts.items())), "groups": len(groups) or None}


def render_data(prepared: Prepared) -> RenderableType:
    """Table of the sets, then the findings, then the fingerprint."""
    answer = data_summary(prepared)
    parts = answer["subsets"]
    table = Table("", *_PARTS)
    classes = sorted({name for part in parts.values() for name in part["classes"]})
    for name in classes[:_CLASSES_SHOWN]:
        table.add_row(Text(name), *(str(part["classes"].get(name, 0)) for part in parts.values()))
    if more := classes[_CLASSES_SHOWN:]:
        others = (str(sum(part["classes"].get(name, 0) for name in more)) for part in parts.values())
        table.add_row(f"{len(more)} more classes", *others)
    table.add_row("all", *(str(part["examples"]) for part in parts.values()), style="bold")
    if any(part["groups"] for part in parts.values()):
        table.add_row("groups", *(str(part["groups"] or 0) for part in parts.values()))
    told = [Text(line) for line in answer["found"] if not line.startswith(tuple(f"{part}: " for part in _PARTS))]
    near = prepared.near_duplicates
    if near is not None:
        told += [Text(f"  {pair}") for pair in near.worst[:_PAIRS_SHOWN]]
        if not near.n_pairs and not near.limits:
            told.append(Text("No near duplicates between the training, validation and test sets."))
    columns = [_columns_table(prepared.columns)] if prepared.columns else []
    frames = sum(each.row_count + _FRAME for each in (table, *columns))
    told = _most_important(told, max(_SCREEN - frames - 2, _LEAST_TOLD))
    return Group(table, *told, *columns, Text(f"fingerprint {prepared.fingerprint}"))


def _most_important(told: Sequence[Text], room: int) -> list[Text]:
    """The findings in so many lines of a screen, in their order: the first, warnings, what is left out, then others."""
    order = sorted(range(len(told)), key=lambda i: (_rank(told[i].plain) if i else 0, i))
    kept, n_lines = set[int](), 0
    for i in order:
        n_lines += -(-len(told[i]) // _SCREEN_WIDTH)
        if n_lines > room and kept:
            break
        kept.add(i)
    more = [Text(f"and {len(told) - len(kept)} more findings: --json lists all")] if len(kept) < len(told) else []
    return [*(told[i] for i in sorted(kept)), *more]


def _rank(line: str) -> int:
    if line.startswith("warning: "):
        return 1
    return 2 if line.startswith("left out: ") or line.endswith("count as missing") else 3


def _columns_table(columns: Sequence[Mapping[str, Any]]) -> Table:
    """What each column was taken for, those left out first; of many columns, one row for those that are alike."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for i, column in enumerate(sorted(columns, key=lambda column: column["left_out"] is None)):
        reason = (column["left_out"] or "").partition(" such as ")[0]
        key = (column["taken_for"], reason, column.get("unit")) if len(columns) > _COLUMNS_SHOWN else i
        groups.setdefault(key, []).append(column)
    what = "band" if any("of" in column for column in columns) else "column"
    table = Table(what, "taken for", "range", "missing", "left out because")
    for alike in list(groups.values())[:_COLUMNS_SHOWN]:
        lows, highs = ([c[end] for c in alike if c[end] is not None] for end in ("min", "max"))
        names = ", ".join(column["column"] or "(no name)" for column in alike[:_NAMES_SHOWN])
        more = f" and {len(alike) - _NAMES_SHOWN} more" if len(alike) > _NAMES_SHOWN else ""
        table.add_row(
            Text(names + more),
            Text(alike[0]["taken_for"]),
            f"{number(min(lows))} to {number(max(highs))} {alike[0].get('unit') or ''}".strip() if lows else "-",
            share_of(sum(column["missing"] for column in alike), sum(column.get("of") or 0 for column in alike)),
            Text((alike[0]["left_out"] or "").partition(";")[0]),
        )
    if len(groups) > _COLUMNS_SHOWN:
        n = sum(map(len, list(groups.values())[_COLUMNS_SHOWN:]))
        table.add_row(f"and {n} more", "", "", "", "")
    return table
