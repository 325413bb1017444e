"""Test set section of a report: scores, confusion matrix, calibration, curves and the worst mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np

from aifs_tune.analysis.bootstrap import ScoreEstimate
from aifs_tune.analysis.classification import HeldOutClasses
from aifs_tune.analysis.regression import HeldOutTarget, scores_table
from aifs_tune.analysis.test_part import HeldOutEvaluation
from aifs_tune.data.signal import rate_of
from aifs_tune.publishing.report.blocks import Figure, Paragraph, ReportBlock, ReportSection, Table
from aifs_tune.publishing.report.context import ReportContext, ReportData
from aifs_tune.publishing.report.figures import BLUE, COLOURS, GREY, INK, MARKERS, label, picture
from aifs_tune.publishing.report.formatting import DASH, count, cut, shown, subsample
from aifs_tune.publishing.report.verdict import test_set_text

MAX_CLASSES = 24
"""Largest number of classes that a figure names."""
_N_WORST = 12
_WORST_MISTAKES = "Worst mistakes, by lowest probability of the true class"
_SHOWN = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auc": "ROC AUC, mean over classes",
    "brier": "Brier score (0 to 2)",
    "calibration_error": "expected calibration error",
}


def test_set_section(context: ReportContext) -> ReportSection:
    """Scores of the evaluation on the test set, or a sentence why there are none."""
    tested = context.tested
    if tested is None:
        none = "The test set has not been used yet."
        if context.study.spec.trainer is None or context.study.spec.data is None:
            none = "The study has no data of its own, so there is no test set."
        return ReportSection("Test set", (Paragraph(none, "note"),))
    head = Paragraph(test_set_text(context))
    found, blocks = context.test_set_classes, list[ReportBlock]([head])
    if found is not None:
        blocks += [_scores_table(found), class_table(found), _confusion_figure(found), _calibration_figure(found)]
        blocks += [*_curves_blocks(found), *_signal_blocks(found), *_worst_blocks(context, tested, found)]
    if tested.predictions.targets:
        blocks += _regression_blocks(tested)
    return ReportSection("Test set", tuple(blocks))


def _scores_table(found: HeldOutClasses) -> Table:
    rows = tuple((_shown_score(name, found), str(estimate)) for name, estimate in found.scores.items())
    mean, most = found.calibrated
    rows += (("the same of a calibrated model, by chance", f"{mean:.3f}, 95 % below {most:.3f}"),)
    return Table(f"Scores on the test set, n = {found.n:,}.", ("score", "value [95 % interval]"), rows, "lr")


def _shown_score(name: str, found: HeldOutClasses) -> str:
    rate = rate_of(name)
    return _SHOWN.get(name, name) if rate is None else f"{cut(found.signal or '')} kept at {100 * rate:g} % background"


def class_table(found: HeldOutClasses) -> Table:
    """Precision, recall, F1 and support of each class, and the averages."""
    rows = tuple(
        (cut(row.name), f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}", f"{row.support:,}")
        for row in (*found.report.classes, *found.report.averages)
    )
    header = ("class", "precision", "recall", "F1", "support")
    return Table(f"Classification report on the test set, n = {found.n:,}.", header, rows, "lrrrr")


def _confusion_figure(found: HeldOutClasses) -> Figure:
    k = len(found.classes)
    of_true = found.confusion / np.maximum(found.confusion.sum(axis=1, keepdims=True), 1)
    names = [cut(name, 14) for name in found.classes] if k <= MAX_CLASSES else [str(i + 1) for i in range(k)]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.imshow(of_true, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        if k <= 12:
            for i, j in np.ndindex(k, k):
                colour = "white" if of_true[i, j] > 0.55 else INK
                axes.text(j, i, f"{found.confusion[i, j]:,}", ha="center", va="center", color=colour, fontsize=8)
        if k <= MAX_CLASSES:
            axes.set_xticks(range(k), names, rotation=35, ha="right")
            axes.set_yticks(range(k), names)
        axes.set(xlabel="predicted", ylabel="true")
        axes.grid(visible=False)

    right = int(np.trace(found.confusion))
    return picture(
        draw,
        caption=f"Confusion matrix: number of examples, shaded by the share of the true class. n = {found.n:,}.",
        alt=f"Confusion matrix of {count(k, 'class', 'classes')}; {right:,} of {found.n:,} are right.",
        height_in=min(1.6 + 0.32 * max(k, 4), 5.5),
    )


def _calibration_figure(found: HeldOutClasses) -> Figure:
    bins = [each for each in found.reliability if each.n]

    def draw(canvas: Any) -> None:
        above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], "--", color=GREY, lw=1, label="perfect calibration")
        x, y = [each.confidence for each in bins], [each.accuracy for each in bins]
        above.plot(x, y, "-o", color=BLUE, ms=4, label="measured")
        above.set(ylabel="accuracy", ylim=(-0.02, 1.02))
        above.legend(loc="upper left")
        widths = [each.high - each.low for each in found.reliability]
        below.bar(
            [each.low for each in found.reliability], [each.n for each in found.reliability], widths, align="edge"
        )
        below.set(xlabel="confidence (probability of the predicted class)", ylabel="examples", xlim=(0, 1))

    return picture(
        draw,
        caption="Reliability diagram: accuracy of the predictions at each confidence (top), and their number (bottom). "
        f"n = {found.n:,}.",
        alt=f"Reliability diagram; expected calibration error {found.scores['calibration_error']}.",
        height_in=3.4,
    )


def _curves_blocks(found: HeldOutClasses) -> list[ReportBlock]:
    drawn = found.curves[: len(COLOURS)]
    if not drawn:
        return []

    def draw(canvas: Any) -> None:
        left, right = canvas.subplots(1, 2)
        left.plot([0, 1], [0, 1], "--", color=GREY, lw=0.8)
        for i, curves in enumerate(drawn):
            style = {"color": COLOURS[i], "lw": 1.3, "marker": MARKERS[i], "ms": 3.5}
            for axes, x, y in (
                (left, curves.false_positive_rates, curves.true_positive_rates),
                (right, curves.recalls, curves.precisions),
            ):
                some = subsample(range(len(x)), 200)
                every = max(1, len(some) // 6)
                known = label(curves.name) if axes is left else None
                axes.plot(x[some], y[some], label=known, markevery=every, **style)
        left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
        right.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(-0.02, 1.05))
        canvas.legend(loc="outside lower center", ncols=3)

    areas = tuple((cut(each.name), f"{each.auc:.3f}", f"{each.average_precision:.3f}") for each in found.curves)
    left_out = (
        f" The first {len(drawn)} of {len(found.curves)} classes are drawn." if len(drawn) < len(found.curves) else ""
    )
    figure = picture(
        draw,
        caption=f"ROC and precision-recall curves, each class against the rest. n = {found.n:,}.{left_out}",
        alt=f"ROC and precision-recall curves of {count(len(drawn), 'class', 'classes')}.",
        height_in=3.2,
    )
    table = Table("Areas under these curves.", ("class", "ROC", "precision-recall"), areas, "lrr")
    return [figure, table]


def _signal_blocks(found: HeldOutClasses) -> list[ReportBlock]:
    """ROC curve of the signal with a logarithmic axis, where few false positives can be told apart."""
    curve = next((each for each in found.curves if each.name == found.signal), None)
    if curve is None:
        return []
    rates = {name: rate for name in found.scores if (rate := rate_of(name)) is not None}
    n_signal = int(found.confusion[found.classes.index(curve.name)].sum())
    n_others = found.n - n_signal

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.step(curve.false_positive_rates, curve.true_positive_rates, where="post", color=BLUE, lw=1.3)
        for name, rate in rates.items():
            _draw_estimate(axes, rate, found.scores[name])
        axes.set(xlabel="false positive rate (share of the background kept)", xscale="log", ylim=(-0.02, 1.02))
        axes.set(ylabel=f"share of {label(curve.name)} kept", xlim=(min(0.5 / n_others, 0.005), 1))

    values = ", ".join(f"{found.scores[name]} at {rate:g}" for name, rate in rates.items())
    return [
        picture(
            draw,
            caption=f"Signal efficiency: share of {cut(curve.name)} kept against the share of all others kept, with "
            f"95 % intervals. {count(n_signal, 'example')} of the signal, {n_others:,} of the background.",
            alt=f"ROC curve of {cut(curve.name)} with a logarithmic axis; efficiency {values}.",
            height_in=3.4,
        )
    ]


def _draw_estimate(axes: Any, rate: float, estimate: ScoreEstimate) -> None:
    """Draw a score and its interval at ``rate``; nothing where it is undefined."""
    if estimate.value is None:
        return
    axes.plot([rate], [estimate.value], "o", color=BLUE, ms=4)
    if estimate.low is not None and estimate.high is not None:
        axes.plot([rate, rate], [estimate.low, estimate.high], color=BLUE, lw=1)


def _worst_blocks(context: ReportContext, tested: HeldOutEvaluation, found: HeldOutClasses) -> list[ReportBlock]:
    if not found.worst:
        return [Paragraph("No example of the test set was misclassified.")]
    worst = found.worst[:_N_WORST]
    rows = tested.predictions.rows[[each.index for each in worst]]
    images = None if context.data is None else _images(context.data, rows)
    if images is None:
        why = context.data_problem or "they are not images"
        cells = tuple(
            (
                f"{row}",
                cut(each.truth),
                cut(each.predicted),
                f"{each.probability:.2f}",
                f"{each.probability_of_truth:.2f}",
            )
            for row, each in zip(rows.tolist(), worst, strict=True)
        )
        header = ("row", "true", "predicted", "P(predicted)", "P(true)")
        caption = (
            f"{_WORST_MISTAKES}: predicted class and probability, and probability of the true class. The examples are "
            f"listed by row, because {why}."
        )
        return [Table(caption, header, cells, "rllrr")]
    titles = [f"{cut(each.truth, 12)}\n→ {cut(each.predicted, 12)} {each.probability:.2f}" for each in worst]
    n_wrong = int(found.confusion.sum() - np.trace(found.confusion))
    caption = (
        f"{_WORST_MISTAKES}: true class, predicted class (→) and its probability. {len(worst)} of "
        f"{count(n_wrong, 'mistake')}, n = {found.n:,}."
    )
    first = worst[0]
    alt = f"{count(len(worst), 'image')}; the first is of {cut(first.truth)}, predicted as {cut(first.predicted)}."
    return [gallery(images, titles, caption, alt)]


def _images(data: ReportData, rows: Any) -> Any:
    """Pixels (n, edge, edge, 1 or 3) of rows of prepared images; None if the data are not images."""
    if data.kind != "images":
        return None
    from aifs_tune.data import open_images

    return np.asarray(open_images(data.location).images[np.sort(rows)])[np.argsort(np.argsort(rows))]


def gallery(images: Any, titles: list[str], caption: str, alt: str) -> Figure:
    """Figure of images (n, h, w, 1 or 3) of 8 bits, four in a row."""
    n_rows = (len(titles) + 3) // 4

    def draw(canvas: Any) -> None:
        grid = canvas.subplots(n_rows, 4, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, pixels, title in zip(grid.flat, images, titles, strict=False):
            grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if pixels.shape[-1] == 1 else {}
            axes.imshow(pixels[..., 0] if grey else pixels, interpolation="nearest", **grey)
            axes.set_title(title, fontsize=8.5)

    return picture(draw, caption=caption, alt=alt, height_in=1.75 * n_rows)


def _regression_blocks(tested: HeldOutEvaluation) -> list[ReportBlock]:
    targets = tested.values
    table: Any = scores_table(targets)
    rows = tuple(
        (cut(row.target), cut(row.unit) or DASH, row.score, _estimate(row.value, row.low, row.high))
        for row in table.itertuples()
    )
    counts = {target.n for target in targets}
    n = f"n = {targets[0].n:,}" if len(counts) == 1 else ", ".join(f"{cut(one.name)}: n = {one.n:,}" for one in targets)
    of_numbers = " of the numbers" if tested.predictions.classes else ""
    caption = f"Scores{of_numbers} on the test set, {n}."
    blocks: list[ReportBlock] = [Table(caption, ("target", "unit", "score", "value [95 % interval]"), rows, "lllr")]
    y_true, y_pred = tested.predictions.of_targets
    for i, target in enumerate(targets[:6]):
        blocks.append(_values_figure(target, y_true[:, i], y_pred[:, i]))
    for target in targets:
        worst = tuple(
            (str(tested.predictions.rows[miss.index]), shown(miss.truth), shown(miss.predicted))
            for miss in target.worst[:10]
        )
        head = ("row", "true", "predicted")
        blocks.append(Table(f"Largest errors of {cut(target.name)}, by row of the data.", head, worst, "rrr"))
    return blocks


def _estimate(value: Any, low: Any, high: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return DASH
    return f"{value:.4g}" if pd.isna(low) else f"{value:.4g} [{low:.4g}, {high:.4g}]"


def _values_figure(target: HeldOutTarget, y_true: Any, y_pred: Any) -> Figure:
    is_known = y_true == y_true  # a missing value is NaN
    y_true, y_pred = y_true[is_known], y_pred[is_known]
    some = subsample(range(len(y_true)), 800)

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        ends = [min(y_true.min(), y_pred.min()), max(y_true.max(), y_pred.max())]
        axes.plot(ends, ends, "--", color=GREY, lw=1)
        axes.plot(y_true[some], y_pred[some], "o", color=BLUE, ms=3, alpha=0.6)
        unit = f" in {label(target.unit)}" if target.unit else ""
        axes.set(xlabel=f"true {label(target.name)}{unit}", ylabel="predicted")

    drawn = f" {len(some)} of them are drawn." if len(some) < len(y_true) else ""
    return picture(
        draw,
        caption=f"Predicted against true {cut(target.name)}; on the dashed line both are equal. "
        f"n = {target.n:,}.{drawn}",
        alt=f"Predicted against true {cut(target.name)}, R² {target.scores['r2']}.",
        height_in=3.4,
    )
