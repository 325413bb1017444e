"""Tables of the trials of a study, made by :func:`analyse`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, Protocol

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
    """Study that can be analysed: :class:`aifs_tune.Study`, or a study of :class:`aifs_tune.Client`."""

    @property
    def spec(self) -> SweepSpec:
        """The question of the study."""

    @property
    def trainer(self) -> str | None:
        """Name of its trainer; None if an instrument or a user measures."""

    def all_trials(self) -> list[Trial]:
        """Return all trials, in the order of their numbers."""

    def curve(self, trial: Trial | int) -> list[Measurement]:
        """Return the epochs of a trial."""


class Analysis:
    """Trials of a study as tables (pandas DataFrames), made by :func:`aifs_tune.analyse`.

    Trials are read once, when it is created. A table that cannot be computed is empty, and ``table.attrs["remark"]``
    gives the reason. A remark of another table is a note on how it was computed.

    Parameters
    ----------
    study : Study
        The study to analyse.
    noise : float, optional
        Standard deviation of one measurement of the first objective, such as ``aifs-tune noise`` measures. By default
        it is estimated from replicates, if there are enough.

    Examples
    --------
    >>> study = aifs_tune.open_study("oven", space={"temperature": {"type": "float", "low": 600, "high": 1400}})
    >>> for temperature in (700, 900, 1200):
    ...     _ = study.enqueue({"temperature": temperature})
    ...     _ = study.tell(study.ask(), -abs(temperature - 1000))
    >>> analysis = aifs_tune.analyse(study)
    >>> analysis.parallel()[["rank", "value"]].values.tolist()
    [[1, -100.0], [2, -200.0], [3, -300.0]]
    >>> analysis.importance().attrs["remark"]
    '3 of at least 8 required trials are complete'
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
        """Compute the importance of each parameter alone, from the complete trials.

        Intervals show how much the result depends on which trials were run. Those of ``fanova`` come from forests of
        random halves of the trials, those of ``pedanova`` from the bootstrap over trials.

        Parameters
        ----------
        evaluator : {"fanova", "pedanova"}, default "fanova"
            ``fanova`` is the share of the variance of a random forest over the space (Hutter, Hoos and Leyton-Brown,
            ICML 2014); the rest is due to interactions. ``pedanova`` is the divergence of the best tenth of the trials
            from all trials, as a share of the sum (Watanabe, Bansal and Hutter, IJCAI 2023).

        Returns
        -------
        pandas.DataFrame
            One row for each objective and parameter, the largest importance first: objective, parameter, evaluator,
            importance, low and high (95 % interval), n_trials.

        Raises
        ------
        RequestError
            If there is no such evaluator.
        """
        return self._explained.importance(evaluator)

    def interactions(self) -> pd.DataFrame:
        """Compute the share of the variance that two parameters explain together and neither explains alone.

        It uses the random forest of :meth:`importance`.

        Returns
        -------
        pandas.DataFrame
            One row for each objective and pair of parameters, the largest share first: objective, first, second, share,
            low and high (95 % interval).
        """
        return self._explained.interactions()

    def explained(self) -> pd.DataFrame:
        """Compute how well the random forest predicts unseen trials.

        Returns
        -------
        pandas.DataFrame
            One row for each objective: objective, explained (out-of-bag R²). Near 0, importances, interactions and
            contours are meaningless.
        """
        return self._explained.explained()

    def slices(self) -> pd.DataFrame:
        """Return objectives over single parameters.

        Returns
        -------
        pandas.DataFrame
            One row for each trial, parameter and objective: trial, parameter, value (in the parameter's own type),
            metric, metric_value (the best so far of a trial that is not complete), state.
        """
        return slices_of(self.trials, self.spec)

    def contour(self, first: str, second: str, *, metric: str | None = None) -> pd.DataFrame:
        """Predict an objective over two parameters.

        Parameters
        ----------
        first, second : str
            Names of two different parameters that vary.
        metric : str, optional
            Name of the objective. By default the first one.

        Returns
        -------
        pandas.DataFrame
            One row for each point of a grid: a column for each of the two parameters, predicted (the mean of the random
            forest over all other parameters), std (its standard deviation over the trees), n_near (number of complete
            trials within a tenth of both ranges; where it is 0, nothing was measured).

        Raises
        ------
        RequestError
            If a parameter does not exist or does not vary, or there is no such objective.
        """
        return self._explained.contour(first, second, metric)

    def parallel(self) -> pd.DataFrame:
        """Return complete trials for a parallel-coordinate plot.

        Returns
        -------
        pandas.DataFrame
            One row for each complete trial, the best first: trial, rank, value, params_<name>,
            metrics_<further objective>.
        """
        return parallel_of(self.trials, self.spec)

    def curves(self) -> pd.DataFrame:
        """Return learning curves.

        Returns
        -------
        pandas.DataFrame
            One row for each trial and epoch: trial, epoch, value (the first objective), seconds, state.
        """
        return _with_remark(curves_of(self.trials, self._curves, self.spec), "no trial reported an epoch")

    def saved(self) -> pd.DataFrame:
        """Estimate what early stopping saved. Failed trials are not counted.

        Returns
        -------
        pandas.DataFrame
            One row for complete, for pruned and for all of these trials: state, n_trials, epochs, epochs_full, seconds,
            seconds_full, share_saved (of the seconds). Columns that end with ``_full`` are for training all trials to
            the last epoch, each epoch with the median seconds of the trial's own epochs.
        """
        table = saved_of(self.trials, self._curves, self._n_epochs)
        if table.empty:
            return _with_remark(table, "no finished trial reported an epoch")
        table.attrs[REMARK] = ESTIMATE
        return table

    def pareto(self) -> pd.DataFrame:
        """Return the cost and quality of complete trials.

        Returns
        -------
        pandas.DataFrame
            One row for each complete trial, the cheapest first: trial, seconds, value, on_front.
        """
        return _with_remark(pareto_of(self.trials, self.spec), "no complete trial has a duration")

    def failures(self) -> pd.DataFrame:
        """Group failed trials by reason.

        Returns
        -------
        pandas.DataFrame
            One row for each group, the largest first: reason, n, trials (their numbers), example (one full reason).
        """
        return _with_remark(failures_of(self.trials), "no trial failed")

    def suggestions(self) -> pd.DataFrame:
        """Suggest changes of the study.

        Returns
        -------
        pandas.DataFrame
            One row for each suggestion: parameter (missing if it is about the whole study), kind, text, evidence; see
            :mod:`aifs_tune.analysis.suggestions`.
        """
        found = suggestions_of(self.spec, self.trials, self._explained, noise=self.noise, n_epochs=self._n_epochs)
        table = pd.DataFrame([vars(each) for each in found], columns=["parameter", "kind", "text", "evidence"])
        return _with_remark(table.astype("string"), "no change is suggested")

    @cached_property
    def _explained(self) -> Explained:
        return Explained(self.spec, self.trials)

    @cached_property
    def _n_epochs(self) -> int:
        """Number of epochs of a trial that is not stopped; without a trainer, of the longest trial."""
        if self._study.trainer is not None:
            return self.spec.search.epochs
        return max((t.epochs for t in self.trials), default=0)

    @cached_property
    def _curves(self) -> Mapping[int, Sequence[Measurement]]:
        return {t.number: self._study.curve(t) if t.epochs else [] for t in self.trials}


def analyse(study: Readable, *, noise: float | None = None) -> Analysis:
    """Analyse the trials of a study.

    Parameters
    ----------
    study : Study
        A study of :func:`aifs_tune.open_study`, or of :class:`aifs_tune.Client`.
    noise : float, optional
        Standard deviation of one measurement of the first objective, such as ``aifs-tune noise`` measures. By default
        it is estimated from replicates, if there are enough.

    Returns
    -------
    Analysis
        Its methods return tables: importance of parameters, learning curves, failures, suggestions and others.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"temperature": {"type": "float", "low": 600, "high": 1400}})
    >>> trial = study.ask()
    >>> _ = study.tell(trial, state="failed", reason="door open")
    >>> aifs_tune.analyse(study).failures()[["reason", "n"]].values.tolist()
    [['door open', 1]]
    """
    return Analysis(study, noise=noise)


def _with_remark(table: pd.DataFrame, remark: str) -> pd.DataFrame:
    """Return ``table``, with the remark if it is empty."""
    if table.empty:
        table.attrs[REMARK] = remark
    return table
