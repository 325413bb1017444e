"""Fused training of several trials in one program; each remains a separate trial.

With a small network, a large GPU mostly waits for the next kernel launch. Here each launch computes all trials
(horizontally fused training, Wang et al. 2021, arXiv 2102.02344).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.fused.stacked import Passed, Stack
from aifs_tune.trainers.keras_rewrites import stack_convolutions
from aifs_tune.trainers.network.losses import LossFunction
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.ops import is_jax
from aifs_tune.trainers.network.program import Epoch, Examples
from aifs_tune.trainers.network.runtime import jax
from aifs_tune.trainers.network.stateless import Member, StatelessTraining
from aifs_tune.trainers.network.trainer import MAX_TRAIN_FUNCTIONS, NetTrainer

GATHER_S = 0.5
"""Seconds after which an epoch starts without the trials that did not ask for one; they join the next epoch."""

_SIZES = (1, 4, 16, 64)
_MIN_GAIN = 1.1
_MAX_MEMORY_SHARE = 0.8


def make_stack(trainer: NetTrainer, shape: Any, size: int) -> Stack:
    """Make the program of ``size`` trials of this ``shape``, for the data of ``trainer``."""
    network, loss_function = trainer.new_network(shape)
    if size > 1 and (model := getattr(network, "model", None)) is not None:
        stack_convolutions(model)
    return Stack(network, loss_function, size=size, optimizer=shape.optimizer, batch_size=shape.batch_size)


def choose_fused_size(trainer: NetTrainer, *, max_size: int) -> int:
    """Choose the number of fused trials, at most ``max_size``, by measurement.

    Sizes 1, 4, 16 and 64 are tried, some seconds each, as long as each trains at least 10 % more examples per second
    than the one before and needs at most 80 % of the device's memory. On a CPU the size is 1, because one trial keeps
    it busy.
    """
    if jax.default_backend() == "cpu":
        return 1
    chosen, best_rate = 1, 0.0
    for size in sorted({min(size, max_size) for size in _SIZES}):
        try:
            rate = examples_per_second(trainer, size)
        except jax.errors.JaxRuntimeError:  # out of memory
            break
        if rate < _MIN_GAIN * best_rate or memory_share() > _MAX_MEMORY_SHARE:
            break
        chosen, best_rate = size, rate
    return chosen


def examples_per_second(trainer: NetTrainer, size: int, *, at_least_s: float = 1.0) -> float:
    """Measure the examples per second that ``size`` trials like that of ``trainer`` train, without compilation."""
    member, examples, val = trainer.next_member()
    stack = make_stack(trainer, trainer.shape, size)
    order = np.resize(member.epoch.order, min(len(member.epoch.order), 32 * trainer.shape.batch_size))
    members = [member._replace(epoch=member.epoch._replace(order=order))] * size
    stack.train(members, examples, val)
    n_epochs, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < at_least_s or n_epochs == 0:
        stack.train(members, examples, val)
        n_epochs += 1
    return n_epochs * size * len(order) / seconds


def memory_share() -> float:
    """Largest share of the device's memory used so far, 0 to 1; 0 if the device does not report it."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return float(stats.get("peak_bytes_in_use", 0) / stats["bytes_limit"]) if stats.get("bytes_limit") else 0.0


class _Request(NamedTuple):
    """An epoch that a trial asks for; ``picked`` are the examples to predict after it."""

    shape: Any
    member: Member
    examples: Examples
    picked: NDArray[np.int32]
    trainer: NetTrainer


class FusedTrainer:
    """Several trainers whose trials train together, up to ``size`` of them, on JAX.

    :meth:`trial_trainer` returns a trainer of one trial at a time. Each of these trainers needs its own thread, because
    an epoch waits for the other trials that are about to train. Trials of equal shape are one program; those of other
    shapes train after them. A new trial of a known shape compiles nothing. The metrics of a trial depend on its
    parameters, its seed and the data, not on the other trials.

    Parameters
    ----------
    trainer
        Trainer of a network, which says data, goal and the parameters of the first trial.
    size
        Largest number of trials at a time, from 1.

    Raises
    ------
    RequestError
        If Keras does not use JAX or ``size`` is below 1.
    """

    def __init__(self, trainer: NetTrainer, *, size: int) -> None:
        if size < 1:
            raise RequestError(f"size: {size} is not allowed; allowed: a whole number from 1")
        if not is_jax():
            raise RequestError("KERAS_BACKEND: 'tensorflow' is in use; allowed for fused trials: jax")
        self._trainer, self.size = trainer, size
        self.lock = threading.Condition()
        """Lock of all trials; a pass holds it."""
        self._stacks: OrderedDict[tuple[Any, int], Stack] = OrderedDict()
        self._places: set[int] = set()
        self._expected: set[int] = set()
        self._requests: dict[int, _Request] = {}
        self._results: dict[int, Passed | Exception] = {}

    @property
    def n_traces(self) -> int:
        """Traces of the programs that are kept: two for each shape, more where other kinds of augmentation follow."""
        return sum(stack.n_traces for stack in self._stacks.values())

    def trial_trainer(self, params: Mapping[str, Scalar] | None = None) -> NetTrainer:
        """Make a trainer of one trial at a time; its first trial has ``params``, by default those of the trainer.

        Raises
        ------
        RequestError
            If there are ``size`` trainers already.
        """
        with self.lock:
            free = sorted({*range(self.size)} - self._places)
            if not free:
                raise RequestError(f"fused trials: all {self.size} are in use; release one first")
            trainer = self._trainer.twin(_FusedSlot(self, free[0]), params)
            self._places.add(free[0])
            return trainer

    def release(self, trainer: NetTrainer) -> None:
        """Make room for another trainer; this one cannot be used any more."""
        place = trainer.place
        assert isinstance(place, _FusedSlot)
        with self.lock:
            self.leave(place.index)
            self._places.discard(place.index)

    def release_all(self) -> None:
        """Make room in all places; no trainer of them can be used any more."""
        with self.lock:
            for index in sorted(self._places):
                self.leave(index)
            self._places.clear()

    def leave(self, index: int) -> None:
        """Stop waiting for the trial in this place."""
        with self.lock:
            self._expected.discard(index)
            self._requests.pop(index, None)
            self.lock.notify_all()

    def join(self, index: int) -> None:
        """Announce that a trial is about to train, so that the others wait for it up to :data:`GATHER_S`."""
        with self.lock:
            self._expected.add(index)

    def train(self, index: int, request: _Request) -> Passed:
        """Train the epoch that a trial asks for, together with those of the others.

        Raises
        ------
        TrainerError
            If it failed; then it failed for all trials of the same shape.
        """
        with self.lock:
            self._requests[index] = request
            self._expected.add(index)
            self.lock.notify_all()
            deadline = time.monotonic() + GATHER_S
            while index not in self._results:
                left_s = deadline - time.monotonic()
                if self._expected <= self._requests.keys() or left_s <= 0:
                    self._train_requested()
                else:
                    self.lock.wait(left_s)
            result = self._results.pop(index)
        if isinstance(result, Exception):
            raise TrainerError(
                f"the epoch of the fused trials failed: {' '.join(str(result).split())[:300]}"
            ) from result
        return result

    def _train_requested(self) -> None:
        """Train one epoch of every trial that asked for one, shape by shape."""
        requested, self._requests = self._requests, {}
        self._expected = set(requested)  # does not wait for a late trial until it asks again
        groups: dict[Any, list[int]] = {}
        for index, request in requested.items():
            groups.setdefault(request.shape, []).append(index)
        for shape, indices in groups.items():
            requests = [requested[index] for index in indices]
            try:
                stack = self._stack_of(requests[0].trainer, shape, len(indices))
                passed = stack.train([each.member for each in requests], requests[0].examples, requests[0].picked)
                self._results |= dict(zip(indices, passed, strict=True))
            except Exception as error:  # noqa: BLE001 - raised again in each trial
                self._results |= dict.fromkeys(indices, error)
        self.lock.notify_all()

    def _stack_of(self, trainer: NetTrainer, shape: Any, n_trials: int) -> Stack:
        """The program for ``n_trials``: of all places while there is one shape, else of the next power of two."""
        is_alone = all(known == shape for known, _ in self._stacks)
        size = self.size if is_alone else min(self.size, 1 << (n_trials - 1).bit_length())
        known = sorted(made for made_shape, made in self._stacks if made_shape == shape and made >= n_trials)
        key = shape, known[0] if known else size
        if key not in self._stacks:
            self._stacks[key] = make_stack(trainer, *key)
        self._stacks.move_to_end(key)
        while len(self._stacks) > MAX_TRAIN_FUNCTIONS:
            self._stacks.popitem(last=False)
        return self._stacks[key]


class _FusedSlot:
    """Place of one trial in a :class:`FusedTrainer`."""

    def __init__(self, fused_trainer: FusedTrainer, index: int) -> None:
        self.fused_trainer, self.index = fused_trainer, index
        self.lock = fused_trainer.lock

    def training(self, trainer: NetTrainer, network: Network, loss_function: LossFunction, shape: Any) -> FusedTraining:
        """Training of this trial, together with the others."""
        return FusedTraining(self, trainer, network, loss_function, shape)


class FusedTraining(StatelessTraining):
    """Training of one trial together with the others of its :class:`FusedTrainer`."""

    def __init__(
        self, place: _FusedSlot, trainer: NetTrainer, network: Network, loss_function: LossFunction, shape: Any
    ) -> None:
        super().__init__(network, loss_function, optimizer=shape.optimizer, batch_size=shape.batch_size)
        self._place, self._trainer, self._shape = place, trainer, shape
        self._newest: NDArray[np.float32] | None = None

    @property
    def n_traces(self) -> int:
        return self._place.fused_trainer.n_traces + self.network.n_traces

    def start(self, seed: int) -> None:
        super().start(seed)
        self._place.fused_trainer.join(self._place.index)

    def finish(self) -> None:
        self._place.fused_trainer.leave(self._place.index)

    def train(self, examples: Examples, epoch: Epoch) -> tuple[float, float]:
        picked = self._trainer.val
        request = _Request(self._shape, self.member(epoch), examples, picked, self._trainer)
        passed = self._place.fused_trainer.train(self._place.index, request)
        self.network.take(passed.arrays)
        self.assign_slots(passed.slots)
        self._newest = passed.predicted
        return passed.loss, passed.score

    def predict_val(self, stored: Any, picked: NDArray[np.int32]) -> NDArray[np.float32]:
        newest, self._newest = self._newest, None
        return super().predict_val(stored, picked) if newest is None else newest
