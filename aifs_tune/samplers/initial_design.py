"""Initial designs: the configurations that a study measures before the sampler proposes any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.config.search import MAX_POINTS, DesignSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.samplers.encoding import Axis, Encoding, key_of
from aifs_tune.samplers.search_space import SearchSpace, configuration

Array: TypeAlias = NDArray[np.float64]

MAX_FACTORS = 15
"""Maximum number of factors of a fractional factorial design."""
MAX_DRAWN = 20_000
"""Maximum number of points that are drawn or combined to find allowed ones."""

Generator = tuple[int, int]
"""The factors whose product defines another factor, as bits, and the sign."""


def words_of(generators: Mapping[int, Generator]) -> set[int]:
    """Return all defining words of a fractional design, given the generators of its dependent factors."""
    words: set[int] = set()
    for factor, (bits, _) in generators.items():
        own = bits | 1 << factor
        words |= {own} | {word ^ own for word in words}
    return words


def resolution_of(generators: Mapping[int, Generator]) -> int | None:
    """Return the length of the shortest defining word; None for a full design, which has none."""
    return min((word.bit_count() for word in words_of(generators)), default=None)


def smallest_fraction(n_factors: int, resolution: int) -> dict[int, Generator]:
    """Return generators of the fractional design with the fewest runs that has at least this resolution.

    The first factors are free. Each other factor is a product of as many of these as possible.
    """
    for n_free in range(1, n_factors):
        sizes = range(n_free, resolution - 2, -1)
        products = [sum(1 << i for i in chosen) for size in sizes for chosen in combinations(range(n_free), size)]
        found = _added({}, set(), list(range(n_free, n_factors)), products, resolution)
        if found is not None:
            return found
    return {}


def _added(
    generators: dict[int, Generator], words: set[int], missing: Sequence[int], products: Sequence[int], resolution: int
) -> dict[int, Generator] | None:
    if not missing:
        return generators
    for i, bits in enumerate(products):
        own = bits | 1 << missing[0]
        new = {own} | {word ^ own for word in words}
        if min(word.bit_count() for word in new) >= resolution:
            more = {**generators, missing[0]: (bits, 1)}
            found = _added(more, words | new, missing[1:], products[i + 1 :], resolution)
            if found is not None:
                return found
    return None


def read_generators(factors: Sequence[str], given: Mapping[str, str]) -> dict[int, Generator]:
    """Parse generators of a sweep file, such as ``{"pressure": "temperature * hold_time"}``.

    Raises
    ------
    RequestError
        If a name is not a factor, or a product contains a factor that is a product itself.
    """
    free = [name for name in factors if name not in given]
    read: dict[int, Generator] = {}
    for name, text in given.items():
        where = f"search.initial.generators.{name}"
        if name not in factors:
            raise RequestError(f"{where}: {name!r} is not a factor; allowed: {', '.join(factors)}")
        sign, product = (-1, text.strip()[1:]) if text.strip().startswith("-") else (1, text)
        named = [part.strip() for part in product.split("*")]
        for part in named:
            if part not in free or named.count(part) > 1:
                allowed = f"a product of different factors of {', '.join(free)}, such as {' * '.join(free[:2])}"
                raise RequestError(f"{where}: {part!r} in {text!r} is not a free factor; allowed: {allowed}")
        read[factors.index(name)] = sum(1 << factors.index(part) for part in named), sign
    return read


def runs_of(n_factors: int, generators: Mapping[int, Generator]) -> NDArray[np.int64]:
    """Return the runs (2 ** number of free factors, n_factors) of a fractional design: -1 is low, 1 is high."""
    free = [factor for factor in range(n_factors) if factor not in generators]
    runs = np.ones((2 ** len(free), n_factors), dtype=np.int64)
    for i, factor in enumerate(free):
        runs[:, factor] = np.where(np.arange(len(runs)) >> i & 1, 1, -1)
    for factor, (bits, sign) in generators.items():
        chosen = [other for other in free if bits >> other & 1]
        runs[:, factor] = sign * runs[:, chosen].prod(axis=1)
    return runs


def initial_design(spec: SweepSpec) -> list[dict[str, Scalar]]:
    """Return the configurations of ``search.initial`` in the order of measurement; an empty list without it.

    Each configuration occurs ``search.replicates`` times. All occur once, in a random order, before any repeats. The
    centre points are spread evenly between them. The result depends only on the sweep file.

    Raises
    ------
    RequestError
        If the design does not fit the space, the constraints exclude all of it, or it has more than 1,000 points.
    """
    design = spec.search.initial
    if design is None:
        return []
    encoding = SearchSpace.of(spec).encoding()
    if not len(encoding):
        raise RequestError(
            "search.initial: every parameter is fixed; allowed: a space with at least one parameter that varies"
        )
    rng = np.random.default_rng([spec.search.seed, 1])
    unit_points = _DESIGNS[design.design](spec, encoding, design)
    blocks = [rng.permutation(len(unit_points)) for _ in range(spec.search.replicates)]
    order = [int(i) for block in blocks for i in block]
    if len(order) + design.n_centre > MAX_POINTS:
        text = f"{len(order) + design.n_centre} measurements"
        raise RequestError(f"search.initial: {text}; allowed: at most {MAX_POINTS}, with fewer levels or replicates")
    plan = [configuration(spec, encoding, unit_points[i]) for i in order]
    if design.n_centre:
        centre = configuration(spec, encoding, _centre(spec, encoding))
        if not spec.allows(centre):
            raise RequestError(f"search.initial.centre_points: the constraints do not allow the centre, {centre}")
        for at in (
            np.linspace(len(plan), 0, design.n_centre).round().astype(int)
        ):  # from the end, so that earlier positions stay valid
            plan.insert(int(at), centre)
    return plan


def _sobol(spec: SweepSpec, encoding: Encoding, design: DesignSpec) -> Array:
    sequence = scipy.stats.qmc.Sobol(len(encoding), scramble=True, rng=spec.search.seed)

    def drawn(wanted: int) -> Array:
        return np.asarray(sequence.random(64))

    return _first_allowed(spec, encoding, design.points or 0, drawn)


def _latin_hypercube(spec: SweepSpec, encoding: Encoding, design: DesignSpec) -> Array:
    cube = scipy.stats.qmc.LatinHypercube(len(encoding), optimization="random-cd", rng=spec.search.seed)

    def drawn(wanted: int) -> Array:
        return np.asarray(cube.random(wanted))

    return _first_allowed(spec, encoding, design.points or 0, drawn)


def _first_allowed(spec: SweepSpec, encoding: Encoding, n_points: int, draw: Callable[[int], Array]) -> Array:
    """Return ``n_points`` different, allowed unit points; ``draw`` gets the number that is still missing."""
    found: dict[bytes, Array] = {}
    n_drawn = 0
    while len(found) < n_points and n_drawn < MAX_DRAWN:
        drawn = encoding.spread(draw(n_points - len(found)))
        n_drawn += max(len(drawn), 16)
        for unit_point in drawn:
            if len(found) < n_points and spec.allows(configuration(spec, encoding, unit_point)):
                found.setdefault(key_of(unit_point), unit_point)
    if len(found) < n_points:
        raise RequestError(
            f"search.initial.points: {n_points} is not allowed; only {len(found)} different, allowed points were found"
        )
    return np.array(list(found.values()))


def _factorial(spec: SweepSpec, encoding: Encoding, design: DesignSpec) -> Array:
    mixed = [name for mixture in spec.mixtures for name in mixture.components]
    factors: list[tuple[list[int], Array]] = [_vertices(spec, encoding, i) for i in range(len(spec.mixtures))]
    for j, (name, axis) in enumerate(zip(encoding.names, encoding.axes, strict=True)):
        if name not in mixed:
            n_levels = design.levels if isinstance(design.levels, int) else design.levels.get(name, 2)
            factors.append(([j], _levels(axis, n_levels)[:, None]))
    if isinstance(design.levels, dict):
        for name in design.levels:
            if name not in encoding.names or name in mixed:
                numbers = ", ".join(n for n in encoding.names if n not in mixed)
                raise RequestError(
                    f"search.initial.levels.{name}: {name!r} is not a factor of this design; allowed: {numbers}"
                )
    sizes = [len(levels) for _, levels in factors]
    if np.prod(np.array(sizes, dtype=float)) > MAX_DRAWN:
        text = f"{' * '.join(map(str, sizes))} combinations"
        raise RequestError(f"search.initial: {text}; allowed: at most {MAX_POINTS}, or a fractional_factorial")
    rows = []
    for chosen in product(*(levels for _, levels in factors)):
        row = np.zeros(len(encoding))
        for (columns, _), values in zip(factors, chosen, strict=True):
            row[columns] = values
        rows.append(row)
    return _allowed_of(spec, encoding, np.array(rows))


def _levels(axis: Axis, n_levels: int) -> Array:
    """Return unit points of all choices, or of ``n_levels`` values evenly over a range."""
    if axis.choices:
        return (np.arange(len(axis.choices)) + 0.5) / len(axis.choices)
    low, high = axis.snapped(np.array([0.0, 1.0]))
    return np.unique(axis.snapped(np.linspace(low, high, n_levels)))


def _vertices(spec: SweepSpec, encoding: Encoding, number: int) -> tuple[list[int], Array]:
    """Return the columns of a mixture's components, and the unit points of its extreme vertices.

    At a vertex, all components but one are at an end of their range. McLean & Anderson, Extreme Vertices Design of
    Mixture Experiments, Technometrics 8 (1966).
    """
    mixture = spec.mixtures[number]
    names = [name for name in mixture.components if name in encoding.names]
    ends = [tuple(float(end) for end in spec.space[name].extremes) for name in names]
    fixed = sum(float(spec.space[name].extremes[0]) for name in mixture.components if name not in names)
    total, found = mixture.total - fixed, {}
    for free in range(len(names)):
        for others in product(*(ends[i] for i in range(len(names)) if i != free)):
            left = total - sum(others)
            if ends[free][0] - 1e-9 <= left <= ends[free][1] + 1e-9:
                amounts = [*others[:free], left, *others[free:]]
                unit_point = np.array([(x - low) / (high - low) for x, (low, high) in zip(amounts, ends, strict=True)])
                found[np.round(unit_point, 9).tobytes()] = unit_point
    return [encoding.names.index(name) for name in names], np.array(list(found.values()))


def _fractional(spec: SweepSpec, encoding: Encoding, design: DesignSpec) -> Array:
    bound = [name for mixture in spec.mixtures for name in mixture.components]
    bound += [name for name, parameter in spec.space.items() if parameter.when]
    for name, axis in zip(encoding.names, encoding.axes, strict=True):
        if name in bound:
            text = f"{name} depends on other parameters"
            raise RequestError(
                f"search.initial: {text}; allowed in a fractional_factorial: parameters without when, outside mixtures"
            )
        if axis.is_nominal and len(axis.choices) != 2:
            text = f"{name} has {len(axis.choices)} unordered choices"
            raise RequestError(
                f"search.initial: {text}; allowed in a fractional_factorial: two choices, or ordered ones"
            )
    n_factors = len(encoding)
    if n_factors > MAX_FACTORS:
        raise RequestError(
            f"search.initial: {n_factors} factors; allowed in a fractional_factorial: at most {MAX_FACTORS}"
        )
    if design.generators is not None:
        generators = read_generators(encoding.names, design.generators)
        if (resolution_of(generators) or 3) < 3:
            raise RequestError(
                "search.initial.generators: two factors always change together; allowed: resolution 3 or more"
            )
    else:
        generators = smallest_fraction(n_factors, design.resolution or 4)
    ends = np.array([_levels(axis, 2)[[0, -1]] for axis in encoding.axes])
    runs = runs_of(n_factors, generators)
    return _allowed_of(spec, encoding, np.where(runs > 0, ends[:, 1], ends[:, 0]))


def _allowed_of(spec: SweepSpec, encoding: Encoding, rows: Array) -> Array:
    """Return the different ones of ``rows`` (m, d) that the constraints allow."""
    kept: dict[bytes, Array] = {}
    for unit_point in encoding.deactivated(rows):
        if spec.allows(configuration(spec, encoding, unit_point)):
            kept.setdefault(key_of(unit_point), unit_point)
    if not kept:
        raise RequestError("search.initial: the constraints exclude every point of this design")
    return np.array(list(kept.values()))


def _none(spec: SweepSpec, encoding: Encoding, design: DesignSpec) -> Array:
    return np.empty((0, len(encoding)))


def _centre(spec: SweepSpec, encoding: Encoding) -> Array:
    """Return the centre of each range, the middle ordered choice, and of unordered choices the default or the first."""
    unit_point = np.full(len(encoding), 0.5)
    for j, (name, axis) in enumerate(zip(encoding.names, encoding.axes, strict=True)):
        if axis.is_nominal:
            default = spec.space[name].default_value
            unit_point[j] = axis.unit_point(axis.choices[0] if default is None else default)
    return np.asarray(encoding.deactivated(unit_point[None])[0])


_DESIGNS: dict[str, Callable[[SweepSpec, Encoding, DesignSpec], Array]] = {
    "sobol": _sobol,
    "latin_hypercube": _latin_hypercube,
    "factorial": _factorial,
    "fractional_factorial": _fractional,
    "centre": _none,
}
