"""How well predicted probabilities match the labels of one part of the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from aifs_tune.trainers.cnn_params import MEASURED


def measure(labels: NDArray[np.int32], log_probabilities: NDArray[np.float32]) -> dict[str, float]:
    """:data:`MEASURED`: mean cross-entropy in nats, accuracy, balanced accuracy, macro F1 and area under the ROC curve.

    ``labels`` has shape (n,), ``log_probabilities`` (n, classes). A class without an image here counts in
    no mean over classes; an image taken for such a class still counts against its own. ``auc`` is that of
    the second class where there are two, otherwise the mean of one against the rest; with images of one
    class only it is undefined and absent. All are NaN if any logarithm is not finite.
    """
    present = np.unique(labels)
    names = MEASURED if len(present) > 1 else MEASURED[:-1]
    if not np.isfinite(log_probabilities).all():
        return dict.fromkeys(names, float("nan"))
    guesses = log_probabilities.argmax(axis=1)
    measured = {
        "loss": abs(float(log_probabilities[np.arange(len(labels)), labels].mean(dtype=np.float64))),
        "accuracy": float((guesses == labels).mean()),
        "balanced_accuracy": float(recall_score(labels, guesses, labels=present, average="macro", zero_division=0)),
        "macro_f1": float(f1_score(labels, guesses, labels=present, average="macro", zero_division=0)),
    }
    if len(present) > 1:
        measured["auc"] = _auc(labels, log_probabilities, present)
    return measured


def _auc(labels: NDArray[np.int32], scores: NDArray[np.float32], present: NDArray[np.int32]) -> float:
    # The order of the logarithms is that of the probabilities, and keeps apart what float32 rounds to 1.
    classes = [1] if scores.shape[1] == 2 else list(present)
    return float(np.mean([roc_auc_score(labels == one, scores[:, one]) for one in classes]))
