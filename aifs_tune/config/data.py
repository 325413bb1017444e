"""Models of the ``data`` section of a sweep file."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from aifs_tune._util.models import FilePath, StrictModel, Text
from aifs_tune._util.object_store import DataUrl
from aifs_tune._util.scalars import brief, problem, show

TO_FORECAST = ("quasi_periodic", "mackey_glass")
"""Simulated data that form one long series to forecast."""


DIVISION = "division"
"""Fact of a study: how its data are divided, see :func:`aifs_tune.data.division.division_of`."""


COLUMNS = "columns"
"""Fact of a study: what each column of its table was taken for, the first ones, and the number of all."""


class SimulateSeries(StrictModel):
    """Simulated series, used when no path is given."""

    what: Literal["light_curves", "seismograms", "quasi_periodic", "mackey_glass"] = Field(
        default="light_curves",
        description="Kind of series: light_curves and seismograms for classification, quasi_periodic and "
        "mackey_glass for forecasts.",
    )
    series: int = Field(default=600, ge=24, le=100_000, description="Number of series; a forecast always uses one.")
    steps: int = Field(default=120, ge=16, le=1_000_000, description="Time steps of the longest series.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the simulation.")
    difficulty: float = Field(default=0.5, ge=0, le=1, description="Noise level, from 0 (almost none) to 1 (strong).")


class Forecast(StrictModel):
    """Forecast of one long series: the examples are windows of its past."""

    target: Text = Field(default="value", description="Column to forecast.")
    unit: Text | None = Field(default=None, description="Unit of the target.")
    history: int = Field(default=48, ge=2, le=100_000, description="Time steps in each input window.")
    horizon: int = Field(
        default=1, ge=1, le=100_000, description="Time steps from the end of a window to the forecast value."
    )
    stride: int = Field(default=1, ge=1, le=100_000, description="Time steps from one window to the next.")
    above: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Value of the target, in its unit: forecast the classes event (the target is above it at one of "
        "the horizon's steps) and no_event; absent: forecast the target's value.",
    )


def _time_format(text: str) -> str:
    try:
        found = datetime.strptime(datetime(2024, 3, 30, 21, 5).strftime(text), text)
    except ValueError as error:
        raise problem(
            "", f"{brief(text)} is not a form of times ({error})", "codes of strptime, such as %d/%m/%Y"
        ) from None
    if found == datetime(1900, 1, 1):
        raise problem("", f"{brief(text)} has no part of a date or time", "codes of strptime, such as %d/%m/%Y")
    return text


_TimeFormat = Annotated[str, Field(min_length=2, max_length=100), AfterValidator(_time_format)]


def _as_tuple(given: Any) -> Any:
    return (given,) if isinstance(given, int) else tuple(given) if isinstance(given, list) else given


class QualitySpec(StrictModel):
    """Flags that say which rows of a series are good."""

    column: Text | None = Field(
        default=None, description="Column of flags; absent: SAP_QUALITY or QUALITY of a FITS table."
    )
    keep: Annotated[
        Annotated[tuple[int, ...], Field(strict=False)] | Literal["all"],
        BeforeValidator(_as_tuple, json_schema_input_type=int | tuple[int, ...] | Literal["all"]),
    ] = Field(default=(0,), description="Flag or flags of rows that are used, or all.")
    bad_bits: int | None = Field(
        default=None,
        ge=1,
        lt=2**62,
        description="Bits of which any makes a row bad, as their sum; not with keep.",
    )

    @model_validator(mode="after")
    def _is_one_rule(self) -> QualitySpec:
        if self.bad_bits is not None and self.keep != (0,):
            raise problem("bad_bits", "cannot be combined with keep", "one of the two")
        return self


def _as_quality(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


class SeriesSpec(StrictModel):
    """Time series, one file each, or one long series to forecast."""

    path: FilePath | None = Field(
        default=None,
        description="A folder with one sub-folder per class, a folder with a manifest.csv, a manifest, or one long "
        "series.",
    )
    simulate: SimulateSeries | None = Field(default=None, description="Simulated data, used when no path is given.")
    forecast: Forecast | None = Field(
        default=None, description="Forecast of one long series; absent: each series is one example."
    )
    id: Text | None = Field(
        default=None, description="Column of a long table, with a row for each step, that tells the series apart."
    )
    label: Text = Field(default="label", description="Column of the manifest that holds the class.")
    targets: dict[Text, Text | None] = Field(
        default_factory=dict,
        description="Columns of the manifest with numbers to predict instead of a class, each with its unit.",
    )
    columns: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(), description="Columns of a series used as inputs; empty: all numeric columns."
    )
    time: Text | None = Field(
        default=None,
        description="Column of times, which must not decrease; absent: the column called time, if there is one.",
    )
    time_format: _TimeFormat | None = Field(
        default=None,
        description="Form of the times in the codes of strptime, such as %d.%m.%Y %H:%M; absent: numbers or ISO 8601.",
    )
    length: int | None = Field(
        default=None, ge=2, le=1_000_000, description="Time steps that longer series are truncated to."
    )
    keep: Literal["last", "first"] = Field(default="last", description="Which end of a truncated series is kept.")
    scaling: Literal["set", "centred", "series"] = Field(
        default="set",
        description="set: scale by the mean and standard deviation of the training part; centred: subtract the mean of "
        "each series first; series: also divide each series by its own standard deviation.",
    )
    group: Text | None = Field(
        default=None, description="Column of the manifest; series with the same entry stay in the same part."
    )
    part: Text | None = Field(
        default=None, description="Column of the manifest with train, val or test, instead of a random split."
    )
    order: Text | None = Field(
        default=None, description="Column of the manifest to sort by; the first series train, the last ones test."
    )
    quality: Annotated[
        QualitySpec | None, BeforeValidator(_as_quality, json_schema_input_type=Text | QualitySpec | None)
    ] = Field(default=None, description="Flags that say which rows are used; of FITS tables 0 by default.")
    sort: bool = Field(
        default=False, description="Sort rows whose times decrease, instead of leaving out their series."
    )
    missing: Annotated[tuple[float | Text, ...], Field(strict=False, max_length=100)] = Field(
        default=(), description="Entries that mean a missing one, such as -99, besides empty, NA, NaN, null, - and ?."
    )
    below_limit: Literal["refuse", "half", "limit", "missing"] = Field(
        default="refuse", description="What entries such as >14.5 become: half of the limit, the limit, or missing."
    )
    header: bool = Field(default=True, description="Whether the first line of a CSV file holds the column names.")
    hdu: int | Text | None = Field(
        default=None, description="Number or name of the table in FITS files; absent: the first with a column of times."
    )

    @model_validator(mode="after")
    def _is_one_question(self) -> SeriesSpec:
        of_files = {"id": self.id, "group": self.group, "part": self.part, "order": self.order, "length": self.length}
        given = [name for name, value in of_files.items() if value is not None] + ["targets"] * bool(self.targets)
        if self.forecast is not None and given:
            raise problem(given[0], "cannot be combined with forecast", "leave out one of the two")
        if self.forecast is not None and self.scaling != "set":
            raise problem("scaling", f"{self.scaling} cannot be combined with forecast", "set")
        divided = [name for name in ("group", "part", "order") if of_files[name] is not None]
        if len(divided) > 1:
            raise problem(divided[1], f"cannot be combined with {divided[0]}", "one of group, part and order")
        if self.simulate is not None and (self.simulate.what in TO_FORECAST) != (self.forecast is not None):
            text = f"{self.simulate.what} {'needs' if self.forecast is None else 'cannot be combined with'} forecast"
            allowed = f"{' or '.join(TO_FORECAST)} with forecast, light_curves or seismograms without it"
            raise problem("simulate.what", text, allowed)
        return self

    @property
    def predicted(self) -> tuple[str, ...]:
        """The names of the numbers to predict; empty for classification."""
        if self.forecast is None:
            return tuple(self.targets)
        return (self.forecast.target,) if self.forecast.above is None else ()


class Fold(StrictModel):
    """One fold of a cross-validation, which replaces the random split.

    With ``among: train`` the folds divide the training part: the other folds train, the validation part stays the
    same, and this fold takes the place of the test part, which is not used. With ``among: all`` the folds divide the
    training and validation parts: this fold validates, the others train.
    """

    index: int = Field(ge=0, lt=100, description="Number of this fold, from 0.")
    of: int = Field(ge=2, le=100, description="Number of folds.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the assignment to folds.")
    among: Literal["train", "all"] = Field(
        default="all",
        description="Parts that are divided into folds: the training part, or the training and validation parts.",
    )

    @model_validator(mode="after")
    def _is_there(self) -> Fold:
        if self.index >= self.of:
            raise problem("index", f"{self.index} is not one of {self.of} folds", f"0 to {self.of - 1}")
        return self


class SplitSpec(StrictModel):
    """Random split of data that have no train, val and test parts of their own."""

    val: float = Field(default=0.2, gt=0, lt=1, description="Fraction of the examples used for validation.")
    test: float = Field(
        default=0.2, ge=0, lt=1, description="Fraction kept for the final test, which no trial uses; 0 for none."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the split.")
    fold: Fold | None = Field(default=None, description="Fold of a cross-validation that replaces this split.")

    @model_validator(mode="after")
    def _leaves_training_images(self) -> SplitSpec:
        if self.val + self.test >= 1:
            text = f"{show(self.val)} and test {show(self.test)} leave nothing to train on"
            raise problem("val", text, "val and test with a sum below 1")
        return self


class LabelsSpec(StrictModel):
    """Table with the class of each image of a folder, or of each sample of a matrix."""

    file: FilePath = Field(description="CSV, Parquet or Excel file with a row for each image or sample.")
    name: Text | None = Field(
        default=None,
        description="Column of file names, with or without path and suffix, or of samples; absent: told by its name or "
        "entries.",
    )
    label: Text | None = Field(
        default=None,
        description="Column of classes; absent: the one called label, class, ..., or as target of a table.",
    )


def _from_file(given: Any) -> Any:
    return {"file": given} if isinstance(given, str | Path) else given


class Simulate(StrictModel):
    """Simulated images, used when no folder is given."""

    what: Literal["sky", "micrographs"] = Field(
        default="sky", description="Kind of images: stars and galaxies, or grains, pores and cracks of a metal."
    )
    images: int = Field(default=1000, ge=12, le=1_000_000, description="Number of images.")
    size: int = Field(default=64, ge=16, le=1024, description="Width and height of an image in pixels.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the simulation.")
    difficulty: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="From 0 (bright and sharp) to 1 (faint, blurred and crowded; of micrographs, faint and noisy).",
    )


class Genes(StrictModel):
    """A simulated table of gene expression, used when no file is given."""

    samples: int = Field(default=240, ge=30, le=100_000, description="Number of rows.")
    genes: int = Field(default=2000, ge=20, le=100_000, description="Number of columns.")
    informative: int = Field(default=40, ge=1, le=10_000, description="Genes whose expression depends on the class.")
    missing: float = Field(default=0.02, ge=0, lt=0.9, description="Fraction of missing values.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the simulation.")


class Showers(StrictModel):
    """A simulated table of particles in a calorimeter, used when neither file nor bundled is given."""

    events: int = Field(default=4000, ge=60, le=1_000_000, description="Number of particles; each is a row.")
    resolution: float = Field(
        default=0.15,
        ge=0.01,
        le=1,
        description="Resolution of the energy of an electron of 1 GeV; it falls with the root of the energy.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the simulation.")


class NearRows(StrictModel):
    """Rows that stay in the same part as their numbers in some columns are nearly equal, such as compositions."""

    columns: Annotated[tuple[Text, ...], Field(strict=False, min_length=1, max_length=1000)] = Field(
        description="Columns of numbers that are compared, such as the fractions of a composition."
    )
    distance: float = Field(
        gt=0,
        description="Largest sum of the absolute differences between two near rows, in the unit of the columns. Rows "
        "that are linked by others stay together too.",
    )


class TableSpec(StrictModel):
    """A table with one row per example, and columns to predict."""

    file: FilePath | None = Field(
        default=None,
        description="CSV, Parquet, Excel, NPZ, ARFF, AnnData or 10x HDF5 file, GEO series matrix, or folder of a 10x "
        "matrix.",
    )
    labels: Annotated[LabelsSpec, BeforeValidator(_from_file, json_schema_input_type=FilePath | LabelsSpec)] | None = (
        Field(default=None, description="Table with the target of each row, by the name in its first column.")
    )
    orientation: Literal["rows", "columns"] = Field(
        default="rows", description="Whether each row is an example, or each column, as in tables with genes in rows."
    )
    columns: Annotated[int, Field(ge=1, le=1_000_000)] | Annotated[tuple[Text, ...], Field(strict=False)] | None = (
        Field(
            default=None,
            description="Columns to learn from, or of genes how many: those that vary most in the training part; "
            "absent: all, or of a sparse matrix 2000.",
        )
    )
    counts: Literal["auto", "log", "raw"] = Field(
        default="auto",
        description="What counts of a matrix become: log, log(1 + 10,000 count / sum of the row); raw, themselves; "
        "auto: log if all are whole numbers from 0.",
    )
    layer: Text | None = Field(default=None, description="Layer of an AnnData file; absent: X.")
    feature_types: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(),
        description="Types of a 10x matrix to learn from, such as Antibody Capture; absent: Gene Expression, or all if "
        "there is none.",
    )
    bundled: Literal["breast_cancer"] | None = Field(default=None, description="A table that ships with scikit-learn.")
    simulate: Genes | None = Field(
        default=None, description="Simulated genes, used when neither file nor bundled is given."
    )
    showers: Showers | None = Field(
        default=None,
        description="Simulated particles in a calorimeter, used when neither file nor bundled is given; target: "
        "particle, and numbers: energy and start.",
    )
    target: Text = Field(default="target", description="Column to predict.")
    predict: Literal["classes", "values"] = Field(
        default="classes", description="Whether the target column holds classes or numbers."
    )
    unit: Text | None = Field(default=None, description="Unit of a numeric target.")
    targets: dict[Text, Text | None] = Field(
        default_factory=dict,
        description="Columns of numbers to predict together, each with its unit, instead of target. Rows may lack some "
        "of them.",
    )
    numbers: dict[Text, Text | None] = Field(
        default_factory=dict,
        description="Columns of numbers to predict beside the class in target, each with its unit. Rows may lack some "
        "of them.",
    )
    group: Text | None = Field(default=None, description="Column; rows with the same entry stay in the same part.")
    group_near: NearRows | None = Field(default=None, description="Rows that are nearly equal stay in the same part.")
    part: Text | None = Field(default=None, description="Column with train, val or test, instead of a random split.")
    leave_out: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(), description="Columns that are not used as inputs, such as an identifier."
    )
    keep: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(), description="Columns that are used although they look like row numbers or identifiers."
    )
    missing: Annotated[tuple[float | Text, ...], Field(strict=False, max_length=100)] = Field(
        default=(), description="Entries that mean a missing one, such as -9999, besides empty, NA, NaN, null, - and ?."
    )
    decimal: Literal["auto", ".", ","] | dict[Text, Literal[".", ","]] = Field(
        default="auto",
        description="Decimal sign of numbers in text, or column: sign; auto: told from each column and the others.",
    )
    thousands: Literal["auto", ".", ",", "none"] = Field(
        default="auto", description="Sign between thousands of numbers in text; none: there is none."
    )
    time_format: _TimeFormat | dict[Text, _TimeFormat] | None = Field(
        default=None,
        description="Form of dates and times of day in the codes of strptime, such as %d/%m/%Y %H:%M, or column: form; "
        "absent: ISO 8601.",
    )
    below_limit: Literal["refuse", "half", "limit", "missing"] = Field(
        default="refuse", description="What entries such as <0.05 become: half of the limit, the limit, or missing."
    )
    header: bool = Field(default=True, description="Whether the first line of a CSV file holds the column names.")
    sheet: Text | None = Field(default=None, description="Sheet of an Excel file; absent: the first.")

    @model_validator(mode="after")
    def _has_different_signs(self) -> TableSpec:
        if self.decimal == self.thousands and self.decimal != "auto":
            raise problem("thousands", f"{self.thousands!r} is the decimal sign too", "another sign, none or auto")
        return self

    @model_validator(mode="after")
    def _is_one_simulation(self) -> TableSpec:
        if self.simulate is not None and self.showers is not None:
            raise problem("showers", "cannot be combined with simulate", "one of the two")
        return self

    @model_validator(mode="after")
    def _is_one_question(self) -> TableSpec:
        if self.targets:
            beside = {"target": "target", "predict": "classes", "unit": None, "labels": None}
            given = [key for key, default in beside.items() if getattr(self, key) != default]
            if given:
                raise problem(given[0], "cannot be combined with targets", "leave out one of the two")
        if self.numbers:
            beside_classes: dict[str, Any] = {"targets": {}, "predict": "classes", "unit": None}
            given = [key for key, default in beside_classes.items() if getattr(self, key) != default]
            if given:
                raise problem(given[0], "cannot be combined with numbers", "leave out one of the two")
            if self.target in self.numbers:
                raise problem("numbers", f"{self.target} is the column of classes", "other columns, or another target")
        divided = [key for key in ("group", "part") if getattr(self, key) is not None]
        if self.group_near is not None and divided:
            raise problem("group_near", f"cannot be combined with {divided[0]}", "leave out one of the two")
        return self

    @property
    def has_classes(self) -> bool:
        """Whether classes are predicted."""
        return not self.targets and self.predict == "classes"

    @property
    def predicted(self) -> dict[str, str | None]:
        """The numbers to predict with their units; empty if classes alone are predicted."""
        if self.targets or self.has_classes:
            return dict(self.targets or self.numbers)
        return {self.target: self.unit}

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The columns to predict."""
        return tuple(self.targets) or (self.target, *self.numbers)

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """The columns to predict of which a row needs at least one: that of the class, or any of numbers alone."""
        return (self.target,) if self.has_classes else self.target_columns


class MovingSky(StrictModel):
    """Simulated frames of fields with one moving source each, used when no manifest is given."""

    images: int = Field(default=2000, ge=30, le=1_000_000, description="Number of fields; each is one example.")
    size: int = Field(default=32, ge=16, le=1024, description="Width and height of a frame in pixels.")
    frames: int = Field(default=2, ge=1, le=16, description="Consecutive frames of each field.")
    interval_s: float = Field(default=60.0, gt=0, le=1e6, description="Seconds from one frame to the next.")
    stars: float = Field(default=1.0, ge=0, le=100, description="Mean number of sources that do not move.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the simulation.")


Role: TypeAlias = Literal["scalar", "x", "y", "vx", "vy", "length", "flux", "magnitude"]
"""How augmentation changes a target: not at all (``scalar``), as a position (``x``, ``y``), as a vector (``vx``,
``vy``), with the scale of the image (``length``), with the sum of its pixels (``flux``), or as a magnitude of that
sum."""


class FrameTarget(StrictModel):
    """A numeric column to predict."""

    unit: Text | None = Field(default=None, description="Unit of the target.")
    role: Role | None = Field(
        default=None,
        description="How augmentation changes the target. If absent, it follows from name and unit: x and y in px, vx "
        "and vy in px per time, magnitude for mag, and scalar for any other unit without px.",
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
_Axis = Annotated[str, Field(pattern=r"^[A-Z][0-9]?$", description="the letter of an axis, such as Z")]
_Hdu = Annotated[int, Field(ge=0, le=10_000)] | Text
_Hdus = Annotated[
    tuple[_Hdu, ...],
    Field(strict=False, max_length=64),
    BeforeValidator(_listed, json_schema_input_type=_Hdu | tuple[_Hdu, ...]),
]


class FramesSpec(StrictModel):
    """Images listed in a manifest, with numbers or classes to predict, or both."""

    manifest: FilePath | None = Field(default=None, description="CSV or Parquet file with one row per image.")
    simulate: MovingSky | None = Field(default=None, description="Simulated data, used when no manifest is given.")
    path: _Columns = Field(
        default=("path",),
        description="Column of file names, relative to the manifest; several columns are frames, which become bands.",
    )
    folder: FilePath | None = Field(
        default=None, description="Folder of the files, relative to the manifest; absent: that of the manifest."
    )
    suffix: (
        Annotated[str, Field(pattern=r"^\.[A-Za-z0-9.]{1,15}$", description="a dot and letters, such as .jpg")] | None
    ) = Field(default=None, description="Suffix that is added to the entries of the manifest, such as .jpg.")
    index: Text | None = Field(default=None, description="Column; which image of a file with many, from 0.")
    targets: dict[Text, _Target] = Field(default={}, description="Column: unit, or unit and role.")
    label: Text | None = Field(default=None, description="Column of classes; absent: label, if there are no targets.")
    group: Text | None = Field(default=None, description="Column; images with the same entry stay in one part.")
    part: Text | None = Field(default=None, description="Column with train, val or test, instead of a random split.")
    hdu: _Hdus = Field(
        default=(),
        description="HDUs of FITS files, by number or name, or all; absent: the first with an image that is no mask, "
        "weight or error.",
    )
    dataset: Text | None = Field(
        default=None,
        description="Dataset in HDF5 and npz files, or column of images in a FITS table; absent: the only one with an "
        "image.",
    )
    bands: Literal["auto", "first", "last"] = Field(
        default="auto", description="Axis of the bands in FITS, HDF5 and NumPy files; auto: told from the shape."
    )
    planes: dict[_Axis, Annotated[int, Field(ge=0)] | Literal["max", "mean", "all"]] = Field(
        default={},
        description="What is read along a named axis of a TIFF stack, such as Z or T: the number of a plane from 0, "
        "max or mean of all planes, or all as bands.",
    )
    stretch: Literal["asinh", "zscale", "linear"] = Field(default="asinh", description="How pixel values are scaled.")
    background: Literal["keep", "subtract"] = Field(
        default="keep", description="Whether the median of each image and band is subtracted."
    )
    image_size: int | None = Field(
        default=None,
        ge=8,
        le=1024,
        description="Width and height in pixels to resize to; absent: all images must have the same size.",
    )
    first_pixel: Annotated[int, Field(ge=0, le=1)] = Field(
        default=0, description="Coordinate of the centre of the first pixel: 0 as in NumPy, 1 as in FITS."
    )

    @model_validator(mode="after")
    def _says_what_to_predict(self) -> FramesSpec:
        if self.label in self.targets:
            raise problem("label", f"{self.label} is one of the targets", "another column of classes")
        roles = [role_of(name, target) for name, target in self.targets.items()]
        pairs: tuple[tuple[Role, Role], ...] = (("x", "y"), ("vx", "vy"))
        for one, other in pairs:
            counts = roles.count(one), roles.count(other)
            if counts[0] != counts[1]:
                text = f"{counts[0]} of role {one} and {counts[1]} of role {other}, but augmentation rotates images"
                raise problem("targets", text, "the same number of both, in the same order")
        return self

    @property
    def label_column(self) -> str | None:
        """The column of classes; None if numbers alone are predicted."""
        return self.label if self.targets else self.label or "label"

    @property
    def roles(self) -> tuple[Role, ...]:
        """The role of each target."""
        return tuple(role_of(name, target) for name, target in self.targets.items())


def role_of(name: str, target: FrameTarget) -> Role:
    """Role of a target: the one given, else the one that follows from its name and unit.

    Raises
    ------
    PydanticCustomError
        If the target is in pixels and no role follows: augmented images could have wrong targets.
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
    raise problem(f"targets.{name}", text, "role: x, y, vx, vy, length, or scalar if augmentation does not change it")


class SkyFields(StrictModel):
    """Simulated fields of stars and galaxies, used when no catalogue is given."""

    fields: int = Field(default=200, ge=12, le=100_000, description="Number of fields; each is one frame.")
    size: int = Field(default=128, ge=32, le=4096, description="Width and height of a frame in pixels.")
    bodies: float = Field(default=25.0, gt=0, le=5000, description="Mean number of bodies in a frame.")
    galaxies: float = Field(default=0.4, ge=0, le=1, description="Share of the bodies that are galaxies.")
    blends: float = Field(
        default=0.15, ge=0, le=0.9, description="Share of the bodies that are placed beside another one."
    )
    cosmic_rays: float = Field(default=2.0, ge=0, le=1000, description="Mean number of cosmic rays in a frame.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the simulation.")


class BodiesSpec(StrictModel):
    """Frames with many bodies each, and a catalogue of the bodies."""

    catalogue: FilePath | None = Field(
        default=None,
        description="Catalogue of bodies: a CSV or Parquet file or a FITS table with one row per body, a COCO JSON "
        "file, or a folder of Pascal VOC XML files.",
    )
    simulate: SkyFields | None = Field(default=None, description="Simulated data, used when no catalogue is given.")
    images: FilePath | None = Field(
        default=None, description="Folder of the frames, relative to the catalogue; absent: that of the catalogue."
    )
    image: Text = Field(default="image", description="Column with the file of the frame.")
    x: Text = Field(default="x", description="Column of positions along the width, in px.")
    y: Text = Field(default="y", description="Column of positions along the height, in px.")
    label: Text | None = Field(default=None, description="Column of classes; absent: label, if there is one.")
    size: Text | None = Field(
        default=None, description="Column of sizes (diameters) in px; absent: size, if there is one."
    )
    numbers: dict[Text, _Target] = Field(
        default={}, description="More columns to predict for each body: unit, or unit and role."
    )
    brightness: Text | None = Field(
        default=None, description="The number (of role magnitude or flux) by which completeness is told apart."
    )
    radius_px: float = Field(
        default=2.0, gt=0, le=1000, description="Largest distance of a detection from its body, in px of the frame."
    )
    tile: Annotated[int, Field(ge=32, le=1024, multiple_of=16)] = Field(
        default=128, description="Width and height in pixels of the tiles that frames are cut into."
    )
    binning: int = Field(
        default=1, ge=1, le=32, description="Blocks of so many pixels along each side are averaged to one."
    )
    saturation: float | None = Field(
        default=None, description="Pixel value from which a pixel is saturated: not learnt from, and not scored."
    )
    edge: int = Field(default=0, ge=0, le=10_000, description="Pixels along the edges of a frame that are not used.")
    group: Text | None = Field(default=None, description="Column; frames with the same entry stay in one part.")
    part: Text | None = Field(default=None, description="Column with train, val or test, instead of a random split.")
    sets: FilePath | None = Field(
        default=None,
        description="Folder with train.txt, val.txt and test.txt, which list frames, instead of a random split; "
        "relative to the catalogue.",
    )
    hdu: _Hdus = Field(default=(), description="HDUs of FITS frames, by number or name, or all; absent: the first.")
    dataset: Text | None = Field(default=None, description="Dataset in HDF5 and npz files.")
    bands: Literal["auto", "first", "last"] = Field(
        default="auto", description="Axis of the bands in FITS, HDF5 and NumPy files; auto: told from the shape."
    )
    stretch: Literal["asinh", "zscale", "linear"] = Field(default="asinh", description="How pixel values are scaled.")
    background: Literal["keep", "subtract"] = Field(
        default="keep", description="Whether the median of each frame and band is subtracted."
    )
    first_pixel: Annotated[int, Field(ge=0, le=1)] = Field(
        default=0, description="Coordinate of the centre of the first pixel in tables: 0 as in NumPy, 1 as in FITS."
    )

    @model_validator(mode="after")
    def _agrees(self) -> BodiesSpec:
        if self.part is not None and self.sets is not None:
            raise problem("sets", "cannot be combined with part", "one of the two")
        for name, role in self.roles.items():
            if role in ("x", "y"):
                raise problem(f"numbers.{name}", f"role {role} is that of the place of a body", "another role")
        roles = list(self.roles.values())
        if roles.count("vx") != roles.count("vy"):
            text = f"{roles.count('vx')} of role vx and {roles.count('vy')} of role vy, but augmentation rotates frames"
            raise problem("numbers", text, "the same number of both, in the same order")
        if self.brightness is not None and self.roles.get(self.brightness) not in ("magnitude", "flux"):
            able = ", ".join(name for name, role in self.roles.items() if role in ("magnitude", "flux"))
            raise problem(
                "brightness", f"{self.brightness} is no number of role magnitude or flux", able or "such a number"
            )
        return self

    @property
    def roles(self) -> dict[str, Role]:
        """Role of each number."""
        return {name: role_of(name, target) for name, target in self.numbers.items()}


class DataSpec(StrictModel):
    """The data that trials train on: images in folders, a table, series, images in a manifest, or frames of bodies.

    This is the ``data`` section of a sweep file. Each trainer reads the keys for its kind of data and ignores the rest.

    Attributes
    ----------
    url
        URL of the folder or file in an object store (``s3://``, ``gs://``, ``az://``), or ``file:///...``; default
        None. Cannot be combined with a path.
    folder
        Folder of images with one sub-folder per class, or with ``train``, ``val`` and ``test`` folders of these; or an
        npz file with arrays ``X`` and ``y``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``. Default None.
    labels
        Table with the class of each image of ``folder``: a file, or a mapping with ``file``, ``name`` and ``label``;
        default None.
    simulate
        Simulated images, used when no folder is given; default None.
    image_size
        Width and height in pixels that every image is resized to, 8 to 1024; default 64.
    channels
        ``"auto"`` (default; grey if all images are grey), ``"grey"`` or ``"rgb"``.
    fit
        How images are made square: ``"stretch"`` (default), ``"crop"`` or ``"pad"``.
    range16
        Two pixel values of images with more than 8 bits that are mapped to 0 and 255; default ``"auto"``, the 0.1 and
        99.9 percentiles of the training part.
    table
        Table for the trainers ``mlp`` and ``boosting``; default None.
    series
        Time series for the trainers ``rnn`` and ``cnn1d``; default None.
    frames
        Images with a manifest for the trainer ``cnn_values``; default None.
    bodies
        Frames with a catalogue of bodies for the trainer ``detector``; default None.
    split
        Random split into train, val and test parts; default 60 %, 20 % and 20 %.
    group_by
        Regular expression for file names; images with the same match stay in the same part. Default None.
    near_duplicates
        What to do if images in different parts look alike: ``"warn"`` (default), ``"refuse"`` or ``"ignore"``.
    signal
        Class that is the signal, for ``val_signal_brier`` and metrics such as ``val_signal_efficiency@0.01``; default
        None.
    follow_links
        Whether links are followed that lead out of the folder of the data, or of the DataLad or git-annex data set
        that has it; default False.

    Examples
    --------
    >>> from aifs_tune.config import DataSpec
    >>> data = DataSpec(folder="survey", image_size=32)
    >>> data.split.val, data.channels
    (0.2, 'auto')
    """

    model_config = ConfigDict(
        json_schema_extra={
            "description": "The data that trials train on: a folder of images, a table, time series, images listed "
            "in a manifest, or frames with a catalogue of bodies."
        }
    )

    url: DataUrl | None = Field(
        default=None,
        description="URL of the folder or file in an object store (s3, gs, az), or file:///...; each machine copies it "
        "to its cache.",
    )
    folder: FilePath | None = Field(
        default=None,
        description="Folder of images with one sub-folder per class, or with train, val and test folders of these; or "
        "an .npz file with arrays X and y, or x_train, y_train, x_test, y_test.",
    )
    labels: Annotated[LabelsSpec, BeforeValidator(_from_file, json_schema_input_type=FilePath | LabelsSpec)] | None = (
        Field(default=None, description="Table with the class of each image, instead of a sub-folder for each class.")
    )
    simulate: Simulate | None = Field(default=None, description="Simulated images, used when no folder is given.")
    image_size: int = Field(
        default=64, ge=8, le=1024, description="Width and height in pixels that every image is resized to."
    )
    channels: Literal["auto", "grey", "rgb"] = Field(
        default="auto", description="Colour channels; auto: grey if all images are grey."
    )
    fit: Literal["stretch", "crop", "pad"] = Field(default="stretch", description="How images are made square.")
    range16: Literal["auto"] | Annotated[tuple[float, float], Field(strict=False)] = Field(
        default="auto",
        description="Pixel values of images with more than 8 bits that are mapped to 0 and 255; auto: percentiles of "
        "the training part.",
    )
    table: TableSpec | None = Field(default=None, description="Table for the trainers mlp and boosting.")
    series: SeriesSpec | None = Field(default=None, description="Time series for the trainers rnn and cnn1d.")
    frames: FramesSpec | None = Field(default=None, description="Images with a manifest for the trainer cnn_values.")
    bodies: BodiesSpec | None = Field(
        default=None, description="Frames with a catalogue of bodies for the trainer detector."
    )
    split: SplitSpec = Field(default=SplitSpec(), description="Random split into train, val and test parts.")
    group_by: str | None = Field(
        default=None,
        max_length=200,
        description="Regular expression for file names; images with the same match stay in the same part.",
    )
    near_duplicates: Literal["warn", "refuse", "ignore"] = Field(
        default="warn",
        description="What to do if images in different parts look alike: warn, refuse the data, or ignore (no check).",
    )
    signal: Text | None = Field(
        default=None,
        description="Class that is the signal, of which val_signal_efficiency@0.01 is the share that is kept at a "
        "false-positive rate of 0.01 among all other classes, the background, and val_signal_brier the Brier score of "
        "its probability.",
    )
    follow_links: bool = Field(
        default=False,
        description="Whether links are followed that lead out of the folder of the data, or of the DataLad or "
        "git-annex data set that has it.",
    )

    @model_validator(mode="after")
    def _has_one_place(self) -> DataSpec:
        paths = {
            "folder": self.folder,
            "table.file": None if self.table is None else self.table.file,
            "series.path": None if self.series is None else self.series.path,
            "frames.manifest": None if self.frames is None else self.frames.manifest,
            "bodies.catalogue": None if self.bodies is None else self.bodies.catalogue,
        }
        given = next((name for name, path in paths.items() if path is not None), None)
        if self.url is not None and given is not None:
            raise problem("url", f"cannot be combined with {given}", "one of the two")
        return self

    @field_validator("group_by")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                text = f"{brief(pattern)} is not a regular expression ({error})"
                raise problem("", text, "a Python regular expression") from None
        return pattern

    @field_validator("range16")
    @classmethod
    def _rises(cls, bounds: Literal["auto"] | tuple[float, float]) -> Literal["auto"] | tuple[float, float]:
        if bounds != "auto" and not bounds[0] < bounds[1]:
            found = ", ".join(map(show, bounds))
            raise problem("", f"[{found}] is not increasing", "auto, or two increasing numbers")
        return bounds

    def targets(self, kind: str) -> tuple[str, ...]:
        """Names of the numbers that a trainer for this kind of data predicts.

        Parameters
        ----------
        kind
            ``"images"``, ``"table"``, ``"series"``, ``"frames"`` or ``"bodies"``.

        Returns
        -------
        tuple of str
            The names; empty if the trainer predicts classes alone.

        Examples
        --------
        >>> from aifs_tune.config import DataSpec
        >>> DataSpec(table={"target": "yield", "predict": "values"}).targets("table")
        ('yield',)
        """
        if kind == "table" and self.table is not None:
            return tuple(self.table.predicted)
        if kind == "series" and self.series is not None:
            return self.series.predicted
        return tuple(self.frames.targets) if kind == "frames" and self.frames is not None else ()

    def has_classes(self, kind: str) -> bool:
        """Whether a trainer for this kind of data predicts classes.

        Parameters
        ----------
        kind
            ``"images"``, ``"table"``, ``"series"``, ``"frames"`` or ``"bodies"``.

        Returns
        -------
        bool
            True also where it predicts numbers beside them.

        Examples
        --------
        >>> from aifs_tune.config import DataSpec
        >>> data = DataSpec(table={"target": "particle", "numbers": {"energy": "GeV"}})
        >>> data.has_classes("table"), data.targets("table")
        (True, ('energy',))
        """
        if kind == "table" and self.table is not None:
            return self.table.has_classes
        if kind == "frames" and self.frames is not None:
            return self.frames.label_column is not None
        return not self.targets(kind)

    def at(self, location: Path | str, kind: str) -> DataSpec:
        """Copy of this section that reads other data.

        Parameters
        ----------
        location
            Path of a folder or file, or the URL of one as text. The URL is not checked.
        kind
            ``"images"``, ``"table"``, ``"series"``, ``"frames"`` or ``"bodies"``.

        Returns
        -------
        DataSpec
            The copy, with the path or the URL replaced.

        Examples
        --------
        >>> from pathlib import Path
        >>> from aifs_tune.config import DataSpec
        >>> DataSpec().at(Path("survey"), "images").folder.name
        'survey'
        """
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
        if kind == "bodies":
            bodies = (self.bodies or BodiesSpec()).model_copy(update={"catalogue": path})
            return self.model_copy(update={"bodies": bodies})
        return self.model_copy(update={"folder": path})
