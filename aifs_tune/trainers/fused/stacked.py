"""One program that trains several trials of equal shape, whose arrays are stacked along a first axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.network.devices import ChunkSizer
from aifs_tune.trainers.network.losses import LossFunction
from aifs_tune.trainers.network.network import Network, in_batches
from aifs_tune.trainers.network.params import Optimizer
from aifs_tune.trainers.network.program import Examples
from aifs_tune.trainers.network.runtime import jax
from aifs_tune.trainers.network.stateless import Member, StatelessStep, in_use, plan_of


class Passed(NamedTuple):
    """What a pass made of a trial: new arrays and slots, mean loss and score of its training batches, predictions."""

    arrays: Mapping[str, Any]
    slots: Mapping[str, Any]
    loss: float
    score: float
    predicted: NDArray[np.float32]


class Stack:
    """Training and prediction of up to ``size`` trials of one shape at a time, as one program."""

    def __init__(
        self, network: Network, loss_function: LossFunction, *, size: int, optimizer: Optimizer, batch_size: int
    ) -> None:
        self._network, self.size = network, size
        self._step = StatelessStep(network, loss_function, optimizer=optimizer, batch_size=batch_size)
        self._chunks = ChunkSizer()
        self._used: frozenset[str] = frozenset()
        self._train = jax.jit(self._train_all, static_argnames="used")
        self._predict = jax.jit(jax.vmap(network.predictions, in_axes=(0, None, None)))
        self._stack = jax.jit(_stacked)
        self._split = jax.jit(_split)

    @property
    def n_traces(self) -> int:
        """Traces so far: one to train for each combination of hyperparameters in use, one to evaluate."""
        return self._step.n_traces + self._network.n_traces

    def train(self, members: Sequence[Member], examples: Examples, picked: NDArray[np.int32]) -> list[Passed]:
        """Train an epoch of each of up to ``size`` members, then predict the examples ``picked``.

        All epochs have the same number of examples.
        """
        filled = [*members, *[members[0]] * (self.size - len(members))]
        n, batch = len(members[0].epoch.order), self._step.batch_size
        for member in members:
            self._used |= in_use(member.epoch.hyperparameters)
        arrays, slots = self._stack([(member.arrays, member.slots) for member in filled])
        plans = [plan_of(member.epoch, batch) for member in filled]
        plan = jax.device_put(jax.tree.map(lambda *each: np.stack(each), *plans))
        sums = np.zeros((self.size, 2), np.float32)
        for first, last in self._chunks.slices(-(-n // batch)):
            arrays, slots, sums = jax.block_until_ready(
                self._train(arrays, slots, plan, sums, first, last, n, examples, used=self._used)
            )
        found = np.asarray(self._predict(arrays, examples.inputs, in_batches(picked)))
        found = found.reshape(self.size, -1, found.shape[-1])[:, : len(picked)]
        means = (np.asarray(sums) / n).tolist()
        split = self._split((arrays, slots))
        return [
            Passed(new, state, loss, score, predicted)
            for (new, state), (loss, score), predicted in zip(split, means, found, strict=True)
        ][: len(members)]

    def _train_all(self, arrays: Any, slots: Any, plan: Any, sums: Any, *common: Any, used: frozenset[str]) -> Any:
        """:meth:`StatelessStep.train` of all members; the ``common`` arguments are those after ``sums``."""

        def one(*own: Any) -> Any:
            return self._step.train(*own, *common, used=used)

        return jax.vmap(one)(arrays, slots, plan, sums)


def _stacked(members: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *each: jax.numpy.stack(each), *members)


def _split(stacked: Any) -> list[Any]:
    leaves, structure = jax.tree.flatten(stacked)
    return [jax.tree.unflatten(structure, [leaf[i] for leaf in leaves]) for i in range(len(leaves[0]))]
