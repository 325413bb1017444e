"""Metrics of the predictions for one part of the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.examples import Target
from aifs_tune.data.signal import BRIER, Signal, brier_score
from aifs_tune.trainers.predictions import CLASSIFIED, LEVELS, OF_A_TARGET, VALUES, point_predictions, quantile_metrics


def measure(
    labels: NDArray[np.int32],
    log_probabilities: NDArray[np.float32],
    *,
    signal: Signal | None = None,
    classes: Sequence[str] = (),
) -> dict[str, float]:
    """Metrics :data:`CLASSIFIED`: mean cross-entropy in nats, accuracy, balanced accuracy, macro F1, area under ROC.

    Then those of the ``signal``, which is one of ``classes``: the Brier score of its probability, and efficiencies.

    ``labels`` has shape (n,), ``log_probabilities`` (n, classes). A class without examples here does not count in a
    mean over classes, but an example predicted as such a class is still an error. ``auc`` is that of the second of two
    classes, or the mean of one-vs-rest of more; it is missing if all examples have the same class, and so are the
    efficiencies of the signal if none or all belong to it. All metrics are NaN if a log-probability is not finite.
    """
    from sklearn.metrics import f1_score, recall_score

    present = np.unique(labels)
    names = CLASSIFIED if len(present) > 1 else CLASSIFIED[:-1]
    if not np.isfinite(log_probabilities).all():
        return dict.fromkeys((*names, *(() if signal is None else (BRIER, *signal.metrics))), float("nan"))
    predicted = log_probabilities.argmax(axis=1)
    measured = {
        "loss": abs(float(log_probabilities[np.arange(len(labels)), labels].mean(dtype=np.float64))),
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(recall_score(labels, predicted, labels=present, average="macro", zero_division=0)),
        "macro_f1": float(f1_score(labels, predicted, labels=present, average="macro", zero_division=0)),
    }
    if len(present) > 1:
        measured["auc"] = _auc(labels, log_probabilities, present)
    if signal is not None:
        at = list(classes).index(signal.name)
        measured[BRIER] = brier_score(labels == at, log_probabilities[:, at])
        measured |= signal.measure(labels == at, log_probabilities[:, at])
    return measured


def measure_values(
    y_true: NDArray[np.float32], y_pred: NDArray[np.float32], targets: Sequence[Target]
) -> dict[str, float]:
    """Metrics :data:`~aifs_tune.trainers.predictions.VALUES`, then those of each target in its own unit.

    ``y_true`` and ``y_pred`` have shape (n, targets) and are scaled as the targets say; a missing value of ``y_true``
    is NaN and does not count, but each target must have one. All metrics are NaN if a prediction is not finite; ``r2``
    is NaN for a target that does not vary here.
    """
    names = [*VALUES, *(f"{name}_{target.name}" for target in targets for name in OF_A_TARGET)]
    if not np.isfinite(y_pred).all():
        return dict.fromkeys(names, float("nan"))
    errors = np.abs(y_pred.astype(np.float64) - y_true)
    squares, spreads = np.nanmean(errors**2, axis=0), np.nanvar(y_true.astype(np.float64), axis=0)
    explained = 1 - np.divide(squares, spreads, out=np.full(len(targets), np.nan), where=spreads > 0)
    scales = np.array([target.scale for target in targets])
    columns = [np.nanmean(errors, axis=0), np.sqrt(squares), np.nanquantile(errors, 0.9, axis=0)]
    of_targets = np.stack([*(column * scales for column in columns), explained], axis=1).ravel().tolist()
    return dict(zip(names, [float(squares.mean()), float(explained.mean()), *of_targets], strict=True))


def measure_quantiles(y_true: NDArray[np.float32], y_pred: NDArray[np.float32], target: Target) -> dict[str, float]:
    """Metrics of :func:`measure_values` of the median, then :func:`~aifs_tune.trainers.predictions.quantile_metrics`.

    ``y_true`` has shape (n, 1) and may be NaN, ``y_pred`` (n, levels). The continuous ranked probability score is
    twice the pinball loss, averaged over all levels (Gneiting and Ranjan 2011). Here it is averaged over the deciles,
    which is the weighted interval score (Bracher et al. 2021): for a normal distribution it is 9 % larger.
    """
    measured = measure_values(y_true, point_predictions(y_pred, 1), [target])
    names = [name.removeprefix("val_") for name in quantile_metrics(target.name)]
    if not np.isfinite(y_pred).all():
        return measured | dict.fromkeys(names, float("nan"))
    known, levels = ~np.isnan(y_true[:, 0]), np.array(LEVELS)
    errors = y_pred[known].astype(np.float64) - y_true[known]
    pinball = float(np.maximum((1 - levels) * errors, -levels * errors).mean())
    is_within = (errors[:, 0] <= 0) & (errors[:, -1] >= 0)
    width = float((errors[:, -1] - errors[:, 0]).mean())
    values = (pinball, float(is_within.mean()), 2 * pinball * target.scale, width * target.scale)
    return measured | dict(zip(names, values, strict=True))


def _auc(labels: NDArray[np.int32], scores: NDArray[np.float32], present: NDArray[np.int32]) -> float:
    from sklearn.metrics import roc_auc_score

    # Log-probabilities have the order of probabilities, and differ where float32 rounds probabilities to 1.
    classes = [1] if scores.shape[1] == 2 else list(present)
    return float(np.mean([roc_auc_score(labels == one, scores[:, one]) for one in classes]))
