"""Trainer that calls any importable Python function.

The function is called with the parameters as keyword arguments, or with one dictionary if its only required argument
is ``params`` or ``config``. It may also take ``seed`` (int) and ``epochs`` (int). It returns the objective as a number
or metrics as a dictionary, or it is a generator that yields either after each epoch, so that its learning curve is
stored and it can be stopped early. It has no checkpoint: after an interruption it runs again from the start. A metric
``gpu_peak_mb`` is its peak memory on a GPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any

from aifs_tune._util.scalars import Scalar, brief
from aifs_tune.config.trusted_code import import_code
from aifs_tune.errors import RequestError, TrainerError

EXTRA = ("seed", "epochs")
"""Arguments that a function may have besides the parameters."""
GPU_PEAK = "gpu_peak_mb"
"""Metric with the peak memory on a GPU in MB of 2**20 bytes."""


def import_function(name: str) -> Callable[..., Any]:
    """Import the function that ``module:function`` names.

    Raises
    ------
    RequestError
        If it cannot be imported, is no function that the module defines, or if nobody has allowed it.
    """
    function = import_code(name, "trainer")
    if not callable(function):
        raise RequestError(f"trainer: {name} is {brief(function)}, not a function")
    return function  # type: ignore[no-any-return]


class FunctionTrainer:
    """Trainer of a function: each yielded value is an epoch, or the returned value is the only one."""

    def __init__(self, function: Callable[..., Any], *, metric: str, epochs: int) -> None:
        self._function = function
        self._metric = metric
        self._epochs = epochs
        self._epoch_values: Iterator[Any] | None = None
        self._call: Callable[[], Any] | None = None
        self.gpu_peak_mb: float | None = None
        """Largest value that the function has reported under this name."""

    @property
    def is_finished(self) -> bool:
        """Whether the function has returned."""
        return self._call is None and self._epoch_values is None

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Prepare a call with ``params``; the function runs in :meth:`epoch`."""
        self._epoch_values = None
        arguments = _arguments(self._function, params, {"seed": seed, "epochs": self._epochs})
        self._call = lambda: self._function(**arguments)

    def epoch(self) -> dict[str, float]:
        """Run the function to its next yielded value, or to its end; empty if it ended without one.

        Raises
        ------
        TrainerError
            If the value is neither a number nor a dictionary of numbers.
        """
        if self._call is not None:
            call, self._call = self._call, None
            value = call()
            if not isinstance(value, Iterator):
                return self._metrics(value)
            self._epoch_values = value
        for value in self._epoch_values or ():
            return self._metrics(value)
        self._epoch_values = None
        return {}

    def _metrics(self, result: Any) -> dict[str, float]:
        pairs = result if isinstance(result, Mapping) else {self._metric: result}
        for name, value in pairs.items():
            if not isinstance(value, Real):
                raise TrainerError(
                    f"{self._function.__name__} returned {value!r} for {name}; allowed: a number, or a dictionary of "
                    "numbers by metric"
                )
        metrics = {str(name): float(value) for name, value in pairs.items()}
        if GPU_PEAK in metrics:
            self.gpu_peak_mb = max(self.gpu_peak_mb or 0.0, metrics[GPU_PEAK])
        return metrics


def takes_one_dictionary(function: Callable[..., Any]) -> bool:
    """Whether the only required argument of ``function``, besides :data:`EXTRA`, is ``params`` or ``config``."""
    return _required(function) in (["params"], ["config"])


def _required(function: Callable[..., Any]) -> list[str]:
    return [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in EXTRA
    ]


def _arguments(function: Callable[..., Any], params: Mapping[str, Scalar], extra: Mapping[str, int]) -> dict[str, Any]:
    signature = inspect.signature(function).parameters
    wanted = {name: value for name, value in extra.items() if name in signature and name not in params}
    if takes_one_dictionary(function):
        return {_required(function)[0]: dict(params), **wanted}
    return {**params, **wanted}
