"""Trainers of a user's own code: any Python callable, or a class with ``reset`` and ``epoch``.

A function is called with the parameters as keyword arguments, or with one dictionary if its only required argument
is ``params`` or ``config``. It may also take ``seed`` (int), ``epochs`` (int) and ``trial``
(:class:`~aifs_tune.trainers.running_trial.RunningTrial`). It returns the objective as a number or metrics as a
dictionary, or it is a generator that yields either after each epoch, so that its learning curve is stored and it can be
stopped early. A metric ``gpu_peak_mb`` is its peak memory on a GPU.
"""

from __future__ import annotations

import inspect
import re
import sys
import traceback
import unicodedata
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from aifs_tune._util.scalars import Scalar, brief
from aifs_tune.config.trusted_code import import_code, is_estimator_class
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.protocol import Trainer
from aifs_tune.trainers.returned import as_note, read_returned

EXTRA = ("seed", "epochs", "trial")
"""Arguments that a function may have besides the parameters."""
MAIN = "__main__:"
"""Beginning of the names of what a script or a notebook defines."""
GPU_PEAK = "gpu_peak_mb"
"""Metric with the peak memory on a GPU in MB of 2**20 bytes."""


def import_function(name: str) -> Callable[..., Any]:
    """Import the callable that ``module:function`` names.

    Raises
    ------
    RequestError
        If it cannot be imported, is no callable that the module defines, or if nobody has allowed it.
    """
    main = sys.modules["__main__"]
    if name.startswith(MAIN) and not hasattr(main, name.removeprefix(MAIN)):
        raise RequestError(
            f"trainer: {name.removeprefix(MAIN)} was given in Python, in a script or notebook, and cannot be imported; "
            "go on there, with aifs_tune.resume(STUDY, trainer=...) or the same call of aifs_tune.tune and finish=True"
        )
    return check_callable(import_code(name, "trainer"), name)


def check_callable(code: Any, name: str) -> Callable[..., Any]:
    """Return ``code`` if it can be a trainer; of an estimator, such as a pipeline, a function that copies it.

    Raises
    ------
    RequestError
        If it cannot: no callable, ``async``, or a class with neither ``reset`` and ``epoch`` nor ``__call__``.
    """
    if is_estimator_class(type(code)):
        from sklearn.base import clone

        return partial(clone, code)
    if is_trainer_class(code) or _is_trainer(code) or is_estimator_class(code):
        return cast(Callable[..., Any], code)
    if inspect.isclass(code):
        if call_of(code) is not None:
            return cast(Callable[..., Any], code)
        missing = [method for method in ("reset", "epoch") if not callable(getattr(code, method, None))]
        raise RequestError(
            f"trainer: the class {name} has no {' and no '.join(missing)}; allowed: a function, a class with "
            "reset(params, seed) and epoch(), or one whose instances can be called"
        )
    if not callable(code):
        raise RequestError(f"trainer: {name} is {brief(code)}, not a function")
    if inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code):
        raise RequestError(
            f"trainer: {name} is async; allowed: a function that runs it, such as "
            f"def run(...): return asyncio.run({getattr(code, '__name__', 'function')}(...))"
        )
    return cast(Callable[..., Any], code)


def code_name(code: Any) -> str:
    """The name ``module:name`` of a callable that was given in Python: ``__main__:name`` if no module has it.

    Private modules are left out where a package passes the name on: ``sklearn.ensemble:RandomForestClassifier``.
    """
    module, name = str(getattr(code, "__module__", None)), name_of(code)
    above, _, last = module.rpartition(".")
    if last.startswith("_") and getattr(sys.modules.get(above), name, None) is code:
        module = above
    is_plain = f"{module}{name}".isascii() and name.isidentifier()
    if is_plain and module in sys.modules and getattr(sys.modules[module], name, None) is code:
        return f"{module}:{name}"
    return f"{MAIN}{re.sub(r'[^A-Za-z0-9_]', '_', name)}"


def may_have_checkpoints(code: Callable[..., Any]) -> bool:
    """Whether trials of ``code`` can go on from a checkpoint: it takes ``trial``, or has ``save`` and ``load``."""
    return hasattr(code, "save") and hasattr(code, "load") if _is_trainer(code) else "trial" in _parameters(code)


def has_epochs(code: Callable[..., Any] | str, params: Container[str]) -> bool:
    """Whether the trials of ``code`` may have several epochs; ``params`` are those of its space."""
    if isinstance(code, str):
        return False
    takes = any(name in _parameters(code) and name not in params for name in ("trial", "epochs"))
    return takes or _is_trainer(code) or inspect.isgeneratorfunction(code)


def can_change(code: Any) -> bool:
    """Whether ``code`` is a class of trainers whose running trials can go on with other parameters."""
    return _is_trainer(code) and all(callable(getattr(code, method, None)) for method in ("change", "save", "load"))


def call_of(code: type) -> Any:
    """The ``__call__`` that a class or one of its bases defines; None if its instances cannot be called."""
    return next((vars(base)["__call__"] for base in code.__mro__ if "__call__" in vars(base)), None)


def is_trainer_class(code: Any) -> bool:
    """Whether ``code`` is a class of trainers: with ``reset`` and ``epoch``."""
    return inspect.isclass(code) and _is_trainer(code)


def _is_trainer(code: Any) -> bool:
    return all(callable(getattr(code, method, None)) for method in ("reset", "epoch"))


def make_user_trainer(code: Callable[..., Any], *, objectives: Sequence[str], mode: str, epochs: int) -> Trainer:
    """Make the trainer of a user's code, which :func:`check_callable` has let pass.

    Parameters
    ----------
    code
        A function, an object that can be called, or a class of trainers; the constructor of a class is called without
        arguments, or with ``epochs`` if it takes that.
    objectives, mode
        Names of the objectives; ``max`` or ``min``, which says which epoch is the best.
    epochs
        Most epochs of a trial.

    Raises
    ------
    TrainerError
        If the constructor of a class needs other arguments.
    """
    if inspect.isclass(code):
        code = _instance(code, epochs)
    if _is_trainer(code):
        return cast(Trainer, code)
    if "trial" in _parameters(code):
        from aifs_tune.trainers.running_trial import TrialFunctionTrainer

        return TrialFunctionTrainer(code, objectives=objectives, mode=mode, epochs=epochs)
    return FunctionTrainer(code, objectives=objectives, epochs=epochs)


def _instance(code: Callable[..., Any], epochs: int) -> Any:
    given = {"epochs": epochs} if "epochs" in _parameters(code) else {}
    needed = [
        p.name
        for p in _parameters(code).values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY)
    ]
    if set(needed) - set(given):
        raise TrainerError(
            f"the class {name_of(code)} cannot be made: its constructor needs {', '.join(needed)}; allowed: no "
            "required argument but epochs"
        )
    return code(**given)


def name_of(code: Any) -> str:
    """The name of a callable for messages: ``function``, ``Class.method``, ``lambda``."""
    while isinstance(code, partial):
        code = code.func
    found = getattr(code, "__name__", None) or type(code).__name__
    return "lambda" if found == "<lambda>" else str(found)


class FunctionTrainer:
    """Trainer of a function: each yielded value is an epoch, or the returned value is the only one."""

    def __init__(self, function: Callable[..., Any], *, objectives: Sequence[str], epochs: int) -> None:
        self._function = function
        self._objectives = objectives
        self._epochs = epochs
        self._n = 0
        self._epoch_values: Iterator[Any] | None = None
        self._call: Callable[[], Any] | None = None
        self.notes: dict[str, Any] = {}
        """What the function returned beside its metrics."""
        self.gpu_peak_mb: float | None = None
        """Largest value that the function has reported under this name."""

    @property
    def is_finished(self) -> bool:
        """Whether the function has returned."""
        return self._call is None and self._epoch_values is None

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Prepare a call with ``params``; the function runs in :meth:`epoch`."""
        self.stop()
        self._n, self.notes = 0, {}
        arguments = call_arguments(self._function, params, {"seed": seed, "epochs": self._epochs})
        self._call = lambda: self._function(**arguments)

    def epoch(self) -> dict[str, float]:
        """Run the function to its next yielded value, or to its end; empty if it ended without one.

        A generator that takes ``epochs`` runs to its end after the last one, so that what follows its loop is done.

        Raises
        ------
        TrainerError
            If the value is neither a number nor a dictionary of metrics.
        """
        if self._call is not None:
            call, self._call = self._call, None
            value = call()
            if not isinstance(value, Iterator):
                return self._metrics(value)
            self._epoch_values = value
        value = self._next() if self._epoch_values is not None else None
        if self._epoch_values is None:
            return {}
        self._n += 1
        metrics = self._metrics(value)
        if self._n >= self._epochs and "epochs" in _parameters(self._function):
            try:
                self._next()
            except Exception as error:  # noqa: BLE001 - a user's code may raise anything
                note_late_error(self.notes, error)
                self._epoch_values = None
            self.stop()
        return metrics

    def _next(self) -> Any:
        """The next yielded value; None, and no more values, at the end."""
        assert self._epoch_values is not None
        try:
            return next(self._epoch_values)
        except StopIteration as end:
            self._epoch_values = None
            if end.value is not None:
                self.notes["returned"] = as_note(end.value)
            return None

    def stop(self) -> None:
        """End a generator at its ``yield``."""
        values, self._epoch_values, self._call = self._epoch_values, None, None
        if inspect.isgenerator(values):
            try:
                values.close()
            except Exception as error:  # noqa: BLE001 - a user's code may raise anything
                note_late_error(self.notes, error)

    def _metrics(self, result: Any) -> dict[str, float]:
        if inspect.iscoroutine(result):
            result.close()
            raise TrainerError(f"{name_of(self._function)} returned a coroutine; allowed: what asyncio.run returns")
        returned = read_returned(result, self._objectives, name_of(self._function))
        self.notes |= returned.notes
        if GPU_PEAK in returned.metrics:
            self.gpu_peak_mb = max(self.gpu_peak_mb or 0.0, returned.metrics[GPU_PEAK])
        return returned.metrics


def note_late_error(notes: dict[str, Any], error: Exception) -> None:
    """Print an error that was raised after the last epoch, and note it: what was measured before it stands."""
    traceback.print_exception(error)
    notes["error after the last epoch"] = as_note(f"{type(error).__name__}: {error}")


def takes_one_dictionary(function: Callable[..., Any]) -> bool:
    """Whether the only required argument of ``function``, besides :data:`EXTRA`, is ``params`` or ``config``."""
    return _required(function) in (["params"], ["config"])


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a callable; none where they cannot be read, as of some compiled functions."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _required(function: Callable[..., Any]) -> list[str]:
    return [
        p.name
        for p in _parameters(function).values()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in EXTRA
    ]


def argument_of(name: str) -> str:
    """The name by which Python knows an argument in its signature: it reads the micro sign as the letter mu."""
    return unicodedata.normalize("NFKC", name)


def call_arguments(
    function: Callable[..., Any], params: Mapping[str, Scalar], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The keyword arguments to call ``function`` with: the parameters, and what it takes of ``extra``."""
    signature = _parameters(function)
    wanted = {name: value for name, value in extra.items() if name in signature and name not in params}
    if takes_one_dictionary(function):
        return {_required(function)[0]: dict(params), **wanted}
    return {**{argument_of(name): value for name, value in params.items()}, **wanted}
