"""Search space: all parameters by name, and the conditions under which they are active."""

from __future__ import annotations

import unicodedata
from collections.abc import ItemsView, Mapping, Sequence
from numbers import Real
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, RootModel, model_validator

from aifs_tune._util.scalars import Scalar, brief, decoded, did_you_mean, is_same, problem, show
from aifs_tune.errors import RequestError
from aifs_tune.space.names import ParameterName
from aifs_tune.space.parameters import (
    ChoiceParameter,
    FixedParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    TrialLike,
)

__all__ = [
    "ChoiceParameter",
    "FixedParameter",
    "FloatParameter",
    "IntParameter",
    "Parameter",
    "ParameterName",
    "ParameterRow",
    "Scalar",
    "Space",
    "TrialLike",
]


def _from_scalar(entry: Any) -> Any:
    if entry is None:
        allowed = "true, false, a number, text, a mapping with type, or {type: fixed, value: null}"
        raise problem("", "no value given", allowed)
    if isinstance(entry, list | tuple):
        ways = f"{{type: choice, choices: {show(entry)}}} to search them, or {{type: fixed, value: {show(entry)}}}"
        raise problem("", f"{brief(entry)} may be choices or one value", ways)
    return {"type": "fixed", "value": entry} if isinstance(entry, bool | Real | str) else entry


def fixed_entry(value: Any) -> Any:
    """Return how a sweep file fixes a parameter at ``value``: the value alone, unless it is null or a list."""
    return {"type": "fixed", "value": value} if value is None or isinstance(value, list | tuple) else value


_Tagged = Annotated[Parameter, Field(discriminator="type")]
_Entry = Annotated[_Tagged, BeforeValidator(_from_scalar, json_schema_input_type=Scalar | _Tagged)]


class ParameterRow(NamedTuple):
    """One row of the table of parameters."""

    name: str
    type: str
    range: str
    default: str
    condition: str
    unit: str


class Space(RootModel[Annotated[dict[ParameterName, _Entry], Field(min_length=1)]]):
    """All parameters by name, in the order in which they are suggested; conditions refer to earlier parameters only."""

    model_config = ConfigDict(frozen=True, strict=True, json_schema_extra={"additionalProperties": False})

    @model_validator(mode="after")
    def _conditions_look_back(self) -> Space:
        seen: dict[str, str] = {}
        for name in self.root:
            other = seen.setdefault(unicodedata.normalize("NFKC", name), name)
            if other != name:
                raise problem(name, f"is the same name as {other} to Python, in other characters", "different names")
        earlier: dict[str, Parameter] = {}
        for name, parameter in self.root.items():
            for parent, values in parameter.when.items():
                _check_condition(f"{name}.when.{parent}", parent, values, earlier)
            earlier[name] = parameter
        return self

    def __getitem__(self, name: str) -> Parameter:
        return self.root[name]

    def __contains__(self, name: object) -> bool:
        return name in self.root

    def __len__(self) -> int:
        return len(self.root)

    def items(self) -> ItemsView[str, Parameter]:
        """Return names and parameters in order."""
        return self.root.items()

    def is_active(self, name: str, params: Mapping[str, object]) -> bool:
        """Whether parameter ``name`` is active, given the values of all active parameters before it."""
        return all(
            parent in params and any(is_same(params[parent], value) for value in values)
            for parent, values in self.root[name].when.items()
        )

    def suggest(self, source: TrialLike) -> dict[str, Scalar]:
        """Ask ``source`` for the value of each active parameter, in order, and return the configuration.

        Raises
        ------
        RequestError
            If ``source`` returns a value that is not allowed.
        """
        params: dict[str, Scalar] = {}
        for name, parameter in self.root.items():
            if self.is_active(name, params):
                params[name] = parameter.take(name, parameter.suggest(name, source), is_stored=True)
        return params

    def check(self, params: Mapping[str, object]) -> dict[str, Scalar]:
        """Return ``params`` in the order and with the types of the space (3 becomes 3.0 for a float).

        Raises
        ------
        RequestError
            If a parameter is unknown, missing, given while inactive, or has a value that is not allowed.
        """
        checked: dict[str, Scalar] = {}
        for name in params:
            if name not in self.root:
                nearest = did_you_mean(name, list(self.root))
                raise RequestError(f"{brief(name)}: no such parameter{nearest}; allowed: {', '.join(self.root)}")
        for name, parameter in self.root.items():
            is_active = self.is_active(name, checked)
            if name in params and not is_active:
                given, condition = brief(params[name]), _words(parameter)
                raise RequestError(f"{name}: {given} is given but inactive; allowed: no value unless {condition}")
            if is_active:
                if name not in params:
                    raise RequestError(f"{name}: missing; allowed: {parameter.kind} {parameter.range_text}")
                checked[name] = parameter.take(name, params[name])
        return checked

    def stored(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return a checked configuration in the form in which Optuna stores it."""
        return {name: self.root[name].store(value) for name, value in params.items()}

    def loaded(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return a configuration that Optuna stores as a user has it: null and lists are themselves.

        A value that this space does not allow, which another program wrote, is left as it is.
        """
        params: dict[str, Any] = {}
        for name, value in stored.items():
            found = self.root[name].load(value) if name in self.root else None
            params[name] = value if found is None else decoded(found)
        return params

    def default_params(self) -> dict[str, Scalar] | None:
        """Return the configuration of defaults and fixed values; None if an active parameter has no default."""
        params: dict[str, Scalar] = {}
        for name, parameter in self.root.items():
            if self.is_active(name, params):
                if parameter.default_value is None:
                    return None
                params[name] = parameter.take(name, parameter.default_value)
        return params

    def rows(self) -> list[ParameterRow]:
        """Return the space as rows of a table."""
        return [
            ParameterRow(
                name,
                p.type,
                p.range_text,
                "" if p.default_value is None else show(p.default_value),
                _words(p),
                p.unit,
            )
            for name, p in self.root.items()
        ]


def _words(parameter: Parameter) -> str:
    """Describe a condition: ``optimizer is sgd or adamw, and ...``; empty if the parameter is always active."""
    return ", and ".join(f"{parent} is {' or '.join(map(show, values))}" for parent, values in parameter.when.items())


def _check_condition(key: str, parent: str, values: Sequence[Scalar], earlier: Mapping[str, Parameter]) -> None:
    if parent not in earlier:
        before = ", ".join(earlier) or "no condition, because this is the first parameter"
        raise problem(key, "no earlier parameter has this name", before)
    if isinstance(earlier[parent], FixedParameter):
        return  # A parent that was fixed with an override may make its child inactive in all trials.
    for value in values:
        if earlier[parent].convert(value) is None:
            allowed = f"{earlier[parent].kind} {earlier[parent].range_text}"
            raise problem(key, f"{brief(value)} is not a value of {parent}", allowed)
