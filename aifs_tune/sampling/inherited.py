"""What a study took over from an earlier one, as an expert on configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import optuna
from numpy.typing import NDArray

from aifs_tune.sampling.encoding import Encoding
from aifs_tune.sampling.plain_gp import SingleFidelityPosterior, SingleFidelityPrior, fit

Array: TypeAlias = NDArray[np.float64]

SOURCE_TASKS = "aifs_tune:source_tasks"
"""Key of the study attribute that holds what was taken over: nothing of another study is read later."""
LEAST_TRIALS = 4
"""Trials that an expert learns from; fewer say nothing."""


@dataclass(frozen=True)
class SourceTask:
    """Trials of an earlier ``study``: the parameters that both have, and the merit of each trial, with mean 0 and
    variance 1; larger is better."""

    study: str
    params: tuple[Mapping[str, Any], ...]
    posterior_means: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "study": self.study,
            "trials": [[dict(p), float(f"{m:.5g}")] for p, m in zip(self.params, self.posterior_means, strict=True)],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> SourceTask:
        """What :meth:`to_json` wrote."""
        trials = document["trials"]
        return SourceTask(document["study"], tuple(p for p, _ in trials), tuple(m for _, m in trials))


def source_tasks_of(study: optuna.Study) -> list[SourceTask]:
    """What a study took over; nothing, as a rule."""
    stored = study._storage.get_study_user_attrs(study._study_id).get(SOURCE_TASKS, [])
    return [SourceTask.from_json(document) for document in stored]


def standardised(posterior_means: Sequence[float]) -> tuple[float, ...]:
    """``posterior_means`` with mean 0 and variance 1."""
    y = np.array(posterior_means, dtype=float)
    return tuple(((y - y.mean()) / (y.std() or 1.0)).tolist()) if len(y) else ()


class GPSourceModel:
    """What an earlier study expects of any configuration: a Gaussian process on the merits of its trials.

    It knows of the parameters alone that varied among them, and is the same wherever it is made.
    """

    def __init__(self, encoding: Encoding, source_task: SourceTask) -> None:
        self.study = source_task.study
        values = {name: {str(p.get(name)) for p in source_task.params} for name in encoding.names}
        varied = [j for j, name in enumerate(encoding.names) if len(values[name]) > 1]
        self._columns = np.flatnonzero(np.isin(encoding.columns, varied))
        x = encoding.features(np.array([encoding.unit_point(p) for p in source_task.params]))[:, self._columns]
        y = np.array(source_task.posterior_means)
        columns = np.unique(encoding.columns[self._columns], return_inverse=True)[1].astype(np.int64)
        self._posterior = SingleFidelityPosterior(fit(columns, x, y, SingleFidelityPrior.of(columns)), columns, x, y)

    def __call__(self, x: Array) -> Array:
        """The merits (m,) that are expected of features ``x`` (m, c) of the encoding."""
        return self._posterior.mean(x[:, self._columns])


def source_models_of(encoding: Encoding, source_tasks: Sequence[SourceTask]) -> list[GPSourceModel]:
    """An expert for each of ``source_tasks`` that has enough trials, of which some parameter varied."""
    found = []
    for each in source_tasks:
        varied = [name for name in encoding.names if len({str(p.get(name)) for p in each.params}) > 1]
        if varied and len(each.params) >= LEAST_TRIALS:
            found.append(GPSourceModel(encoding, each))
    return found
