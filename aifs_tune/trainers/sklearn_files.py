"""The kept model of an estimator: a file of skops, which holds arrays and JSON. Loads neither before it is needed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.sweep import LIBRARIES
from aifs_tune.config.trusted_code import check_allowed
from aifs_tune.data.examples import Target
from aifs_tune.errors import RequestError, StorageError, TrainerError
from aifs_tune.trainers.predictions import in_target_units

ESTIMATOR_NAME = "model.skops"
"""File with the fitted estimator."""
FACTS_NAME = "model.json"
"""File with its parameters, and what it was fitted to."""
_PLAIN = ("collections.OrderedDict",)
"""Types of other packages that XGBoost and LightGBM use."""


def can_write_model() -> bool:
    """Whether skops is installed."""
    return find_spec("skops") is not None


def write_model(folder: Path, estimator: Any, facts: Mapping[str, Any]) -> Path:
    """Write ``model.skops`` and ``model.json`` into ``folder``; return the path of the first.

    Raises
    ------
    StorageError
        If skops cannot write the estimator, which then stays as it was measured.
    """
    from skops import io

    try:
        io.dump(estimator, folder / ESTIMATOR_NAME, compression=zipfile.ZIP_DEFLATED)
    except Exception as error:  # of whatever a user's estimator holds
        raise StorageError(f"skops cannot write the model of {facts['trainer']} ({error})") from error
    (folder / FACTS_NAME).write_text(json.dumps(dict(facts), indent=1, allow_nan=False))
    return folder / ESTIMATOR_NAME


def log_probabilities(estimator: Any, inputs: NDArray[np.float32], n_classes: int) -> NDArray[np.float32]:
    """Log-probabilities (n, classes) of a fitted classifier; without ``predict_proba`` those of 1 and 0."""
    probabilities = np.zeros((len(inputs), n_classes))
    if hasattr(estimator, "predict_proba"):
        probabilities[:, np.asarray(estimator.classes_, np.int64)] = estimator.predict_proba(inputs)
    else:
        probabilities[np.arange(len(inputs)), np.asarray(estimator.predict(inputs), np.int64)] = 1
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float32)


@dataclass(frozen=True)
class LoadedEstimator:
    """Fitted estimator of a trial.

    Parameters
    ----------
    estimator
        The estimator.
    classes, targets
        Classes or numbers that it predicts; the other of the two is empty.
    facts
        Content of ``model.json``.
    """

    estimator: Any
    classes: tuple[str, ...]
    targets: tuple[Target, ...]
    facts: Mapping[str, Any]

    @property
    def has_probabilities(self) -> bool:
        """Whether it gives probabilities of its classes."""
        return bool(self.classes) and hasattr(self.estimator, "predict_proba")

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Predict rows that were prepared like the training rows.

        Parameters
        ----------
        *inputs
            One float32 array (n, columns).

        Returns
        -------
        numpy.ndarray
            Probabilities, shape (n, classes), 1 and 0 of an estimator without them; or numbers in the units of their
            targets, shape (n, targets).
        """
        (rows,) = inputs
        rows = np.asarray(rows, np.float32)
        if self.classes:
            raw = log_probabilities(self.estimator, rows, len(self.classes))
        else:
            raw = np.asarray(self.estimator.predict(rows), np.float32).reshape(len(rows), -1)
        return in_target_units(raw, self.targets, n_classes=len(self.classes))


def load_estimator(folder: Path) -> LoadedEstimator:
    """Load the files of :func:`write_model`.

    Classes of scikit-learn, XGBoost and LightGBM are loaded, and those of the package of the study's trainer if that
    was allowed. Nothing else in the files is executed.

    Raises
    ------
    MissingPackageError
        If skops is not installed.
    UntrustedCodeError
        If the estimator has classes of a package that nobody has allowed.
    TrainerError
        If the files are missing or damaged.
    """
    from skops import io

    file = folder / ESTIMATOR_NAME
    if not file.is_file():
        raise TrainerError(
            f"{folder} holds no {ESTIMATOR_NAME}: the model was not kept, as skops was not installed; install it with: "
            "pip install 'aifs-tune[sklearn]', and train again"
        )
    try:
        facts = json.loads((folder / FACTS_NAME).read_bytes())
        trainer = str(facts["trainer"])
        unknown = io.get_untrusted_types(file=file)
        _check_types(unknown, trainer)
        estimator = io.load(file, trusted=unknown)
        targets = tuple(Target(**one) for one in facts["targets"])
        return LoadedEstimator(estimator, tuple(facts["classes"]), targets, facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise TrainerError(f"{file} cannot be loaded ({error})") from error


def _check_types(unknown: list[str], trainer: str) -> None:
    own = trainer.partition(":")[0].partition(".")[0]
    others = [name for name in unknown if name not in _PLAIN and name.partition(".")[0] not in LIBRARIES]
    foreign = [name for name in others if name.partition(".")[0] != own]
    if foreign:
        raise RequestError(
            f"the model has {', '.join(foreign)}, which nobody has allowed; allowed: classes of {', '.join(LIBRARIES)} "
            f"and {own}"
        )
    if others:
        check_allowed(trainer)
