"""How a study is written: each step whole, by who leads it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, TypeVar

import optuna

from aifs_tune.errors import StorageBusyError
from aifs_tune.spec import SweepSpec
from aifs_tune.storage import Storage
from aifs_tune.study_reading import StudyReading

LEADER = "aifs_tune:leader"
P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="StudyWriting")


def transactional(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Make all that a method of a study reads and writes one transaction; see :meth:`StudyWriting.transact`."""

    @wraps(method)
    def transacted(study: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return study.transact(lambda: method(study, *args, **kwargs))

    return transacted


class StudyWriting(StudyReading):
    """All trials of one question, in a storage, to be written to; see :class:`~aifs_tune.study.Study`."""

    def __init__(self, storage: Storage, spec: SweepSpec, study: optuna.Study) -> None:
        super().__init__(storage, spec, study)
        self._leader: str | None = None
        self._n_acquired = 0

    def transact(self, body: Callable[[], T]) -> T:
        """As :meth:`Storage.transact`, for this study.

        Raises
        ------
        StorageBusyError
            If this process led the study and another one has taken the lead since.
        """
        return self.storage.transact(partial(self._led, body), self.name)

    def _led(self, body: Callable[[], T]) -> T:
        if self._leader is not None and self._n_acquired != self.storage.n_acquired:
            if self._optuna.user_attrs.get(LEADER) != self._leader:
                raise StorageBusyError(
                    f"study {self.name!r} in {self.storage.shown} was taken over by another sweep while this one was "
                    "away or stopped; what this one had in flight is not stored"
                )
            self._n_acquired = self.storage.n_acquired
        return body()
