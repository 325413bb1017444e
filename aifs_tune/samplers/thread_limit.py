"""Limit of linear algebra to one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Run linear algebra of NumPy and SciPy in one thread within the context.

    The matrices of the model are small, so that several threads would mostly wait for each other. Several threads also
    add numbers in another order, which changes the last digits: the proposals would depend on the number of cores.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """Return the BLAS libraries that are loaded at the first call; callers have imported NumPy and SciPy."""
    return ThreadpoolController()
