"""Trackers of experiments that a sweep file names, where each trial becomes a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from aifs_tune._util.models import FilePath, StrictModel, Text
from aifs_tune._util.scalars import problem

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
_OPTIONS = {"tensorboard": ("folder",), "mlflow": ("experiment",), "wandb": ("folder", "project")}


class TrackerSpec(StrictModel):
    """One tracker; addresses and credentials come from the environment, as each library says."""

    name: TrackerName
    folder: FilePath | None = Field(
        default=None, description="Of tensorboard and wandb: folder for their files. Default: runs, wandb."
    )
    experiment: Text | None = Field(
        default=None, description="Of mlflow: name of the experiment. Default: the study's."
    )
    project: Text | None = Field(default=None, description="Of wandb: name of the project. Default: the study's.")

    @model_validator(mode="after")
    def _has_these_options(self) -> TrackerSpec:
        for option in ("folder", "experiment", "project"):
            if getattr(self, option) is not None and option not in _OPTIONS[self.name]:
                raise problem(option, f"{self.name} has no such option", ", ".join(_OPTIONS[self.name]))
        return self


def _from_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


TrackerField = Annotated[TrackerSpec, BeforeValidator(_from_name, json_schema_input_type=TrackerName | TrackerSpec)]
"""A tracker by its name, or as a section with options."""
TRACKERS: tuple[str, ...] = get_args(TrackerName)
"""Names of the trackers."""
