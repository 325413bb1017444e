"""Noise of an objective: the spread of one configuration over seeds and splits, measured by a confirmation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from aifs_tune.analysis.confirmation import Confirmation, read_confirmation
from aifs_tune.errors import NotFoundError, WorkError
from aifs_tune.storage.projects import split_name, stored_name
from aifs_tune.study.index import find_study
from aifs_tune.study.record import StudyRecord

SUFFIX = "-noise"
"""Suffix of the name of the study that measures the noise of a sweep file."""


@dataclass(frozen=True)
class Noise:
    """Spread of an objective for one configuration over ``n`` training runs.

    ``sd`` is the standard deviation of the score of a single run. ``smallest`` is about the smallest difference between
    two configurations that ``n`` runs of each can detect: twice the corrected standard error of a difference.
    """

    study: str
    metric: str
    n: int
    mean: float
    sd: float
    low: float
    high: float
    smallest: float

    @property
    def text(self) -> str:
        """The noise in two sentences."""
        return (
            f"{self.metric} of the default configuration: {self.mean:.4g} +- {self.sd:.2g} "
            f"over {self.n} training runs, {self.low:.4g} to {self.high:.4g}\n"
            f"With {self.n} runs of each configuration, a difference below about {self.smallest:.2g} "
            "cannot be distinguished from noise."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document of the command line."""
        return dict(vars(self))


def noise_of(found: Confirmation) -> Noise:
    """Compute the noise of the baseline of a confirmation from its successful training runs.

    The variance of a mean over splits with overlapping training sets is larger than sd^2 / n by the factor
    1 + n n_test / n_train (correction of Nadeau and Bengio 2003). A difference of two means has twice that variance.

    Raises
    ------
    WorkError
        If fewer than two training runs succeeded.
    """
    values = found.scores.of(found.candidates[0].name)
    kept = values[np.isfinite(values)]
    if len(kept) < 2:
        raise WorkError(
            f"the noise needs at least two successful training runs; {len(kept)} of {len(values)} succeeded"
        )
    sd, splits = float(kept.std(ddof=1)), found.scores.splits
    ratio = sum(split.n_test for split in splits) / sum(split.n_train for split in splits)
    error = sd * math.sqrt(2 * (1 / len(kept) + ratio))
    return Noise(
        study=found.study.name,
        metric=found.scores.metric,
        n=len(kept),
        mean=float(kept.mean()),
        sd=sd,
        low=float(kept.min()),
        high=float(kept.max()),
        smallest=2 * error,
    )


def find_noise_floor(study: StudyRecord) -> Noise | str | None:
    """Find the noise that was measured for the sweep file of ``study`` in its storage.

    Returns
    -------
    Noise, str or None
        The noise, the reason why a measured noise does not apply, or None if none was measured.
    """
    project, _ = split_name(study.name)
    measured = find_study(study.storage, stored_name(project, f"{study.spec.name}{SUFFIX}"))
    if measured is None:
        return None
    if measured.spec.objective != study.spec.objective or measured.trainer != study.trainer:
        return f"the noise of study {measured.name} was measured with another trainer or objective"
    if study.spec.trainer is not None and study.spec.trainer.folds > 1:
        return f"the noise of study {measured.name} is that of one split, but trials are means over several folds"
    if measured.fingerprint != study.fingerprint:
        return f"the noise of study {measured.name} was measured on other data"
    try:
        return noise_of(read_confirmation(study.storage, measured.name))
    except (NotFoundError, WorkError) as error:
        return str(error)
