"""Integrated gradients: how much each input of a network contributed to its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.network.runtime import tf

STEPS = 64
"""Points between the reference and the example at which the gradient is computed."""


@dataclass(frozen=True)
class Attribution:
    """Contributions of the inputs of some examples to one answer each.

    Parameters
    ----------
    contributions
        What each input contributed, in the unit of the answer, shape (n, ...).
    answers, references
        Answers for the examples and for their references, shape (n,). The contributions of an example add up to the
        difference of the two, up to the error of the integral.
    """

    contributions: NDArray[np.float64]
    answers: NDArray[np.float64]
    references: NDArray[np.float64]


def integrated_gradients(
    outputs: Callable[[Any, int], Any], inputs: NDArray[Any], references: NDArray[Any], of: NDArray[np.int64]
) -> Attribution:
    """Integrate the gradient of an answer along the straight line from a reference to the example.

    The contribution of input ``i`` is ``(x_i - x'_i)`` times the mean of the gradient on the line (Sundararajan, Taly
    and Yan 2017, "Axiomatic attribution for deep networks", eq. 1), at the midpoints of :data:`STEPS` equal steps.

    Parameters
    ----------
    outputs
        Outputs (m, outputs) for a tensor of ``m`` inputs, all made of the example with this number.
    inputs, references
        The examples ``x`` and their references ``x'``, shape (n, ...).
    of
        Number of the output that is explained, shape (n,).

    Returns
    -------
    Attribution
        The contributions, and the answers for the examples and for the references.

    Raises
    ------
    RequestError
        If the outputs have no gradient with respect to the inputs.
    """
    given, start = np.asarray(inputs, np.float32), np.asarray(references, np.float32)
    shares = ((np.arange(STEPS) + 0.5) / STEPS).astype(np.float32).reshape(-1, *[1] * (given.ndim - 1))
    contributions, ends = np.zeros(given.shape, np.float64), np.zeros((2, len(given)))
    for i in range(len(given)):
        line = tf.constant(start[i] + shares * (given[i] - start[i]))
        with tf.GradientTape() as tape:
            tape.watch(line)
            total = tf.reduce_sum(outputs(line, i)[:, int(of[i])])
        gradient = tape.gradient(total, line)
        if gradient is None:
            raise RequestError(
                "explain: the model has no gradient with respect to its inputs, as with whole numbers as inputs; "
                "allowed: a model that takes real numbers"
            )
        contributions[i] = (given[i] - start[i]) * np.mean(gradient, axis=0, dtype=np.float64)
        ends[:, i] = np.asarray(outputs(tf.constant(np.stack([given[i], start[i]])), i))[:, int(of[i])]
    return Attribution(contributions, ends[0], ends[1])
