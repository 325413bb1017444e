"""Evaluation of a candidate on the test set of a study's data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aifs_tune.artifacts.data_files import find_study_files
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, NotFoundError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import UnreadableStudy, each_study, find_study, get_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial
from aifs_tune.trainers.predictions import Predictions, read_predictions, signal_of

if TYPE_CHECKING:
    import pandas

    from aifs_tune.analysis.classification import HeldOutClasses
    from aifs_tune.analysis.regression import HeldOutTarget


TEST_EVALUATION = "test_evaluation"
"""Fact of a study that evaluates a test set: the name of the candidate."""


def test_examples(study: StudyRecord) -> frozenset[tuple[str, ...]]:
    """Return what identifies each test example of a study, by content where it has files; empty if not recorded."""
    files = find_study_files(study)
    if files is None:
        return frozenset()
    kept = files[files["part"] == "test"].astype(object)
    rows = kept.where(kept.notna(), None)[["sha256", "path", "position"]].itertuples(index=False)
    return frozenset(
        (str(study.fingerprint), str(path), str(position)) if sha is None else (str(sha), str(position))
        for sha, path, position in rows
    )


def check_test_unused(study: StudyRecord) -> None:
    """Refuse a test set of which another study of the storage has answered examples, whatever its name.

    Raises
    ------
    ConflictError
        If there is one.
    """
    own = test_examples(study)
    for other in each_study(study.storage) if own else ():
        if isinstance(other, UnreadableStudy) or (earlier := other.fact(TEST_EVALUATION)) is None:
            continue
        shared = own & test_examples(other)
        if shared:
            raise ConflictError(
                f"{len(shared)} of the {len(own)} test examples of study {study.name!r} were answered already, by "
                f"study {other.name!r} for its {earlier['name']}. A second answer would choose by the test set; use "
                "new data"
            )


def selection_bias_warning(spec: SweepSpec) -> str | None:
    """Return a warning if a confirmation uses examples by which a sweep of ``spec`` selected configurations."""
    if spec.trainer is None or spec.trainer.folds == 1:
        return None
    return (
        f"The sweep selected configurations by {spec.trainer.folds} folds of all data outside the test set. "
        "So the confirmation may still be somewhat too optimistic. The test set is not affected."
    )


@dataclass(frozen=True)
class HeldOutEvaluation:
    """Predictions of a candidate on the test set, from the trial that trained it."""

    candidate: str
    study: StudyRecord
    trial: Trial
    predictions: Predictions

    @property
    def is_final_model(self) -> bool:
        """Whether the final model of a study made the predictions, not a training of the candidate for this test."""
        return self.study.fact(TEST_EVALUATION).get("model") is not None

    @property
    def classes(self) -> HeldOutClasses | None:
        """Scores of predicted classes; None if numbers alone are predicted."""
        from aifs_tune.analysis.classification import evaluate_classes

        found, spec = self.predictions, self.study.spec
        if not found.classes:
            return None
        name = None if spec.data is None else spec.data.signal
        signal = None if name is None else signal_of(name, [objective.metric for objective in spec.objectives])
        return evaluate_classes(*found.of_classes, classes=found.classes, groups=self.groups, signal=signal)

    @property
    def values(self) -> tuple[HeldOutTarget, ...]:
        """Scores of each predicted number; empty if classes alone are predicted."""
        from aifs_tune.analysis.regression import evaluate_values

        found = self.predictions
        units = {target["name"]: target["unit"] or "" for target in found.targets}
        return evaluate_values(*found.of_targets, targets=units, groups=self.groups) if units else ()

    @cached_property
    def files(self) -> tuple[str, ...]:
        """File of each example, with its position in the file; empty if unknown."""
        table = self._files_table
        if table is None:
            return ()
        positions = table["position"].fillna("").tolist()
        paths = [f"{path} ({at})" if at else path for path, at in zip(table["path"], positions, strict=True)]
        together: dict[int, list[str]] = {}
        for example, path in zip(table["example"].tolist(), paths, strict=True):
            together.setdefault(int(example), []).append(path)
        return tuple(" + ".join(together[row]) for row in self.predictions.rows.tolist())

    @property
    def groups(self) -> list[str] | None:
        """Group of each example, for intervals that resample whole groups; None if the data have no groups."""
        table = self._files_table
        if table is None or table["group"].isna().all():
            return None
        group_of = dict(zip(table["example"].tolist(), table["group"].fillna("").tolist(), strict=True))
        return [str(group_of[row]) for row in self.predictions.rows.tolist()]

    @cached_property
    def _files_table(self) -> pandas.DataFrame | None:
        """Files of the examples; None unless every example has one."""
        frame = find_study_files(self.study)
        if frame is None:
            return None
        frame = frame[frame["example"].isin(self.predictions.rows.tolist())]
        return frame if frame["example"].nunique() == len(self.predictions.rows) else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document of the command line."""
        ended = self.trial.finished_at
        document: dict[str, Any] = {
            "candidate": self.candidate,
            "study": self.study.name,
            "trial": self.trial.number,
            "evaluated_at": None if ended is None else ended.isoformat(),
        }
        groups = self.groups
        document["n_groups"] = None if groups is None else len(set(groups))
        if (classes := self.classes) is not None:
            document["classes"] = self._with_files(classes.to_dict())
        if values := self.values:
            document["targets"] = [self._with_files(target.to_dict()) for target in values]
        return document

    def _with_files(self, scores: dict[str, Any]) -> dict[str, Any]:
        """Add its file to each of the worst examples, None if unknown."""
        named = [one | {"file": self.files[one["index"]] if self.files else None} for one in scores["worst"]]
        return scores | {"worst": named}


def read_evaluation(storage: Storage, name: str) -> HeldOutEvaluation:
    """Read the evaluation of a test set from the study that trained the candidate.

    Raises
    ------
    NotFoundError
        If no trial is complete, or its trainer stores no predictions.
    """
    study = get_study(storage, name)
    trial = study.best
    return HeldOutEvaluation(
        study.fact(TEST_EVALUATION)["name"], study, trial, read_predictions(kept_weights(study, trial))
    )


def find_evaluation(storage: Storage, study: str) -> HeldOutEvaluation | None:
    """Return the evaluation of the test set of ``study``; None if the test set has not been used yet."""
    if find_study(storage, f"{study}-test") is None:
        return None
    try:
        return read_evaluation(storage, f"{study}-test")
    except NotFoundError:
        return None
