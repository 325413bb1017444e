"""Schema of the document of a study: what may come from somewhere else.

Every attribute that this package writes is checked against its type and range, because readers trust what is in a
storage. Attributes of other tools are copied as they are; nothing here reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from aifs_tune._util.scalars import brief
from aifs_tune.space.parameters import JsonValue
from aifs_tune.storage.tolerant import UNDECODABLE
from aifs_tune.study.serialization import (
    ARCHIVED,
    CANCELLED,
    CHANGE,
    DATA,
    EPOCH,
    FACT,
    LEADER,
    LEASE,
    LIMIT,
    NOTICES,
    REQUESTED,
    SPEC,
    STUDY_NOTE,
    SUPERSEDED,
    SWEEP,
    TRIAL_NOTES,
)
from aifs_tune.study.trial import State

OWN = "aifs_tune:"
"""Prefix of the attributes that this package writes."""
RESERVED = (SPEC, LEADER)
"""Attributes that a document never has: the sweep file is a part of its own, and the leader is a process here."""

MAX_EPOCH = 10**9
MAX_REASON = 20_000

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
_Epoch = Annotated[int, Field(ge=1, le=MAX_EPOCH)]
_Number = Annotated[int, Field(ge=0, le=MAX_EPOCH)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Reason = Annotated[str, Field(max_length=MAX_REASON)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Name = Annotated[str, Field(max_length=1000)]


def _file_name(name: str) -> str:
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or "\0" in name:
        raise ValueError(f"{brief(name)} is not the name of a file in a folder")
    return name


def _params_and_mean(pair: list[Any]) -> list[Any]:
    is_one = len(pair) == 2 and isinstance(pair[0], dict) and type(pair[1]) in (int, float) and math.isfinite(pair[1])
    if not is_one:
        raise ValueError(f"{brief(pair)} is not parameters and a number")
    return pair


_Note = Annotated[str, Field(max_length=2_000)]
_FileName = Annotated[_Name, AfterValidator(_file_name)]
_Hashes = dict[_FileName, _Sha256]
_Metrics = dict[_Name, _Finite | None]


class _Notice(BaseModel):
    model_config = _STRICT
    at: _Name
    text: _Reason


class _Noise(BaseModel):
    model_config = _STRICT
    sd: Annotated[float, Field(ge=0)]
    freedom: _Number
    study: _Name


class _Division(BaseModel):
    model_config = _STRICT
    by: Literal["folders", "column", "order", "time", "random"]
    column: _Name | None
    groups: _Name | None
    given: list[_Name]
    stratified: bool
    seed: Annotated[int, Field(ge=0, lt=2**64)] | None
    val: Annotated[float, Field(ge=0, le=1)]
    test: Annotated[float, Field(ge=0, le=1)]


class _Column(BaseModel):
    model_config = _STRICT
    column: _Name
    taken_for: _Name
    unit: _Name | None = None
    min: _Finite | None
    max: _Finite | None
    missing: _Count
    of: _Count | None = None
    left_out: _Name | None


class _Columns(BaseModel):
    model_config = _STRICT
    n: _Number
    columns: Annotated[list[_Column], Field(max_length=1000)]


class _Candidate(BaseModel):
    model_config = _STRICT
    name: _Name
    trial: _Number | None
    params: dict[_Name, JsonValue]


class _Tested(_Candidate):
    model: _Name | None = None


class _Refitted(_Candidate):
    epochs: _Epoch


class _Expected(BaseModel):
    model_config = _STRICT
    metric: _Name
    mean: _Finite
    interval: Annotated[list[_Finite], Field(min_length=2, max_length=2)] | None
    confidence: Annotated[float, Field(gt=0, lt=1)]
    n: Annotated[int, Field(ge=1)]
    confirmation: _Name


class _FinalModel(BaseModel):
    model_config = _STRICT
    study: _Name
    configurations: Annotated[list[_Refitted], Field(min_length=1)]
    members: Annotated[int, Field(ge=1, le=100)]
    expected: _Expected | None


class _Files(BaseModel):
    model_config = _STRICT
    entry: _FileName
    hashes: _Hashes


class _SourceTask(BaseModel):
    model_config = _STRICT
    study: _Name
    trials: list[Annotated[list[Any], AfterValidator(_params_and_mean)]]


class _WarmStart(BaseModel):
    model_config = _STRICT
    study: _Name
    n_trials: _Number
    n_outside: _Number
    first: list[_Number]
    fingerprint: _Name | None
    same_data: bool | None
    epochs: _Number
    objective: _Name


class _Measured(BaseModel):
    model_config = _STRICT
    metrics: _Metrics
    seconds: _Seconds | None
    checkpoint: _Hashes | None = None


class _BestBefore(BaseModel):
    model_config = _STRICT
    epoch: _Epoch
    metrics: _Metrics


class _Changed(BaseModel):
    model_config = _STRICT
    params: dict[_Name, JsonValue]
    source: _Number
    best: _BestBefore | None


class _Leased(BaseModel):
    model_config = _STRICT
    label: _Name | None
    owner: _Name | None
    lease_s: _Seconds | None
    supersedes: _Number | None
    until: Annotated[float, Field(ge=0, le=1e11)] | None
    n_leases: Annotated[int, Field(ge=1, le=1000)]


_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def _strict(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))


_USER = {
    "seed": _strict(Annotated[int, Field(ge=0, lt=2**64)]),
    "metrics": _strict(_Metrics),
    "epochs": _strict(_Number),
    "reason": _strict(_Reason),
    "feasible": _strict(bool),
    CANCELLED: _strict(bool),
    "seconds": _strict(_Seconds),
    "weights": _strict(_Hashes),
    "worker": _strict(_Name),
    "notes": _strict(Annotated[dict[_Note, Any], Field(max_length=200)]),
}
_SYSTEM: dict[str, TypeAdapter[Any]] = {
    SWEEP: _strict(_Name | None),
    LEASE: TypeAdapter(_Leased),
    SUPERSEDED: _strict(_Number),
    "aifs_tune:oom_num_gpus": _strict(_Seconds),
    "aifs_tune:kernel": _strict(Annotated[str, Field(max_length=1_000_000)]),
}
_STUDY = {
    REQUESTED: _strict(_Number),
    DATA: _strict(_Name),
    f"{FACT}{NOTICES}": _strict(list[_Notice]),
    f"{FACT}{ARCHIVED}": _strict(bool),
    f"{FACT}{STUDY_NOTE}": _strict(_Note | None),
    f"{FACT}{TRIAL_NOTES}": _strict(dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], _Note]),
    f"{FACT}noise": _strict(_Noise | None),
    f"{FACT}candidates": _strict(Annotated[list[_Candidate], Field(min_length=1)]),
    f"{FACT}test_evaluation": TypeAdapter(_Tested),
    f"{FACT}final_model": TypeAdapter(_FinalModel),
    f"{FACT}files": TypeAdapter(_Files),
    f"{FACT}data_of": _strict(_Name),
    f"{FACT}data": _strict(dict[_Name, _Finite | str | bool | None]),
    f"{FACT}division": TypeAdapter(_Division),
    f"{FACT}columns": TypeAdapter(_Columns),
    f"{FACT}sizes": _strict(list[Annotated[list[_Number], Field(min_length=2, max_length=2)]]),
    f"{FACT}near_duplicates": _strict(dict[_Name, Any]),
    f"{FACT}environment": _strict(dict[_Name, Any]),
    f"{FACT}reproduces": _strict(dict[_Name, Any]),
    f"{FACT}warm_start": _strict(list[_WarmStart]),
    "aifs_tune:source_tasks": _strict(list[_SourceTask]),
}
_MEASURED, _CHANGED, _EXCESS = TypeAdapter(_Measured), TypeAdapter(_Changed), _strict(_Finite)


class TrialDocument(BaseModel):
    """One trial of a document."""

    model_config = _STRICT
    number: _Number
    state: State
    params: dict[_Name, Any]
    values: list[_Finite] | None
    steps: dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], _Finite]
    started_at: _Name | None
    finished_at: _Name | None
    user: dict[_Name, Any]
    system: dict[_Name, Any]


_TRIAL = TypeAdapter(TrialDocument)


def checked_trial(entry: object) -> TrialDocument:
    """The trial in a document.

    Raises
    ------
    ValueError
        If an entry is missing, unknown or not allowed; the text names the trial, the entry and what it is.
    """
    number = entry.get("number") if isinstance(entry, Mapping) else None
    where = f"trial {brief(number)}"
    trial: TrialDocument = _valid(_TRIAL, entry, where)
    for moment in (trial.started_at, trial.finished_at):
        if moment is not None:
            datetime.fromisoformat(moment)
    check_trial_attributes(trial.user, trial.system, where)
    return trial


def check_trial_attributes(user: Mapping[str, Any], system: Mapping[str, Any], where: str = "trial") -> None:
    """Check what this package reads of a trial's attributes; :class:`ValueError` as :func:`checked_trial`."""
    for key, value in user.items():
        if key in _USER:
            _valid(_USER[key], value, f"{where}: {key}")
    for key, value in system.items():
        if key.startswith(EPOCH):
            _check_epoch(key, EPOCH, where)
            _valid(_MEASURED, value, f"{where}: {key}")
        elif key.startswith(CHANGE):
            _check_epoch(key, CHANGE, where)
            _valid(_CHANGED, value, f"{where}: {key}")
        elif key.startswith(LIMIT):
            _valid(_EXCESS, value, f"{where}: {key}")
        elif key in _SYSTEM and not (key == LEASE and value is None):
            _valid(_SYSTEM[key], value, f"{where}: {key}")


def unreadable_attributes(stored: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of a stored study, by name, that are not what this package writes under it, and why not.

    Notices are not among them: those that cannot be read are left out one by one.
    """
    bad = {key: f"{key}: cannot be decoded" for key in stored.get(UNDECODABLE, ())}
    for key in set(_STUDY) & set(stored) - {f"{FACT}{NOTICES}"}:
        try:
            _valid(_STUDY[key], stored[key], key)
        except ValueError as error:
            bad[key] = str(error)
    return bad


def checked_attributes(attributes: object) -> dict[str, Any]:
    """The attributes of a study in a document, as far as a document may have them.

    Raises
    ------
    ValueError
        If one is reserved, unknown, or not what this package writes under that name.
    """
    if not isinstance(attributes, Mapping):
        raise ValueError(f"attributes: {brief(attributes)} is not an object")  # noqa: TRY004 - as all others here
    for key, value in attributes.items():
        if key in RESERVED:
            raise ValueError(f"attributes: {brief(key)} is reserved; a document never has it")
        if key.startswith(OWN) and key not in _STUDY and not key.startswith(FACT):
            raise ValueError(f"attributes: {brief(key)} is not known to this version")
        _valid(_STUDY.get(key, _ANY), value, f"attributes: {key}")
    return dict(attributes)


def _check_epoch(key: str, prefix: str, where: str) -> None:
    digits = key.removeprefix(prefix)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9 and int(digits) >= 1):
        raise ValueError(f"{where}: {brief(key)} names no epoch; allowed: 1 to {MAX_EPOCH:,}")


def _valid(adapter: TypeAdapter[Any], value: object, where: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}{f': {place}' if place else ''}: {brief(first['input'])}: {first['msg']}") from None
