"""The model's arithmetic on one core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """NumPy's and SciPy's linear algebra in one thread while the context lasts.

    The model's matrices are small: threads wait for each other longer than they compute, the more the more cores there
    are. And sums taken in another order differ in their last digits: so machines with more cores would propose
    something else.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """Those that are loaded at the first call: whoever calls has imported NumPy and SciPy."""
    return ThreadpoolController()
