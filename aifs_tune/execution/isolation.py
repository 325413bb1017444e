"""State of a process that a user's code may change, as new for each trial of a warm worker.

What is restored: working folder, environment variables, ``sys.path``, ``sys.argv``, standard streams, warning filters,
level and handlers of the root logger, signal handlers, the mask of new files, the functions that show errors
(``sys.excepthook``, ``threading.excepthook``), what NumPy does at floating point errors, and Python's limit of
recursion. The generators of ``random`` and NumPy are seeded, figures of matplotlib are closed and the global state of
Keras is cleared. Module globals and threads stay as they are: ``resources.fresh_process`` gives a new process.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings
from contextlib import suppress
from typing import Any

import numpy as np

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)

_FROZEN = 2
"""Trials before which the collector leaves all that there is alone: the second finds the libraries of the first."""


class ProcessState:
    """The state of this process when the object was made, to be restored before each trial."""

    def __init__(self) -> None:
        self._folder = os.getcwd()
        self._environment = dict(os.environ)
        self._path, self._argv = list(sys.path), list(sys.argv)
        self._streams = sys.stdout, sys.stderr, sys.stdin
        self._filters = list(warnings.filters)
        root = logging.getLogger()
        self._logging = root.level, list(root.handlers), logging.root.manager.disable
        self._umask = _umask()
        self._hooks = sys.excepthook, threading.excepthook
        self._signals = {number: signal.getsignal(number) for number in _SIGNALS}
        self._float_errors, self._recursion_limit = np.geterr(), sys.getrecursionlimit()
        pyplot = sys.modules.get("matplotlib.pyplot")
        self._figures = frozenset(pyplot.get_fignums() if pyplot is not None else ())
        self._keras_policy: Any = None
        self.remember_keras()
        self._n_begun = 0
        self._generators = random.getstate(), np.random.get_state()

    def remember_keras(self) -> None:
        """Remember the precision that Keras computes in now, as that of each new trial."""
        keras = _loaded_keras()
        if keras is not None:
            self._keras_policy = keras.config.dtype_policy()

    def restore(self) -> None:
        """Restore what trials may have changed."""
        sys.setrecursionlimit(self._recursion_limit)
        np.seterr(**self._float_errors)
        with suppress(OSError):
            os.chdir(self._folder)
        if os.environ != self._environment:
            os.environ.clear()
            os.environ.update(self._environment)
        sys.path[:], sys.argv[:] = self._path, self._argv
        sys.stdout, sys.stderr, sys.stdin = self._streams
        warnings.filters[:] = self._filters  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]  # a warning that was shown once is shown again
        root = logging.getLogger()
        level, handlers, logging.root.manager.disable = self._logging
        if root.level != level or root.handlers != handlers:
            root.setLevel(level)
            root.handlers[:] = handlers
        os.umask(self._umask)
        sys.excepthook, threading.excepthook = self._hooks
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._signals.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)

    def begin_trial(self, seed: int) -> None:
        """Restore, and make the global state of libraries that are loaded that of a new trial with ``seed``."""
        self.restore()
        self._n_begun += 1
        keras = _loaded_keras()
        if keras is not None:
            keras.backend.clear_session(free_memory=False)
            self._collect_garbage()
            if self._keras_policy is not None:  # which the line above resets too
                keras.config.set_dtype_policy(self._keras_policy)
        seed_generators(seed)
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:
            for number in set(pyplot.get_fignums()) - self._figures:
                pyplot.close(number)

    def _collect_garbage(self) -> None:
        """Free the models of the trials before; not by looking through all that the libraries have made each time."""
        gc.collect()
        if self._n_begun <= _FROZEN:
            gc.freeze()

    def end(self) -> None:
        """Restore everything, the generators too."""
        self.restore()
        gc.unfreeze()
        state, numpy_state = self._generators
        random.setstate(state)
        np.random.set_state(numpy_state)


def _umask() -> int:
    """The mask of new files, which can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _loaded_keras() -> Any:
    """Keras, if this process has loaded it."""
    keras = sys.modules.get("keras")
    return keras if hasattr(keras, "backend") and hasattr(keras, "config") else None


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, NumPy, and of Keras (and so of its backend) and PyTorch where loaded."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    keras = _loaded_keras()
    if keras is not None:
        keras.utils.set_random_seed(seed % 2**32)
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(seed)
