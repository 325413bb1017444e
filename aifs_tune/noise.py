"""The noise floor: how much one configuration scatters over seeds and divisions of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aifs_tune.confirmation import BASELINE, Confirmation, Contender, read_confirmation, start_confirmation
from aifs_tune.confirming import SweepOptions
from aifs_tune.cross_validation import CrossValidation
from aifs_tune.errors import RequestError, WorkError
from aifs_tune.storage import Storage
from aifs_tune.sweep import load_sweep, located


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


def measure_noise(
    sweep: str | Path,
    *,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    divisions: CrossValidation | None = None,
    storage: str | None = None,
    options: SweepOptions | None = None,
) -> Noise:
    """Train the default configuration of a sweep file on each division with another seed each.

    Raises
    ------
    RequestError
        If its space states no default configuration; WorkError if fewer than two trainings ended well.
    """
    spec = located(load_sweep(sweep, data=data, overrides=overrides).spec)
    default = spec.space.default_params()
    if default is None:
        raise RequestError(f"{spec.name}: its space states no default configuration; allowed: one for each parameter")
    opened = Storage(storage, create=True)
    with opened.writing():
        asked = divisions or CrossValidation(folds=5, repeats=2)
        created = start_confirmation(opened, spec, f"{spec.name}-noise", [Contender(BASELINE, None, default)], asked)
    (options or SweepOptions()).finish(created)
    return noise_of(read_confirmation(opened, created.name))


def noise_of(found: Confirmation) -> Noise:
    """That of the baseline of a confirmation, from the trainings that ended well.

    The variance of a mean over divisions whose training parts overlap is larger than sd^2 / n: by the factor 1 + n
    n_test / n_train (the correction of Nadeau and Bengio 2003); a difference of two has twice that.

    Raises
    ------
    WorkError
        If there are fewer than two.
    """
    values = found.scores.of(found.contenders[0].name)
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
