"""Search spaces of programs that ask for one parameter after another, as objectives of Optuna do.

Each run of such a program leaves the parameters that it asked for, with their ranges and values. A parameter that only
some runs asked for is conditional: it is active for those values of earlier parameters with which it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import product
from typing import Any

from pydantic_core import PydanticCustomError

from aifs_tune._util.scalars import MAX_TEXT_LENGTH, Scalar, brief, is_same, scalar, show
from aifs_tune.errors import RequestError
from aifs_tune.space.names import parameter_name
from aifs_tune.space.steps import Steps

MAX_VALUES = 16
"""Number of values up to which all values of an integer are tried."""
MAX_RUNS = 64
"""Number of combinations of values up to which all of them are tried."""

_INSTEAD = "give the search space as space={...}"


def parameter_names(names: Sequence[str]) -> dict[str, str]:
    """:func:`parameter_name` of each of ``names``.

    Raises
    ------
    RequestError
        If two of them would have the same name.
    """
    found: dict[str, str] = {}
    for name in names:
        other = next((other for other, taken in found.items() if taken == parameter_name(name)), None)
        if other is not None:
            raise RequestError(
                f"the parameters {brief(other)} and {brief(name)} would both be called {parameter_name(name)}; "
                "allowed: names that differ in letters and digits"
            )
        found[name] = parameter_name(name)
    return found


def choice_value(choice: object) -> Scalar:
    """A choice as a search space holds it: itself, the JSON text of None or a list, or else its ``repr``."""
    try:
        return scalar(choice)
    except PydanticCustomError:
        text = "".join(c if c.isprintable() else " " for c in repr(choice))
        return text[:MAX_TEXT_LENGTH]


def float_entry(low: float, high: float, *, step: float | None = None, log: bool = False) -> dict[str, Any]:
    """A float as under ``space`` in a sweep file; ``high`` is lowered to the last step, unless it fits to rounding."""
    if low == high:
        return {"type": "fixed", "value": float(low)}
    if step is not None and Steps(low, high, step).nearest_ends():
        high = float(_last_step(low, high, step))
    return {"type": "float", "low": float(low), "high": float(high), **_scale(log), **({"step": step} if step else {})}


def int_entry(low: int, high: int, *, step: int = 1, log: bool = False) -> dict[str, Any]:
    """An integer as under ``space`` in a sweep file; ``high`` is lowered to the last step, as Optuna does."""
    high = int(_last_step(low, high, step))
    if low == high:
        return {"type": "fixed", "value": int(low)}
    return {
        "type": "int",
        "low": int(low),
        "high": high,
        **_scale(log),
        **({"step": step} if step != 1 else {}),
    }


def choice_entry(choices: Sequence[object]) -> dict[str, Any]:
    """A choice as under ``space`` in a sweep file."""
    found = [choice_value(choice) for choice in choices]
    return {"type": "choice", "choices": found} if len(found) != 1 else {"type": "fixed", "value": found[0]}


def _scale(log: bool) -> dict[str, Any]:
    return {"log": True} if log else {}


def _last_step(low: float, high: float, step: float) -> Decimal:
    first, each = Decimal(str(low)), Decimal(str(step))
    return first + (Decimal(str(high)) - first) // each * each


@dataclass
class Run:
    """What one run of a program asked for: entries of a search space and values by name, in order.

    ``values`` are those that were wanted; what is not among them gets its smallest value, or with ``is_high`` its
    largest where not all values are tried.
    """

    wanted: Mapping[str, Scalar] = field(default_factory=dict)
    is_high: bool = False
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Scalar] = field(default_factory=dict)

    def ask(self, name: str, entry: dict[str, Any]) -> Scalar:
        """Note that the program asks for a parameter, and return its value.

        Raises
        ------
        RequestError
            If it asked for the parameter before, with another range.
        """
        _check_same(name, self.entries.setdefault(name, entry), entry)
        tried = tried_values(entry)
        if tried is None:
            value: Scalar = entry["high"] if self.is_high else entry["low"]
        else:
            value = next((each for each in tried if name in self.wanted and is_same(each, self.wanted[name])), tried[0])
        return self.values.setdefault(name, value)


def tried_values(entry: Mapping[str, Any]) -> list[Scalar] | None:
    """All values of a parameter with few, among which others may depend on it; None for one with many."""
    if entry["type"] == "fixed":
        return [entry["value"]]
    if entry["type"] == "choice":
        return list(entry["choices"])
    if entry["type"] == "float" or entry.get("log"):
        return None
    values = range(entry["low"], entry["high"] + 1, entry.get("step", 1))
    return list(values) if len(values) <= MAX_VALUES else None


def runs_to_try(first: Run) -> Iterator[Run]:
    """The further runs that tell which parameters depend on others, after the ``first`` one with smallest values.

    Each run must be made before the next one is asked for: one with the largest values of all parameters that have
    many; one with each other value of each parameter that has few; and where parameters turn out to depend on several
    others, all combinations of those.
    """
    done = [first]
    if any(tried_values(entry) is None for entry in first.entries.values()):
        high = Run(first.wanted, is_high=True)
        yield high
        _check_independent(first, high)
    deciding: dict[str, list[Scalar]] = {}
    seen: set[str] = set()
    for run in done:  # which grows
        for name in [name for name in run.entries if name not in seen]:
            seen.add(name)
            tried = tried_values(run.entries[name]) or []
            earlier = {other: run.values[other] for other in _before(run, name) if tried_values(run.entries[other])}
            for value in (value for value in tried if not is_same(value, run.values[name])):
                other_run = Run({**earlier, name: value})
                yield other_run
                done.append(other_run)
                if set(other_run.entries) != set(run.entries):
                    deciding[name] = tried
    yield from _combinations(deciding, done)


def _combinations(deciding: Mapping[str, list[Scalar]], done: Sequence[Run]) -> Iterator[Run]:
    combinations = list(product(*deciding.values())) if len(deciding) > 1 else []
    if len(combinations) > MAX_RUNS:
        raise RequestError(
            f"parameters depend on {', '.join(deciding)}, which have {len(combinations):,} combinations; up to "
            f"{MAX_RUNS} can be tried to find the search space; allowed: fewer, or {_INSTEAD}"
        )
    made = [run.values for run in done]
    for combination in combinations:
        wanted = dict(zip(deciding, combination, strict=True))
        if not any(all(name in v and is_same(v[name], value) for name, value in wanted.items()) for v in made):
            run = Run(wanted)
            yield run
            made.append(run.values)


def _before(run: Run, name: str) -> list[str]:
    names = list(run.entries)
    return names[: names.index(name)]


def _check_independent(first: Run, high: Run) -> None:
    """Check that two runs, which differ in parameters with many values alone, asked for the same."""
    differ = sorted(set(first.entries) ^ set(high.entries))
    if differ:
        many = [name for name, entry in first.entries.items() if tried_values(entry) is None]
        raise RequestError(
            f"{', '.join(differ)}: asked for only with some values of {' or '.join(many)}; a parameter may depend on a "
            f"choice, or an integer with up to {MAX_VALUES} values; allowed: ask for it always, or {_INSTEAD}"
        )
    for name, entry in first.entries.items():
        _check_same(name, entry, high.entries[name])


def _check_same(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    if one != other:
        raise RequestError(
            f"{name}: {words(one)} in one run and {words(other)} in another; a search space has one range for each "
            "parameter; allowed: another name for each range, the widest range with a constraint, or a number from 0 "
            f"to 1 that the function scales; or {_INSTEAD}"
        )


def words(entry: Mapping[str, Any]) -> str:
    """An entry of a search space in words: ``float 0 to 1, log``."""
    if entry["type"] == "choice":
        return f"one of {', '.join(map(show, entry['choices']))}"
    if entry["type"] == "fixed":
        return f"only {show(entry['value'])}"
    more = "".join(f", {key} {show(entry[key])}" for key in ("step",) if key in entry)
    return f"{entry['type']} {show(entry['low'])} to {show(entry['high'])}{', log' if entry.get('log') else ''}{more}"


def space_of(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """The search space of a program, from what its runs asked for.

    Raises
    ------
    RequestError
        If a range differs between runs, or no condition on earlier parameters says when a parameter is asked for.
    """
    space: dict[str, dict[str, Any]] = {}
    for run in runs:
        for name, entry in run.entries.items():
            if name in space:
                _check_same(name, space[name], entry)
            space.setdefault(name, entry)
    return {name: entry | _condition(name, runs) for name, entry in space.items()}


def _condition(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """When ``name`` is active: nothing if always, or an entry ``when``."""
    active = [run for run in runs if name in run.entries]
    if len(active) == len(runs):
        return {}
    common = [p for p in _before(active[0], name) if all(p in _before(run, name) for run in active)]
    when: dict[str, list[Scalar]] = {}
    for parent in common:
        tried = tried_values(active[0].entries[parent])
        if tried is not None:
            used = [value for value in tried if any(is_same(value, run.values[parent]) for run in active)]
            when[parent] = used
    n_values = {parent: len(tried_values(active[0].entries[parent]) or []) for parent in when}
    if not _explains(when, name, runs):
        differing = [p for p in when if len(when[p]) < n_values[p]]
        depends = f" It seems to depend on {', '.join(differing)}." if differing else ""
        raise RequestError(
            f"{name}: asked for in some runs only, and no values of single earlier parameters say in which.{depends} "
            "Allowed: conditions such as 'kind is b' or 'layers is 2 or 3', each on one earlier parameter, or "
            f"{_INSTEAD}"
        )
    for parent in sorted(when, key=lambda p: len(when[p]) < n_values[p]):  # first those that allow all of their values
        fewer = {other: values for other, values in when.items() if other != parent}
        if fewer and _explains(fewer, name, runs):
            when = fewer
    return {"when": when}


def _explains(when: Mapping[str, Sequence[Scalar]], name: str, runs: Sequence[Run]) -> bool:
    """Whether a parameter was asked for exactly where the condition holds."""
    return all(
        (name in run.entries)
        == all(p in run.values and any(is_same(run.values[p], value) for value in when[p]) for p in when)
        for run in runs
    )
