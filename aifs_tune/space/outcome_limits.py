"""Limits: bounds on metrics that a result must satisfy to count as best, such as a safe pressure."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Annotated

from pydantic import ConfigDict, RootModel, StringConstraints, model_validator

from aifs_tune._util.scalars import brief, problem

_FORM = re.compile(r"^(?P<metric>\S(?:.*\S)?)\s*(?P<sense><=|>=)\s*(?P<bound>[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)$")


class Limit(RootModel[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]]):
    """A bound on a metric: ``pressure <= 3`` or ``purity >= 0.98``."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="after")
    def _is_a_limit(self) -> Limit:
        found = _FORM.match(self.root) if self.root.isprintable() else None
        if found is None or len(found["metric"]) > 200 or not _is_number(found["bound"]):
            raise problem("", f"{brief(self.root)} is not a limit", "METRIC <= NUMBER or METRIC >= NUMBER")
        return self

    def __str__(self) -> str:
        return self.root

    @property
    def _parts(self) -> re.Match[str]:
        found = _FORM.match(self.root)
        assert found is not None  # checked when the limit was made
        return found

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return str(self._parts["metric"])

    def excess(self, metrics: Mapping[str, float | None]) -> float | None:
        """Return by how much ``metrics`` violate the limit: at most 0 if they satisfy it, None if unknown.

        It is unknown if the metric is missing or not finite.
        """
        found = self._parts
        value = metrics.get(found["metric"])
        if value is None or not math.isfinite(value):
            return None
        over = min(max(float(value) - float(found["bound"]), -sys.float_info.max), sys.float_info.max)
        return over if found["sense"] == "<=" else -over


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
