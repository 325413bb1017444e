"""Models of request bodies."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aifs_tune._util.models import Prose, StrictModel, Text
from aifs_tune._util.scalars import MAX_FLOAT, brief
from aifs_tune.config.search import SAMPLERS, OptionName, SearchSpec
from aifs_tune.config.sweep import Objective, SweepSpec
from aifs_tune.errors import SweepFileError
from aifs_tune.space.constraints import Constraint
from aifs_tune.space.exclusions import Excluded
from aifs_tune.space.mixtures import Mixture
from aifs_tune.space.outcome_limits import Limit
from aifs_tune.space.parameters import ScalarField
from aifs_tune.space.search_space import ParameterName, Space
from aifs_tune.storage.projects import STUDY_PATTERN
from aifs_tune.study.lease import MAX_LEASE_S, MIN_LEASE_S
from aifs_tune.study.open import instrument_spec
from aifs_tune.study.study import MAX_NOTE
from aifs_tune.study.trial import ToldState

Number = Annotated[float, Field(ge=-MAX_FLOAT, le=MAX_FLOAT)]
Metrics = Annotated[dict[Text, Number | None], Field(min_length=1, max_length=1000)]
Params = Annotated[
    dict[ParameterName, ScalarField], Field(min_length=1, json_schema_extra={"additionalProperties": False})
]
Reason = Annotated[str, Field(min_length=1, max_length=2000)]
LeaseSeconds = Annotated[float, Field(ge=MIN_LEASE_S, le=MAX_LEASE_S)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]


_BuiltIn = Annotated[str, Field(pattern=rf"^({'|'.join(SAMPLERS)})$")]


class Sampler(StrictModel):
    """Built-in sampler and arguments of its class."""

    name: _BuiltIn
    options: dict[OptionName, Any] = Field(default={})


class Search(SearchSpec):
    """Search settings of a study without a trainer: a built-in sampler and no scheduler."""

    sampler: _BuiltIn | Sampler = "aifs"  # type: ignore[assignment]
    scheduler: Literal["none"] = "none"
    warm_start: Annotated[tuple[Text, ...], Field(strict=False, max_length=0)] = ()


class CreateStudyRequest(BaseModel):
    """Study without a trainer: a sweep file without the key ``trainer``."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=STUDY_PATTERN)]
    version: Literal[1] = 1
    description: str = ""
    objective: Objective = Objective(metric="value")
    trade_off: Annotated[list[Objective], Field(max_length=3)] = []
    search: Search = Search()
    space: Space
    constraints: Annotated[list[Constraint], Field(max_length=100)] = []
    mixtures: Annotated[list[Mixture], Field(max_length=20)] = []
    exclude: Annotated[list[Excluded], Field(max_length=10_000)] = []
    limits: Annotated[list[Limit], Field(max_length=20)] = []


class AskRequest(StrictModel):
    """Number of trials to get, and their lease: owner, duration, and the label of the sample.

    ``labels`` gives one label for each of several trials.
    """

    n: int = Field(default=1, ge=1, le=64)
    label: Text | None = None
    labels: list[Text] = Field(default_factory=list, max_length=64)
    owner: Text | None = None
    lease_s: LeaseSeconds | None = None


class RenewRequest(StrictModel):
    """Seconds from now until the lease expires. Default: as long as before."""

    lease_s: LeaseSeconds | None = None


class EnqueueRequest(StrictModel):
    """Configuration to run before any new proposal."""

    params: Params


class EpochReport(StrictModel):
    """Metrics of a running trial at an epoch."""

    epoch: int = Field(ge=1, le=1_000_000)
    metrics: Metrics
    seconds: Seconds | None = None
    worker: Text | None = None


class TellRequest(StrictModel):
    """Final result of a trial; without ``value``, the best reported epoch is used."""

    value: Number | Metrics | None = Field(
        default=None, description="The value of the objective, or metrics that contain it."
    )
    state: ToldState = Field(default="complete", description="infeasible: the trial violates a limit and has no value.")
    reason: Reason | None = None
    seconds: Seconds | None = None


class AttachRequest(TellRequest):
    """Result that was measured elsewhere."""

    params: Params


class NoteRequest(StrictModel):
    """Note of a study or a trial, in place of an earlier one; an empty text removes it."""

    text: Annotated[Prose, Field(max_length=MAX_NOTE)]


class ArchiveRequest(StrictModel):
    """Whether the study is put aside."""

    is_archived: bool = True


class DeleteRequest(StrictModel):
    """Name of the study once more, so that no slip deletes it."""

    study: str = Field(default="", max_length=100)


class CancelRequest(StrictModel):
    """Reason for cancelling a trial."""

    reason: Reason = "cancelled"


ONE_TRIAL, CANCELLED, AS_BEFORE, ASIDE = AskRequest(), CancelRequest(), RenewRequest(), ArchiveRequest()
_NAME = re.compile(STUDY_PATTERN[1:-1])


def spec_of(document: Any) -> tuple[str, SweepSpec]:
    """Return the name and the sweep file of a study that a client wants to create.

    Raises
    ------
    SweepFileError
        If it is not valid, or if it names something that would run code or read files on the service's machine: a
        trainer, data, the class of a sampler.
    RequestError
        If the sampler does not take its options.
    """
    if not isinstance(document, dict):
        raise _refusal((), f"{brief(document)} at the top level", "a mapping with name and space")
    for key in document:
        if key not in CreateStudyRequest.model_fields:
            raise _refusal((key,), "is not a key of a study", ", ".join(CreateStudyRequest.model_fields))
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        text = "is missing" if name is None else f"{brief(name)} is not a valid name"
        raise _refusal(("name",), text, "1 to 100 letters, digits, '.', '_', '-', the first a letter or digit")
    spec = instrument_spec(name, {"objective": {"metric": "value"}, **document})
    search = spec.search
    if search.scheduler != "none":
        raise _refusal(("search", "scheduler"), f"{search.scheduler} needs a trainer", "none, or leave it out")
    if ":" in search.sampler.name:
        raise _refusal(
            ("search", "sampler"), f"{brief(search.sampler.name)} is a class", "the name of a built-in sampler"
        )
    if search.warm_start:
        raise _refusal(
            ("search", "warm_start"), "a study of a service cannot use earlier studies", "none, or leave it out"
        )
    if search.sampler.options:
        from aifs_tune.samplers.proposer import check_sampler  # loads SciPy

        check_sampler(spec)
    return name, spec


def _refusal(path: tuple[str, ...], text: str, allowed: str) -> SweepFileError:
    error = SweepFileError(text, source="study", key=".".join(path), allowed=allowed)
    error.problems = ((path, f"{text}; allowed: {allowed}"),)
    return error
