"""Methods section of a report: text for a paper with the numbers of the study, and the search space."""

from __future__ import annotations

import json
from itertools import accumulate

from aifs_tune._util.formatting import duration, share_of
from aifs_tune.analysis.bootstrap import Resampling
from aifs_tune.analysis.candidates import BASELINE
from aifs_tune.analysis.confirmation import Confirmation
from aifs_tune.analysis.final_model import FinalModel
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.config.cross_validation import SIZES
from aifs_tune.config.data import COLUMNS, DIVISION
from aifs_tune.errors import AifsTuneError
from aifs_tune.publishing.report.blocks import Paragraph, ReportBlock, ReportSection, Table
from aifs_tune.publishing.report.citations import SAMPLER, SCHEDULER, cited
from aifs_tune.publishing.report.context import ReportContext, n_finished
from aifs_tune.publishing.report.formatting import DASH, count, cut, listed, sentence, shown, times
from aifs_tune.study.similarity import DATA_FACTS
from aifs_tune.study.trial import FINAL
from aifs_tune.trainers.checkpoint import WEIGHTS_NAME

ENVIRONMENT = "environment"
"""Fact of a study: the recorded software and hardware of its trials."""


MAX_COLUMN_ROWS = 40
"""Largest number of columns of the data that are shown."""


def methods_section(context: ReportContext) -> ReportSection:
    """Paragraphs about the search, the data and the evaluation, and the search space as a table."""
    texts = (_search_text(context), _data_text(context), _evaluation_text(context), _software_text(context))
    blocks: list[ReportBlock] = [Paragraph(text) for text in texts if text]
    columns = columns_table(context)
    return ReportSection("Methods", (*blocks, space_table(context), *([] if columns is None else [columns])))


def columns_table(context: ReportContext) -> Table | None:
    """What each column or band of the data was taken for, as the sweep recorded it; None without data."""
    found = context.study.fact(COLUMNS)
    if not found:
        return None
    rows = tuple(
        (
            cut(each["column"] or "(no name)"),
            each["taken_for"],
            DASH if each["min"] is None else f"{each['min']:.4g} to {each['max']:.4g} {each.get('unit') or ''}".strip(),
            share_of(each["missing"], each.get("of")),
            cut(each["left_out"] or "", 90) or "used",
        )
        for each in found["columns"][:MAX_COLUMN_ROWS]
    )
    more = found["n"] - len(rows)
    is_images = any("of" in each for each in found["columns"])
    what = "band" if is_images else "column"
    rest = f" {count(more, f'more {what}')} {'is' if more == 1 else 'are'} not shown." if more else ""
    data = "images" if is_images else "data"
    caption = f"{what.capitalize()}s of the {data}, and what each was taken for.{rest}"
    return Table(caption, (what, "taken for", "range", "missing", "use"), rows, "llrrl")


def space_table(context: ReportContext) -> Table:
    """The searched parameters with type, range, unit and condition."""
    rows = tuple(
        (cut(row.name), row.type, cut(row.range, 90), cut(row.unit) or DASH, cut(row.condition, 90) or DASH)
        for row in context.study.spec.space.rows()
        if row.type != "fixed"
    )
    n_fixed = len(context.study.spec.space) - len(rows)
    rest = f" {count(n_fixed, 'other parameter')} {'was' if n_fixed == 1 else 'were'} fixed." if n_fixed else ""
    return Table(
        f"Search space of {count(len(rows), 'parameter')}.{rest}",
        ("parameter", "type", "range", "unit", "active when"),
        rows,
        "lllll",
    )


def _search_text(context: ReportContext) -> str:
    spec, counts = context.study.spec, context.counts
    what = f"the trainer {spec.trainer.name}" if spec.trainer is not None else "an instrument"
    goal = listed(f"{'maximise' if each.mode == 'max' else 'minimise'} {each.metric}" for each in spec.objectives)
    is_measured_once = spec.trainer is None and not any(trial.epochs > 1 for trial in context.trials)
    sampler, keys = SAMPLER.get(spec.search.sampler.name, ("a custom sampler", ()))
    if is_measured_once:
        sampler = sampler.replace(" over configurations and epochs", "")
    options = "".join(f", {key} {value}" for key, value in spec.search.sampler.options.items())
    named = f"{spec.search.sampler.name}{options}"
    text = (
        f"{count(len(context.tuned), 'parameter')} of {what} {'was' if len(context.tuned) == 1 else 'were'} tuned to "
        f"{goal} with aifs_tune. Configurations were proposed by {sampler} (sampler {named}, "
        f"seed {spec.search.seed}){cited(keys)}"
    )
    if spec.constraints or spec.mixtures or spec.limits or spec.exclude:
        text += _constraints_text(context)
    words = {"complete": "complete", "pruned": "stopped early", "failed": "failed"}
    states = listed(f"{n:,} {words[state]}" for state, n in counts.items() if n and state in FINAL)
    return f"{text}. {count(n_finished(context), 'trial')} finished: {states}.{_training_text(context)}"


def _constraints_text(context: ReportContext) -> str:
    spec = context.study.spec
    parts = [str(constraint) for constraint in spec.constraints]
    parts += [f"{' + '.join(each.components)} = {shown(each.total)}" for each in spec.mixtures]
    parts += [f"the measured {limit}" for limit in spec.limits]
    if spec.exclude:
        parts.append(count(len(spec.exclude), "exclusion"))
    return f", subject to {listed(cut(part, 80) for part in parts)}"


def _training_text(context: ReportContext) -> str:
    spec, trials = context.study.spec, context.trials
    text, epochs = "", sum(trial.epochs for trial in trials)
    if spec.trainer is not None:
        if spec.search.last_epoch is None:
            text += " Each trial went on until its code ended it; its value is what the code returned."
        else:
            most = count(spec.search.epochs, "epoch")
            text += f" Each trial trained for up to {most}; its value is that of its best epoch."
        text += _endings_text(context)
        text += _settings_text(context)
    seconds = sum(trial.seconds or 0.0 for trial in trials)
    if epochs and seconds:
        text += f" {count(epochs, 'epoch')} took {duration(seconds)} in total"
        workers = {trial.worker for trial in trials if trial.worker}
        if workers and spec.trainer is not None:
            hosts = {worker.rpartition(":")[0] for worker in workers}
            text += (
                f", with {count(len(workers), 'worker')} on {count(len(hosts), 'machine')} under Ray Tune "
                f"{cited(('liaw2018',)).strip()}"
            )
        text += "."
    if spec.search.replicates > 1:
        text += f" Each configuration was measured {spec.search.replicates} times."
    return text + _repeatability_text(context) + _dates_text(context)


def _endings_text(context: ReportContext) -> str:
    """What ended the trials, of those that did not fail."""
    spec, trials = context.study.spec, context.trials
    search, complete = spec.search, [trial for trial in trials if trial.state == "complete" and trial.epochs]
    n_short, n_stopped = sum(t.epochs < search.epochs for t in complete), sum(t.state == "pruned" for t in trials)
    text = ""
    if len(complete) > n_short:
        text += f" {count(len(complete) - n_short, 'trial')} trained to the last epoch."
    if n_short and spec.trainer is not None and spec.trainer.patience is not None:
        waited = count(spec.trainer.patience, "epoch")
        text += f" {count(n_short, 'trial')} ended after {waited} without a better value (patience)."
    elif n_short and search.last_epoch is not None:
        text += f" {count(n_short, 'trial')} ended earlier by {'itself' if n_short == 1 else 'themselves'}."
    if search.scheduler == "pbt":
        action, keys = SCHEDULER["pbt"]
        text += f" The trials {action} (scheduler pbt){cited(keys)}."
    elif n_stopped:
        action, keys = SCHEDULER.get(search.scheduler, ("stopped early", ()))
        were = "was" if n_stopped == 1 else "were"
        text += f" {count(n_stopped, 'trial')} {were} {action} (scheduler {search.scheduler}){cited(keys)}."
    elif search.scheduler != "none":
        text += f" The scheduler {search.scheduler} stopped no trial."
    return text


def _settings_text(context: ReportContext) -> str:
    """What the trainer was, and settings that were the same for all trials."""
    trainer = context.study.spec.trainer
    if trainer is None or trainer.name not in NETWORKS:
        return ""
    what = NETWORKS[trainer.name] + (f" of {trainer.model}" if trainer.model is not None else "")
    text = f" The trainer {trainer.name} is {what}{cited(_LIBRARIES.get(trainer.name, _OF_NETWORKS))}."
    data = context.study.fact(DATA_FACTS)
    if data and data.get("classes"):
        loss = "focal loss" if "focal_gamma" in context.study.spec.space else "cross-entropy"
        text += (
            f" The loss was the {loss}, with examples weighted inversely to the frequency of their class."
            if trainer.class_weights == "balanced"
            else f" The loss was the {loss}, with the same weight for all examples."
        )
        if context.study.spec.data is not None and (numbers := context.study.spec.data.targets(data["kind"])):
            text += f" To it the loss of {listed(map(cut, numbers))} was added, in units of their spread."
    elif data and "loss" not in context.study.spec.space:
        text += " The loss was the mean squared error, in units of the spread of each target."
    if trainer.name != "boosting" and (precision := _precision_of(context, trainer.precision)) is not None:
        text += f" Convolutions and dense layers were computed in {_PRECISIONS.get(precision, precision)}."
    return text


_PRECISIONS = {"mixed_bfloat16": "bfloat16, with weights in float32 (mixed_bfloat16)"}


def _precision_of(context: ReportContext, asked: str) -> str | None:
    """The precision that was asked for, or for ``auto`` that in which the best trial was computed; None if unknown."""
    if asked != "auto":
        return asked
    try:
        weights = kept_weights(context.study, context.best)
        facts = json.loads((weights / f"{WEIGHTS_NAME}.json").read_bytes())
        return str(facts["precision"])
    except (AifsTuneError, OSError, ValueError, KeyError, TypeError):
        return None


NETWORKS = {
    "cnn": "a convolutional neural network",
    "residual_cnn": "a residual convolutional neural network",
    "transfer": "a network with a pretrained backbone",
    "mlp": "a multi-layer perceptron",
    "boosting": "histogram-based gradient boosting of decision trees",
    "rnn": "a recurrent neural network",
    "cnn1d": "a one-dimensional convolutional neural network",
    "cnn_values": "a convolutional neural network that predicts numbers",
    "detector": "a fully convolutional network that detects bodies (CenterNet)",
    "keras": "the Keras model",
}
"""What each trainer is."""
_OF_NETWORKS = ("chollet2015", "abadi2016")
_LIBRARIES = {"boosting": ("pedregosa2011",)}


def _repeatability_text(context: ReportContext) -> str:
    """That the seed alone does not repeat the study, where what was proposed depended on which trial ended when."""
    search = context.study.spec.search
    moments = sorted(
        (moment, step)
        for trial in context.trials
        if trial.started_at and trial.finished_at
        for moment, step in ((trial.started_at, 1), (trial.finished_at, -1))
    )
    most = max(accumulate(step for _, step in moments), default=0)
    depends = search.sampler.name not in ("random", "qmc", "grid", "brute_force") or search.scheduler != "none"
    if most < 2 or not depends or context.study.spec.trainer is None:
        return ""
    return (
        f" Up to {most} trials ran at once, and what was proposed and stopped depended on which came first, so "
        "the seed alone does not repeat the study."
    )


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
    text = f"The data were divided {_division_text(context)}"
    if data is not None:
        sizes = (f"{data.sizes[part]:,} {word}" for part, word in _SPLITS.items() if data.sizes.get(part))
        text += f": {listed(sizes)} examples."
    elif context.data_problem:
        text += f". The number of examples is unknown here: {context.data_problem}."
    else:
        text += "."
    if spec.trainer is not None and spec.trainer.folds > 1:
        text += (
            f" The value of an epoch is the mean over {spec.trainer.folds} folds of the data outside the test set; one "
            "more model of the same configuration was trained on each fold."
        )
    if spec.data.simulate is not None and spec.data.folder is None and data is not None and data.kind == "images":
        text += (
            f" The data are simulated: {count(spec.data.simulate.images, 'image')} of {spec.data.simulate.size} px, "
            f"seed {spec.data.simulate.seed}."
        )
    if context.study.fingerprint:
        text += f" The fingerprint of content, labels and split is {context.study.fingerprint[:16]}."
    return text


_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def _division_text(context: ReportContext) -> str:
    """How the data were divided, as the sweep recorded it."""
    found = context.study.fact(DIVISION)
    if found is None:
        return "in a way that was not recorded"
    val, test = f"{100 * found['val']:g} %", f"{100 * found['test']:g} %"
    how = f"at random (seed {found['seed']}{', each class alike' if found['stratified'] else ''})"
    column, in_order = cut(found["column"] or ""), f"the first train, the next {val} validate, the last {test} test"
    text = {
        "column": f"as the column {column} says",
        "order": f"by the column {column}: {in_order}",
        "time": f"in time: {in_order}",
        "random": f"{how} into training, validation ({val}) and test ({test}) sets",
        "folders": f"as the folders {listed(found['given'])} say",
    }[found["by"]]
    if found["by"] == "folders" and found["seed"] is not None:
        text += f", with a validation set ({val}) drawn from the training folder {how}"
    return text + (f", with groups ({cut(found['groups'], 80)}) kept together" if found["groups"] else "")


def _evaluation_text(context: ReportContext) -> str:
    texts, noise = [], context.noise
    if noise is not None:
        texts.append(
            f"The noise floor of {noise.metric} is {noise.sd:.2g}: the standard deviation of "
            f"{count(noise.n, 'training run')} of the default configuration with different seeds and splits. The same "
            f"number of runs distinguishes configurations that differ by about {noise.smallest:.2g}."
        )
    if context.confirmation is not None:
        texts.append(_confirmation_text(context.confirmation))
    if context.final is not None:
        texts.append(_final_text(context.final))
    if context.tested is not None:
        what = f"Then {context.tested.candidate} was trained once more, and its best epoch was"
        if context.tested.is_final_model:
            what = f"{context.tested.candidate[:1].upper()}{context.tested.candidate[1:]} was"
        texts.append(
            f"{what} evaluated once on the test set, which had not been used before. Intervals of the test scores have "
            f"a level of {100 * Resampling().confidence:g} % and are from {Resampling().n_draws:,} bootstrap resamples"
            f"{cited(('efron1993',))}{_proportions_text(context)}."
        )
        if context.test_set_classes is not None:
            texts.append(f"Calibration is measured in bins of confidence{cited(('naeini2015',))}.")
    return " ".join(texts)


def _final_text(final: FinalModel) -> str:
    epochs = listed(sorted({str(each) for each in final.epochs}))
    named = listed("the baseline" if each.name == BASELINE else each.name for each in final.candidates)
    n = final.n_members
    seeds = " with different seeds" if n > len(final.candidates) else ""
    members = "" if n == 1 else f"the mean of {count(n, 'model')}{seeds}, of "
    return (
        f"The final model is {members}{named}, trained on the training and validation sets together for {epochs} "
        "epochs, the median of the epochs that were best before; the weights are those of the last epoch."
    )


def _proportions_text(context: ReportContext) -> str:
    if context.test_set_classes is None:
        return ""
    return f", those of shares Wilson's with the variance of the resamples{cited(('wilson1927',))}"


def _confirmation_text(found: Confirmation) -> str:
    cv = found.study.spec.cross_validation
    assert cv is not None
    names = listed("the baseline" if each.name == BASELINE else each.name for each in found.candidates)
    text = f"For confirmation, {names} were trained again with fresh seeds, "
    if cv.folds > 1:
        among = "the training set alone" if cv.measures_folds else "all data outside the test set"
        text += f"{times(cv.repeats)} on {cv.folds} folds of {among}, the same folds for all"
        sizes = found.study.fact(SIZES) or []
        if sizes:
            text += f" (about {sizes[0][0]:,} examples for training and {sizes[0][1]:,} for evaluation)"
    else:
        text += f"{times(cv.repeats)} on the same split"
    alpha = next((each.alpha for each in found.comparisons), 0.05)
    return (
        f"{text}. Scores were compared in pairs with the two-sided corrected resampled t test"
        f"{cited(('nadeau2003',))}. Holm's procedure{cited(('holm1979',))} holds the family-wise error rate at "
        f"{100 * alpha:g} %. Wilcoxon's signed-rank test{cited(('wilcoxon1945',))} is reported for information only."
    )


def _software_text(context: ReportContext) -> str:
    found = context.study.fact(ENVIRONMENT)
    if not isinstance(found, dict):
        return ""
    packages = found.get("packages")
    entries = [f"{cut(str(key))} {cut(str(value))}" for key, value in sorted(found.items()) if isinstance(value, str)]
    if isinstance(packages, dict):
        entries += [f"{cut(str(name))} {cut(str(version))}" for name, version in sorted(packages.items())]
    return sentence(f"Recorded environment: {listed(entries)}") if entries else ""
