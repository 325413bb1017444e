"""The test part of a study's data: whether it was used, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aifs_tune.artifacts.data_files import find_study_files
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import NotFoundError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study, get_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial
from aifs_tune.trainers.predictions import Predictions, read_predictions

if TYPE_CHECKING:
    import pandas

    from aifs_tune.analysis.classification import HeldOutClasses
    from aifs_tune.analysis.regression import HeldOutTarget


TEST_EVALUATION = "test_evaluation"
"""Fact of a study that answers a test part: the name of the candidate."""


def selection_bias_warning(spec: SweepSpec) -> str | None:
    """What is to be said before configurations are compared on examples by which a sweep of ``spec`` chose them."""
    if spec.trainer is None or spec.trainer.folds == 1:
        return None
    return (
        f"the sweep chose by {spec.trainer.folds} folds of all that is not the test part: a part of its luck is left "
        "in a confirmation, none of it in the test part"
    )


@dataclass(frozen=True)
class HeldOutEvaluation:
    """What a candidate answered for the test part, in the trial that trained it."""

    candidate: str
    study: StudyRecord
    trial: Trial
    predictions: Predictions

    @property
    def classes(self) -> HeldOutClasses | None:
        """What the answers are worth, if they are of classes."""
        from aifs_tune.analysis.classification import evaluate_classes

        found = self.predictions
        if not found.classes:
            return None
        return evaluate_classes(found.y_true, found.y_pred, classes=found.classes, groups=self.groups)

    @property
    def values(self) -> tuple[HeldOutTarget, ...]:
        """What the answers are worth, of each target, if they are of numbers."""
        from aifs_tune.analysis.regression import evaluate_values

        found = self.predictions
        units = {target["name"]: target["unit"] or "" for target in found.targets}
        return evaluate_values(found.y_true, found.y_pred, targets=units, groups=self.groups) if units else ()

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The file of each answer, and its place in it; none if the study does not know."""
        told = self._told
        if told is None:
            return ()
        places = told["place"].fillna("").tolist()
        paths = [f"{path} ({place})" if place else path for path, place in zip(told["path"], places, strict=True)]
        together: dict[int, list[str]] = {}
        for example, path in zip(told["example"].tolist(), paths, strict=True):
            together.setdefault(int(example), []).append(path)
        return tuple(" + ".join(together[row]) for row in self.predictions.rows.tolist())

    @property
    def groups(self) -> list[str] | None:
        """The group of each answer, of which intervals draw whole ones; None where the data have no groups."""
        told = self._told
        if told is None or told["group"].isna().all():
            return None
        group_of = dict(zip(told["example"].tolist(), told["group"].fillna("").tolist(), strict=True))
        return [str(group_of[row]) for row in self.predictions.rows.tolist()]

    @cached_property
    def _told(self) -> pandas.DataFrame | None:
        """The files of the answers; None unless every answer has one."""
        frame = find_study_files(self.study)
        if frame is None:
            return None
        frame = frame[frame["example"].isin(self.predictions.rows.tolist())]
        return frame if frame["example"].nunique() == len(self.predictions.rows) else None

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        told: dict[str, Any] = {"candidate": self.candidate, "study": self.study.name, "trial": self.trial.number}
        groups = self.groups
        told["n_groups"] = None if groups is None else len(set(groups))
        if (classes := self.classes) is not None:
            return told | {"classes": self._with_files(classes.to_dict())}
        return told | {"targets": [self._with_files(target.to_dict()) for target in self.values]}

    def _with_files(self, scores: dict[str, Any]) -> dict[str, Any]:
        """Of each of the worst the file too, None where it is not known."""
        named = [one | {"file": self.files[one["index"]] if self.files else None} for one in scores["worst"]]
        return scores | {"worst": named}


def read_evaluation(storage: Storage, name: str) -> HeldOutEvaluation:
    """What stands of :func:`evaluate_test` in the study that it made.

    Raises
    ------
    NotFoundError
        If no training of it is complete, or its trainer keeps no answers.
    """
    study = get_study(storage, name)
    trial = study.best
    return HeldOutEvaluation(
        study.fact(TEST_EVALUATION)["name"], study, trial, read_predictions(kept_weights(study, trial))
    )


def find_evaluation(storage: Storage, study: str) -> HeldOutEvaluation | None:
    """What answered the test part of ``study`` already; None if nothing did."""
    if find_study(storage, f"{study}-test") is None:
        return None
    try:
        return read_evaluation(storage, f"{study}-test")
    except NotFoundError:
        return None
