"""The methods paragraph of a paper, with the numbers of this study."""

from __future__ import annotations

from aifs_tune._util.formatting import duration
from aifs_tune.analysis.bootstrap import Resampling
from aifs_tune.analysis.confirmation import Confirmation
from aifs_tune.config.cross_validation import SIZES
from aifs_tune.config.data import DataSpec
from aifs_tune.publishing.report.blocks import Paragraph, ReportBlock, ReportSection, Table
from aifs_tune.publishing.report.citations import SAMPLER, SCHEDULER, cited
from aifs_tune.publishing.report.context import ReportContext, n_finished
from aifs_tune.publishing.report.formatting import DASH, count, cut, listed, sentence, shown, times
from aifs_tune.study.trial import FINAL

ENVIRONMENT = "environment"
"""Fact of a study: what its trials ran on, if that was recorded."""


def methods_section(context: ReportContext) -> ReportSection:
    """Paragraphs on the search, the data and the evaluation, and the space as a table."""
    texts = (_search_text(context), _data_text(context), _evaluation_text(context), _software_text(context))
    blocks: list[ReportBlock] = [Paragraph(text) for text in texts if text]
    return ReportSection("Methods", (*blocks, space_table(context)))


def space_table(context: ReportContext) -> Table:
    """What was searched."""
    rows = tuple(
        (cut(row.name), row.type, cut(row.range, 90), cut(row.unit) or DASH, cut(row.condition, 90) or DASH)
        for row in context.study.spec.space.rows()
        if row.type != "fixed"
    )
    n_fixed = len(context.study.spec.space) - len(rows)
    rest = f" {count(n_fixed, 'other parameter')} had the same value in all trials." if n_fixed else ""
    return Table(
        f"The {count(len(rows), 'parameter')} searched.{rest}",
        ("parameter", "type", "range", "unit", "active where"),
        rows,
        "lllll",
    )


def _search_text(context: ReportContext) -> str:
    spec, counts = context.study.spec, context.counts
    word = "highest" if context.is_better_high else "lowest"
    what = f"the trainer {spec.trainer.name}" if spec.trainer is not None else "an instrument"
    goal = f"the {word} {spec.objective.metric}"
    if spec.trade_off:
        others = listed(f"the {'highest' if each.mode == 'max' else 'lowest'} {each.metric}" for each in spec.trade_off)
        goal += f" against {others}"
    is_measured_once = spec.trainer is None and not any(trial.epochs > 1 for trial in context.trials)
    sampler, keys = SAMPLER.get(spec.search.sampler, ("a sampler of the lab's own", ()))
    if is_measured_once:
        sampler = sampler.replace(" over configurations and epochs", "")
    text = (
        f"{count(len(context.tuned), 'parameter')} of {what} {'was' if len(context.tuned) == 1 else 'were'} searched "
        f"for {goal} with aifs_tune. Configurations were proposed by {sampler} (sampler {spec.search.sampler}, seed "
        f"{spec.search.seed}){cited(keys)}"
    )
    if spec.constraints or spec.mixtures or spec.limits or spec.exclude:
        text += _constraints_text(context)
    words = {"complete": "complete", "pruned": "stopped early", "failed": "failed"}
    states = listed(f"{n:,} {words[state]}" for state, n in counts.items() if n and state in FINAL)
    return f"{text}. {count(n_finished(context), 'trial')} ended: {states}.{_training_text(context)}"


def _constraints_text(context: ReportContext) -> str:
    spec = context.study.spec
    parts = [str(constraint) for constraint in spec.constraints]
    parts += [f"{' + '.join(each.components)} = {shown(each.total)}" for each in spec.mixtures]
    parts += [f"the measured {limit}" for limit in spec.limits]
    if spec.exclude:
        parts.append(count(len(spec.exclude), "exclusion"))
    return f", held to {listed(cut(part, 80) for part in parts)}"


def _training_text(context: ReportContext) -> str:
    spec, trials = context.study.spec, context.trials
    text, epochs = "", sum(trial.epochs for trial in trials)
    if spec.trainer is not None:
        text += f" A trial trained for up to {count(spec.search.epochs, 'epoch')}; its value is that of its best epoch."
        if spec.search.scheduler in SCHEDULER:
            said, keys = SCHEDULER[spec.search.scheduler]
            text += f" Trials were {said} (scheduler {spec.search.scheduler}){cited(keys)}."
        else:
            text += " No trial was stopped early."
    seconds = sum(trial.seconds or 0.0 for trial in trials)
    if epochs and seconds:
        text += f" {count(epochs, 'epoch')} took {duration(seconds)} in all"
        workers = {trial.worker for trial in trials if trial.worker}
        if workers and spec.trainer is not None:
            hosts = {worker.rpartition(":")[0] for worker in workers}
            text += (
                f", by {count(len(workers), 'worker')} on {count(len(hosts), 'machine')} under Ray Tune "
                f"{cited(('liaw2018',)).strip()}"
            )
        text += "."
    if spec.search.replicates > 1:
        text += f" Each configuration was measured {spec.search.replicates} times."
    return text + _dates_text(context)


def _dates_text(context: ReportContext) -> str:
    began = [trial.started_at for trial in context.trials if trial.started_at]
    ended = [trial.finished_at for trial in context.trials if trial.finished_at]
    if not began or not ended:
        return ""
    first, last = min(began), max(ended)
    if first.date() == last.date():
        return f" The trials ran on {first:%Y-%m-%d} (UTC)."
    return f" The trials ran from {first:%Y-%m-%d} to {last:%Y-%m-%d} (UTC)."


def _data_text(context: ReportContext) -> str:
    spec, data = context.study.spec, context.data
    if spec.data is None:
        return ""
    text = f"The data were divided {_split_text(spec.data)}"
    if data is not None:
        parts = (f"{data.sizes[part]:,} {word}" for part, word in _PARTS.items() if data.sizes.get(part))
        text += f": {listed(parts)}."
    elif context.data_problem:
        text += f". How many examples each part has is not known here: {context.data_problem}."
    else:
        text += "."
    if spec.trainer is not None and spec.trainer.folds > 1:
        text += (
            f" An epoch of a trial was measured as the mean over {spec.trainer.folds} folds of all that is not the "
            "test part, on each of which a model of the same configuration was trained beside."
        )
    if spec.data.simulate is not None and spec.data.folder is None and data is not None and data.kind == "images":
        text += (
            f" They are simulated: {count(spec.data.simulate.images, 'image')} of {spec.data.simulate.size} px, seed "
            f"{spec.data.simulate.seed}."
        )
    if context.study.fingerprint:
        text += f" Their fingerprint, of content, labels and division, is {context.study.fingerprint[:16]}."
    return text


_PARTS = {"train": "to train", "val": "to validate", "test": "to test"}


def _split_text(data: DataSpec) -> str:
    given = next((each.part for each in (data.table, data.frames) if each is not None and each.part), None)
    if given:
        return f"as their column {cut(given)} says"
    groups = data.group_by or next((each.group for each in (data.table, data.frames) if each and each.group), None)
    given_parts = "" if data.folder is None else ", where the folder has no parts of its own"
    text = (
        f"at random (seed {data.split.seed}) into parts to train, validate ({100 * data.split.val:g} %) and test "
        f"({100 * data.split.test:g} %), each class alike{given_parts}"
    )
    return text + (f", groups ({cut(groups, 80)}) kept together" if groups else "")


def _evaluation_text(context: ReportContext) -> str:
    texts, noise = [], context.noise
    if noise is not None:
        texts.append(
            f"The noise floor, the scatter of {noise.metric} of the default configuration over "
            f"{count(noise.n, 'training')} on other seeds and divisions, is {noise.sd:.2g} (standard deviation); as "
            f"many trainings tell apart configurations that differ by about {noise.smallest:.2g}."
        )
    if context.confirmation is not None:
        texts.append(_confirmation_text(context.confirmation))
    if context.tested is not None:
        texts.append(
            f"Then {context.tested.candidate} was trained once more and its best epoch answered the test part, which "
            f"nothing had seen before, once. Intervals of its scores are from {Resampling().n_draws:,} bootstrap draws"
            f"{cited(('efron1993',))}"
            + (
                f", calibration is judged in bins of confidence{cited(('naeini2015',))}"
                * (context.test_set_classes is not None)
            )
            + "."
        )
    return " ".join(texts)


def _confirmation_text(found: Confirmation) -> str:
    cv = found.study.spec.cross_validation
    assert cv is not None
    names = listed(each.name for each in found.candidates)
    text = f"To confirm, {names} were trained again on fresh seeds, "
    if cv.folds > 1:
        among = "the training part alone" if cv.measures_folds else "all that is not the test part"
        text += f"{times(cv.repeats)} on {cv.folds} folds of {among}, the same for all"
        sizes = found.study.fact(SIZES) or []
        if sizes:
            text += f" (about {sizes[0][0]:,} examples to train and {sizes[0][1]:,} to measure)"
    else:
        text += f"{times(cv.repeats)} on the same division"
    alpha = next((each.alpha for each in found.comparisons), 0.05)
    return (
        f"{text}. Scores were compared in pairs with the corrected resampled t test{cited(('nadeau2003',))}, two-sided "
        f"at {100 * alpha:g} % for the family by Holm's procedure{cited(('holm1979',))}; Wilcoxon's signed-rank test"
        f"{cited(('wilcoxon1945',))} is given beside it and decides nothing."
    )


def _software_text(context: ReportContext) -> str:
    found = context.study.fact(ENVIRONMENT)
    if not isinstance(found, dict):
        return ""
    packages = found.get("packages")
    told = [f"{cut(str(key))} {cut(str(value))}" for key, value in sorted(found.items()) if isinstance(value, str)]
    if isinstance(packages, dict):
        told += [f"{cut(str(name))} {cut(str(version))}" for name, version in sorted(packages.items())]
    return sentence(f"Recorded environment: {listed(told)}") if told else ""
