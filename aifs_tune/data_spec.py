"""The ``data`` section of a sweep file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from aifs_tune.scalars import brief, problem, show
from aifs_tune.section import FilePath, Section, Text
from aifs_tune.series_spec import SeriesSpec


class Split(Section):
    """How one folder of images is divided when it has no train/val/test folders of its own."""

    val: float = Field(default=0.2, gt=0, lt=1, description="Share of the images used for validation.")
    test: float = Field(default=0.2, ge=0, lt=1, description="Share kept aside; no trial ever sees it. 0 for none.")
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Split:
        if self.val + self.test >= 1:
            text = f"{show(self.val)} and test {show(self.test)} leave nothing to train on"
            raise problem("val", text, "val and test with a sum below 1")
        return self


class Simulate(Section):
    """A simulated sky survey, drawn when no folder is given."""

    images: int = Field(default=1000, ge=12, le=1_000_000)
    size: int = Field(default=64, ge=16, le=1024, description="Edge of an image in pixels.")
    seed: int = Field(default=0, ge=0, lt=2**32)
    difficulty: float = Field(default=0.5, ge=0, le=1, description="0 bright and sharp, 1 faint, blurred and crowded.")


class Genes(Section):
    """A simulated table of gene expression, drawn when no file is given."""

    samples: int = Field(default=240, ge=30, le=100_000)
    genes: int = Field(default=2000, ge=20, le=100_000)
    informative: int = Field(default=40, ge=1, le=10_000, description="Genes whose expression depends on the class.")
    missing: float = Field(default=0.02, ge=0, lt=0.9, description="Share of the values that were not measured.")
    seed: int = Field(default=0, ge=0, lt=2**32)


class TableSpec(Section):
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


class DataSpec(Section):
    """What is learnt from: labelled images and how they are decoded, a table, or series."""

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
    split: Split = Split()
    group_by: str | None = Field(
        default=None,
        max_length=200,
        description="Regular expression on the file name; images with the same match stay in one part.",
    )

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
        return ()

    def at(self, path: Path, kind: str) -> DataSpec:
        """With other data of this kind: a folder, or a file."""
        if kind == "table":
            table = (self.table or TableSpec()).model_copy(update={"file": path})
            return self.model_copy(update={"table": table})
        if kind == "series":
            series = (self.series or SeriesSpec()).model_copy(update={"path": path})
            return self.model_copy(update={"series": series})
        return self.model_copy(update={"folder": path})
