"""What a study says of its trials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from aifs_tune.advice import Recommendation
from aifs_tune.advising import recommend
from aifs_tune.data_url import below
from aifs_tune.errors import NotFoundError
from aifs_tune.held_session import translated_database_errors
from aifs_tune.ranking import front, ranked
from aifs_tune.record import FROM_OPTUNA, read_curve, read_progress, read_trial
from aifs_tune.sampling import Proposer
from aifs_tune.spec import SweepSpec
from aifs_tune.storage import Storage
from aifs_tune.trial import STATES, Checkpoint, Measurement, State, Trial, TrialProgress

if TYPE_CHECKING:
    import pandas

REQUESTED = "aifs_tune:requested"
DATA = "aifs_tune:data"
FACT = "aifs_tune:fact:"
NOISE = "noise"
"""Fact of a study: the noise floor that counts for it, ``sd``, ``freedom`` and the ``study`` that measured it."""


class StudyReading:
    """All trials of one question, in a storage, to look at; see :class:`~aifs_tune.study.Study`."""

    def __init__(self, storage: Storage, spec: SweepSpec, study: optuna.Study) -> None:
        self.storage = storage
        self.spec = spec
        self._optuna = study
        self._finished: dict[int, tuple[optuna.trial.FrozenTrial, Trial]] = {}

    @property
    def name(self) -> str:
        return self._optuna.study_name

    @property
    def id(self) -> int:
        """Its number in the storage."""
        return int(self._optuna._study_id)

    @property
    def trainer(self) -> str | None:
        """The name of its trainer; None for an instrument."""
        return None if self.spec.trainer is None else self.spec.trainer.name

    def trial(self, trial: Trial | int) -> Trial:
        """The trial as it is stored now; :class:`NotFoundError` if there is none of that number."""
        number = trial.number if isinstance(trial, Trial) else trial
        with translated_database_errors(self.storage.shown):
            return self._read_now(self.storage.optuna.get_trial(self._trial_id(number)))

    def all_trials(self) -> list[Trial]:
        """All trials in the order of their numbers."""
        return [self._read(frozen) for frozen in self._frozen()]

    def curve(self, trial: Trial | int) -> list[Measurement]:
        """What the trial reported, epoch by epoch."""
        number = trial.number if isinstance(trial, Trial) else trial
        return read_curve(self.storage.optuna.get_trial(self._trial_id(number)))

    def checkpoint(self, trial: Trial | int) -> Checkpoint | None:
        """The newest checkpoint of a trial that a report told of, or that of the trial it has taken over since."""
        current = self.trial(trial)
        written = [m for m in self.curve(current) if m.checkpoint is not None]
        if current.schedule:
            change = current.schedule[-1]
            taken = [m for m in self.curve(change.source) if m.epoch == change.epoch - 1 and m.checkpoint is not None]
            written = taken + [m for m in written if m.epoch >= change.epoch]
        return Checkpoint(written[-1].epoch, written[-1].checkpoint or {}) if written else None

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials as a tidy table; columns and dtypes in :mod:`aifs_tune.table`."""
        from aifs_tune.table import trials_table

        return trials_table(self.all_trials(), list(self.spec.space.root))

    @property
    def best(self) -> Trial:
        """The complete trial with the best value, of the first objective where there are several, by
        :mod:`aifs_tune.ranking`; :class:`NotFoundError` while there is none."""
        return self.best_trials(1)[0]

    def find_best(self) -> Trial | None:
        """:attr:`best`; None while there is none."""
        return next(iter(self._ranked()), None)

    @property
    def front(self) -> list[Trial]:
        """The complete trials that no other one is better than in all objectives, the best in the first objective
        first; of one objective those with the best value."""
        return front(self._ranked(), self.spec)

    def best_trials(self, top: int) -> list[Trial]:
        """Up to ``top`` complete trials, the best in the first objective first; earlier trials before later ones of
        equal value."""
        found = self._ranked()
        if not found:
            counts = ", ".join(f"{n} {state}" for state, n in self.counts().items() if n) or "none"
            within = f" within {', '.join(map(str, self.spec.limits))}" if self.spec.limits else ""
            raise NotFoundError(f"study {self.name!r} has no complete trial{within} yet; its trials: {counts}")
        return found[:top]

    def _ranked(self) -> list[Trial]:
        return ranked(self.all_trials(), self.spec)

    def recommendation(self) -> Recommendation:
        """Which configuration to take, and whether measuring on is worth it."""
        with translated_database_errors(self.storage.shown):
            return recommend(self.spec, self._optuna, self.all_trials(), self.noise_floor)

    def posterior_means(self) -> dict[int, float]:
        """By the number of each trial that ended well or was stopped early, what the sampler ``aifs`` expects it to be
        worth at the last epoch: larger is better, in no unit. Empty while too little is known, or with several
        objectives."""
        with translated_database_errors(self.storage.shown):
            return {} if self.spec.trade_off else Proposer(self.spec).posterior_means(self._optuna)

    def transfer_weights(self) -> dict[str, float]:
        """By each earlier study of its warm start, how far the results bear it out, about 0 to 1: 0 where they do
        not and it is dropped. Empty without a warm start and while too little is known."""
        with translated_database_errors(self.storage.shown):
            return Proposer(self.spec).transfer_weights(self._optuna)

    @property
    def noise_floor(self) -> tuple[float, int] | None:
        """The standard deviation of one measurement that ``aifs-tune noise`` found for this sweep, and its degrees of
        freedom; None where its last sweep knew of none."""
        told = self.fact(NOISE)
        return None if told is None else (float(told["sd"]), int(told["freedom"]))

    def trial_progress(self) -> list[TrialProgress]:
        """Of every trial, in the order of their numbers, how far it is."""
        now = self.storage.clock()
        return [read_progress(frozen, now) for frozen in self._frozen()]

    def objective_curves(self) -> dict[int, dict[int, float]]:
        """The first objective by epoch of each trial, by its number; of many trials sooner than their :meth:`curve`."""
        return {frozen.number: frozen.intermediate_values for frozen in self._frozen()}

    def importance(self) -> dict[str, dict[str, float]]:
        """By metric and parameter, what part of it depends on that; see :mod:`aifs_tune.importance`."""
        from aifs_tune.importance import importance_in

        with translated_database_errors(self.storage.shown):
            return importance_in(self._optuna, self.spec)

    def counts(self) -> dict[State, int]:
        """How many trials are in each state."""
        states = [FROM_OPTUNA[frozen.state] for frozen in self._frozen()]
        return {state: states.count(state) for state in STATES}

    @property
    def n_requested(self) -> int:
        """How many finished trials the sweeps so far were asked for."""
        return int(self._optuna.user_attrs.get(REQUESTED, 0))

    @property
    def fingerprint(self) -> str | None:
        """Of the data that the study is about; None before its first sweep, and where there are none."""
        found: str | None = self._optuna.user_attrs.get(DATA)
        return found

    def fact(self, name: str) -> Any:
        """The JSON value that was recorded under this name; None if none was."""
        return self._optuna.user_attrs.get(f"{FACT}{name}")

    @property
    def artifacts(self) -> Path | str:
        """The folder that holds checkpoints and weights of this study's trials, or its URL in an object store; it may
        not exist."""
        return below(self.storage.artifacts, f"study-{self.id}")

    def _frozen(self) -> list[optuna.trial.FrozenTrial]:
        with translated_database_errors(self.storage.shown):
            return self._optuna.get_trials(deepcopy=False)

    def _read(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        """As :func:`read_trial`; what is finished, and comes from the same memory, is read once."""
        found = self._finished.get(frozen.number)
        if found is not None and found[0] is frozen:
            return found[1]
        trial = self._read_now(frozen)
        if trial.is_finished:
            self._finished[frozen.number] = frozen, trial
        return trial

    def _read_now(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        return read_trial(frozen, self.spec.objectives, self.storage.clock())

    def _trial_id(self, number: int) -> int:
        try:
            return self.storage.optuna.get_trial_id_from_study_id_trial_number(self._optuna._study_id, number)
        except KeyError:
            raise NotFoundError(f"study {self.name!r} has no trial {number!r}") from None
