"""Constraints: expressions over parameters that every configuration must satisfy."""

from __future__ import annotations

import ast
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, RootModel, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from aifs_tune._util.scalars import Scalar, brief, did_you_mean, problem, show
from aifs_tune.space.expressions import (
    MAX_LENGTH,
    Evaluator,
    Kinds,
    check_kinds,
    equalities,
    evaluator,
    holds,
    kind_of,
    names_in,
    parse,
)
from aifs_tune.space.mixtures import Mixture
from aifs_tune.space.parameters import ChoiceParameter, Parameter
from aifs_tune.space.search_space import Space

N_DRAWN = 10_000
"""Number of random configurations of which at least one must satisfy all constraints."""
MAX_WORK = 2_000_000
"""Limit on evaluated characters and ten times the drawn values: long constraints and large spaces are tried on fewer
configurations, to end in about a second."""
MAX_NAMED = 3
"""Largest number of constraints that one error lists, those violated most often."""


class _Expression(NamedTuple):
    tree: ast.expr
    names: tuple[str, ...]
    evaluate: Evaluator


@lru_cache(maxsize=1024)
def _expression(text: str) -> _Expression:
    tree = parse(text)
    return _Expression(tree, names_in(tree), evaluator(tree))


class Constraint(
    RootModel[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_LENGTH)]]
):
    """An expression over parameters that is true for every configuration."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="after")
    def _mentions_a_parameter(self) -> Constraint:
        if not _expression(self.root).names:
            allowed = "an expression over parameters, such as filters * dense_units <= 8192"
            raise problem("", f"{brief(self.root)} mentions no parameter", allowed)
        return self

    def __str__(self) -> str:
        return self.root

    @property
    def text(self) -> str:
        """The expression as written, without spaces at the ends."""
        return self.root

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in the expression, each once, from left to right."""
        return _expression(self.root).names

    def holds(self, params: Mapping[str, object]) -> bool:
        """Whether a configuration, given as the values of its active parameters, satisfies the constraint.

        True if a parameter of the expression is not in ``params``, because it is inactive. False if an operation that
        is evaluated has no finite value: a division by zero, an overflow, the logarithm of a negative number.
        """
        expression = _expression(self.root)
        return any(name not in params for name in expression.names) or holds(expression.evaluate, params)

    def values_in(self, params: Mapping[str, Scalar]) -> str:
        """Return the values of the parameters in the expression for a message: ``filters 64, dense_units 256``."""
        return ", ".join(f"{name} {show(params[name])}" for name in self.names)


def check_constraints(space: Space, constraints: Sequence[Constraint], mixtures: Sequence[Mixture] = ()) -> None:
    """Refuse constraints that do not fit ``space`` or exclude almost all of it.

    Raises
    ------
    PydanticCustomError
        If a constraint has an unknown parameter, compares a parameter with a value it cannot have, or is violated by
        the default configuration; or if each of ``N_DRAWN`` random configurations violates a constraint.
    """
    if not constraints:
        return
    kinds = {name: frozenset(map(kind_of, parameter.extremes)) for name, parameter in space.items()}
    defaults = space.default_params()
    for i, constraint in enumerate(constraints):
        _check_fits(f"constraints.{i}", constraint, space, kinds)
        if defaults is not None and not constraint.holds(defaults):
            values, allowed = constraint.values_in(defaults), f"defaults with {constraint}"
            raise problem(f"constraints.{i}", f"violated by the defaults {values}", allowed)
    _check_leaves_some(space, constraints, mixtures)


def _check_fits(key: str, constraint: Constraint, space: Space, kinds: Mapping[str, Kinds]) -> None:
    for name in constraint.names:
        if name not in space:
            nearest = did_you_mean(name, list(space.root))
            raise problem(key, f"no parameter {brief(name)}{nearest}", f"{', '.join(space.root)}; or text in quotes")
    tree = _expression(constraint.text).tree
    try:
        check_kinds(tree, kinds)
    except PydanticCustomError as error:
        context = error.context or {}
        raise problem(key, context["text"], context["allowed"]) from None
    for name, value in equalities(tree):
        parameter = space[name]
        # Only for a choice, as in a condition: a range that was narrowed may end before the value.
        if isinstance(parameter, ChoiceParameter) and parameter.convert(value) is None:
            raise problem(key, f"{brief(value)} is not a value of {name}", f"{parameter.kind} {parameter.range_text}")


def _check_leaves_some(space: Space, constraints: Sequence[Constraint], mixtures: Sequence[Mixture]) -> None:
    source, mentioned = RandomTrial(random.Random(0)), _mentioned(space, constraints, mixtures)
    mixed = [mixture for mixture in mixtures if mixture.components[0] in mentioned]
    order, broken, n_drawn, work = list(constraints), Counter[str](), 0, 0
    while n_drawn < N_DRAWN and work < MAX_WORK:
        params: dict[str, Scalar] = {}
        for name, parameter in mentioned.items():
            if space.is_active(name, params):
                params[name] = parameter.take(name, parameter.suggest(name, source), is_stored=True)
        for mixture in mixed:
            params = mixture.projected(params, space)
        n_drawn += 1
        work += 10 * len(mentioned)
        for i, constraint in enumerate(order):
            work += len(constraint.text)
            if not constraint.holds(params):
                broken[constraint.text] += 1
                order.insert(0, order.pop(i))  # the next configuration is likely to violate it too
                break
        else:
            return
    often = broken.most_common(MAX_NAMED)
    blamed = " and ".join(text for text, n in often if 100 * n > often[0][1])
    text = f"none of {n_drawn} random configurations satisfies {blamed}"
    raise problem("constraints", text, "constraints that leave a part of the space to search")


def _mentioned(space: Space, constraints: Sequence[Constraint], mixtures: Sequence[Mixture]) -> dict[str, Parameter]:
    """Return the parameters that constraints depend on, in order.

    These are the ones in the expressions, the other components of their mixtures, and the ones in their conditions.
    """
    wanted = {name for constraint in constraints for name in constraint.names}
    for mixture in mixtures:
        if not wanted.isdisjoint(mixture.components):
            wanted.update(mixture.components)
    for name, parameter in reversed(list(space.items())):
        if name in wanted:
            wanted.update(parameter.when)
    return {name: parameter for name, parameter in space.items() if name in wanted}


class RandomTrial:
    """Trial that draws values at random, uniformly over a range or its logarithm."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            return min(low + step * self._rng.randint(0, round((high - low) / step)), high)
        return self._logarithmic(low, high) if log else self._rng.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return min(max(round(self._logarithmic(low - 0.5, high + 0.5)), low), high)
        return low + step * self._rng.randint(0, (high - low) // step)

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        return self._rng.choice(choices)

    def _logarithmic(self, low: float, high: float) -> float:
        return min(max(math.exp(self._rng.uniform(math.log(low), math.log(high))), low), high)
