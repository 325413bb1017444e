"""Design of the next experiments from the table of a study: train an ensemble, calibrate it, choose a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune.analysis.design.acquisition import Measured
from aifs_tune.analysis.design.calibration import Calibration
from aifs_tune.analysis.design.ensemble import Source, check_table, train_ensemble, training_rows, with_results
from aifs_tune.analysis.design.goals import parse_goals
from aifs_tune.analysis.design.proposer import Proposer
from aifs_tune.analysis.final_model import epochs_of, final_candidates
from aifs_tune.config.sweep import Refit
from aifs_tune.data.examples import open_examples
from aifs_tune.errors import RequestError
from aifs_tune.execution.callbacks import NullCallback, SweepCallback
from aifs_tune.execution.data import data_for
from aifs_tune.execution.finalize import check_has_model, final_spec
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

if TYPE_CHECKING:
    import pandas

MAX_BATCH = 100
MODELS = 15
_MIN_MODELS, _MAX_MODELS = 6, 100


@dataclass(frozen=True)
class Design:
    """Proposed experiments, made by :func:`design`.

    Parameters
    ----------
    study : str
        Name of the study.
    table : pandas.DataFrame
        A row for each experiment, the most valuable first: the columns of the inputs; of each target ``expected NAME``,
        and the 90 % interval ``low NAME`` to ``high NAME``, in its unit; ``p_limits``, the probability that all limits
        hold; and ``distance``, that to the nearest measured row, 1 where it is as large as 95 % of those between
        measured rows are at most.
    targets : tuple of str
        Names of the targets; empty columns of these names make the file to be filled in.
    calibrations : tuple of Calibration
        How far the uncertainty of each target can be trusted.
    best : float, optional
        The best measured value within the limits; None of several objectives, or if there is none.
    remarks : tuple of str
        What the proposals rest on, and what was left out.
    """

    study: str
    table: pandas.DataFrame
    targets: tuple[str, ...]
    calibrations: tuple[Calibration, ...]
    best: float | None
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON.

        Returns
        -------
        dict
            The proposals, calibrations, best value and remarks.
        """
        return {
            "study": self.study,
            "proposals": self.table.to_dict("records"),
            "calibration": [each.to_json() for each in self.calibrations],
            "best_measured": self.best,
            "remarks": list(self.remarks),
        }

    def write(self, file: str | Path) -> Path:
        """Write a CSV file to be filled in: the proposals, and an empty column for each target.

        Parameters
        ----------
        file : str or Path
            File to write; it must not exist, as it could hold results.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        RequestError
            If it exists, or is no CSV file.
        """
        path = check_output(file)
        empty = dict.fromkeys(self.targets, "")
        self.table.assign(**empty).to_csv(path, index=False, float_format="%.6g")
        return path


def check_output(file: str | Path) -> Path:
    """Check that a file for proposals is a CSV file that does not exist.

    Raises
    ------
    RequestError
        If it is not.
    """
    path = Path(file)
    if path.suffix.lower() != ".csv":
        raise RequestError(f"output: {path} is not allowed; allowed: a file .csv")
    if path.exists():
        raise RequestError(f"output: {path} exists, and may hold results; allowed: a new file")
    return path


def design(
    study: str,
    *,
    maximise: str | Sequence[str] = (),
    minimise: str | Sequence[str] = (),
    subject_to: str | Sequence[str] = (),
    sums: str | Sequence[str] = (),
    ranges: str | Sequence[str] = (),
    batch: int = 8,
    measured: str | Path | Sequence[str | Path] = (),
    candidates: str | Path | None = None,
    reach: float = 1.0,
    models: int = MODELS,
    seed: int = 0,
    storage: str | None = None,
    callback: SweepCallback | None = None,
) -> Design:
    """Propose the next experiments from a study of a table of numbers.

    The best configuration trains an ensemble, each model on two thirds of the groups of all rows but the test set. The
    groups that a model has not seen calibrate its uncertainty. The proposals have the largest expected improvement
    times the probability of the limits, one after the other: each is believed to give what is expected, so that the
    next one differs. Candidates mix and change measured rows, inside the ranges.

    Parameters
    ----------
    study : str
        Name of the study; its trainer learns numbers from a table.
    maximise, minimise : str or sequence of str
        Targets. Several are weighed at random for each proposal, so that a batch covers their trade-off.
    subject_to : str or sequence of str
        Limits of targets, such as ``"elongation >= 10"``, or of sums of columns, such as ``"ni + co <= 30"``.
    sums : str or sequence of str
        Sums of columns of a mixture, such as ``"resin + hardener = 1"``.
    ranges : str or sequence of str
        Ranges of columns, such as ``"ni=0:20"``, ``"co=0"`` or ``"furnace=A|B"``. Default: the values that were
        measured.
    batch : int, default 8
        Number of proposals, from 1 to 100.
    measured : path or sequence of paths, optional
        Tables with new results, such as the filled file of :meth:`Design.write`. They join the training rows.
    candidates : path, optional
        Table of the experiments that are possible; proposals are rows of it.
    reach : float, default 1
        Largest distance of a proposal to the nearest measured row, above 0, in units of the distance that 95 % of the
        measured rows have at most to another group. Farther away the uncertainty was never tested.
    models : int, default 15
        Number of models, from 6 to 100.
    seed : int, default 0
        Seed of the ensemble and the search.
    storage : str, optional
        Storage of the study. Default: ``$AIFS_TUNE_STORAGE``, else ``sqlite:///aifs_tune.db``.
    callback : SweepCallback, optional
        Told of the progress.

    Returns
    -------
    Design
        The proposals, how far their uncertainty can be trusted, and what they rest on.

    Raises
    ------
    NotFoundError
        If there is no such study, or none of its trials is complete.
    RequestError
        If the study does not predict numbers of a table, or a goal cannot be read or kept.
    DataError
        If a file cannot be read, or too little is measured.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> try:
    ...     aifs_tune.design("furnace", maximise="strength")
    ... except aifs_tune.AifsTuneError as error:
    ...     print(error)
    Study 'furnace' has no trainer, so there is no model to train; allowed: a study of a built-in trainer
    """
    for name, value, low, high in (("batch", batch, 1, MAX_BATCH), ("models", models, _MIN_MODELS, _MAX_MODELS)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise RequestError(f"{name}: {value!r} is not allowed; allowed: {low} to {high}")
    if isinstance(reach, bool) or not isinstance(reach, int | float) or not 0 < reach < math.inf:
        raise RequestError(f"reach: {reach!r} is not allowed; allowed: a number above 0")
    told = callback or NullCallback()
    found = get_study(Storage(storage), study)
    check_has_model(found)
    check_table(found.spec, found.name)
    (candidate,), confirmed = final_candidates(found, 1)
    refit = Refit(params=dict(candidate.params), epoch=epochs_of(candidate, found, confirmed))
    spec = final_spec(found.spec, (refit,))
    prepared = data_for(spec, strict=False, callback=NullCallback())
    assert prepared.location is not None
    source = Source(spec, open_examples(prepared.location))
    goals = parse_goals(
        maximise=_listed(maximise),
        minimise=_listed(minimise),
        subject_to=_listed(subject_to),
        sums=_listed(sums),
        ranges=_listed(ranges),
        targets=source.targets,
        columns=[column.name for column in source.columns],
        texts=[column.name for column in source.columns if column.levels],
    )
    rows, remarks = training_rows(source.examples, prepared.files), list[str]()
    for file in [measured] if isinstance(measured, str | Path) else measured:
        rows, told_of = with_results(rows, Path(file), source)
        remarks += told_of
    pool = None if candidates is None else source.read(Path(candidates)).inputs[0]
    ensemble = train_ensemble(source, rows, refit, n=models, seed=seed, progress=told.on_progress)
    n_test = len(source.examples.test)
    not_used = f"; the {n_test} rows of the test set are not used" if n_test else ""
    said = (
        f"{models} models of {candidate.name}, {refit.epoch} epochs each, learnt from {len(rows.inputs)} rows{not_used}"
    )
    proposer = Proposer(ensemble, rows, source, goals, seed, reach)
    table, more = proposer.propose(batch) if pool is None else proposer.choose_from(pool, batch)
    feasible = Measured(source.in_units(rows.y_true)).feasible(goals, source.targets)
    is_one = feasible.shape[1] == 1 and len(feasible) > 0
    best = float(f"{feasible.max() * goals.objectives[0].sign:.6g}") if is_one else None
    return Design(found.name, table, source.targets, ensemble.calibrations, best, (*remarks, said, *more))


def _listed(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)
