"""Verdict section of a report, and its best configuration."""

from __future__ import annotations

import json

from aifs_tune.analysis.confirmation import Confirmation
from aifs_tune.analysis.paired import Comparison
from aifs_tune.publishing.remarks import remarks_on
from aifs_tune.publishing.report.blocks import Code, Paragraph, ReportBlock, ReportSection, Table
from aifs_tune.publishing.report.context import ReportContext, n_finished
from aifs_tune.publishing.report.formatting import DASH, count, cut, listed, sentence, shown, times
from aifs_tune.publishing.summary import best_summary
from aifs_tune.space.search_space import fixed_entry


def verdict_section(context: ReportContext) -> ReportSection:
    """Whether the result is confirmed and by how much, and the score of the best configuration."""
    found = context.confirmation
    blocks: list[ReportBlock] = [
        Paragraph(unconfirmed_text(context) if found is None else confirmed_text(found), "verdict")
    ]
    blocks.append(Paragraph(_best_text(context)))
    if context.study.note is not None:
        blocks.append(Paragraph(f"Note of the study: {context.study.note}", "note"))
    blocks += [Paragraph(f"Note of trial {n}: {text}", "note") for n, text in context.study.trial_notes.items()]
    blocks += [Paragraph(f"{text}.", "note") for text in remarks_on(context.study).texts]
    if found is None:
        blocks += _how_to_confirm(context)
    else:
        blocks += [Paragraph(text, "note") for text in caveats(context, found)]
    if context.tested is not None:
        blocks.append(Paragraph(test_set_text(context)))
    return ReportSection("Verdict", tuple(blocks))


def best_confirmed(found: Confirmation) -> Comparison | None:
    """The largest confirmed improvement over the baseline; None if no configuration is significantly better."""
    better = [each for each in found.comparisons if each.verdict == "better"]
    return max(better, key=lambda each: each.difference or 0.0, default=None)


def confirmed_text(found: Confirmation) -> str:
    """Verdict of a confirmation in words; the largest confirmed improvement, if there is one."""
    better = best_confirmed(found)
    n = count(len(found.scores.splits), "fresh split")
    metric = found.scores.metric
    if better is not None:
        return f"Confirmed in {metric} on {n} of the data. {sentence(_as_clause(better))}"
    if all(each.verdict == "not tested" for each in found.comparisons):
        reason = sentence(_as_clause(found.comparisons[0]))
        return f"Not confirmed: the difference in {metric} could not be tested. {reason}"
    leader = next((each for each in found.comparisons if each.name == found.leader.name), found.comparisons[0])
    return (
        f"Not confirmed: no configuration is significantly better than the baseline in {metric}, on {n} of the data. "
        f"{sentence(_as_clause(leader))}"
    )


def test_set_text(context: ReportContext) -> str:
    """Scores on the test set, in a sentence."""
    tested = context.tested
    assert tested is not None
    found = context.test_set_classes
    scores_of_targets = [
        f"{cut(each.name)}: R² {each.scores['r2']}, mean absolute error {each.scores['mae']}"
        f"{f' {each.unit}' if each.unit else ''}"
        for each in tested.values
    ]
    if found is None:
        return f"On the test set, {tested.candidate} has these scores (95 % intervals): {'; '.join(scores_of_targets)}."
    text = (
        f"On the test set ({count(found.n, 'example')} that no trial has seen), {tested.candidate} has a macro F1 of "
        f"{found.scores['macro_f1']} and an accuracy of {found.scores['accuracy']} (95 % intervals)."
    )
    return f"{text} Of the numbers: {'; '.join(scores_of_targets)}." if scores_of_targets else text


def _as_clause(comparison: Comparison) -> str:
    return comparison.text.replace(": ", " is ", 1) if ": not compared" not in comparison.text else comparison.text


def unconfirmed_text(context: ReportContext) -> str:
    """Why the value of the best trial alone is no verdict."""
    n = len(context.of_state("complete"))
    if n == 1:
        return "Not confirmed yet. Only one trial is complete, and one score does not show how much of it is chance."
    return (
        f"Not confirmed yet. The value of the best of {count(n, 'complete trial')} is optimistic, because the trial "
        "was selected by this value."
    )


def _how_to_confirm(context: ReportContext) -> list[ReportBlock]:
    study = context.study
    if study.spec.trainer is None:
        repeats = context.best.replicates
        measured = (
            f"The best configuration was measured {times(len(repeats.trials))}: {repeats.mean:.4g} ± "
            f"{repeats.standard_error:.2g} (standard error). "
            if repeats is not None
            else ""
        )
        return [
            Paragraph(
                f"{measured}Measure the best configuration and the one in use now again, a few times each, on fresh "
                "samples. Then compare them. This command says whether more trials are worthwhile:"
            ),
            Code(f"aifs-tune recommend {study.name}", "text"),
        ]
    if study.spec.cross_validation is not None:
        return [Paragraph("The study already compares its trials over several splits of the data.")]
    test = "" if context.tested is not None or study.spec.data is None else " --test"
    return [
        Paragraph(
            "This command trains the best trials and the baseline again with fresh seeds and splits, and compares them:"
        ),
        Code(f"aifs-tune confirm {study.name} --top 3 --folds 5 --repeats 2{test}", "text"),
    ]


def _best_text(context: ReportContext) -> str:
    best, objective = context.best, context.objective
    where = f" at epoch {best.epoch} of {best.epochs}" if best.epoch is not None else ""
    word = "highest" if context.is_better_high else "lowest"
    text = (
        f"Of {count(n_finished(context), 'finished trial')}, trial {best.number} has the {word} {objective.metric}: "
        f"{shown(best.value)}{where}."
    )
    others = context.study.spec.trade_off
    if others:
        n = len(context.study.front)
        text += (
            f" {context.objective.metric} is traded off against {listed(each.metric for each in others)}. "
            f"{count(n, 'trial')} {'is' if n == 1 else 'are'} on the Pareto front: no other trial is better in all "
            "objectives."
        )
    if context.measured_noise is not None:
        sd, source = context.measured_noise
        text += f" The noise of one measurement is {sd:.2g} (standard deviation, from {source})."
    return text


def caveats(context: ReportContext, found: Confirmation) -> list[str]:
    """What limits the verdict of a confirmation: repeated confirmations, failed runs, and another best trial now."""
    notes = []
    if len(context.confirmations) > 1:
        notes.append(
            f"There were {len(context.confirmations)} confirmations. This verdict is from the newest. Repeating "
            "confirmations until one succeeds is itself a search, and its result can be chance."
        )
    n_missing = int(sum((values != values).sum() for values in map(found.scores.of, found.scores.values)))
    if n_missing:
        n_all = len(found.scores.splits) * len(found.candidates)
        notes.append(f"{n_missing} of {count(n_all, 'training run')} of the confirmation failed or have not finished.")
    if all(each.params != dict(context.best.params) for each in found.candidates):
        notes.append(f"Trial {context.best.number}, the best trial now, is not part of this confirmation.")
    return notes


def best_section(context: ReportContext) -> ReportSection:
    """The best configuration with units and ranges, and as part of a sweep file."""
    summary = best_summary(context.study)
    params, rows = summary["params"], []
    for row in context.study.spec.space.rows():
        value = shown(params[row.name]) if row.name in params else "inactive"
        allowed = DASH if row.type == "fixed" else cut(row.range)
        rows.append((cut(row.name), cut(value), cut(row.unit) or DASH, allowed, cut(row.default) or DASH))
    table = Table(
        f"The best configuration (trial {context.best.number}), with the range and the default of each parameter.",
        ("parameter", "best", "unit", "range", "default"),
        tuple(rows),
        "lrlll",
    )
    blocks: list[ReportBlock] = [
        table,
        Paragraph("The same configuration for a sweep file:"),
        Code(_snippet(summary), "yaml"),
    ]
    if set(context.best.metrics) - {each.metric for each in context.study.spec.objectives}:
        metrics = tuple((cut(name), shown(value)) for name, value in sorted(context.best.metrics.items()))
        caption = f"All metrics of trial {context.best.number}" + (
            f" at epoch {context.best.epoch}." if context.best.epoch is not None else "."
        )
        blocks.insert(1, Table(caption, ("metric", "value"), metrics, "lr"))
    if context.study.spec.trade_off:
        blocks.append(_front_table(context))
    return ReportSection("Best configuration", tuple(blocks))


def _snippet(summary: dict[str, object]) -> str:
    """``space`` of a sweep file, and ``replay`` if parameters changed during training; JSON scalars are valid YAML."""
    params, replay = summary["params"], summary.get("replay")
    assert isinstance(params, dict)
    entries = {name: fixed_entry(value) for name, value in params.items()}
    lines = ["space:", *(f"  {name}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in entries.items())]
    if isinstance(replay, list):
        lines += ["replay:", *(f"  - {json.dumps(entry, ensure_ascii=False)}" for entry in replay)]
    return "\n".join(lines)


def _front_table(context: ReportContext) -> Table:
    objectives, tuned = context.study.spec.objectives, context.tuned
    front = context.study.front[:20]
    rows = tuple(
        (
            str(trial.number),
            *(shown(trial.values.get(each.metric)) for each in objectives),
            *(cut(shown(trial.coded_params.get(name)), 24) for name in tuned[:6]),
        )
        for trial in front
    )
    header = ("trial", *(f"{each.metric} ({each.mode})" for each in objectives), *(cut(name) for name in tuned[:6]))
    whole = len(context.study.front)
    caption = "The Pareto front: no other trial is better in all objectives" + (
        f". The first {len(front)} of {count(whole, 'trial')}."
        if whole > len(front)
        else f". n = {count(whole, 'trial')}."
    )
    return Table(caption, header, rows, "r" * len(header))
