"""Checks that everything in a sweep file has an effect, and that a function can be called with the space."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aifs_tune._util.scalars import did_you_mean
from aifs_tune.config.data import DataSpec
from aifs_tune.config.search import SearchSpec
from aifs_tune.config.sweep import SweepSpec, TrainerSpec
from aifs_tune.errors import RequestError
from aifs_tune.trainers.factory import find_trainer_entry
from aifs_tune.trainers.function import (
    EXTRA,
    argument_of,
    call_of,
    import_function,
    is_trainer_class,
    may_have_checkpoints,
    takes_one_dictionary,
)
from aifs_tune.trainers.optuna_objective import is_objective
from aifs_tune.trainers.sklearn import effects_of_weights

_OF_TRAINER = {name: field.default for name, field in TrainerSpec.model_fields.items() if name not in ("name", "model")}
_OF_SEARCH = {name: field.default for name, field in SearchSpec.model_fields.items()}


def check_effects(spec: SweepSpec, function: Callable[..., Any] | None = None) -> None:
    """Check that no setting of ``spec`` is without effect, and that its function takes the parameters of the space.

    ``function`` is the user's code where it was given in Python.

    Raises
    ------
    RequestError
        If there is such a setting, or the function cannot be called; names it, and the reason.
    """
    if spec.trainer is not None and spec.trainer.code is not None and function is None:
        function = import_function(spec.trainer.code)
    of_trainer = (
        _without_effect_in_estimator(spec, function)
        if spec.is_of_estimator and function is not None
        else _without_effect_in_trainer(spec, function)
    )
    for key, given, reason in (*of_trainer, *_without_effect_in_search(spec)):
        raise RequestError(f"{key}: {given} has no effect: {reason}; allowed: leave it out")
    if function is not None and spec.is_of_function:
        check_signature(spec, function)


def _without_effect_in_trainer(
    spec: SweepSpec, function: Callable[..., Any] | None
) -> Iterator[tuple[str, object, str]]:
    trainer = spec.trainer
    if trainer is None:
        return
    given = {name: value for name in _OF_TRAINER if (value := getattr(trainer, name)) != _OF_TRAINER[name]}
    if ":" in trainer.name:
        reasons = {
            "patience": "a function ends its trials itself, when it returns",
            "class_weights": "a function has a loss of its own",
            "precision": "a function computes as it is written",
            "checkpoint_s": "checkpoints need a function that takes trial, or a class with save and load",
            "weights": "a function reads its own files",
        }
        if function is not None and may_have_checkpoints(function):
            del reasons["checkpoint_s"]
        yield from ((f"trainer.{name}", given[name], why) for name, why in reasons.items() if name in given)
        if spec.data is not None:
            yield "data", _short(spec.data), "a function reads its own data"
        if spec.evaluate_test:
            yield "evaluate_test", "true", "the test part of a function is not known here"
    elif (entry := find_trainer_entry(spec)) is not None:
        if "precision" in given and trainer.name == "boosting":
            yield "trainer.precision", trainer.precision, "trees are not computed in floating-point layers"
        if "class_weights" in given and entry.kind == "bodies":
            yield "trainer.class_weights", trainer.class_weights, "a detector has a map for each class, without weights"
            return
        data = spec.data or DataSpec()
        if "class_weights" in given and not data.has_classes(entry.kind):
            names = ", ".join(data.targets(entry.kind))
            yield "trainer.class_weights", trainer.class_weights, f"{names}: numbers, not classes"


def _without_effect_in_estimator(spec: SweepSpec, function: Callable[..., Any]) -> Iterator[tuple[str, object, str]]:
    assert spec.trainer is not None
    reasons = {
        "patience": "an estimator is fitted in one epoch",
        "precision": "an estimator computes in its own precision",
        "checkpoint_s": "an estimator is fitted in one epoch, without checkpoints",
        "weights": "an estimator does not start from weights",
    }
    if spec.trainer.class_weights != _OF_TRAINER["class_weights"]:
        why = effects_of_weights(spec, function)
        reasons |= {} if why is None else {"class_weights": why}
    for name, reason in reasons.items():
        if (value := getattr(spec.trainer, name)) != _OF_TRAINER[name]:
            yield f"trainer.{name}", value, reason
    if spec.search.epochs > 1:
        yield "search.epochs", spec.search.epochs, "an estimator is fitted in one epoch"


def _without_effect_in_search(spec: SweepSpec) -> Iterator[tuple[str, object, str]]:
    search = spec.search
    given = {name: value for name in _OF_SEARCH if (value := getattr(search, name)) != _OF_SEARCH[name]}
    stops = search.scheduler in ("aifs", "asha", "hyperband", "median")
    of_scheduler = f"the scheduler is {search.scheduler}"
    reasons = {
        "reduction_factor": None if search.scheduler in ("asha", "hyperband") else of_scheduler,
        "perturb_epochs": None if search.scheduler == "pbt" else of_scheduler,
        "grace_epochs": None if stops else of_scheduler,
        "stop_after_failures": "pbt starts all trials together" if search.scheduler == "pbt" else None,
        "finalist_seeds": None if search.finalists else "there are no finalists",
    }
    yield from ((f"search.{name}", given[name], why) for name, why in reasons.items() if why and name in given)


def _short(data: DataSpec) -> str:
    given = data.model_dump(mode="json", exclude_defaults=True)
    return ", ".join(f"{key}: {value}" for key, value in given.items())[:80]


def check_signature(spec: SweepSpec, function: Callable[..., Any]) -> None:
    """Check that ``function`` can be called with every configuration of the space of ``spec``.

    Raises
    ------
    RequestError
        If it has a required argument that is no parameter, or only sometimes one; or does not take a parameter.
    """
    if is_trainer_class(function) or is_objective(function):
        return
    if hasattr(function, "check_space"):
        function.check_space(spec.space.root)
        return
    if inspect.isclass(function):
        function = call_of(function).__get__(object())
    try:
        signature = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions of compiled modules have none
        return
    if takes_one_dictionary(function):
        return
    _check_arguments(spec, function, signature)


def _check_arguments(spec: SweepSpec, function: Callable[..., Any], signature: Mapping[str, inspect.Parameter]) -> None:
    """As :func:`check_signature`, for a function with these arguments."""
    where, names = f"trainer {spec.trainer.name if spec.trainer else ''}", list(spec.space.root)
    arguments = {argument_of(name) for name in names}
    conditional = {argument_of(name) for name, parameter in spec.space.items() if getattr(parameter, "when", None)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.values())
    for p in signature.values():
        if p.kind is p.POSITIONAL_ONLY and p.default is p.empty:
            raise RequestError(f"{where}: takes {p.name} by its position only; allowed: arguments with names")
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or p.default is not p.empty:
            continue
        if p.name not in arguments and p.name not in EXTRA:
            raise RequestError(
                f"{where}: requires the argument {p.name}, which is no parameter of the space"
                f"{did_you_mean(p.name, names)}; allowed: {', '.join([*names, *EXTRA])}, or a default for it"
            )
        if p.name in conditional:
            raise RequestError(
                f"{where}: requires the argument {p.name}, which has a value only where its condition holds; "
                "allowed: a default for it, such as None"
            )
    for name in () if takes_any else names:
        if argument_of(name) not in signature:
            raise RequestError(f"space.{name}: {where.removeprefix('trainer ')} {_not_taken(name, signature)}")


def _not_taken(name: str, signature: Mapping[str, inspect.Parameter]) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        return (
            f"takes arguments by name, and {name} cannot be the name of one in Python; allowed: **params in the "
            "function, or params as its only argument, which gets all parameters as a dictionary"
        )
    near = did_you_mean(name, list(signature))
    return f"takes no such argument{near}; allowed: {', '.join(signature) or 'none'}, or **params"
