"""Model of the query of the list of trials."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field

from aifs_tune.study.trial import State

MAX_TRIAL_NUMBER = 2**31 - 1

TrialsFormat: TypeAlias = Literal["json", "csv", "parquet"]
Number: TypeAlias = Annotated[int, Field(ge=0, le=MAX_TRIAL_NUMBER)]
Short: TypeAlias = Annotated[str, Field(max_length=200)]


class TrialsQuery(BaseModel):
    """Which trials are listed, in which order."""

    after: int = Field(-1, ge=-1, le=MAX_TRIAL_NUMBER, description="The last trial number of the previous page.")
    limit: int = Field(100, ge=1, le=1000)
    state: State | None = Field(None, description="Only trials in this state.")
    overdue: bool = Field(False, description="Only running trials whose lease has expired.")
    owner: Short | None = Field(None, description="Only trials with this owner.")
    label: Short | None = Field(None, description="Only trials with this label.")
    sort: Short = Field("trial", description="Column: value, params.NAME, metrics.NAME ...; descending after '-'.")
    offset: Number = Field(0, description="How many trials to skip, in any order; in place of after.")
    where: list[Short] = Field([], max_length=20, description="Only trials that meet this, such as 'params.x < 1'.")
    search: Short = Field("", description="Only trials with this text in number, state, choices, lease or remarks.")
    same_as: Number | None = Field(None, description="Only trials with the parameters of this one.")
    format: TrialsFormat | None = Field(None, description="Output format. Default: taken from the header Accept.")
