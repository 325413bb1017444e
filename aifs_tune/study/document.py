"""JSON document of a whole study: write one, and create a study from one in another storage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from aifs_tune._util.scalars import brief
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, DamagedError, RequestError
from aifs_tune.space.distributions import distributions_of
from aifs_tune.space.search_space import Space
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import study_names
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.schema import MAX_REASON, RESERVED, TrialDocument, checked_attributes, checked_trial
from aifs_tune.study.serialization import FROM_OPTUNA, TO_OPTUNA, in_utc

FORMAT, VERSION = "aifs-tune study", 1
_MAX_GAP = 100_000


def study_document(study: StudyRecord) -> dict[str, Any]:
    """Everything that the storage holds of ``study``, as JSON, with times in UTC; without the files of its trials.

    Of a trial that counts for nothing, only its number and what is wrong with it are there.
    """
    frozen = study.storage.optuna.get_all_trials(study.id, deepcopy=False)
    attributes = study.storage.optuna.get_study_user_attrs(study.id)
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": study.name,
        "spec": study.spec.model_dump(mode="json"),
        "attributes": _finite({key: value for key, value in attributes.items() if key not in RESERVED}),
        "trials": list(_trial_documents(frozen, study)),
    }


def _trial_documents(frozen: Sequence[FrozenTrial], study: StudyRecord) -> Iterator[dict[str, Any]]:
    """The document of each trial; where no trial has a number, one that says so, as numbers have no gaps."""
    number = 0
    for trial in frozen:
        while number < trial.number <= number + _MAX_GAP:
            yield _trial_document(_left_out(number, "no trial had this number"), study.spec.space)
            number += 1
        problem = study._problem(trial)
        yield _trial_document(trial if problem is None else _left_out(trial.number, problem, trial), study.spec.space)
        number = trial.number + 1


def copied_study(
    storage: Storage, name: str, document: Mapping[str, Any], spec: SweepSpec | None = None
) -> StudyRecord:
    """Create the study ``name`` from ``document``. ``spec`` replaces its sweep file, for data in another folder.

    Raises
    ------
    ConflictError
        If the storage has a study of that name.
    DamagedError
        If the document is not a valid study; nothing is stored then.
    """
    found = spec or spec_in(document)
    if name in study_names(storage):
        raise ConflictError(f"{storage.shown} has a study {name!r} already; choose another name with --study")

    def create() -> StudyRecord:
        project, short = split_name(name)
        study = start_study(storage, found, short, project=project, with_default=False)
        for key, value in checked_attributes(document["attributes"]).items():
            storage.optuna.set_study_user_attr(study.id, key, value)
        for number, entry in enumerate(document["trials"]):
            storage.optuna.create_new_trial(study.id, _frozen(number, checked_trial(entry), found))
        for trial in study.all_trials():  # a trial that cannot be read must not be stored
            trial.to_json()
            study.curve(trial)
        return study

    try:
        return storage.transact(create, name)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RequestError) as error:
        reason = error if isinstance(error, RequestError | ValueError) else f"{type(error).__name__}: {error}"
        raise DamagedError(f"the document of study {document.get('name')!r} is not valid: {reason}") from error


def spec_in(document: Mapping[str, Any]) -> SweepSpec:
    """The sweep file in a document.

    Raises
    ------
    DamagedError
        If it is not the document of a study, or has another version.
    """
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise DamagedError(
            f"{brief(document)} is not the document of a study; allowed: a study.json that aifs-tune export wrote"
        )
    if document.get("version") != VERSION:
        raise DamagedError(f"document of a study: version {document.get('version')!r}; allowed: {VERSION}")
    try:
        return parse_sweep(document["spec"])
    except (KeyError, TypeError, RequestError) as error:
        raise DamagedError(
            f"the document of study {document.get('name')!r} has no valid sweep file ({error})"
        ) from error


def _left_out(number: int, problem: str, of: FrozenTrial | None = None) -> FrozenTrial:
    started, finished = (of.datetime_start, of.datetime_complete) if of is not None else (None, None)
    return FrozenTrial(
        number=number,
        state=TrialState.FAIL,
        value=None,
        datetime_start=started or finished or datetime.now(),
        datetime_complete=finished or datetime.now(),
        params={},
        distributions={},
        user_attrs={"reason": f"left out when the study was copied: {problem}"[:MAX_REASON]},
        system_attrs={},
        intermediate_values={},
        trial_id=-1,
    )


def _trial_document(frozen: FrozenTrial, space: Space) -> dict[str, Any]:
    started, finished = in_utc(frozen.datetime_start), in_utc(frozen.datetime_complete)
    return {
        "number": frozen.number,
        "state": FROM_OPTUNA[frozen.state],
        "params": space.loaded(frozen.params),
        "values": None if frozen.values is None else list(frozen.values),
        "steps": {str(step): value for step, value in sorted(frozen.intermediate_values.items())},
        "started_at": None if started is None else started.isoformat(),
        "finished_at": finished.isoformat() if finished is not None and frozen.state.is_finished() else None,
        "user": _finite(frozen.user_attrs),
        "system": _finite(frozen.system_attrs),
    }


def _finite(value: Any) -> Any:
    """A JSON value that every program can read: attributes of other tools may have numbers and characters that are
    none, which become null and escaped."""
    if isinstance(value, Mapping):
        return {_finite(key): _finite(each) for key, each in value.items()}
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _frozen(number: int, entry: TrialDocument, spec: SweepSpec) -> FrozenTrial:
    if entry.number != number:
        raise ValueError(f"trial {entry.number!r} is listed where trial {number} is expected")
    if entry.values is not None and len(entry.values) != len(spec.objectives):
        raise ValueError(f"trial {number} has {len(entry.values)} values; allowed: {len(spec.objectives)}")
    is_refused = entry.state == "failed" and not entry.params  # nothing of it is left but the reason
    params = {} if is_refused else spec.space.check(entry.params)
    trial = FrozenTrial(
        number=number,
        state=TO_OPTUNA[entry.state],
        value=None,
        values=entry.values,
        datetime_start=_local(entry.started_at or entry.finished_at),
        datetime_complete=_local(entry.finished_at),
        params=spec.space.stored(params),
        distributions=distributions_of(spec.space, params) if params else {},
        user_attrs=entry.user,
        system_attrs=entry.system,
        intermediate_values={int(step): value for step, value in entry.steps.items()},
        trial_id=-1,
    )
    trial._validate()
    return trial


def _local(moment: str | None) -> datetime | None:
    """Convert an aware time to Optuna's: naive, in local time."""
    if moment is None:
        return None
    aware = datetime.fromisoformat(moment)
    return (aware if aware.tzinfo else aware.replace(tzinfo=UTC)).astimezone().replace(tzinfo=None)
