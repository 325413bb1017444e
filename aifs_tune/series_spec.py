"""The ``series`` section of the data of a sweep file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aifs_tune.scalars import problem
from aifs_tune.section import FilePath, StrictModel, Text

TO_FORECAST = ("quasi_periodic", "mackey_glass")
"""What is one long series."""


class SimulateSeries(StrictModel):
    """Simulated series, drawn when no path is given."""

    what: Literal["light_curves", "seismograms", "quasi_periodic", "mackey_glass"] = Field(
        default="light_curves", description="The first two are classified; of the others one series is to be forecast."
    )
    series: int = Field(default=600, ge=24, le=100_000, description="How many; where one is to be forecast, one.")
    steps: int = Field(default=120, ge=16, le=1_000_000, description="Points of the longest series.")
    seed: int = Field(default=0, ge=0, lt=2**32)
    difficulty: float = Field(default=0.5, ge=0, le=1, description="0 next to no noise, 1 much of it.")


class Forecast(StrictModel):
    """What is to be foretold from one long series: windows of its past are the examples."""

    target: Text = Field(default="value", description="The column to foretell.")
    unit: Text | None = Field(default=None, description="Of the target.")
    history: int = Field(default=48, ge=2, le=100_000, description="Steps that are seen.")
    horizon: int = Field(default=1, ge=1, le=100_000, description="Steps from the last one seen to the one foretold.")
    stride: int = Field(default=1, ge=1, le=100_000, description="Steps from one window to the next.")


class SeriesSpec(StrictModel):
    """Sequences of measurements, one file each, or one long series to forecast."""

    path: FilePath | None = Field(
        default=None,
        description="A folder with a sub-folder for each class or a manifest.csv, a manifest, or one long series.",
    )
    simulate: SimulateSeries | None = Field(default=None, description="Used when no path is given.")
    forecast: Forecast | None = Field(default=None, description="Of one long series; absent: whole series are judged.")
    label: Text = Field(default="label", description="Column of the manifest with the class.")
    targets: dict[Text, Text | None] = Field(
        default_factory=dict,
        description="Columns of the manifest with numbers to predict instead of a class, and their units.",
    )
    columns: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(), description="Columns of a series that are learnt from; none named: all that hold numbers."
    )
    time: Text | None = Field(
        default=None, description="Column of times, never falling; absent: one called time, if there is one."
    )
    length: int | None = Field(default=None, ge=2, le=1_000_000, description="Steps that longer series are cut to.")
    keep: Literal["last", "first"] = Field(default="last", description="Which steps of a series that is cut stay.")
    scaling: Literal["set", "centred", "series"] = Field(
        default="set",
        description="set: by mean and spread of the training part; centred: after the mean of each series was taken "
        "off; series: after each was also divided by its own spread.",
    )
    group: Text | None = Field(default=None, description="Column of the manifest; equal entries stay in one part.")
    part: Text | None = Field(default=None, description="Column of the manifest with train, val or test.")
    order: Text | None = Field(
        default=None, description="Column of the manifest; the first series are trained on, the last ones tested on."
    )

    @model_validator(mode="after")
    def _is_one_question(self) -> SeriesSpec:
        of_files = {"group": self.group, "part": self.part, "order": self.order, "length": self.length}
        given = [name for name, value in of_files.items() if value is not None] + ["targets"] * bool(self.targets)
        if self.forecast is not None and given:
            raise problem(given[0], "is for series in a folder, not for a forecast", "absent, or no forecast")
        if self.forecast is not None and self.scaling != "set":
            raise problem("scaling", f"{self.scaling} is for series in a folder, not for a forecast", "set")
        divided = [name for name in ("group", "part", "order") if of_files[name] is not None]
        if len(divided) > 1:
            raise problem(divided[1], f"is given beside {divided[0]}", "one of group, part and order")
        if self.simulate is not None and (self.simulate.what in TO_FORECAST) != (self.forecast is not None):
            allowed = f"{' or '.join(TO_FORECAST)} with forecast, light_curves or seismograms without"
            raise problem("simulate.what", f"{self.simulate.what} does not fit", allowed)
        return self

    @property
    def predicted(self) -> tuple[str, ...]:
        """The numbers to predict; none: classes."""
        return (self.forecast.target,) if self.forecast is not None else tuple(self.targets)
