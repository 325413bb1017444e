"""A confirmation from beginning to end: train the candidates, compare them, let the best one answer the test part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aifs_tune import sweep
from aifs_tune.artifacts import kept_weights
from aifs_tune.confirmation import Confirmation, read_confirmation, start_confirmation
from aifs_tune.contenders import Candidate, candidates_of
from aifs_tune.cross_validation import CrossValidation
from aifs_tune.errors import ConflictError, NotFoundError
from aifs_tune.listener import SweepCallback
from aifs_tune.projects import split_name
from aifs_tune.spec import SweepSpec
from aifs_tune.storage import Storage
from aifs_tune.studies import find_study, get_study, start_study
from aifs_tune.study import Study
from aifs_tune.study_files import find_study_files, share_files
from aifs_tune.sweep_file import parse_sweep
from aifs_tune.trainers.answered import Predictions, read_predictions
from aifs_tune.trial import Trial

if TYPE_CHECKING:
    import pandas

    from aifs_tune.analysis.held_out import HeldOutClasses
    from aifs_tune.analysis.held_out_values import HeldOutTarget

TEST_EVALUATION = "test_evaluation"
"""Fact of a study that answers a test part: the name of the candidate."""


@dataclass(frozen=True)
class SweepOptions:
    """Where and how the trainings of a confirmation run; as the arguments of :meth:`aifs_tune.sweep.Sweep.run`."""

    workers: int | None = None
    timeout_s: float | None = None
    address: str | None = None
    allow_unauthenticated: bool = False
    callback: SweepCallback | None = None

    def finish(self, study: Study) -> None:
        """Run all trials of ``study`` that wait."""
        sweep.resume(study.name, storage=study.storage.url, **vars(self))


def confirm(
    study: str,
    *,
    storage: str | None = None,
    top: int = 3,
    baseline: int | None = None,
    cv: CrossValidation | None = None,
    options: SweepOptions | None = None,
) -> Confirmation:
    """Train the ``top`` best configurations of ``study`` and its baseline again, on fresh seeds and folds, and compare
    them. What was interrupted goes on where it was.

    ``baseline`` is the number of a trial; None for the default configuration. ``cv`` are five folds, dealt
    twice, if absent.

    Raises
    ------
    RequestError
        If the study has nothing to compare, no trainer, or data that cannot be divided so; InterruptedSweepError if
        it was stopped.
    """
    return confirm_candidates(
        study, lambda found: candidates_of(found, top=top, baseline=baseline), storage, "confirm", cv, options
    )


def confirm_candidates(
    study: str,
    choose: Callable[[Study], Sequence[Candidate]],
    storage: str | None,
    suffix: str,
    cv: CrossValidation | None = None,
    options: SweepOptions | None = None,
) -> Confirmation:
    """As :func:`confirm`, of what ``choose`` gives, the baseline first, in a study whose name ends with ``suffix``."""
    opened = Storage(storage)
    asked = cv or CrossValidation(folds=5, repeats=2)
    with opened.writing():
        found = get_study(opened, study)
        created = start_confirmation(opened, found.spec, f"{found.name}-{suffix}", choose(found), asked)
        share_files(created, found)
    given = options or SweepOptions()
    if (warning := selection_bias_warning(found.spec)) is not None and given.callback is not None:
        given.callback.on_status(warning)
    given.finish(created)
    return read_confirmation(opened, created.name)


def selection_bias_warning(spec: SweepSpec) -> str | None:
    """What is to be said before configurations are compared on examples by which a sweep of ``spec`` chose them."""
    if spec.trainer is None or spec.trainer.folds == 1:
        return None
    return (
        f"the sweep chose by {spec.trainer.folds} folds of all that is not the test part: a part of its luck is left "
        "in a confirmation, none of it in the test part"
    )


def evaluate_test(
    study: str, candidate: Candidate, *, storage: str | None = None, options: SweepOptions | None = None
) -> HeldOutEvaluation:
    """Train ``candidate`` once more on the division of ``study``, and let its best epoch answer the test part. What
    has answered already is not trained again.

    Raises
    ------
    ConflictError
        If another candidate has answered it: a second look at a test part makes both look better than they are.
    DataError
        If there is no test part; NotFoundError if the training failed or keeps no answers.
    """
    opened = Storage(storage)
    with opened.writing():
        found = get_study(opened, study)
        created = _test_study(found, candidate)
        share_files(created, found)
    (options or SweepOptions()).finish(created)
    return read_evaluation(opened, created.name)


@dataclass(frozen=True)
class HeldOutEvaluation:
    """What a candidate answered for the test part, in the trial that trained it."""

    candidate: str
    study: Study
    trial: Trial
    predictions: Predictions

    @property
    def classes(self) -> HeldOutClasses | None:
        """What the answers are worth, if they are of classes."""
        from aifs_tune.analysis.held_out import evaluate_classes

        found = self.predictions
        if not found.classes:
            return None
        return evaluate_classes(found.y_true, found.y_pred, classes=found.classes, groups=self.groups)

    @property
    def values(self) -> tuple[HeldOutTarget, ...]:
        """What the answers are worth, of each target, if they are of numbers."""
        from aifs_tune.analysis.held_out_values import evaluate_values

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


def _test_study(study: Study, candidate: Candidate) -> Study:
    name = f"{study.name}-test"
    there, wanted = find_study(study.storage, name), candidate.to_json()
    if there is not None:
        earlier: Mapping[str, Any] | None = there.fact(TEST_EVALUATION)
        if earlier is None:
            raise ConflictError(f"the name {name!r} is taken by a study of another kind")
        if dict(earlier["params"]) != dict(wanted["params"]):
            raise ConflictError(
                f"the test part of study {study.name!r} was spent on {earlier['name']} (study {name!r}): to try "
                f"{candidate.name} too would be to choose by it; allowed: new data"
            )
        return there
    document = study.spec.model_dump(mode="json") | {"evaluate_test": True}
    document["search"] |= {"sampler": "random", "scheduler": "none", "grace_epochs": None}
    spec = parse_sweep(document)

    def create() -> Study:
        project, short = split_name(name)
        created = start_study(study.storage, spec, short, project=project, with_default=False)
        created.record_fact(TEST_EVALUATION, wanted)
        created.enqueue(candidate.params)
        created.request_trials(1)
        return created

    return study.storage.transact(create, name)


def find_evaluation(storage: Storage, study: str) -> HeldOutEvaluation | None:
    """What answered the test part of ``study`` already; None if nothing did."""
    if find_study(storage, f"{study}-test") is None:
        return None
    try:
        return read_evaluation(storage, f"{study}-test")
    except NotFoundError:
        return None
