"""Population-based training on Ray Tune, with safe waiting and seeded draws.

As Ray has it, the last trial to come to an epoch starts the exchange. If that trial fails or ends instead, all others
wait for ever; and donors and new parameters are drawn from Python's global state. Here the exchange takes place as soon
as every trial that lives is paused, whatever became of the others.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Container, Sequence
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler
from ray.tune.schedulers.pbt import _PBTTrialState

from aifs_tune._util.seeds import exploit_seed
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.execution.pbt import Exploit, explore

QUANTILE = 0.25
"""Share of the population that takes over from as many of the best; Ray's default."""


class PbtScheduler(PopulationBasedTraining):  # type: ignore[misc]
    """The trials of one sweep, of which ``workers`` train at a time.

    Each trains to the epoch ``first``, is paused, and waits until all ``n_trials`` are there. Then
    ``apply_exploits`` gets the epoch and the exploits, and again after each ``search.perturb_epochs``. Trials that are
    further already are left alone. ``static_params`` cannot change in a running trial.
    """

    def __init__(
        self,
        spec: SweepSpec,
        apply_exploits: Callable[[int, Sequence[Exploit]], None],
        *,
        static_params: Container[str],
        n_trials: int,
        workers: int,
        first: int,
    ) -> None:
        super().__init__(
            time_attr="epoch",
            metric="objective",
            mode=spec.objective.mode,
            perturbation_interval=spec.search.perturb_epochs,
            custom_explore_fn=dict,  # Ray wants to see one; ours is _choose_exploit
            quantile_fraction=QUANTILE,
            log_config=False,
            synch=True,
        )
        self._spec, self._apply_exploits, self._static_params = spec, apply_exploits, static_params
        self._n_trials, self._workers = n_trials, workers
        self._next_perturbation_sync = first

    def has_room(self) -> bool:
        """Whether a worker is free."""
        return sum(trial.status in (Trial.PENDING, Trial.RUNNING) for trial in self._trial_state) < self._workers

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if not self._trial_state:
            # else Tune ends a worker for which no trial waits at this moment, as none does when all are paused
            tune_controller._actor_cache.increase_max(trial.placement_group_factory, self._workers)
        state = self._trial_state.setdefault(trial, _PBTTrialState(trial))
        if trial.config["n_stored"] == self._next_perturbation_sync:
            # it was to wait, but the sweep or its worker ended: it tells this epoch again, and so waits again
            trial.set_config({**trial.config, "n_stored": self._next_perturbation_sync - 1})
        state.last_train_time = trial.config["n_stored"]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        state, epoch = self._trial_state[trial], result["epoch"]
        if epoch != self._next_perturbation_sync:
            state.last_train_time = epoch
            return str(TrialScheduler.CONTINUE)
        self._save_trial_state(state, epoch, result, trial)
        trial.set_config({**trial.config, "n_stored": epoch})
        return str(TrialScheduler.PAUSE)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        if self._all_wait():
            self._exploit_and_explore()
        return super().choose_trial_to_run(tune_controller) if self.has_room() else None

    def _all_wait(self) -> bool:
        if len(self._trial_state) < self._n_trials:
            return False
        epochs = {trial: state.last_train_time for trial, state in self._trial_state.items() if not trial.is_finished()}
        behind = [trial for trial, epoch in epochs.items() if epoch <= self._next_perturbation_sync]
        return bool(behind) and all(
            trial.status == Trial.PAUSED and epochs[trial] == self._next_perturbation_sync for trial in behind
        )

    def _exploit_and_explore(self) -> None:
        epoch = self._next_perturbation_sync
        for state in self._trial_state.values():
            if state.last_train_time != epoch:
                state.last_score = None  # not of this epoch
        lower, upper = self._quantiles()
        exploits = [self._choose_exploit(trial, upper, epoch) for trial in lower]
        self._apply_exploits(epoch, exploits)
        checkpoints = {trial.config["number"]: trial.config["checkpoint"] for trial in upper}
        for trial, exploit in zip(lower, exploits, strict=True):
            taken = {"params": json.dumps(dict(exploit.params)), "n_inherited": epoch}
            taken["checkpoint"] = checkpoints[exploit.source]
            trial.set_config({**trial.config, **taken})
        self._num_perturbations += len(exploits)
        self._next_perturbation_sync += self._perturbation_interval

    def _choose_exploit(self, trial: Any, upper: Sequence[Any], epoch: int) -> Exploit:
        number = trial.config["number"]
        rng = random.Random(exploit_seed(self._spec.search.seed, number, epoch))
        source = rng.choice(upper)
        params = explore(self._spec, json.loads(source.config["params"]), static_params=self._static_params, rng=rng)
        return Exploit(number, source.config["number"], params)
