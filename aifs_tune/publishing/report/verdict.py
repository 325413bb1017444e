"""What a reader should take away: the verdict in words, and the best configuration."""

from __future__ import annotations

import json

from aifs_tune.analysis.confirmation import Confirmation
from aifs_tune.analysis.paired import Comparison
from aifs_tune.publishing.report.blocks import Code, Paragraph, ReportBlock, ReportSection, Table
from aifs_tune.publishing.report.context import ReportContext, n_finished
from aifs_tune.publishing.report.formatting import DASH, count, cut, listed, sentence, shown, times
from aifs_tune.publishing.summary import best_summary


def verdict_section(context: ReportContext) -> ReportSection:
    """Whether the result is confirmed and by how much, and how the best configuration fared."""
    found = context.confirmation
    blocks: list[ReportBlock] = [
        Paragraph(_unconfirmed(context) if found is None else confirmed_text(found), "verdict")
    ]
    blocks.append(Paragraph(_best_text(context)))
    if found is None:
        blocks += _how_to_confirm(context)
    else:
        blocks += [Paragraph(text, "note") for text in _caveats(context, found)]
    if context.tested is not None:
        blocks.append(Paragraph(test_set_text(context)))
    return ReportSection("Verdict", tuple(blocks))


def confirmed_text(found: Confirmation) -> str:
    """What a confirmation says, the strongest statement first."""
    better = [each for each in found.comparisons if each.verdict == "better"]
    n = count(len(found.scores.splits), "fresh division")
    metric = found.scores.metric
    if better:
        first = max(better, key=lambda each: each.difference or 0.0)
        return f"Confirmed in {metric}, over {n} of the data: {sentence(_as_clause(first))}"
    if all(each.verdict == "not tested" for each in found.comparisons):
        reason = sentence(_as_clause(found.comparisons[0]))
        return f"Not confirmed: the confirmation could not be tested in {metric}. {reason}"
    leader = next((each for each in found.comparisons if each.name == found.leader.name), found.comparisons[0])
    return (
        f"Not confirmed: in {metric}, over {n} of the data, no configuration is better than the baseline beyond "
        f"chance. {sentence(_as_clause(leader))}"
    )


def test_set_text(context: ReportContext) -> str:
    """The score of the test part, in a sentence."""
    tested = context.tested
    assert tested is not None
    found = context.test_set_classes
    if found is not None:
        scores = found.scores
        return (
            f"On the test part, {count(found.n, 'example')} that no trial saw, {tested.candidate} has a "
            f"macro F1 of {scores['macro_f1']} and an accuracy of {scores['accuracy']} (95 % intervals)."
        )
    told = [
        f"{cut(each.name)}: R² {each.scores['r2']}, mean absolute error {each.scores['mae']}"
        f"{f' {each.unit}' if each.unit else ''}"
        for each in tested.values
    ]
    return f"On the test part, answered by {tested.candidate} (95 % intervals): {'; '.join(told)}."


def _as_clause(comparison: Comparison) -> str:
    return comparison.text.replace(": ", " is ", 1) if ": not compared" not in comparison.text else comparison.text


def _unconfirmed(context: ReportContext) -> str:
    n = len(context.of_state("complete"))
    if n == 1:
        return "Not confirmed yet: one trial is complete, and a single score says nothing of its luck."
    return (
        f"Not confirmed yet: the best of {count(n, 'complete trial')} looks better than it is, because it was chosen "
        "by the same score that it is judged by here."
    )


def _how_to_confirm(context: ReportContext) -> list[ReportBlock]:
    study = context.study
    if study.spec.trainer is None:
        repeats = context.best.replicates
        measured = (
            f"Its configuration was measured {times(len(repeats.trials))}: {repeats.mean:.4g} ± "
            f"{repeats.standard_error:.2g} (standard error). "
            if repeats is not None
            else ""
        )
        return [
            Paragraph(
                f"{measured}Measure this configuration and the one in use now again, a few times each, on fresh "
                "samples, and compare. Whether more trials are worth it says:"
            ),
            Code(f"aifs-tune recommend {study.name}", "text"),
        ]
    if study.spec.cross_validation is not None:
        return [Paragraph("Its trials are compared over divisions of the data already.")]
    test = "" if context.tested is not None or study.spec.data is None else " --test"
    return [
        Paragraph("To train the best ones and the baseline again on fresh seeds and divisions, and compare them:"),
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
            f" It is weighed against {listed(each.metric for each in others)}: {count(n, 'trial')} "
            f"{'is' if n == 1 else 'are'} on the Pareto front, where none is better in everything."
        )
    if context.measured_noise is not None:
        sd, learnt = context.measured_noise
        text += f" One and the same configuration scatters by {sd:.2g} (standard deviation, known from {learnt})."
    return text


def _caveats(context: ReportContext, found: Confirmation) -> list[str]:
    notes = []
    if len(context.confirmations) > 1:
        notes.append(
            f"There were {len(context.confirmations)} confirmations, and the newest is quoted. A search that is "
            "repeated until a confirmation succeeds is a search over confirmations."
        )
    n_missing = int(sum((values != values).sum() for values in map(found.scores.of, found.scores.values)))
    if n_missing:
        n_all = len(found.scores.splits) * len(found.candidates)
        notes.append(f"{n_missing} of {count(n_all, 'training')} of the confirmation failed or have not ended.")
    if all(each.params != dict(context.best.params) for each in found.candidates):
        notes.append(f"Trial {context.best.number}, the best by now, is not among the confirmed.")
    return notes


def best_section(context: ReportContext) -> ReportSection:
    """The best configuration with units and ranges, and as a part of a sweep file."""
    answer = best_summary(context.study)
    params, rows = answer["params"], []
    for row in context.study.spec.space.rows():
        value = shown(params[row.name]) if row.name in params else "not active"
        allowed = DASH if row.type == "fixed" else cut(row.range)
        rows.append((cut(row.name), cut(value), cut(row.unit) or DASH, allowed, cut(row.default) or DASH))
    table = Table(
        f"The best configuration, trial {context.best.number}, and what was allowed.",
        ("parameter", "best", "unit", "allowed", "default"),
        tuple(rows),
        "lrlll",
    )
    blocks: list[ReportBlock] = [
        table,
        Paragraph("The same as the space of a sweep file:"),
        Code(_snippet(answer), "yaml"),
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


def _snippet(answer: dict[str, object]) -> str:
    """``space``, and where parameters changed while it trained ``replay``; JSON scalars are YAML."""
    params, replay = answer["params"], answer.get("replay")
    assert isinstance(params, dict)
    lines = ["space:", *(f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in params.items())]
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
            *(cut(shown(trial.params.get(name)), 24) for name in tuned[:6]),
        )
        for trial in front
    )
    header = ("trial", *(f"{each.metric} ({each.mode})" for each in objectives), *(cut(name) for name in tuned[:6]))
    whole = len(context.study.front)
    caption = "The Pareto front: trials that none is better than in everything" + (
        f", the first {len(front)} of {whole}." if whole > len(front) else f", n = {whole}."
    )
    return Table(caption, header, rows, "r" * len(header))
