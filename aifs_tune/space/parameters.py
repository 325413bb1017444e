"""Parameters of a search space: float, int, choice and fixed, checked when made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from aifs_tune._util.models import Prose, Unit
from aifs_tune._util.scalars import (
    MAX_FLOAT,
    MAX_INT,
    JsonText,
    Scalar,
    brief,
    decoded,
    is_same,
    number,
    number_in,
    problem,
    scalar,
    show,
    without_numpy,
)
from aifs_tune.errors import RequestError
from aifs_tune.space.steps import Steps


def _as_lists(when: Any) -> Any:
    if not isinstance(when, Mapping):
        return when
    return {name: tuple(v) if isinstance(v, list | tuple) else (v,) for name, v in when.items()}


JsonValue: TypeAlias = Scalar | list[Any] | None
"""Value of a parameter as a sweep file and JSON have it."""
NULL = JsonText("null")


def _scalar_or_none(value: object) -> Scalar | None:
    return None if value is None else scalar(value)


ScalarField = Annotated[
    Scalar,
    PlainValidator(scalar, json_schema_input_type=JsonValue),
    PlainSerializer(decoded, return_type=JsonValue),
]
_Default = Annotated[
    Scalar | None,
    PlainValidator(_scalar_or_none, json_schema_input_type=JsonValue),
    PlainSerializer(decoded, return_type=JsonValue),
]
Scalars = Annotated[
    tuple[ScalarField, ...], Field(min_length=1, max_length=1000, strict=False), BeforeValidator(without_numpy)
]
When = Annotated[
    dict[str, Scalars],
    BeforeValidator(
        _as_lists, json_schema_input_type=dict[str, Scalar | Annotated[list[Any], Field(min_length=1)] | None]
    ),
    Field(
        description="Condition: the parameter is active only if each of these earlier parameters has one of the values."
    ),
]
Int = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT), BeforeValidator(number_in)]
Float = Annotated[float, Field(ge=-MAX_FLOAT, le=MAX_FLOAT), BeforeValidator(number_in)]


Descriptors = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=80)], Annotated[tuple[Float, ...], Field(strict=False)]],
    Field(min_length=1, max_length=100),
]


class TrialLike(Protocol):
    """Source of a value for each parameter, such as an Optuna trial."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar | None: ...


PRIOR = "Value near which you expect the best one. The sampler aifs prefers it, less so with each result."


class _Parameter(BaseModel):
    """Base class of all kinds of parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    kind: ClassVar[str]

    @property
    @abstractmethod
    def default_value(self) -> Scalar | None:
        """The default; None if there is none."""

    @property
    @abstractmethod
    def range_text(self) -> str:
        """The allowed values as text, such as ``1e-05 to 0.01, log``."""

    @property
    @abstractmethod
    def extremes(self) -> tuple[Scalar, ...]:
        """Values that represent all others: the ends of a range, every choice, or the fixed value."""

    @abstractmethod
    def convert(self, value: object) -> Scalar | None:
        """Convert ``value`` to the type of this parameter; return None if it is not allowed."""

    @abstractmethod
    def suggest(self, name: str, source: TrialLike) -> object:
        """Ask ``source`` for a value, in the form in which Optuna stores it."""

    def store(self, value: Scalar) -> Scalar:
        """Return the form in which Optuna stores an allowed value."""
        return value

    def load(self, stored: object) -> Scalar | None:
        """Return the value that Optuna stores as ``stored``; None if it is not allowed."""
        return self.convert(stored)

    def take(self, name: str, value: object, *, is_stored: bool = False) -> Scalar:
        """:meth:`convert`, or :meth:`load` of what Optuna has; :class:`RequestError` with what is allowed if None."""
        taken = self.load(value) if is_stored else self.convert(value)
        if taken is None:
            raise RequestError(f"{name}: {brief(value)} is not allowed; allowed: {self.kind} {self.range_text}")
        return taken


class FloatParameter(_Parameter):
    """A float from ``low`` to ``high``, both included."""

    kind: ClassVar[str] = "a number from"

    type: Literal["float"] = "float"
    low: Float
    high: Float
    log: bool = Field(
        default=False, description="Whether to search on a logarithmic scale; needs low above 0 and no step."
    )
    step: Annotated[float | None, BeforeValidator(number_in)] = Field(
        default=None,
        gt=0,
        le=MAX_FLOAT,
        description="Distance between allowed values: low, low + step, low + 2 step, ... up to high.",
    )
    default: Float | None = None
    prior: Float | None = Field(default=None, description=PRIOR)
    when: When = {}
    unit: Unit = ""
    description: Prose = ""

    @model_validator(mode="after")
    def _is_a_range(self) -> FloatParameter:
        _check_range(self, has_step=self.step is not None)
        return self

    @property
    def default_value(self) -> Scalar | None:
        return self.default

    @property
    def range_text(self) -> str:
        step = "" if self.step is None else f", step {show(self.step)}"
        return f"{show(self.low)} to {show(self.high)}" + (", log" if self.log else step)

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        return self.low, self.high

    def convert(self, value: object) -> float | None:
        given = number(value)
        if given is None:
            return None
        real = float(given)
        if self.step is None:
            return real if self.low <= real <= self.high else None
        return self.steps.nearest(real)

    @property
    def steps(self) -> Steps:
        """The values, of a parameter with a step."""
        assert self.step is not None
        return Steps(self.low, self.high, self.step)

    def suggest(self, name: str, source: TrialLike) -> object:
        if self.step is None:
            return source.suggest_float(name, self.low, self.high, log=self.log)
        stored = self.steps.stored
        return source.suggest_float(name, stored.low, stored.high, step=stored.step)

    def store(self, value: Scalar) -> Scalar:
        return value if self.step is None else self.steps.store(float(value))

    def load(self, stored: object) -> float | None:
        given = number(stored)
        return self.convert(stored) if self.step is None or given is None else self.steps.load(float(given))


class IntParameter(_Parameter):
    """An integer from ``low`` to ``high``, both included."""

    kind: ClassVar[str] = "a whole number from"

    type: Literal["int"] = "int"
    low: Int
    high: Int
    log: bool = Field(
        default=False, description="Whether to search on a logarithmic scale; needs low above 0 and no step."
    )
    step: Annotated[int, BeforeValidator(number_in)] = Field(
        default=1,
        ge=1,
        le=MAX_INT,
        description="Distance between allowed values: low, low + step, low + 2 step, ... up to high.",
    )
    default: Int | None = None
    prior: Int | None = Field(default=None, description=PRIOR)
    when: When = {}
    unit: Unit = ""
    description: Prose = ""

    @model_validator(mode="after")
    def _is_a_range(self) -> IntParameter:
        _check_range(self, has_step=self.step != 1)
        return self

    @property
    def default_value(self) -> Scalar | None:
        return self.default

    @property
    def range_text(self) -> str:
        step = "" if self.step == 1 else f", step {self.step}"
        return f"{self.low} to {self.high}" + (", log" if self.log else step)

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        return self.low, self.high

    def convert(self, value: object) -> int | None:
        given = number(value)
        if given is None or not self.low <= given <= self.high:
            return None
        whole = int(given)
        return whole if whole == given and (whole - self.low) % self.step == 0 else None

    def suggest(self, name: str, source: TrialLike) -> object:
        return source.suggest_int(name, self.low, self.high, step=self.step, log=self.log)


class ChoiceParameter(_Parameter):
    """One of several values, without an order unless ``ordered`` is true."""

    kind: ClassVar[str] = "one of"

    type: Literal["choice"] = "choice"
    choices: Scalars
    ordered: bool = Field(
        default=False,
        description="Whether the choices are in order; the sampler aifs then treats neighbours as similar.",
    )
    descriptors: Descriptors | None = Field(
        default=None,
        description="Numbers that describe the choices, such as a polarity of each solvent, by name of the descriptor, "
        "in the order of the choices; or the path of a CSV file with the choices in its first column. The sampler aifs "
        "then treats choices with similar numbers as similar.",
    )
    default: _Default = None
    prior: _Default = Field(default=None, description=PRIOR)
    when: When = {}
    unit: Unit = ""
    description: Prose = ""

    @model_validator(mode="before")
    @classmethod
    def _null_may_be_the_default(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not _has_null(given.get("choices")):
            return given
        return {**given, **{key: NULL for key in ("default", "prior") if key in given and given[key] is None}}

    @model_serializer(mode="wrap")
    def _absent_is_not_null(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        absent = {key for key in ("default", "prior") if NULL in self.choices and getattr(self, key) is None}
        return {key: value for key, value in written.items() if key not in absent}

    @model_validator(mode="after")
    def _are_described(self) -> ChoiceParameter:
        if self.descriptors is None:
            return self
        if self.ordered:
            raise problem("descriptors", "the order of the choices says already which are similar", "ordered: false")
        for name, values in self.descriptors.items():
            if len(values) != len(self.choices):
                text = f"{len(values)} numbers for {len(self.choices)} choices"
                raise problem(f"descriptors.{name}", text, "one number for each choice, in the same order")
        if all(len(set(values)) == 1 for values in self.descriptors.values()):
            raise problem("descriptors", "no descriptor differs between choices", "numbers that differ")
        return self

    @model_validator(mode="after")
    def _differ(self) -> ChoiceParameter:
        # Plain equality, not is_same: Optuna finds a choice by ==, so it cannot distinguish 1 and true.
        seen: dict[Scalar, Scalar] = {}
        for i, choice in enumerate(self.choices):
            equal = next((each for each in self.choices[:i] if is_same(each, choice)), seen.get(choice))
            if equal is not None:
                text = f"{show(choice)} is equal to the earlier choice {show(equal)}"
                raise problem(f"choices.{i}", text, "different values")
            seen[choice] = choice
        for key, value in (("default", self.default), ("prior", self.prior)):
            if value is not None and self.convert(value) is None:
                raise problem(key, f"{brief(value)} is not a choice", f"one of {self.range_text}")
        return self

    @property
    def default_value(self) -> Scalar | None:
        return self.default

    @property
    def range_text(self) -> str:
        return ", ".join(show(choice) for choice in self.choices)

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        return tuple(self.choices)

    def convert(self, value: object) -> Scalar | None:
        return next((choice for choice in self.choices if is_same(choice, value)), None)

    def suggest(self, name: str, source: TrialLike) -> object:
        return source.suggest_categorical(name, self.choices)


class FixedParameter(_Parameter):
    """One value for all trials; a sweep file may give the value alone."""

    kind: ClassVar[str] = "only"

    type: Literal["fixed"] = "fixed"
    value: ScalarField
    when: When = {}
    unit: Unit = ""
    description: Prose = ""

    @property
    def default_value(self) -> Scalar | None:
        return self.value

    @property
    def range_text(self) -> str:
        return show(self.value)

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        return (self.value,)

    def convert(self, value: object) -> Scalar | None:
        return self.value if is_same(self.value, value) else None

    def suggest(self, name: str, source: TrialLike) -> object:
        return source.suggest_categorical(name, (self.value,))


def _has_null(choices: Any) -> bool:
    return isinstance(choices, list | tuple) and any(choice is None or choice is NULL for choice in choices)


def _check_range(parameter: FloatParameter | IntParameter, *, has_step: bool) -> None:
    low, high, step = parameter.low, parameter.high, parameter.step
    if low == high:
        text = f"{show(high)} is also low, so there is one value and no range"
        raise problem("high", text, f"a number above {show(low)}; for one value write {show(low)} for the parameter")
    if low > high:
        raise problem("high", f"{show(high)} is not greater than low ({show(low)})", f"a number above {show(low)}")
    if parameter.log and low <= 0:
        raise problem("low", f"{show(low)} has no logarithm", "a number above 0 because log is true")
    if parameter.log and has_step:
        raise problem("step", f"{show(step)} cannot be combined with log: true", "either log or step")
    if isinstance(step, float) and step < (finest := max(abs(low), abs(high)) / 1e6):
        raise problem("step", f"{show(step)} is too small for this range", f"{finest:g} or more")
    if step is not None and (nearest := Steps(low, high, step).nearest_ends()):
        text = f"{show(high)} is not {show(low)} (low) plus a multiple of {show(step)} (step)"
        raise problem("high", text, f"low plus a multiple of step, such as {' or '.join(map(show, nearest))}")
    for key, value in (("default", parameter.default), ("prior", parameter.prior)):
        if value is not None and parameter.convert(value) is None:
            raise problem(key, f"{show(value)} is out of range", f"{parameter.kind} {parameter.range_text}")


Parameter: TypeAlias = FloatParameter | IntParameter | ChoiceParameter | FixedParameter
