"""What a study's trials say, as tables: :func:`analyse`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, Protocol, TypeAlias, get_args

import pandas as pd

from aifs_tune.analysis.importance import REMARK, Explained
from aifs_tune.analysis.suggestions import suggestions_of
from aifs_tune.analysis.trial_tables import (
    ESTIMATE,
    curves_of,
    failures_of,
    parallel_of,
    pareto_of,
    saved_of,
    slices_of,
)
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.study.ranking import noise_in
from aifs_tune.study.trial import Measurement, Trial

_MIN_DEGREES_OF_FREEDOM = 3


class Readable(Protocol):
    """A study here or elsewhere."""

    @property
    def spec(self) -> SweepSpec: ...

    @property
    def trainer(self) -> str | None: ...

    def all_trials(self) -> list[Trial]: ...

    def curve(self, trial: Trial | int) -> list[Measurement]: ...


class Analysis:
    """The trials of a study as tables (pandas DataFrames), read once, when it is made.

    A table that cannot be made is empty, and ``table.attrs["remark"]`` says why; so does it say what is to be known of
    one that can. ``noise`` is the standard deviation of one measurement of the first objective where it is known from
    elsewhere, as by ``aifs-tune noise``; absent, that of the trials' replicates, if there are enough.
    """

    def __init__(self, study: Readable, *, noise: float | None = None) -> None:
        self._study = study
        self.spec: SweepSpec = study.spec
        self.trials = study.all_trials()
        measured = noise_in(self.trials)
        if noise is None and measured is not None and measured[1] >= _MIN_DEGREES_OF_FREEDOM:
            noise = measured[0]
        self.noise = noise

    def importance(self, evaluator: Literal["fanova", "pedanova"] = "fanova") -> pd.DataFrame:
        """What part of each objective depends on each parameter alone: objective, parameter, evaluator, importance,
        low, high, n_trials; the largest first, of complete trials.

        ``fanova``: the share of the variance of a random forest over the space (Hutter, Hoos and Leyton-Brown, ICML
        2014); what is left is by parameters together. ``pedanova``: how far the best tenth of the trials is from all
        of them, in parts of the sum (Watanabe, Bansal and Hutter, IJCAI 2023). low and high are 95 % intervals for
        which other trials might have been made: of fanova from forests of random halves of the trials, of pedanova
        from the bootstrap over trials.

        Raises
        ------
        RequestError
            If there is no such evaluator.
        """
        return self._explained.importance(evaluator)

    def interactions(self) -> pd.DataFrame:
        """The share of an objective's variance that two parameters explain together and neither does alone: objective,
        first, second, share, low, high; by the forest of :meth:`importance`, the largest first."""
        return self._explained.interactions()

    def explained(self) -> pd.DataFrame:
        """What part of each objective's variance the forest foretells of trials that it has not seen (R², out of bag):
        objective, explained. Near 0, importances, interactions and contours mean nothing."""
        return self._explained.explained()

    def slices(self) -> pd.DataFrame:
        """One row a trial, parameter and objective: trial, parameter, value, metric, metric_value, state. ``value`` has
        the parameter's own type; ``metric_value`` is the best so far of trials that are not complete."""
        return slices_of(self.trials, self.spec)

    def contour(self, first: str, second: str, *, metric: str | None = None) -> pd.DataFrame:
        """An objective (the first one if absent) over two parameters: columns of their names, predicted, std, n_near.

        ``predicted`` is the forest's mean over all other parameters, ``std`` its standard deviation over the trees,
        ``n_near`` the number of complete trials within a tenth of both ranges: where it is 0, nothing was measured.

        Raises
        ------
        RequestError
            If a parameter or the metric is not one of the study, or one that does not vary.
        """
        return self._explained.contour(first, second, metric)

    def parallel(self) -> pd.DataFrame:
        """One row a complete trial, the best first: trial, rank, value, params_<name>, metrics_<further objective>."""
        return parallel_of(self.trials, self.spec)

    def curves(self) -> pd.DataFrame:
        """One row a trial and epoch: trial, epoch, value (the first objective), seconds, state."""
        return _with_remark(curves_of(self.trials, self._curves, self.spec), "no trial reported an epoch")

    def saved(self) -> pd.DataFrame:
        """What ending trials before the last epoch saved: state, n_trials, epochs, epochs_full, seconds, seconds_full,
        share_saved (of the seconds); the row ``all`` has pruned and complete ones together. The full ones are
        estimated: a trial's epochs times the median seconds of its own epochs. Failed trials are not counted."""
        table = saved_of(self.trials, self._curves, self._n_epochs)
        if table.empty:
            return _with_remark(table, "no finished trial reported an epoch")
        table.attrs[REMARK] = ESTIMATE
        return table

    def pareto(self) -> pd.DataFrame:
        """Cost against quality: trial, seconds, value, on_front, the cheapest first; of complete trials."""
        return _with_remark(pareto_of(self.trials, self.spec), "no complete trial has seconds")

    def failures(self) -> pd.DataFrame:
        """Failed trials by what their reasons have in common: reason, n, trials (their numbers), example."""
        return _with_remark(failures_of(self.trials), "no trial failed")

    def suggestions(self) -> pd.DataFrame:
        """What to change before more is measured: parameter (missing where it is of the whole study), kind, text,
        evidence; see :mod:`aifs_tune.analysis.suggestions`."""
        found = suggestions_of(self.spec, self.trials, self._explained, noise=self.noise, n_epochs=self._n_epochs)
        table = pd.DataFrame([vars(each) for each in found], columns=["parameter", "kind", "text", "evidence"])
        return _with_remark(table.astype("string"), "nothing stands out")

    @cached_property
    def _explained(self) -> Explained:
        return Explained(self.spec, self.trials)

    @cached_property
    def _n_epochs(self) -> int:
        """Of a trial that is not stopped; without a trainer, of the longest one."""
        if self._study.trainer is not None:
            return self.spec.search.epochs
        return max((t.epochs for t in self.trials), default=0)

    @cached_property
    def _curves(self) -> Mapping[int, Sequence[Measurement]]:
        return {t.number: self._study.curve(t) if t.epochs else [] for t in self.trials}


def analyse(study: Readable, *, noise: float | None = None) -> Analysis:
    """The trials of a study, here or elsewhere, as tables; see :class:`Analysis`."""
    return Analysis(study, noise=noise)


def _with_remark(table: pd.DataFrame, remark: str) -> pd.DataFrame:
    """``table``, with the remark if it is empty."""
    if table.empty:
        table.attrs[REMARK] = remark
    return table


TableName: TypeAlias = Literal[
    "importance",
    "interactions",
    "explained",
    "slices",
    "contour",
    "parallel",
    "curves",
    "saved",
    "pareto",
    "failures",
    "suggestions",
]
TABLES: tuple[TableName, ...] = get_args(TableName)
"""Methods of :class:`~aifs_tune.analysis.study_tables.Analysis` that make a table."""
