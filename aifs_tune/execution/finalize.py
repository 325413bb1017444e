"""Finalizing: train the chosen configuration on the training and validation sets, for use on new examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aifs_tune.analysis.final_model import (
    FINAL,
    FinalModel,
    Members,
    epochs_of,
    expected_score,
    final_candidates,
    final_names,
    read_final_model,
    refits,
)
from aifs_tune.analysis.model import predict_test
from aifs_tune.analysis.test_part import (
    TEST_EVALUATION,
    HeldOutEvaluation,
    check_test_unused,
    read_evaluation,
)
from aifs_tune.artifacts.data_files import share_files
from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import Refit, SweepSpec
from aifs_tune.errors import ConflictError, RequestError, WorkError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.confirm import SweepOptions
from aifs_tune.execution.data import data_for
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study, get_study
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.trainers.factory import find_trainer_entry
from aifs_tune.trainers.predictions import write_predictions

_SEED_OFFSET = 3_000_017
"""Added to the seed of a study, so that its final model repeats no training run."""
MAX_MEMBERS = 100


def finalize(
    study: str,
    *,
    storage: str | None = None,
    ensemble: int = 1,
    members: Members = "seeds",
    for_test: bool = False,
    options: SweepOptions | None = None,
) -> FinalModel:
    """Train the final model of a study: its best configuration, on the training and validation sets together.

    The configuration is the best one of the newest confirmation, or the best trial if there is none. It trains for as
    many epochs as were best in the confirmation or the study, and keeps the weights of its last epoch. The test set is
    not used. ``predict`` and ``export`` use the final model from then on. A call that was interrupted continues when it
    is repeated.

    Parameters
    ----------
    study : str
        Name of the study.
    storage : str, optional
        Storage of the study. Default: ``$AIFS_TUNE_STORAGE``, else ``sqlite:///aifs_tune.db``.
    ensemble : int
        Number of models, from 1 to 100, whose predictions are averaged. Default: 1.
    members : {"seeds", "configurations"}
        Whether the models are the best configuration with different seeds, or as many best configurations.
    for_test : bool
        Refuse before training if the test set was used for another model. Default: False.
    options : SweepOptions, optional
        How the training runs.

    Returns
    -------
    FinalModel
        The members, their configurations and the expected score.

    Raises
    ------
    RequestError
        If the study has no trainer that keeps its model, or too few configurations.
    NotFoundError
        If there is no such study, or none of its trials is complete.
    ConflictError
        With ``for_test``, if the test set was used.
    InterruptedSweepError
        If the training was stopped.
    WorkError
        If a member could not be trained.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> _ = study.attach({"heat": 900.0}, 0.7)
    >>> try:
    ...     aifs_tune.finalize("furnace")
    ... except aifs_tune.AifsTuneError as error:
    ...     print(error)
    Study 'furnace' has no trainer, so there is no model to train; allowed: a study of a built-in trainer
    """
    if isinstance(ensemble, bool) or not isinstance(ensemble, int) or not 1 <= ensemble <= MAX_MEMBERS:
        raise RequestError(f"ensemble: {ensemble!r} is not a number of models; allowed: 1 to {MAX_MEMBERS}")
    if members not in ("seeds", "configurations"):
        raise RequestError(f"members: {members!r} is not allowed; allowed: seeds, configurations")
    opened = Storage(storage)
    with opened.writing():
        found = get_study(opened, study)
        check_has_model(found)
        created = _started(found, ensemble, members, for_test=for_test)
        share_files(created, found)
    given = options or SweepOptions()
    if given.callback is not None:
        given.callback.on_status("the validation set is trained on too, so val_... says nothing of new examples")
    given.finish(created)
    made = read_final_model(created)
    if len(made.members) < made.n_members:
        raise WorkError(
            f"study {created.name}: {made.n_members - len(made.members)} of {made.n_members} members could not be "
            f"trained; see: aifs-tune trials {created.name}"
        )
    return made


def evaluate_final(made: FinalModel, *, options: SweepOptions | None = None) -> HeldOutEvaluation:
    """Evaluate a final model on the test set of its data, which no training has seen. This can be done only once.

    Parameters
    ----------
    made : FinalModel
        The final model.
    options : SweepOptions, optional
        ``callback`` is told of the preparation of the data.

    Returns
    -------
    HeldOutEvaluation
        The predictions and scores of the test set.

    Raises
    ------
    ConflictError
        If the test set was used for another model, or the data changed.
    DataError
        If the data have no test set.
    """
    opened, name = made.study.storage, f"{made.source}-test"
    there = find_study(opened, name)
    if there is not None:
        earlier = there.fact(TEST_EVALUATION)
        if earlier is not None and earlier.get("model") == made.study.name:
            return read_evaluation(opened, name)
        used_for = "a study of another kind" if earlier is None else earlier["name"]
        raise ConflictError(
            f"the test set of study {made.source!r} was used for {used_for} (study {name!r}). Evaluating "
            f"{made.name} too would choose by the test set; use new data"
        )
    check_test_unused(made.study)
    callback = (options.callback if options is not None else None) or NullCallback()
    spec = made.study.spec.model_copy(update={"evaluate_test": True})
    data = data_for(spec, strict=False, callback=callback)
    if data.location is None or data.fingerprint != made.study.fingerprint:
        raise ConflictError(f"the data of study {made.source!r} have changed; allowed: the data that it was trained on")
    trainer_entry = find_trainer_entry(spec)
    assert trainer_entry is not None
    predictions = predict_test(made, data.location, trainer_entry.kind)

    def create() -> StudyRecord:
        project, short = split_name(name)
        created = start_study(opened, spec, short, project=project, with_default=False)
        entry = made.candidates[0].to_json() | {"name": made.name, "model": made.study.name}
        created.record_fact(TEST_EVALUATION, entry)
        if made.study.fingerprint is not None:
            created.match_data(made.study.fingerprint)
        first = made.members[0]
        created.enqueue(first.params)
        trial = created.ask()
        artifacts = TrialArtifacts(created.artifacts, trial.number)
        hashes = artifacts.save_weights(lambda folder: write_predictions(folder, predictions))
        created.tell(trial, first.value, weights=hashes)
        created.request_trials(1)
        return created

    share_files(opened.transact(create, name), made.study)
    return read_evaluation(opened, name)


def check_has_model(study: StudyRecord) -> None:
    """Check that the study has one best configuration of a trainer whose model is kept.

    Raises
    ------
    RequestError
        If it has not; says why.
    """
    spec = study.spec
    entry = find_trainer_entry(spec)
    if spec.trainer is None:
        why = "has no trainer, so there is no model to train"
    elif entry is None:
        why = f"is of the function {spec.trainer.name}, which reads its own data"
    elif spec.refit:
        why = "trains a final model itself"
    elif spec.cross_validation is not None:
        why = "has one model for each split"
    elif spec.trade_off:
        why = "has several objectives, and so no single best configuration"
    elif spec.replay or spec.search.scheduler == "pbt":
        why = "changes its parameters during training"
    else:
        return
    raise RequestError(f"Study {study.name!r} {why}; allowed: a study of a built-in trainer")


def _started(study: StudyRecord, ensemble: int, members: Members, *, for_test: bool) -> StudyRecord:
    """The study that trains the final model, with all members waiting; an earlier one of the same members goes on."""
    candidates, confirmed = final_candidates(study, ensemble if members == "configurations" else 1)
    epochs = [epochs_of(each, study, confirmed) for each in candidates]
    expected = None if confirmed is None else expected_score(confirmed, candidates[0])
    wanted: dict[str, Any] = {
        "study": study.name,
        "configurations": [
            each.to_json() | {"epochs": number} for each, number in zip(candidates, epochs, strict=True)
        ],
        "members": ensemble,
        "expected": None if expected is None else expected.to_json(),
    }
    spec = final_spec(study.spec, refits(candidates, epochs))
    for name in final_names(study.name):
        there = find_study(study.storage, name)
        if there is None:
            if for_test and (tested := find_study(study.storage, f"{study.name}-test")) is not None:
                used_for = (tested.fact(TEST_EVALUATION) or {}).get("name", "a study of another kind")
                raise ConflictError(
                    f"the test set of study {study.name!r} was used for {used_for} (study {tested.name!r}), so another "
                    "final model cannot be tested on it; allowed: finalize without --test, or new data"
                )
            return _created(study, spec, name, wanted)
        if there.fact(FINAL) == wanted:
            return there
    raise AssertionError("names of final models do not end")


def final_spec(spec: SweepSpec, refit: Sequence[Refit]) -> SweepSpec:
    """The sweep that trains the configurations of ``refit`` on the training and validation sets of ``spec``."""
    document = spec.model_dump(mode="json")
    document["refit"] = [each.model_dump(mode="json") for each in refit]
    document["trainer"] |= {"folds": 1, "patience": None}
    document["resources"]["fused_trials"] = 1
    seed = (spec.search.seed + _SEED_OFFSET) % 2**32
    document["search"] = spec.search.without_search(seed=seed)
    return parse_sweep(document)


def _created(study: StudyRecord, spec: SweepSpec, name: str, wanted: Any) -> StudyRecord:
    def create() -> StudyRecord:
        project, short = split_name(name)
        created = start_study(study.storage, spec, short, project=project, with_default=False)
        created.record_fact(FINAL, wanted)
        entries = wanted["configurations"]
        for number in range(wanted["members"]):
            created.enqueue(entries[number % len(entries)]["params"])
        created.request_trials(wanted["members"])
        return created

    return study.storage.transact(create, name)
