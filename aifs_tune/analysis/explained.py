"""Which parameters explain a study's results, alone and in pairs, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from aifs_tune.analysis.forest import FEWEST, Forest, ShareEstimate, fit_forest, out_of_bag_predictions
from aifs_tune.analysis.scores import Array
from aifs_tune.errors import RequestError
from aifs_tune.importance import FEWEST as FEWEST_PED
from aifs_tune.importance import PedAnova
from aifs_tune.results import values_of
from aifs_tune.sampling.encoding import Axis
from aifs_tune.sampling.searched import SearchSpace
from aifs_tune.spec import Objective, SweepSpec
from aifs_tune.trial import Trial

Evaluator: TypeAlias = Literal["fanova", "pedanova"]
EVALUATORS: tuple[Evaluator, ...] = get_args(Evaluator)
REMARK = "remark"
"""In ``attrs`` of a table: what could not be computed and why, or how it was; absent where there is nothing to say."""
LITTLE = 0.2
"""Below it a forest explains too little of trials that it has not seen for its shares to mean much."""
_N_RESAMPLED = 100
_N_GRID = 21
_NEAR = 0.1


class Explained:
    """What explains the values of the complete trials of a study; others have none that can be compared.

    ``unit_points`` (n, d) are their configurations in the unit cube, see :mod:`aifs_tune.analysis.forest`; ``names`` those
    of the d parameters that can vary.
    """

    def __init__(self, spec: SweepSpec, trials: Sequence[Trial]) -> None:
        self._spec = spec
        self.trials = [t for t in trials if t.state == "complete" and len(values_of(t)) == len(spec.objectives)]
        self._encoding = SearchSpace.of(spec).encoding()
        self.names = self._encoding.names
        unit_points = self.encoded(self.trials)
        self.is_active = ~np.isnan(unit_points)
        self.unit_points: Array = np.where(self.is_active, unit_points, 0.5)
        self._forests: dict[str, Forest] = {}

    def axis(self, index: int) -> Axis:
        """How the parameter of this index is encoded."""
        return self._encoding.axes[index]

    def encoded(self, trials: Sequence[Trial]) -> Array:
        """The places (n, d) of any trials of the study, NaN where a parameter is inactive."""
        unit_points = np.empty((len(trials), len(self.names)))
        for i, trial in enumerate(trials):
            unit_points[i] = self._encoding.unit_point(trial.params)
        return unit_points

    def values(self, objective: Objective) -> Array:
        """Of the complete trials (n,)."""
        index = self._spec.objectives.index(objective)
        return np.array([values_of(t)[index] for t in self.trials], dtype=float)

    def find_forest(self, objective: Objective) -> Forest | None:
        """The forest of one objective; None where :meth:`obstacle` says why."""
        if self.obstacle(objective, FEWEST):
            return None
        if objective.metric not in self._forests:
            self._forests[objective.metric] = fit_forest(
                self.unit_points, self.values(objective), self._spec.search.seed % 2**31
            )
        return self._forests[objective.metric]

    def unexplained(self, without: int | None, trials: Sequence[Trial], scores: Array) -> Array:
        """What a forest of all parameters, or all but one, leaves of ``scores`` (n,), each trial foretold by trees that
        have not seen it."""
        unit_points = np.nan_to_num(self.encoded(trials), nan=0.5)
        unit_points = unit_points if without is None else np.delete(unit_points, without, axis=1)
        if unit_points.shape[1] == 0 or len(scores) < FEWEST or np.ptp(scores) == 0:
            return np.asarray(scores - scores.mean())
        return np.asarray(scores - out_of_bag_predictions(unit_points, scores, self._spec.search.seed % 2**31))

    def obstacle(self, objective: Objective, fewest: int) -> str | None:
        """Why nothing can be said of an objective; None where something can."""
        n = len(self.trials)
        if not self.names:
            return "no parameter varies"
        if n < fewest:
            return f"{n} trials are complete; at least {fewest} are needed"
        if np.ptp(self.values(objective)) == 0:
            return f"{objective.metric} is the same in all {n} complete trials"
        return None

    def importance(self, evaluator: Evaluator) -> pd.DataFrame:
        """As :meth:`aifs_tune.analysis.of_study.Analysis.importance`."""
        if evaluator not in EVALUATORS:
            raise RequestError(f"evaluator: {evaluator!r} is not allowed; allowed: {', '.join(EVALUATORS)}")
        estimated = self._fanova if evaluator == "fanova" else self._ped_anova
        rows, remarks = list[tuple[object, ...]](), list[str]()
        for objective in self._spec.objectives:
            found = estimated(objective)
            if isinstance(found, str):
                remarks.append(found)
                continue
            for i in np.argsort(-found.value, kind="stable"):
                shares = (float(found.value[i]), float(found.low[i]), float(found.high[i]))
                rows.append((objective.metric, self.names[i], evaluator, *shares, len(self.trials)))
            remarks += self._doubts(objective) if evaluator == "fanova" else []
        columns = ["objective", "parameter", "evaluator", "importance", "low", "high", "n_trials"]
        return _table(rows, columns, n_texts=3, remarks=remarks).astype({"n_trials": "Int64"})

    def interactions(self) -> pd.DataFrame:
        """As :meth:`aifs_tune.analysis.of_study.Analysis.interactions`."""
        rows, remarks = list[tuple[object, ...]](), list[str]()
        for objective in self._spec.objectives:
            forest = self.find_forest(objective)
            if forest is None:
                remarks.append(self.obstacle(objective, FEWEST) or "")
                continue
            found = forest.importances("pairs")
            pairs = [(i, j) for i in range(len(self.names)) for j in range(i + 1, len(self.names))]
            for i, j in sorted(pairs, key=lambda pair: -found.value[pair]):
                shares = (float(part[i, j]) for part in (found.value, found.low, found.high))
                rows.append((objective.metric, self.names[i], self.names[j], *shares))
            remarks += self._doubts(objective)
        return _table(rows, ["objective", "first", "second", "share", "low", "high"], n_texts=3, remarks=remarks)

    def contour(self, first: str, second: str, metric: str | None) -> pd.DataFrame:
        """As :meth:`aifs_tune.analysis.of_study.Analysis.contour`."""
        axes = [self._axis(name) for name in (first, second)]
        if first == second:
            raise RequestError(f"{first}: given twice; allowed: two different parameters")
        objective = self._objective(metric)
        forest = self.find_forest(objective)
        grid = [self._grid(axis) for axis in axes]
        if forest is None:
            table = pd.DataFrame(columns=[first, second, "predicted", "std", "n_near"])
            table.attrs[REMARK] = self.obstacle(objective, FEWEST)
            return table
        predicted, std = forest.surface(axes[0], axes[1], (grid[0], grid[1]))
        near = [
            (np.abs(self.unit_points[:, axis, None] - points) <= self._nearness(axis)) & self.is_active[:, axis, None]
            for axis, points in zip(axes, grid, strict=True)
        ]
        values = [self._encoding.axes[axis].values(points) for axis, points in zip(axes, grid, strict=True)]
        table = pd.DataFrame(
            {
                first: [value for value in values[0] for _ in values[1]],
                second: list(values[1]) * len(values[0]),
                "predicted": predicted.ravel(),
                "std": std.ravel(),
                "n_near": (near[0].T.astype(int) @ near[1].astype(int)).ravel(),
            }
        )
        if doubts := self._doubts(objective):
            table.attrs[REMARK] = doubts[0]
        return table

    def _fanova(self, objective: Objective) -> ShareEstimate | str:
        forest = self.find_forest(objective)
        return self.obstacle(objective, FEWEST) or "" if forest is None else forest.importances("alone")

    def _ped_anova(self, objective: Objective) -> ShareEstimate | str:
        obstacle = self.obstacle(objective, FEWEST_PED)
        if obstacle:
            return obstacle
        losses = self.values(objective) * (-1.0 if objective.mode == "max" else 1.0)
        evaluate, n = self._ped(losses), len(losses)
        rng = np.random.default_rng(self._spec.search.seed)
        drawn = [rng.integers(n, size=n) for _ in range(_N_RESAMPLED)]
        shares = np.array([evaluate(chosen.tolist()) for chosen in drawn if np.ptp(losses[chosen]) > 0])
        low, high = np.quantile(shares, [0.025, 0.975], axis=0)
        value = evaluate(range(n))
        return ShareEstimate(value, np.minimum(low, value), np.maximum(high, value))

    def _ped(self, losses: Array) -> Callable[[Sequence[int]], Array]:
        ped = PedAnova(self._spec.space, [t.params for t in self.trials], losses.tolist())

        def evaluate(chosen: Sequence[int]) -> Array:
            shares = ped.importances(chosen)
            return np.array([shares.get(name, 0.0) for name in self.names])

        return evaluate

    def explained(self) -> pd.DataFrame:
        """As :meth:`aifs_tune.analysis.of_study.Analysis.explained`."""
        forests = {objective: self.find_forest(objective) for objective in self._spec.objectives}
        rows = [(objective.metric, forest.explained) for objective, forest in forests.items() if forest is not None]
        remarks = [self.obstacle(objective, FEWEST) or "" for objective in self._spec.objectives]
        return _table(rows, ["objective", "explained"], n_texts=1, remarks=remarks)

    def _doubts(self, objective: Objective) -> list[str]:
        forest = self.find_forest(objective)
        if forest is None or forest.explained >= LITTLE:
            return []
        return [
            f"the forest explains {max(0.0, forest.explained):.0%} of the variance of {objective.metric} in trials "
            "that it has not seen: its shares mean little"
        ]

    def _objective(self, metric: str | None) -> Objective:
        found = {objective.metric: objective for objective in self._spec.objectives}
        if metric is None:
            return self._spec.objective
        if metric not in found:
            raise RequestError(f"metric: {metric!r} is no objective of this study; allowed: {', '.join(found)}")
        return found[metric]

    def _axis(self, name: str) -> int:
        if name not in self.names:
            allowed = ", ".join(self.names) or "none: no parameter varies"
            raise RequestError(f"{name!r}: no parameter of this name varies; allowed: {allowed}")
        return self.names.index(name)

    def _grid(self, axis: int) -> Array:
        found = self._encoding.axes[axis]
        n = len(found.choices)
        points = (np.arange(n) + 0.5) / n if n else found.snapped(np.linspace(0.0, 1.0, _N_GRID))
        return np.unique(points)

    def _nearness(self, axis: int) -> float:
        n = len(self._encoding.axes[axis].choices)
        return 0.1 / n if n else _NEAR


def _table(
    rows: Sequence[tuple[object, ...]], columns: Sequence[str], *, n_texts: int, remarks: Sequence[str]
) -> pd.DataFrame:
    """Texts first, then numbers."""
    kinds = {name: "string" if i < n_texts else "Float64" for i, name in enumerate(columns)}
    table = pd.DataFrame(list(rows), columns=list(columns)).astype(kinds)
    said = list(dict.fromkeys(remark for remark in remarks if remark))
    if said:
        table.attrs[REMARK] = "; ".join(said)
    return table
