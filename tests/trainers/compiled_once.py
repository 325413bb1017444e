"""The contract of a trainer that compiles networks."""

from __future__ import annotations

from functools import cache

from aifs_tune.testing import TrainerContract
from aifs_tune.trainers.protocol import Trainer


class CompiledOnce(TrainerContract):
    """Every test begins with the same trainer, which a reset has to make as new, because compiling takes longer than
    most tests; the second one that a test makes is new, as in another process."""

    has_first = False

    def make_new(self) -> Trainer:
        """With nothing compiled."""
        raise NotImplementedError

    def make(self) -> Trainer:
        if self.has_first:
            return self.make_new()
        self.has_first = True
        return first_of(type(self))


@cache
def first_of(contract: type[CompiledOnce]) -> Trainer:
    """The trainer that the tests of a contract share."""
    return contract().make_new()
