"""Costs: expressions over parameters that say how much a configuration costs to evaluate."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, RootModel, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from aifs_tune._util.scalars import Scalar, brief, did_you_mean, problem, show
from aifs_tune.space.constraints import RandomTrial
from aifs_tune.space.expressions import MAX_LENGTH, Evaluator, check_kinds, evaluator, kind_of, names_in, parse
from aifs_tune.space.search_space import Space

N_DRAWN = 1_000
"""Number of random configurations whose cost is checked."""
_POSITIVE = "an expression that is above 0 for every configuration, such as 1 + hold / 60"


class _Expression(NamedTuple):
    tree: ast.expr
    names: tuple[str, ...]
    evaluate: Evaluator


@lru_cache(maxsize=256)
def _expression(text: str) -> _Expression:
    tree = parse(text, "a number")
    return _Expression(tree, names_in(tree), evaluator(tree))


class Cost(RootModel[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_LENGTH)]]):
    """An expression over parameters that is a positive number for every configuration."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="after")
    def _mentions_a_parameter(self) -> Cost:
        if not _expression(self.root).names:
            raise problem("", f"{brief(self.root)} mentions no parameter", _POSITIVE)
        return self

    def __str__(self) -> str:
        return self.root

    def value(self, params: Mapping[str, object]) -> float:
        """Return the cost of a configuration; infinity where the expression has no positive finite value."""
        try:
            cost = float(_expression(self.root).evaluate(params))
        except (ArithmeticError, ValueError):
            return float("inf")
        return cost if cost > 0 else float("inf")

    def check_fits(self, key: str, space: Space, allows: Callable[[Mapping[str, Scalar]], bool]) -> None:
        """Raise PydanticCustomError about ``key`` if the cost does not fit ``space``.

        It must use parameters that are active in all configurations, and be positive for random ones that ``allows``
        accepts.
        """
        expression = _expression(self.root)
        for name in expression.names:
            if name not in space:
                nearest = did_you_mean(name, list(space.root))
                raise problem(key, f"no parameter {brief(name)}{nearest}", ", ".join(space.root))
            if space[name].when:
                raise problem(key, f"{name} is inactive in some configurations", "parameters without when")
        kinds = {name: frozenset(map(kind_of, parameter.extremes)) for name, parameter in space.items()}
        try:
            check_kinds(expression.tree, kinds, "a number")
        except PydanticCustomError as error:
            context = error.context or {}
            raise problem(key, context["text"], context["allowed"]) from None
        source = RandomTrial(random.Random(0))
        for _ in range(N_DRAWN):
            params = dict(space.suggest(source))
            if self.value(params) == float("inf") and allows(params):
                values = ", ".join(f"{name} {show(params[name])}" for name in expression.names)
                raise problem(key, f"{self.root} is not a positive number for {values}", _POSITIVE)
