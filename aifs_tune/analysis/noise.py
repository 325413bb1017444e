"""How much one configuration scatters over seeds and divisions of the data, as a confirmation measured it."""

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
"""Behind the name of a sweep file: the study that measures its noise."""


@dataclass(frozen=True)
class Noise:
    """The spread of an objective for one configuration, over ``n`` trainings.

    ``sd`` is the standard deviation of a single training's score; ``smallest`` the smallest difference between two
    configurations that as many trainings of each could tell apart, as a rule: twice the corrected standard error of
    a difference.
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
        """In words."""
        return (
            f"{self.metric} of the default configuration: {self.mean:.4g} +- {self.sd:.2g} over {self.n} trainings, "
            f"{self.low:.4g} to {self.high:.4g}\n"
            f"A difference below about {self.smallest:.2g} cannot be told from noise with as many trainings."
        )

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return dict(vars(self))


def noise_of(found: Confirmation) -> Noise:
    """That of the baseline of a confirmation, from the trainings that ended well.

    The variance of a mean over divisions whose training parts overlap is larger than sd^2 / n: by the factor 1 + n
    n_test / n_train (the correction of Nadeau and Bengio 2003); a difference of two has twice that.

    Raises
    ------
    WorkError
        If there are fewer than two.
    """
    values = found.scores.of(found.candidates[0].name)
    kept = values[np.isfinite(values)]
    if len(kept) < 2:
        raise WorkError(
            f"{len(kept)} of {len(values)} trainings ended well; at least two have to, to say how they scatter"
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
    """The noise that was measured for the sweep file of ``study``, in its storage; in words why the one that is there
    is not used, None where none was measured."""
    project, _ = split_name(study.name)
    measured = find_study(study.storage, stored_name(project, f"{study.spec.name}{SUFFIX}"))
    if measured is None:
        return None
    if measured.spec.objective != study.spec.objective or measured.trainer != study.trainer:
        return f"the noise of study {measured.name} is of another trainer or objective"
    if study.spec.trainer is not None and study.spec.trainer.folds > 1:
        return f"the noise of study {measured.name} is of one division, a trial's value the mean over several folds"
    if measured.fingerprint != study.fingerprint:
        return f"the noise of study {measured.name} is of other data"
    try:
        return noise_of(read_confirmation(study.storage, measured.name))
    except (NotFoundError, WorkError) as error:
        return str(error)
