"""Corners of a search space that cannot work with the data of a sweep, such as too many blocks for small images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product
from math import prod
from pathlib import Path
from typing import Any

from aifs_tune._util.scalars import Scalar, show
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.space.exclusions import is_excluded
from aifs_tune.space.parameters import ChoiceParameter, FixedParameter, IntParameter, Parameter
from aifs_tune.trainers.factory import find_trainer_entry

_MAX_VALUES = 16
"""Number of values of a parameter from which on only its smallest is looked at: a network of it is the smallest."""
_MAX_TRIED, _MAX_WHOLE = 5000, 100


@dataclass(frozen=True)
class Corner:
    """Values that cannot be combined, and why."""

    values: Mapping[str, Scalar]
    reason: str

    def __str__(self) -> str:
        return f"{', '.join(f'{name} {show(value)}' for name, value in self.values.items())}: {self.reason}"


def impossible_corners(spec: SweepSpec, location: Path) -> list[Corner]:
    """Find the values, and combinations of two, with which the trainer of ``spec`` can make no network for its data.

    ``location`` is that of the prepared data. Nothing is trained.

    Raises
    ------
    RequestError
        If no configuration can work with the data, or the default one cannot.
    """
    try_one = _network_maker(spec, location)
    if try_one is None:
        return []
    names = [name for name in _static(spec) if not getattr(spec.space[name], "when", None)]
    values = {name: _values(spec.space[name]) for name in names}
    searched = [name for name in names if len(values[name]) > 1]
    are_long = any(isinstance(p, ChoiceParameter) and len(p.choices) > _MAX_VALUES for p in spec.space.root.values())
    if not searched or are_long or prod(len(values[name]) for name in searched) > _MAX_TRIED:
        return []
    reasons = {
        combination: reason
        for combination in product(*(values[name] for name in searched))
        if (reason := try_one(dict(zip(searched, combination, strict=True)))) is not None
    }
    if len(reasons) == prod(len(values[name]) for name in searched):
        raise RequestError(
            f"space: no configuration can work with these data; the first: {next(iter(reasons.values()))}"
        )
    default = spec.space.default_params()
    if default is not None and (reason := try_one(default)) is not None:
        raise RequestError(f"space: the default configuration cannot work with these data: {reason}")
    return list(_smallest(searched, values, reasons))


def _smallest(
    names: Sequence[str], values: Mapping[str, Sequence[Scalar]], reasons: Mapping[tuple[Scalar, ...], str]
) -> Iterator[Corner]:
    """The fewest values of which all combinations fail: single ones, then pairs, then a few whole combinations."""
    found: list[dict[str, Scalar]] = []
    n_all, left = prod(len(values[name]) for name in names), dict(reasons)
    for size in sorted({1, min(2, len(names)), len(names)}):
        if size > 2 and len(left) > _MAX_WHOLE:
            return
        for chosen in combinations(range(len(names)), size):
            n_each = n_all // prod(len(values[names[i]]) for i in chosen)
            failed = Counter(tuple(each[i] for i in chosen) for each in reasons)
            for picked in (picked for picked, n in failed.items() if n == n_each):
                corner = {names[i]: value for i, value in zip(chosen, picked, strict=True)}
                if is_excluded(found, corner):
                    continue
                found.append(corner)
                of_it = [each for each in left if all(each[i] == v for i, v in zip(chosen, picked, strict=True))]
                yield Corner(corner, left[of_it[0]])
                for each in of_it:
                    del left[each]


def _network_maker(spec: SweepSpec, location: Path) -> Callable[[Mapping[str, Scalar]], str | None] | None:
    """A function that says why a configuration has no network; None for a trainer that has none."""
    trainer_entry = find_trainer_entry(spec)
    shape_type = None if trainer_entry is None else getattr(trainer_entry.trainer_type, "shape_type", None)
    if trainer_entry is None or shape_type is None:
        return None
    from aifs_tune.data.cache import open_images
    from aifs_tune.data.examples import open_examples

    fixed = {name: p.value for name, p in spec.space.items() if isinstance(p, FixedParameter)}
    params_type: Any = trainer_entry.trainer_type.params_type
    if trainer_entry.kind == "images":
        images = open_images(location)
        sizes: tuple[Any, ...] = (images.shape, len(images.classes))
    else:
        sizes = (open_examples(location),)

    def try_one(params: Mapping[str, Scalar]) -> str | None:
        smallest = {name: _values(spec.space[name])[0] for name in _static(spec) if name not in params}
        try:
            shape_type.of(params_type.from_mapping({**fixed, **smallest, **params}), *sizes)
        except RequestError as error:
            return str(error)
        return None

    return try_one


def _static(spec: SweepSpec) -> list[str]:
    """The searched parameters on which the shape of the network depends."""
    trainer_entry = find_trainer_entry(spec)
    names = trainer_entry.static_params if trainer_entry is not None else ()
    return [name for name in names if name in spec.space and not isinstance(spec.space[name], FixedParameter)]


def _values(parameter: Parameter) -> list[Scalar]:
    """All values of a parameter with few, the smallest of one with many."""
    if isinstance(parameter, ChoiceParameter):
        return list(parameter.choices)
    if isinstance(parameter, IntParameter):
        every = range(parameter.low, parameter.high + 1, parameter.step)
        return list(islice(every, len(every) if len(every) <= _MAX_VALUES else 1))
    return [parameter.extremes[0]]
