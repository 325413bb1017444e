"""Importance of parameters, alone and in pairs, and a random forest that predicts the results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from aifs_tune.analysis.scores import Array
from aifs_tune.config.sweep import Objective, SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.samplers.encoding import Axis
from aifs_tune.samplers.search_space import SearchSpace
from aifs_tune.study.ped_anova import MIN_COMPLETE as MIN_TRIALS_PED_ANOVA
from aifs_tune.study.ped_anova import PedAnova
from aifs_tune.study.results import values_of
from aifs_tune.study.trial import Trial

_MIN_WIDTH = 1e-12
MIN_TRIALS = 8
"""Minimum number of complete trials for a forest; halves of fewer trials are too small for intervals."""
N_TREES = 64
N_HALVES = 40
_TREES_OF_A_HALF = 16
_LEAF_SIZES = (1, 2, 4, 8)
_MAX_LEAVES = 128
_NORMAL_95 = 1.96
Evaluator: TypeAlias = Literal["fanova", "pedanova"]
EVALUATORS: tuple[Evaluator, ...] = get_args(Evaluator)
REMARK = "remark"
"""Key in ``attrs`` of a table: why it could not be computed, or a note on how it was; absent if there is none."""
MIN_EXPLAINED = 0.2
"""Minimum share of the variance of unseen trials that a forest must predict for its shares to be reliable."""
LARGEST = 1e100
"""Largest value that is analysed as it is: the squares of larger ones have no sum."""
_N_RESAMPLED = 100
_N_GRID = 21
_NEAR = 0.1


@dataclass(frozen=True, eq=False)
class Leaves:
    """Leaves of a tree as boxes of the unit cube: ends ``low`` and ``high`` (m, d), and ``values`` (m,)."""

    low: Array
    high: Array
    values: Array

    @property
    def widths(self) -> Array:
        """Width of each box along each parameter (m, d)."""
        return np.maximum(self.high - self.low, _MIN_WIDTH)

    def marginal(self, first: int, second: int, grid: tuple[Array, Array]) -> Array:
        """Average the tree over all parameters but two, on a grid of these: (n_first, n_second)."""
        inside = [
            (points[:, None] > self.low[:, axis]) & (points[:, None] <= self.high[:, axis])
            for axis, points in zip((first, second), grid, strict=True)
        ]
        others = np.delete(self.widths, [first, second], axis=1).prod(axis=1)
        return np.asarray((inside[0] * (self.values * others)) @ inside[1].T.astype(float))


@dataclass(frozen=True, eq=False)
class Shares:
    """Shares of a tree's variance (functional ANOVA).

    ``alone`` (d,) are main effects. ``total`` (d,) are total effects: what would be lost without a parameter. ``pairs``
    (d, d) are interactions of two parameters, symmetric with zeros on the diagonal.
    """

    alone: Array
    total: Array
    pairs: Array


def leaves_of(tree: Any, n_parameters: int) -> Leaves:
    """Return the leaves of scikit-learn's ``tree_``, fitted to points of the unit cube (n, ``n_parameters``)."""
    low = np.zeros((tree.node_count, n_parameters))
    high = np.ones((tree.node_count, n_parameters))
    for node in range(tree.node_count):  # parents come before their children
        axis, threshold = tree.feature[node], tree.threshold[node]
        if axis < 0:
            continue
        for child in (tree.children_left[node], tree.children_right[node]):
            low[child], high[child] = low[node], high[node]
        high[tree.children_left[node], axis] = threshold
        low[tree.children_right[node], axis] = threshold
    ends = tree.feature < 0
    low[low == 0.0] = -_MIN_WIDTH  # a point at 0 is in the first box
    return Leaves(low[ends], high[ends], tree.value[ends, 0, 0].astype(float))


def shares_of(leaves: Leaves) -> Shares | None:
    """Decompose the variance of a tree; None if it is constant."""
    widths = leaves.widths
    volume = widths.prod(axis=1)
    centred = leaves.values - np.average(leaves.values, weights=volume)
    variance = float(np.sum(centred**2 * volume))
    d = widths.shape[1]
    if variance <= 0.0:
        return None
    alone, total, pairs = np.zeros(d), np.zeros(d), np.zeros((d, d))
    split = [k for k in range(d) if np.ptp(leaves.low[:, k]) > 0]
    ratios = np.stack([_ratio(leaves.low[:, k], leaves.high[:, k], widths[:, k]) for k in split])
    base = np.outer(centred * volume, centred * volume)
    alone[split] = np.einsum("lm,klm->k", base, ratios)
    # einsum instead of BLAS, whose threads wait for each other while all cores train
    both = np.einsum("jlm,klm->jk", ratios * base, ratios) - alone[split, None] - alone[split]
    np.fill_diagonal(both, 0.0)
    pairs[np.ix_(split, split)] = both
    total[split] = variance - _products_but_one(base, ratios)
    return Shares(*(np.clip(part / variance, 0.0, 1.0) for part in (alone, total, pairs)))


def _ratio(low: Array, high: Array, widths: Array) -> Array:
    """Compute the overlap of every two boxes along a parameter over the product of their widths (m, m)."""
    overlap = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    return np.asarray(np.maximum(overlap, 0.0) / np.outer(widths, widths))


def _products_but_one(base: Array, ratios: Array) -> Array:
    """Sum, for each of ``ratios`` (k, m, m), the product of ``base`` and all other ratios."""
    after = [np.ones_like(base)]
    for ratio in ratios[:0:-1]:
        after.append(after[-1] * ratio)
    found, before = [], base
    for ratio in ratios:
        found.append(float(np.sum(before * after.pop())))
        before = before * ratio
    return np.array(found)


@dataclass(frozen=True, eq=False)
class ShareEstimate:
    """Shares with the ends of their 95 % intervals, all of the same shape."""

    value: Array
    low: Array
    high: Array


@dataclass(frozen=True, eq=False)
class Forest:
    """Random forest fitted to ``unit_points`` (n, d) of the unit cube and ``values`` (n,), which are not all equal.

    ``explained`` is the share of the variance of unseen trials that it predicts (R², out of bag). At or below 0 it
    predicts nothing, and its shares are meaningless.
    """

    unit_points: Array
    values: Array
    trees: tuple[Leaves, ...]
    explained: float
    leaf_size: int
    seed: int

    @cached_property
    def _full(self) -> Shares | None:
        return _mean_shares(self.trees)

    @cached_property
    def _halves(self) -> list[Shares]:
        rng = np.random.default_rng(self.seed)
        n, found = len(self.values), []
        for _ in range(N_HALVES):
            chosen = rng.permutation(n)[: n // 2]
            if np.ptp(self.values[chosen]) == 0:
                continue
            size = max(1, self.leaf_size // 2)
            seed = int(rng.integers(2**31))
            trees = _fitted(self.unit_points[chosen], self.values[chosen], _TREES_OF_A_HALF, size, seed)[0]
            shares = _mean_shares(trees)
            if shares is not None:
                found.append(shares)
        return found

    def importances(self, part: str) -> ShareEstimate:
        """Return the field ``part`` of :class:`Shares` with intervals."""
        assert self._full is not None, "values that differ make trees that vary"
        value = getattr(self._full, part)
        if len(self._halves) < 2:
            return ShareEstimate(value, np.zeros_like(value), np.ones_like(value))
        halves = np.array([getattr(half, part) for half in self._halves])
        wide, moved = _NORMAL_95 * halves.std(axis=0, ddof=1), value - halves.mean(axis=0)
        low, high = value - wide + np.minimum(moved, 0.0), value + wide + np.maximum(moved, 0.0)
        return ShareEstimate(value, np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0))

    def surface(self, first: int, second: int, grid: tuple[Array, Array]) -> tuple[Array, Array]:
        """Average over all parameters but two, on a grid of these, with the standard deviation over the trees."""
        found = np.stack([tree.marginal(first, second, grid) for tree in self.trees])
        return found.mean(axis=0), found.std(axis=0)


def fit_forest(unit_points: Array, values: Array, seed: int) -> Forest:
    """Fit a forest with the leaf size that predicts unseen trials best: more noise needs larger leaves."""
    best: Forest | None = None
    for size in _sizes(len(values)):
        trees, explained = _fitted(unit_points, values, N_TREES, size, seed)
        if best is None or explained > best.explained:
            best = Forest(unit_points, values, trees, explained, size, seed)
    assert best is not None
    return best


def out_of_bag_predictions(unit_points: Array, values: Array, seed: int) -> Array:
    """Predict each trial (n,) by the trees that have not seen it, of a forest as in :func:`fit_forest`."""
    forests = [_grown(unit_points, values, N_TREES, size, seed) for size in _sizes(len(values))]
    found = np.array(max(forests, key=lambda forest: float(forest.oob_score_)).oob_prediction_, dtype=float)
    return np.where(np.isfinite(found), found, values.mean())


def _sizes(n: int) -> list[int]:
    return [size for size in _LEAF_SIZES if size == 1 or 4 * size <= n]


def _fitted(
    unit_points: Array, values: Array, n_trees: int, leaf_size: int, seed: int
) -> tuple[tuple[Leaves, ...], float]:
    forest = _grown(unit_points, values, n_trees, leaf_size, seed)
    trees = tuple(leaves_of(each.tree_, unit_points.shape[1]) for each in forest.estimators_)
    return trees, float(forest.oob_score_)


def _grown(unit_points: Array, values: Array, n_trees: int, leaf_size: int, seed: int) -> Any:
    """Fit scikit-learn's random forest."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        n_trees,
        min_samples_leaf=leaf_size,
        max_leaf_nodes=_MAX_LEAVES if len(values) > _MAX_LEAVES else None,
        oob_score=True,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # with few trials, some are in every tree and have no out-of-bag prediction
        return forest.fit(unit_points, values)


def _mean_shares(trees: tuple[Leaves, ...]) -> Shares | None:
    found = [shares for shares in map(shares_of, trees) if shares is not None]
    if not found:
        return None
    return Shares(*(np.mean([getattr(each, part) for each in found], axis=0) for part in ("alone", "total", "pairs")))


class Explained:
    """Importances of the parameters of a study, from its complete trials.

    ``unit_points`` (n, d) are their configurations in the unit cube, and ``names`` those of the d parameters that vary.
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
        """Return the encoding of the parameter with this index."""
        return self._encoding.axes[index]

    def encoded(self, trials: Sequence[Trial]) -> Array:
        """Return the unit points (n, d) of any trials of the study, NaN where a parameter is inactive."""
        unit_points = np.empty((len(trials), len(self.names)))
        for i, trial in enumerate(trials):
            unit_points[i] = self._encoding.unit_point(trial.params)
        return unit_points

    def values(self, objective: Objective) -> Array:
        """Return the values of an objective (n,) of the complete trials, those beyond :data:`LARGEST` as that."""
        return np.clip(self._measured(objective), -LARGEST, LARGEST)

    def _measured(self, objective: Objective) -> Array:
        index = self._spec.objectives.index(objective)
        return np.array([values_of(t)[index] for t in self.trials], dtype=float)

    def find_forest(self, objective: Objective) -> Forest | None:
        """Return the forest of an objective; None where :meth:`obstacle` gives the reason."""
        if self.obstacle(objective, MIN_TRIALS):
            return None
        if objective.metric not in self._forests:
            self._forests[objective.metric] = fit_forest(
                self.unit_points, self.values(objective), self._spec.search.seed % 2**31
            )
        return self._forests[objective.metric]

    def unexplained(self, without: int | None, trials: Sequence[Trial], scores: Array) -> Array:
        """Return the residuals of ``scores`` (n,) from out-of-bag predictions of a forest.

        The forest uses all parameters, or all but the one with the index ``without``.
        """
        unit_points = np.nan_to_num(self.encoded(trials), nan=0.5)
        unit_points = unit_points if without is None else np.delete(unit_points, without, axis=1)
        if unit_points.shape[1] == 0 or len(scores) < MIN_TRIALS or np.ptp(scores) == 0:
            return np.asarray(scores - scores.mean())
        return np.asarray(scores - out_of_bag_predictions(unit_points, scores, self._spec.search.seed % 2**31))

    def obstacle(self, objective: Objective, min_trials: int) -> str | None:
        """Return why an objective cannot be analysed; None if it can."""
        n = len(self.trials)
        if not self.names:
            return "no parameter varies"
        if n < min_trials:
            return f"{n} of at least {min_trials} required trials are complete"
        if np.ptp(self.values(objective)) == 0:
            what = "equal" if len(set(self._measured(objective))) == 1 else f"beyond {LARGEST:.0e}"
            return f"{objective.metric} is {what} in all {n} complete trials"
        return None

    def importance(self, evaluator: Evaluator) -> pd.DataFrame:
        """Compute the table of :meth:`aifs_tune.analysis.study_tables.Analysis.importance`."""
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
            remarks += self._warnings(objective) if evaluator == "fanova" else []
        columns = ["objective", "parameter", "evaluator", "importance", "low", "high", "n_trials"]
        return _table(rows, columns, n_texts=3, remarks=remarks).astype({"n_trials": "Int64"})

    def interactions(self) -> pd.DataFrame:
        """Compute the table of :meth:`aifs_tune.analysis.study_tables.Analysis.interactions`."""
        rows, remarks = list[tuple[object, ...]](), list[str]()
        for objective in self._spec.objectives:
            forest = self.find_forest(objective)
            if forest is None:
                remarks.append(self.obstacle(objective, MIN_TRIALS) or "")
                continue
            found = forest.importances("pairs")
            pairs = [(i, j) for i in range(len(self.names)) for j in range(i + 1, len(self.names))]
            for i, j in sorted(pairs, key=lambda pair: -found.value[pair]):
                shares = (float(part[i, j]) for part in (found.value, found.low, found.high))
                rows.append((objective.metric, self.names[i], self.names[j], *shares))
            remarks += self._warnings(objective)
        return _table(rows, ["objective", "first", "second", "share", "low", "high"], n_texts=3, remarks=remarks)

    def contour(self, first: str, second: str, metric: str | None) -> pd.DataFrame:
        """Compute the table of :meth:`aifs_tune.analysis.study_tables.Analysis.contour`."""
        axes = [self._axis(name) for name in (first, second)]
        if first == second:
            raise RequestError(f"{first}: given twice; allowed: two different parameters")
        objective = self._objective(metric)
        forest = self.find_forest(objective)
        grid = [self._grid(axis) for axis in axes]
        if forest is None:
            table = pd.DataFrame(columns=[first, second, "predicted", "std", "n_near"])
            table.attrs[REMARK] = self.obstacle(objective, MIN_TRIALS)
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
        if found := self._warnings(objective):
            table.attrs[REMARK] = found[0]
        return table

    def _fanova(self, objective: Objective) -> ShareEstimate | str:
        forest = self.find_forest(objective)
        return self.obstacle(objective, MIN_TRIALS) or "" if forest is None else forest.importances("alone")

    def _ped_anova(self, objective: Objective) -> ShareEstimate | str:
        obstacle = self.obstacle(objective, MIN_TRIALS_PED_ANOVA)
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
        """Compute the table of :meth:`aifs_tune.analysis.study_tables.Analysis.explained`."""
        forests = {objective: self.find_forest(objective) for objective in self._spec.objectives}
        rows = [(objective.metric, forest.explained) for objective, forest in forests.items() if forest is not None]
        remarks = [self.obstacle(objective, MIN_TRIALS) or "" for objective in self._spec.objectives]
        return _table(rows, ["objective", "explained"], n_texts=1, remarks=remarks)

    def _warnings(self, objective: Objective) -> list[str]:
        forest = self.find_forest(objective)
        if forest is None:
            return []
        n_beyond = int((np.abs(self._measured(objective)) > LARGEST).sum())
        beyond = [f"{n_beyond} values of {objective.metric} beyond {LARGEST:.0e} are taken as that"] if n_beyond else []
        if forest.explained >= MIN_EXPLAINED:
            return beyond
        return [
            *beyond,
            f"the random forest explains {max(0.0, forest.explained):.0%} of the variance of {objective.metric} in "
            "unseen trials, so its shares are unreliable",
        ]

    def _objective(self, metric: str | None) -> Objective:
        found = {objective.metric: objective for objective in self._spec.objectives}
        if metric is None:
            return self._spec.objective
        if metric not in found:
            raise RequestError(f"metric: {metric!r} is not an objective of this study; allowed: {', '.join(found)}")
        return found[metric]

    def _axis(self, name: str) -> int:
        if name not in self.names:
            allowed = ", ".join(self.names) or "none: no parameter varies"
            raise RequestError(f"{name!r} is not a parameter that varies; allowed: {allowed}")
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
    """Make a table of ``n_texts`` text columns, then numbers, with its remarks."""
    kinds = {name: "string" if i < n_texts else "Float64" for i, name in enumerate(columns)}
    table = pd.DataFrame(list(rows), columns=list(columns)).astype(kinds)
    unique = list(dict.fromkeys(remark for remark in remarks if remark))
    if unique:
        table.attrs[REMARK] = "; ".join(unique)
    return table
