"""Optuna's CMA-ES, which keeps its state as a pickle in the storage, without running what others put there."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

_ALLOWED = frozenset(
    {
        ("cmaes._cma", "CMA"),
        ("cmaes._cmawm", "CMAwM"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
    }
)
"""What the state of an optimizer consists of: module and name."""


class _StateReader(pickle.Unpickler):
    """Reads numbers and optimizers, and nothing that could be called beside them."""

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed class; anybody who can write to the storage chooses the names."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an optimizer")
        return super().find_class(module, name)


class CmaEsSampler(optuna.samplers.CmaEsSampler):
    """CMA-ES that begins anew where the state in the storage is not one of its own."""

    def _restore_optimizer(self, completed_trials: Sequence[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            own = {key: value for key, value in trial.system_attrs.items() if key.startswith(self._attr_key_optimizer)}
            if own:
                try:
                    return _StateReader(io.BytesIO(bytes.fromhex(self._concat_optimizer_attrs(own)))).load()
                except Exception as error:  # noqa: BLE001  a damaged or forged state fails in any way
                    logging.getLogger(__name__).warning(
                        "the state of CMA-ES in trial %d cannot be used (%s): the search begins anew",
                        trial.number,
                        error,
                    )
                    return None
        return None
