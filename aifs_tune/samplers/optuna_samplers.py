"""Optuna's samplers by name, configured for parallel trials."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from aifs_tune._util.scalars import brief, did_you_mean
from aifs_tune.config.search import OPTUNAHUB, SAMPLERS
from aifs_tune.config.trusted_code import import_code
from aifs_tune.errors import RequestError
from aifs_tune.samplers.hub import hub_sampler
from aifs_tune.samplers.search_space import SearchSpace


@dataclass(frozen=True)
class _Draw:
    """What samplers of one proposal are made from: the seeds of the study and of this proposal, the space, options."""

    of_study: int
    of_trial: int
    search_space: SearchSpace
    options: Mapping[str, Any]

    @property
    def independent(self) -> BaseSampler:
        """Sampler of what a sampler cannot propose together."""
        return RandomSampler(seed=self.of_trial)


Made: TypeAlias = tuple[type[BaseSampler], dict[str, Any]]
"""Class of a sampler, and its arguments."""


def _tpe(draw: _Draw) -> Made:
    grouped = draw.options.get("multivariate", True)
    return optuna.samplers.TPESampler, {
        "seed": draw.of_trial,
        "multivariate": True,
        "group": grouped,
        "constant_liar": True,
    }


def _gp(draw: _Draw) -> Made:
    _need("gp", "torch")
    return optuna.samplers.GPSampler, {"seed": draw.of_trial, "independent_sampler": draw.independent, **_QUIET}


def _cmaes(draw: _Draw) -> Made:
    _need("cmaes", "cmaes")
    from aifs_tune.samplers.cmaes import CmaEsSampler

    with_margin = _has_steps(draw.search_space.space)
    return CmaEsSampler, {
        "seed": draw.of_trial,
        "independent_sampler": draw.independent,
        "with_margin": with_margin,
        **_QUIET,
    }


def _qmc(draw: _Draw) -> Made:
    # all proposals of a study share one sequence, so its scrambling has the seed of the study
    return optuna.samplers.QMCSampler, {
        "seed": draw.of_study,
        "scramble": True,
        "independent_sampler": draw.independent,
        **_QUIET,
    }


def _nsga2(draw: _Draw) -> Made:
    return optuna.samplers.NSGAIISampler, {"seed": draw.of_trial}


def _nsga3(draw: _Draw) -> Made:
    return optuna.samplers.NSGAIIISampler, {"seed": draw.of_trial}


def _grid(draw: _Draw) -> Made:
    grid = {name: _grid_values(name, d) for name, d in draw.search_space.space.items()}
    return optuna.samplers.GridSampler, {"search_space": grid, "seed": draw.of_study}


def _brute_force(draw: _Draw) -> Made:
    for name, distribution in draw.search_space.space.items():
        _grid_values(name, distribution)
    return optuna.samplers.BruteForceSampler, {"seed": draw.of_trial}


def _random(draw: _Draw) -> Made:
    return RandomSampler, {"seed": draw.of_trial}


_QUIET: dict[str, Any] = {"warn_independent_sampling": False}
_OURS = ("seed", "search_space", "independent_sampler")
"""Arguments that cannot be options: the study has the first two."""

OPTUNA_SAMPLERS: dict[str, Callable[[_Draw], Made]] = {
    "tpe": _tpe,
    "gp": _gp,
    "cmaes": _cmaes,
    "qmc": _qmc,
    "nsga2": _nsga2,
    "nsga3": _nsga3,
    "grid": _grid,
    "brute_force": _brute_force,
    "random": _random,
}
"""Functions that say the class of a sampler, and the arguments that it gets where no option says otherwise."""


def make_optuna_sampler(
    name: str, *, seed: int, draw: int, search_space: SearchSpace, options: Mapping[str, Any] | None = None
) -> BaseSampler:
    """Make one of Optuna's samplers by name, or a user's own from ``module:Class``.

    Parameters
    ----------
    name : str
        A key of :data:`OPTUNA_SAMPLERS`, or ``module:Class``.
    seed : int
        Seed of the study, the same for all of its proposals.
    draw : int
        Seed of this proposal.
    search_space : SearchSpace
        The space to search.
    options : mapping, optional
        Arguments of the sampler's class.

    Returns
    -------
    optuna.samplers.BaseSampler
        A new sampler.

    Raises
    ------
    RequestError
        If there is no such sampler, it is not installed, it cannot search this space, or an option is unknown or not
        allowed.
    """
    drawn = _Draw(seed, draw, search_space, options or {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name in OPTUNA_SAMPLERS:
            made, arguments = OPTUNA_SAMPLERS[name](drawn)
        elif ":" in name:
            made, arguments = _imported(name, draw)
        else:
            raise RequestError(
                f"search.sampler: {name!r} is not a sampler; allowed: {', '.join(SAMPLERS)}, module:Class, "
                f"{OPTUNAHUB}samplers/NAME"
            )
        check_options(made, drawn.options, name)
        try:
            return made(**{**arguments, **drawn.options})
        except (TypeError, ValueError, NotImplementedError) as error:
            given = ", ".join(f"{key}={value!r}" for key, value in drawn.options.items()) or "no options"
            raise RequestError(
                f"search.sampler: {name} cannot be made with {given} ({type(error).__name__}: {error})"
            ) from error


def check_options(made: type[BaseSampler], options: Mapping[str, Any], name: str) -> None:
    """Check options by the arguments of a sampler's class: their names, and their types where it says them.

    Raises
    ------
    RequestError
        If there is no such argument, it is one that the study sets, or the value has another type.
    """
    arguments = inspect.signature(made).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in arguments.values())
    known = [key for key, p in arguments.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    allowed = [key for key in known if key not in _OURS]
    for key, value in options.items():
        if key in _OURS or (key not in known and not takes_any):
            why = "is set by the study" if key in _OURS else f"is no option of {name}{did_you_mean(key, allowed)}"
            raise RequestError(f"search.sampler.options.{key}: {why}; allowed: {', '.join(allowed) or 'no options'}")
        hint = _hint(made, arguments[key]) if key in arguments else None
        if hint is not None and not _is_of(hint, value):
            raise RequestError(
                f"search.sampler.options.{key}: {brief(value)} ({type(value).__name__}) is not allowed; allowed: "
                f"{_shown(arguments[key].annotation)}"
            )


def _hint(made: type[BaseSampler], argument: inspect.Parameter) -> Any:
    """The type of an argument; None if the class does not say one, or its name is not known here."""
    if argument.annotation is inspect.Parameter.empty:
        return None
    if not isinstance(argument.annotation, str):
        return argument.annotation
    home = vars(sys.modules[made.__module__])
    names = {"Any": Any, "Callable": Callable, "Sequence": Sequence, "Mapping": Mapping}
    try:
        return eval(argument.annotation, {**names, **home})  # noqa: S307 - written in the class, not by a user
    except (NameError, TypeError, SyntaxError):
        return None


def _shown(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a value has a type, as far as pydantic knows it."""
    try:
        TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError:
        return False
    except PydanticSchemaGenerationError:
        return True
    return True


def _imported(name: str, draw: int) -> Made:
    made = hub_sampler(name) if name.startswith(OPTUNAHUB) else import_code(name, "search.sampler")
    if not (inspect.isclass(made) and issubclass(made, BaseSampler)):
        raise RequestError(f"search.sampler: {name!r} is {made!r}; allowed: a subclass of optuna.samplers.BaseSampler")
    return made, {"seed": draw} if "seed" in inspect.signature(made).parameters else {}


def _need(sampler: str, package: str) -> None:
    if find_spec(package) is None:
        raise RequestError(
            f"search.sampler: {sampler!r} needs the package {package}, which is not installed; "
            f"run: pip install {package}, or use: aifs, tpe, qmc, random"
        )


def _has_steps(space: Mapping[str, BaseDistribution]) -> bool:
    return any(isinstance(d, IntDistribution) or getattr(d, "step", None) is not None for d in space.values())


def _grid_values(name: str, distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.step is None:
        raise RequestError(f"search.sampler: {name} is continuous; a grid needs a step or choices for it")
    n = round((distribution.high - distribution.low) / distribution.step)
    return [distribution.low + i * distribution.step for i in range(n + 1)]
