"""Shapley values of the columns of a table, from a model of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def shapley_values(
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    rows: NDArray[np.float32],
    reference: NDArray[np.float32],
    groups: Sequence[Sequence[int]],
    *,
    n_orders: int,
    seed: int,
) -> NDArray[np.float64]:
    """Estimate Shapley values: how much each group of columns moves the answer from that of the reference row.

    The columns of the reference are replaced by those of the row, one group after the other, in random orders and their
    reversals. The value of a group is its mean change of the answer (Castro, Gomez and Tejada 2009, "Polynomial
    calculation of the Shapley value based on sampling"; reversals as in Mitchell et al. 2022). The values of a row add
    up to the difference of both answers, for any number of orders.

    Parameters
    ----------
    predict
        Answers (m * n,) for ``m`` times all of the rows, (m * n, columns).
    rows, reference
        Rows that are explained (n, columns), and the row that they are compared with (columns,).
    groups
        Numbers of the columns of each group.
    n_orders
        Number of random orders, each of which is used in both directions.
    seed
        Seed of the orders.

    Returns
    -------
    numpy.ndarray
        Shapley values, shape (n, groups).

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[1, 2], [3, 0]], np.float32)
    >>> product = lambda x: x[:, 0] * x[:, 1] + x[:, 0]
    >>> shapley_values(product, rows, np.zeros(2, np.float32), [[0], [1]], n_orders=1, seed=0)
    array([[2., 1.],
           [3., 0.]])
    """
    random, n, n_groups = np.random.default_rng(seed), len(rows), len(groups)
    drawn = [random.permutation(n_groups) for _ in range(n_orders)]
    orders = np.array([order for one in drawn for order in (one, one[::-1])])
    mixed = np.tile(reference.astype(np.float32), (len(orders), n, 1))
    before = predict(mixed.reshape(len(orders) * n, -1)).reshape(len(orders), n)
    found = np.zeros((n, n_groups))
    for place in range(n_groups):
        for number, order in enumerate(orders):
            columns = list(groups[order[place]])
            mixed[number][:, columns] = rows[:, columns]
        after = predict(mixed.reshape(len(orders) * n, -1)).reshape(len(orders), n)
        np.add.at(found.T, orders[:, place], after - before)
        before = after
    return found / len(orders)
