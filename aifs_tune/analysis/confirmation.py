"""Confirmation of the best configurations of a sweep on fresh seeds and folds, against a baseline.

The best of many trials was selected by its validation score, so that this score is too optimistic (the winner's curse).
A confirmation is a study of its own. It trains each of a few candidates on each split of a cross-validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aifs_tune.analysis.candidates import Candidate
from aifs_tune.analysis.paired import Comparison, compare_all
from aifs_tune.analysis.scores import Scores, Split
from aifs_tune.config.cross_validation import FOLD, SIZES, SPLIT, CrossValidation, split_of
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.storage.projects import MAX_NUMBERED, numbered_names, split_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study, get_study
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import FINAL, Trial

if TYPE_CHECKING:
    import pandas


CANDIDATES = "candidates"
"""Fact of a confirmation: the configurations that it compares, the baseline first."""
_VAL = "val_"
"""Prefix of the metrics of the validation set."""
_SEED_OFFSET = 1_000_003
"""Added to the seed of a study, so that its confirmation repeats no training run."""


@dataclass(frozen=True)
class Confirmation:
    """Results of a confirmation so far.

    ``scores`` are NaN where a training run failed or has not ended. ``comparisons`` compare each candidate with the
    baseline, which is the first candidate.
    """

    study: StudyRecord
    candidates: tuple[Candidate, ...]
    scores: Scores
    comparisons: tuple[Comparison, ...]

    @property
    def leader(self) -> Candidate:
        """Candidate with the best mean score."""
        sign = 1 if self.scores.mode == "max" else -1
        return max(self.candidates, key=lambda each: sign * self.mean(each.name))

    def mean(self, name: str) -> float:
        """Return the mean score of a candidate over its finished splits; the worst possible score if it has none."""
        import numpy as np

        values = self.scores.of(name)
        worst = float("-inf") if self.scores.mode == "max" else float("inf")
        return float(np.nanmean(values)) if np.isfinite(values).any() else worst

    @property
    def table(self) -> pandas.DataFrame:
        """One row for each candidate and split: name, trial, repeat, fold, score."""
        import pandas as pd

        rows = [
            {"name": each.name, "trial": each.trial, "repeat": split.repeat, "fold": split.fold, "score": score}
            for each in self.candidates
            for split, score in zip(self.scores.splits, self.scores.of(each.name).tolist(), strict=True)
        ]
        return pd.DataFrame(rows).astype({"trial": "Int64"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document of the command line."""
        import numpy as np

        rows = []
        for each in self.candidates:
            values = self.scores.of(each.name)
            kept = values[np.isfinite(values)]
            rows.append(
                {
                    **each.to_json(),
                    "mean": float(kept.mean()) if len(kept) else None,
                    "sd": float(kept.std(ddof=1)) if len(kept) > 1 else None,
                    "scores": [float(value) if np.isfinite(value) else None for value in values],
                }
            )
        return {
            "confirmation": self.study.name,
            "objective": self.study.spec.objective.model_dump(),
            "splits": [{"repeat": split.repeat, "fold": split.fold} for split in self.scores.splits],
            "candidates": rows,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
        }


def start_confirmation(
    storage: Storage, spec: SweepSpec, name: str, candidates: Sequence[Candidate], cv: CrossValidation
) -> StudyRecord:
    """Create the study that trains each candidate on each split, with all trials waiting.

    An earlier confirmation of the same candidates on the same splits is continued. If another study has this name, a
    number is appended. ``spec`` is that of the sweep that found the candidates.

    Raises
    ------
    RequestError
        If ``spec`` has no trainer, or uses cross-validation already.
    """
    asked = confirmation_spec(spec, cv)
    wanted = [each.to_json() for each in candidates]
    for candidate in numbered_names(name):
        there = find_study(storage, candidate)
        if there is None:
            return _created(storage, asked, candidate, wanted)
        if there.fact(CANDIDATES) == wanted and there.spec.cross_validation == cv:
            return there
    raise ConflictError(f"{name}: {MAX_NUMBERED} confirmations have this name already; allowed: another storage")


def confirmation_spec(spec: SweepSpec, cv: CrossValidation) -> SweepSpec:
    """Return the sweep that trains configurations of ``spec`` on each split of ``cv``.

    Raises
    ------
    RequestError
        If ``spec`` has no trainer, uses cross-validation already, or has no data for several folds.
    """
    if spec.trainer is None:
        raise RequestError(
            f"{spec.name} has no trainer. To measure a configuration of an instrument again, enqueue it."
        )
    if spec.cross_validation is not None or SPLIT in spec.space:
        raise RequestError(
            f"{spec.name} uses cross-validation already; allowed: a sweep without cross_validation and {SPLIT!r}"
        )
    if cv.measures_folds and not spec.objective.metric.startswith(_VAL):
        raise RequestError(
            f"objective.metric: {spec.objective.metric} is measured on the training set; "
            "allowed with folds: a metric that starts with val_, or folds among all"
        )
    if cv.folds > 1 and spec.data is None:
        raise RequestError(
            f"Trainer {spec.trainer.name} has no data to split into {cv.folds} folds; allowed: 1 fold, with repeats"
        )
    document = spec.model_dump(mode="json")
    document["cross_validation"] = cv.model_dump(mode="json")
    document["trainer"]["folds"] = 1
    numbers = list(range(cv.n_splits))
    document["space"][SPLIT] = {"type": "choice", "choices": numbers} if len(numbers) > 1 else 0
    seed = (spec.search.seed + _SEED_OFFSET) % 2**32
    document["search"] = spec.search.without_search(seed=seed)
    return parse_sweep(document)


def _created(storage: Storage, spec: SweepSpec, name: str, candidates: Sequence[Mapping[str, Any]]) -> StudyRecord:
    assert spec.cross_validation is not None
    n_splits = spec.cross_validation.n_splits

    def create() -> StudyRecord:
        project, short = split_name(name)
        study = start_study(storage, spec, short, project=project, with_default=False)
        study.record_fact(CANDIDATES, list(candidates))
        for split in range(n_splits):  # in this order, a worker mostly loads each split once
            for each in candidates:
                study.enqueue({**each["params"], SPLIT: split})
        study.request_trials(n_splits * len(candidates))
        return study

    return storage.transact(create, name)


def confirmations_of(study: StudyRecord, suffix: str) -> Iterator[Confirmation]:
    """Yield the confirmations ``STUDY-suffix`` of ``study`` that have a result, the oldest first."""
    for name in numbered_names(f"{study.name}-{suffix}"):
        if find_study(study.storage, name) is None:
            return
        with suppress(NotFoundError):
            yield read_confirmation(study.storage, name)


def newest_confirmation(study: StudyRecord) -> Confirmation | None:
    """Return the newest confirmation of ``study`` that has a result; None if it was never confirmed."""
    found = list(confirmations_of(study, "confirm"))
    return found[-1] if found else None


def read_confirmation(storage: Storage, name: str) -> Confirmation:
    """Read the results of the confirmation ``name`` so far.

    Raises
    ------
    NotFoundError
        If the study is not a confirmation, or no training run has ended yet.
    """
    study = get_study(storage, name)
    stored, cv = study.fact(CANDIDATES), study.spec.cross_validation
    if stored is None or cv is None:
        raise NotFoundError(f"Study {name!r} is not a confirmation. Start one with: aifs-tune confirm STUDY")
    candidates = tuple(Candidate(each["name"], each["trial"], each["params"]) for each in stored)
    if not any(trial.state in FINAL for trial in study.all_trials()):
        raise NotFoundError(f"Confirmation {name!r} has no result yet. Continue it with: aifs-tune resume {name}")
    values = {each.name: [float("nan")] * cv.n_splits for each in candidates}
    for trial in study.all_trials():
        split, params = split_of(cv, trial.params)
        name_of = next((each.name for each in candidates if dict(each.params) == params), None)
        if name_of is not None and split is not None and trial.state == "complete":
            values[name_of][split] = _score(study, cv, trial)
    objective = study.spec.objective
    scores = Scores(objective.metric, objective.mode, _splits(study, cv), values)
    return Confirmation(study, candidates, scores, compare_all(scores, candidates[0].name))


def _score(study: StudyRecord, cv: CrossValidation, trial: Trial) -> float:
    """Return the score of a complete trial's best epoch on its fold, or its value if the fold selected that epoch."""
    found = trial.value
    if cv.measures_folds:
        found = study.curve(trial)[-1].metrics.get(_of_fold(study.spec.objective.metric))
    return float("nan") if found is None else found


def _of_fold(metric: str) -> str:
    return f"{FOLD}{metric.removeprefix(_VAL)}"


def _splits(study: StudyRecord, cv: CrossValidation) -> list[Split]:
    """Return the splits with the sizes that the sweep recorded.

    Without folds, all repeats share the same data, and the training set counts as large: only seeds vary.
    """
    sizes = study.fact(SIZES) or []
    splits = []
    for number in range(cv.n_splits):
        repeat, fold = divmod(number, cv.folds)
        n_train, n_val = sizes[number] if cv.folds > 1 and number < len(sizes) else (10**9, 1)
        splits.append(Split(repeat, fold, n_train, n_val))
    return splits
