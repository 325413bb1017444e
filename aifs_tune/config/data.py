"""The ``data`` section of a sweep file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from aifs_tune._util.models import FilePath, StrictModel, Text
from aifs_tune._util.object_store import DataUrl
from aifs_tune._util.scalars import brief, problem, show

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


class Fold(StrictModel):
    """Another division than the drawn one, by one of so many folds.

    Among the training part: the other folds train, the validation part is as drawn, and this fold takes the place of
    the test part, which nothing is done with. Among all that is not test: this fold validates, the others train.
    """

    index: int = Field(ge=0, lt=100)
    of: int = Field(ge=2, le=100)
    seed: int = Field(default=0, ge=0, lt=2**32)
    among: Literal["train", "all"] = Field(
        default="all",
        description="What is dealt into folds: the training part alone, or the validation part too.",
    )

    @model_validator(mode="after")
    def _is_there(self) -> Fold:
        if self.index >= self.of:
            raise problem("index", f"{self.index} is not one of {self.of} folds", f"0 to {self.of - 1}")
        return self


class SplitSpec(StrictModel):
    """How one folder of images is divided when it has no train/val/test folders of its own."""

    val: float = Field(default=0.2, gt=0, lt=1, description="Share of the images used for validation.")
    test: float = Field(default=0.2, ge=0, lt=1, description="Share kept aside; no trial ever sees it. 0 for none.")
    seed: int = Field(default=0, ge=0, lt=2**32)
    fold: Fold | None = Field(default=None, description="Deal what is not the test part anew, in folds.")

    @model_validator(mode="after")
    def _leaves_training_images(self) -> SplitSpec:
        if self.val + self.test >= 1:
            text = f"{show(self.val)} and test {show(self.test)} leave nothing to train on"
            raise problem("val", text, "val and test with a sum below 1")
        return self


class Simulate(StrictModel):
    """A simulated sky survey, drawn when no folder is given."""

    images: int = Field(default=1000, ge=12, le=1_000_000)
    size: int = Field(default=64, ge=16, le=1024, description="Edge of an image in pixels.")
    seed: int = Field(default=0, ge=0, lt=2**32)
    difficulty: float = Field(default=0.5, ge=0, le=1, description="0 bright and sharp, 1 faint, blurred and crowded.")


class Genes(StrictModel):
    """A simulated table of gene expression, drawn when no file is given."""

    samples: int = Field(default=240, ge=30, le=100_000)
    genes: int = Field(default=2000, ge=20, le=100_000)
    informative: int = Field(default=40, ge=1, le=10_000, description="Genes whose expression depends on the class.")
    missing: float = Field(default=0.02, ge=0, lt=0.9, description="Share of the values that were not measured.")
    seed: int = Field(default=0, ge=0, lt=2**32)


class TableSpec(StrictModel):
    """Rows of numbers, one for each sample, and what is to be predicted of them."""

    file: FilePath | None = Field(default=None, description="CSV or Parquet; the first line of a CSV has the names.")
    bundled: Literal["breast_cancer"] | None = Field(default=None, description="A table that ships with scikit-learn.")
    simulate: Genes | None = Field(default=None, description="Used when there is neither file nor bundled.")
    target: Text = Field(default="target", description="The column to predict.")
    predict: Literal["classes", "values"] = Field(default="classes", description="What the target column holds.")
    unit: Text | None = Field(default=None, description="Of the target, if it holds values.")
    group: Text | None = Field(default=None, description="Column; rows with the same entry stay in one part.")
    part: Text | None = Field(default=None, description="Column with train, val or test, instead of a drawn split.")
    leave_out: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(), description="Columns that are not to be learnt from, such as an identifier."
    )


class MovingSky(StrictModel):
    """Simulated frames of one field each with a source that moves, drawn when no manifest is given."""

    images: int = Field(default=2000, ge=30, le=1_000_000, description="Fields, one example each.")
    size: int = Field(default=32, ge=16, le=1024, description="Edge of a frame in pixels.")
    frames: int = Field(default=2, ge=1, le=16, description="Of each field, one after another.")
    interval_s: float = Field(default=60.0, gt=0, le=1e6, description="Seconds from one frame to the next.")
    stars: float = Field(default=1.0, ge=0, le=100, description="Mean number of sources that do not move.")
    seed: int = Field(default=0, ge=0, lt=2**32)


Role: TypeAlias = Literal["scalar", "x", "y", "vx", "vy", "length", "flux", "magnitude"]
"""What a changed image does to a number: nothing; a position and a vector along columns and rows; what grows with the
scale; what grows with the sum of the pixels, and its magnitude."""


class FrameTarget(StrictModel):
    """A column of numbers to predict."""

    unit: Text | None = None
    role: Role | None = Field(
        default=None,
        description="How it changes with the image; absent: told from the name and unit of x and y in px, vx and vy in "
        "px per time, and mag; scalar for what is not in px.",
    )


def _from_unit(given: Any) -> Any:
    return {"unit": given} if isinstance(given, str) else given


def _listed(given: Any) -> Any:
    return given if given is None or isinstance(given, list | tuple) else (given,)


_Target = Annotated[FrameTarget, BeforeValidator(_from_unit, json_schema_input_type=Text | FrameTarget)]
_Columns = Annotated[
    tuple[Text, ...],
    Field(strict=False, min_length=1, max_length=64),
    BeforeValidator(_listed, json_schema_input_type=Text | tuple[Text, ...]),
]
_Hdu = Annotated[int, Field(ge=0, le=10_000)] | Text
_Hdus = Annotated[
    tuple[_Hdu, ...],
    Field(strict=False, max_length=64),
    BeforeValidator(_listed, json_schema_input_type=_Hdu | tuple[_Hdu, ...]),
]


class FramesSpec(StrictModel):
    """Images that a manifest lists, with numbers to predict, or classes."""

    manifest: FilePath | None = Field(default=None, description="CSV or Parquet; a row for each image.")
    simulate: MovingSky | None = Field(default=None, description="Used when no manifest is given.")
    path: _Columns = Field(
        default=("path",), description="Column of files, relative to the manifest; several: frames, which become bands."
    )
    index: Text | None = Field(default=None, description="Column; which image of a file with many, from 0.")
    targets: dict[Text, _Target] = Field(default={}, description="Column: unit, or unit and role.")
    label: Text | None = Field(default=None, description="Column of classes; absent: label, if there are no targets.")
    group: Text | None = Field(default=None, description="Column; images with the same entry stay in one part.")
    part: Text | None = Field(default=None, description="Column with train, val or test, instead of a drawn split.")
    hdu: _Hdus = Field(default=(), description="Of FITS: numbers or names, or all; absent: the first with an image.")
    dataset: Text | None = Field(default=None, description="Of HDF5 and npz; absent: the only one with an image.")
    bands: Literal["first", "last"] = Field(default="first", description="Axis of the bands in FITS, HDF5 and NumPy.")
    stretch: Literal["asinh", "zscale", "linear"] = "asinh"
    background: Literal["keep", "subtract"] = Field(default="keep", description="The median of each image and band.")
    image_size: int | None = Field(
        default=None, ge=8, le=1024, description="Edge in px to resize to; absent: all must be of one size."
    )
    first_pixel: Annotated[int, Field(ge=0, le=1)] = Field(
        default=0, description="Coordinate of the centre of the first pixel: 0 as in NumPy, 1 as in FITS."
    )

    @model_validator(mode="after")
    def _says_what_to_predict(self) -> FramesSpec:
        if self.label is not None and self.targets:
            raise problem("label", f"{self.label} and targets are both given", "one of the two")
        roles = [role_of(name, target) for name, target in self.targets.items()]
        pairs: tuple[tuple[Role, Role], ...] = (("x", "y"), ("vx", "vy"))
        for one, other in pairs:
            counts = roles.count(one), roles.count(other)
            if counts[0] != counts[1]:
                text = f"{counts[0]} of role {one} and {counts[1]} of role {other}"
                raise problem("targets", text, "as many of both, in the same order: an image can be turned")
        return self

    @property
    def label_column(self) -> str | None:
        """The column of classes; None where numbers are predicted."""
        return None if self.targets else self.label or "label"

    @property
    def roles(self) -> tuple[Role, ...]:
        """Of each target."""
        return tuple(role_of(name, target) for name, target in self.targets.items())


def role_of(name: str, target: FrameTarget) -> Role:
    """The role of a target as it is given, or told from its name and unit.

    Raises
    ------
    PydanticCustomError
        If it is in pixels and can not be told: a changed image could then have a wrong truth.
    """
    pixels = re.fullmatch(r"(?:px|pix|pixels?)(\W.*)?", target.unit or "")
    if target.role is not None:
        return target.role
    if pixels is None:
        return "magnitude" if target.unit == "mag" else "scalar"
    if pixels[1] is None and name in ("x", "y"):
        return "x" if name == "x" else "y"
    if pixels[1] is not None and name in ("vx", "vy"):
        return "vx" if name == "vx" else "vy"
    text = f"{name} is in {target.unit} and has no role"
    raise problem(f"targets.{name}", text, "role: x, y, vx, vy, length, or scalar if changing an image leaves it")


class DataSpec(StrictModel):
    """What is learnt from: a folder of labelled images, a table, series, or images that a manifest lists."""

    url: DataUrl | None = Field(
        default=None,
        description="Instead of a folder or file: where it is in an object store (s3, gs, az), or file:///...; copied "
        "to the cache of each machine.",
    )

    folder: FilePath | None = Field(
        default=None, description="One sub-folder per class, or train/val/test with these inside."
    )
    simulate: Simulate | None = Field(default=None, description="Used when no folder is given.")
    image_size: int = Field(default=64, ge=8, le=1024, description="Edge in pixels that every image is resized to.")
    channels: Literal["auto", "grey", "rgb"] = Field(default="auto", description="auto: grey when all images are grey.")
    fit: Literal["stretch", "crop", "pad"] = Field(
        default="stretch", description="How an image that is not square becomes so."
    )
    range16: Literal["auto"] | Annotated[tuple[int, int], Field(strict=False)] = Field(
        default="auto", description="Pixel values of 16-bit images that become 0 and 255; auto: measured on the images."
    )
    table: TableSpec | None = Field(default=None, description="For mlp and boosting, instead of images.")
    series: SeriesSpec | None = Field(default=None, description="For rnn and cnn1d, instead of images.")
    frames: FramesSpec | None = Field(default=None, description="For cnn_values, instead of a folder of images.")
    split: SplitSpec = SplitSpec()
    group_by: str | None = Field(
        default=None,
        max_length=200,
        description="Regular expression on the file name; images with the same match stay in one part.",
    )
    near_duplicates: Literal["warn", "refuse", "ignore"] = Field(
        default="warn",
        description="What to do about images of a folder in different parts that look alike; ignore: not even look.",
    )

    @model_validator(mode="after")
    def _has_one_place(self) -> DataSpec:
        paths = {
            "folder": self.folder,
            "table.file": None if self.table is None else self.table.file,
            "series.path": None if self.series is None else self.series.path,
            "frames.manifest": None if self.frames is None else self.frames.manifest,
        }
        given = next((name for name, path in paths.items() if path is not None), None)
        if self.url is not None and given is not None:
            raise problem("url", f"is given beside {given}", "one of the two")
        return self

    @field_validator("group_by")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                text = f"{brief(pattern)} is not a regular expression ({error})"
                raise problem("", text, "a regular expression of Python") from None
        return pattern

    @field_validator("range16")
    @classmethod
    def _rises(cls, bounds: Literal["auto"] | tuple[int, int]) -> Literal["auto"] | tuple[int, int]:
        if bounds != "auto" and not 0 <= bounds[0] < bounds[1] <= 65535:
            raise problem("", f"{list(bounds)} does not rise", "auto, or two rising whole numbers from 0 to 65535")
        return bounds

    def targets(self, kind: str) -> tuple[str, ...]:
        """The numbers that a trainer of this kind of data predicts; none: it predicts classes."""
        if kind == "table" and self.table is not None and self.table.predict == "values":
            return (self.table.target,)
        if kind == "series" and self.series is not None:
            return self.series.predicted
        return tuple(self.frames.targets) if kind == "frames" and self.frames is not None else ()

    def at(self, location: Path | str, kind: str) -> DataSpec:
        """With other data of this kind: a folder, a file, or a URL of one of these, for which :func:`url_problem` has
        found nothing."""
        path, url = (location, None) if isinstance(location, Path) else (None, location)
        return self._with_path(path, kind).model_copy(update={"url": url})

    def _with_path(self, path: Path | None, kind: str) -> DataSpec:
        if kind == "table":
            table = (self.table or TableSpec()).model_copy(update={"file": path})
            return self.model_copy(update={"table": table})
        if kind == "series":
            series = (self.series or SeriesSpec()).model_copy(update={"path": path})
            return self.model_copy(update={"series": series})
        if kind == "frames":
            frames = (self.frames or FramesSpec()).model_copy(update={"manifest": path})
            return self.model_copy(update={"frames": frames})
        return self.model_copy(update={"folder": path})
