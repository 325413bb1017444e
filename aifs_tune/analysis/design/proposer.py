"""Proposals by an ensemble: searched within a region, or chosen from a table of possible experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.analysis.design.acquisition import Acquisition, Measured, Posterior, choose
from aifs_tune.analysis.design.calibration import Z
from aifs_tune.analysis.design.candidates import Region, inputs_of, search, values_of
from aifs_tune.analysis.design.ensemble import Ensemble, Rows, Source
from aifs_tune.analysis.design.goals import Goals
from aifs_tune.errors import DataError, RequestError

if TYPE_CHECKING:
    import pandas

Floats = NDArray[np.float64]

_FIRST_ROUNDS, _NEXT_ROUNDS = 10, 3
_KEPT = 60
_FAR = 0.95
_SAME = 0.1
"""Distance, in lengths of the kernel, within which two experiments are the same."""
_MOST_PAIRED = 1000


class Proposer:
    """Choice of proposals by an ensemble.

    ``reach`` is the largest distance from a measured row that is searched, in units of that of 95 % of the measured
    rows to another group.
    """

    def __init__(self, ensemble: Ensemble, rows: Rows, source: Source, goals: Goals, seed: int, reach: float) -> None:
        self._ensemble, self._rows, self._source, self._goals, self._reach = ensemble, rows, source, goals, reach
        self._random = np.random.default_rng([seed, 12])
        measured = Measured(source.in_units(rows.y_true))
        self._check_known(measured)
        self._acquisition = Acquisition(goals, source.targets, measured, self._random)
        self._had_feasible = self._acquisition.has_feasible
        self._length, self._far = distances(rows.inputs, rows.groups)

    def propose(self, batch: int) -> tuple[pandas.DataFrame, list[str]]:
        """Search for candidates, one proposal after the other; return their table and remarks."""
        columns = self._source.columns
        region = Region(columns, values_of(columns, self._rows.inputs), self._goals)
        chosen, pool = np.zeros((0, len(columns))), None
        for i in range(batch):

            def score(values: Floats, known: Floats = chosen) -> Floats:
                return self._scores(known, values)

            rounds = _NEXT_ROUNDS if i else _FIRST_ROUNDS
            found = search(region, score, self._random, rounds=rounds, start=pool)
            if not np.isfinite(score(found[:1])).all():
                raise RequestError(
                    f"sum, range: nothing new has them within the reach {self._reach:g} of a measured row; allowed: a "
                    "larger reach, or wider ranges"
                )
            chosen, pool = np.concatenate([chosen, found[:1]]), found[1:_KEPT]
            self._acquisition.believe(self._posterior(inputs_of(columns, found[:1])), 0)
            self._acquisition.next()
        table = self._table(chosen, inputs_of(columns, chosen))
        return table, [*region.beyond(), *self._remarks(table)]

    def choose_from(self, pool: NDArray[np.float32], batch: int) -> tuple[pandas.DataFrame, list[str]]:
        """Choose rows of a table of possible experiments; return their table and remarks."""
        new = np.flatnonzero(self._distance(pool) > 0)
        values = values_of(self._source.columns, pool)
        every = np.concatenate([values, values_of(self._source.columns, self._rows.inputs)])
        region = Region(self._source.columns, every, self._goals)
        new = new[region.holds(values[new])]
        if not len(new):
            raise RequestError("candidates: none of the rows is new and within the ranges and sums; allowed: others")
        picked = new[choose(self._posterior(pool[new]), self._acquisition, batch)]
        table = self._table(values[picked], pool[picked])
        table.insert(0, "candidate", picked + 1)
        return table, [f"{len(new)} of {len(pool)} candidates are new and allowed", *self._remarks(table)]

    def _scores(self, chosen: Floats, values: Floats) -> Floats:
        """Value of candidates (n, columns) beside those that are chosen; none of what is known already or too far."""
        inputs = inputs_of(self._source.columns, np.concatenate([chosen, values]))
        posterior, n = self._posterior(inputs), len(chosen)
        for i in range(n):
            posterior.condition(i)
        scores = self._acquisition(posterior)[n:]
        if not (scores > 0).any():  # below what a float can hold
            scores = self._acquisition.log_probability(posterior)[n:]
        new = inputs[n:]
        distance = self._distance(new)
        is_same = (distance < _SAME * self._length) | (distance > self._reach * self._far)
        for one in inputs[:n]:
            is_same |= np.sqrt(((new - one) ** 2).sum(axis=1)) < _SAME * self._length
        return np.where(is_same, -np.inf, scores)

    def _posterior(self, inputs: NDArray[np.float32]) -> Posterior:
        return Posterior(
            self._ensemble.predict(inputs), inputs.astype(np.float64), self._ensemble.calibrations, self._length
        )

    def _distance(self, inputs: NDArray[np.float32]) -> Floats:
        """Distance of each experiment (n,) to the nearest measured row, in scaled inputs."""
        from scipy.spatial.distance import cdist

        return np.asarray(cdist(inputs, self._rows.inputs).min(axis=1))

    def _table(self, values: Floats, inputs: NDArray[np.float32]) -> pandas.DataFrame:
        import pandas as pd

        posterior = self._posterior(inputs)
        table: dict[str, Any] = {
            column.name: [column.entry(value) for value in values[:, i].tolist()]
            for i, column in enumerate(self._source.columns)
        }
        for i, name in enumerate(self._source.targets):
            mean, half = posterior.mean[:, i], Z * posterior.sd[:, i]
            table |= {f"expected {name}": mean, f"low {name}": mean - half, f"high {name}": mean + half}
        if self._goals.limits:
            table["p_limits"] = self._acquisition.probability(posterior.mean, posterior.sd)
        table["distance"] = self._distance(inputs) / self._far
        return pd.DataFrame(table)

    def _remarks(self, table: pandas.DataFrame) -> list[str]:
        said = []
        if not self._had_feasible:
            limits = " and ".join(limit.text for limit in self._goals.limits)
            said.append(
                f"no measured row has {limits}: the proposals were chosen by the probability of that alone first"
            )
        if n_far := int((table["distance"] > 1).sum()):
            said.append(
                f"{n_far} of {len(table)} proposals are farther from any measured row (distance above 1) than "
                f"{_FAR:.0%} of the measured rows are from another group: there the uncertainty itself is uncertain"
            )
        return said

    def _check_known(self, measured: Measured) -> None:
        for objective in self._goals.objectives:
            i = self._source.targets.index(objective.target)
            if np.isnan(measured.values[:, i]).all():
                raise DataError(f"{objective.target}: no row has it; allowed: at least one measured value")


def distances(inputs: NDArray[np.float32], groups: Sequence[str]) -> tuple[float, float]:
    """Two lengths of measured rows, in scaled inputs.

    Half the median distance of a row to the nearest one of another group is the length of the kernel of errors that
    models have in common; 95 % of these distances are at most the second length.
    """
    from scipy.spatial.distance import cdist

    some = np.random.default_rng(0).permutation(len(inputs))[:_MOST_PAIRED]
    codes = np.unique(np.asarray(groups), return_inverse=True)[1][some]
    apart = cdist(inputs[some], inputs[some])
    apart[codes[:, None] == codes] = np.inf
    nearest = apart.min(axis=1)
    nearest = nearest[np.isfinite(nearest) & (nearest > 0)]
    if not len(nearest):
        raise DataError("the measured rows have one composition; allowed: rows that differ")
    return float(np.median(nearest) / 2), float(np.quantile(nearest, _FAR))
