"""The best configuration of a bundle, trained again here: does it reach the recorded score within the noise?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aifs_tune.artifacts.data_files import changes
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, DamagedError, DataError, RequestError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.confirm import SweepOptions
from aifs_tune.execution.data import located
from aifs_tune.execution.sweep import changed
from aifs_tune.publishing.bundle.export import BEST
from aifs_tune.publishing.bundle.load import Bundle, check_trainer_here, needs_data, open_bundle, with_data_at
from aifs_tune.publishing.bundle.noise import RecordedNoise
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study, study_names
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.trainers.factory import find_trainer_entry

CONFIDENCE = 0.95
TOLERANCE = 1e-6
"""Two scores are the same if they differ by less, or by less of the larger one."""


@dataclass(frozen=True)
class ReproductionVerdict:
    """How a configuration did when it was trained again.

    ``same_seed`` is the score with the seed of the recorded trial, None if that training failed; ``fresh`` those of
    other seeds that ended well. ``noise`` is the standard deviation of a single training: the recorded one, else that
    of ``fresh``; None where there is neither.
    """

    metric: str
    recorded: float
    same_seed: float | None
    fresh: Sequence[float]
    noise: RecordedNoise | None

    @property
    def is_exact(self) -> bool:
        """Whether the same seed gave the same score."""
        return self.same_seed is not None and math.isclose(
            self.same_seed, self.recorded, rel_tol=TOLERANCE, abs_tol=TOLERANCE
        )

    @property
    def mean(self) -> float | None:
        """Of the fresh seeds."""
        return float(np.mean(self.fresh)) if self.fresh else None

    def limit(self, n: int) -> float | None:
        """How far the mean of ``n`` trainings lies from one other, as a rule: the 95 % prediction interval of Student's
        t with the degrees of freedom of the noise, t sd sqrt(1 + 1 / n); None without noise."""
        if self.noise is None:
            return None
        from scipy.stats import t

        quantile = float(t.ppf((1 + CONFIDENCE) / 2, self.noise.n - 1))
        return quantile * self.noise.sd * math.sqrt(1 + 1 / n) + TOLERANCE * max(1.0, abs(self.recorded))

    @property
    def is_reproduced(self) -> bool:
        """Whether the same seed gave the same score, or one within the noise, and the fresh ones do on the average."""
        if self.same_seed is None:
            return False
        return (self.is_exact or self._within(self.same_seed, 1)) and (
            self.mean is None or self._within(self.mean, len(self.fresh))
        )

    def _within(self, value: float, n: int) -> bool:
        limit = self.limit(n)
        return limit is not None and abs(value - self.recorded) <= limit

    @property
    def text(self) -> str:
        """In words, a line for each thing that was compared."""
        lines = [f"recorded: {self.metric} {self.recorded:.6g}", f"the same seed: {self._same_text()}"]
        if self.mean is not None:
            limit = self.limit(len(self.fresh))
            each = ", ".join(f"{value:.4g}" for value in self.fresh)
            seeds = "1 fresh seed" if len(self.fresh) == 1 else f"{len(self.fresh)} fresh seeds"
            lines.append(f"{seeds}: mean {self.mean:.4g} ({each}), {self._away(self.mean, limit)}")
        if self.noise is not None:
            lines.append(f"noise: {self.noise.sd:.2g} (standard deviation, {self.noise.n} trainings: {self.noise.of})")
        lines.append(self._conclusion())
        return "\n".join(lines)

    def _same_text(self) -> str:
        if self.same_seed is None:
            return "the training failed"
        if self.is_exact:
            return f"{self.same_seed:.6g}, the same score"
        return f"{self.same_seed:.6g}, {self._away(self.same_seed, self.limit(1))}"

    def _away(self, value: float, limit: float | None) -> str:
        off = f"{value - self.recorded:+.2g} from the recorded one"
        if limit is None:
            return f"{off}; nothing says how much is noise"
        return f"{off}, {'within' if abs(value - self.recorded) <= limit else 'OUTSIDE of'} {limit:.2g}"

    def _conclusion(self) -> str:
        if self.is_reproduced:
            return "REPRODUCED" + (": to the last digit" if self.is_exact else ": within the noise")
        if self.same_seed is None:
            return "NOT REPRODUCED: the training failed"
        if self.is_exact:
            return (
                "NOT REPRODUCED: only with its own seed. Fresh seeds give another score: the recorded one was the best "
                "of many trials, and is partly the luck of its seed"
            )
        if self.noise is None:
            return "NOT REPRODUCED: another score, and no noise to judge it by; allowed: --seeds 2 or more measure it"
        return "NOT REPRODUCED: outside of the noise"

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "metric": self.metric,
            "recorded": self.recorded,
            "same_seed": self.same_seed,
            "is_exact": self.is_exact,
            "fresh": list(self.fresh),
            "mean": self.mean,
            "noise": None if self.noise is None else self.noise.to_json(),
            "limit": None if not self.fresh else self.limit(len(self.fresh)),
            "is_reproduced": self.is_reproduced,
            "text": self.text,
        }


def noise_of_fresh(fresh: Sequence[float]) -> RecordedNoise | None:
    """What fresh seeds alone say of the noise; None for fewer than two."""
    if len(fresh) < 2:
        return None
    return RecordedNoise(float(np.std(fresh, ddof=1)), len(fresh), "these fresh seeds, as none was recorded")


REPRODUCES = "reproduces"
"""Fact of a study that trains the best configuration of a bundle again: what of which bundle."""
_SEED_OFFSET = 2_000_003
"""Added to the seed of a study, so that its reproduction repeats none of its trainings, nor those of a confirmation."""
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Reproduction:
    """The ``verdict``, the study that holds the trainings, and what differs in the data, if they were allowed to."""

    verdict: ReproductionVerdict
    study: StudyRecord
    changed_data: str | None = None

    @property
    def is_reproduced(self) -> bool:
        """See :class:`~aifs_tune.publishing.bundle.reproduce.Verdict`."""
        return self.verdict.is_reproduced

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {"study": self.study.name, **self.verdict.to_json(), "changed_data": self.changed_data}


def reproduce(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    seeds: int = 3,
    allow_changed_data: bool = False,
    storage: str | None = None,
    options: SweepOptions | None = None,
) -> Reproduction:
    """Train the best configuration of the bundle in ``folder`` with its own seed and with ``seeds`` fresh ones, and
    compare. The trainings are a study, ``NAME-reproduce``; what was interrupted goes on where it was.

    ``data`` is where the data lie here, as for ``run --data``; they must be those that were recorded, unless
    ``allow_changed_data``.

    Raises
    ------
    NotFoundError
        If it is no bundle; DamagedError if a file is not what the metadata say, or its best configuration not one.
    RequestError
        If the trainer is not here, the data are others, or the configuration cannot be trained again.
    """
    if not 0 <= seeds <= MAX_SEEDS:
        raise RequestError(f"--seeds: {seeds} is not allowed; allowed: a whole number from 0 to {MAX_SEEDS}")
    bundle = open_bundle(folder)
    spec = with_data_at(bundle.best, data)
    free = [name for name, parameter in spec.space.items() if parameter.type != "fixed"]
    if free:
        raise DamagedError(f"{Path(folder) / BEST}: {', '.join(free)} can vary; allowed: one configuration, all fixed")
    if spec.trainer is None:
        raise RequestError(f"study {bundle.name!r} is of an instrument: what it measured cannot be run again here")
    check_trainer_here(spec)
    if needs_data(spec):
        name = bundle.results["data"]["name"]
        raise DataError(f"the data of study {bundle.name!r}, {name}, are not part of the bundle; give --data PATH")
    told = options or SweepOptions()
    difference = _difference(bundle, spec, told)
    if difference is not None and not allow_changed_data:
        raise ConflictError(f"{difference}\nTo train on them all the same: --allow-changed-data")
    opened = Storage(storage, create=True)
    with opened.writing():
        study = _study(opened, bundle, located(spec), seeds, difference)
    told.finish(study)
    return Reproduction(_verdict(bundle, study, seeds), study, difference)


def _difference(bundle: Bundle, spec: SweepSpec, options: SweepOptions) -> str | None:
    """What differs between the data here and those that were recorded; None if they are the same, or none are."""
    trainer_entry = find_trainer_entry(spec)
    if trainer_entry is None or bundle.fingerprint is None:
        return None
    from aifs_tune.data.sources import prepare

    here = located(spec).data
    assert here is not None
    callback = options.callback or NullCallback()
    prepared = prepare(here, trainer_entry.kind, strict=False, tell=callback.on_status, progress=callback.on_progress)
    if prepared.fingerprint == bundle.fingerprint:
        return None
    before = bundle.files()
    what = "which files changed is not known" if before is None else str(changes(before, prepared.files.to_frame()))
    return (
        f"the data are others than those of study {bundle.name!r} (fingerprint {prepared.fingerprint[:12]}, recorded "
        f"{bundle.fingerprint[:12]}): {what}"
    )


def _study(storage: Storage, bundle: Bundle, spec: SweepSpec, seeds: int, difference: str | None) -> StudyRecord:
    """The study of these trainings, made or gone on with; another number behind the name is another reproduction."""
    wanted = {"bundle": bundle.sha256, "seeds": seeds, "changed_data": difference}
    base = f"{split_name(bundle.name)[1]}-reproduce"
    seed = (spec.search.seed + _SEED_OFFSET) % 2**32
    sweep_spec = changed(spec, {"trials": seeds + 1, "seed": seed})
    name = next(
        each
        for each in (base, *(f"{base}-{n}" for n in range(2, len(study_names(storage)) + 3)))
        if _is_free(storage, each, wanted, sweep_spec)
    )
    there = find_study(storage, name)
    if there is not None:
        return there

    def create() -> StudyRecord:
        study = start_study(storage, sweep_spec, name, with_default=False)
        study.record_fact(REPRODUCES, wanted)
        params = sweep_spec.space.default_params()
        assert params is not None  # all of its parameters are fixed
        study.enqueue(params, seed=bundle.seed)
        for _ in range(seeds):
            study.enqueue(params)
        study.request_trials(seeds + 1)
        return study

    return storage.transact(create, name)


def _is_free(storage: Storage, name: str, wanted: Mapping[str, Any], sweep_spec: SweepSpec) -> bool:
    if name not in study_names(storage):
        return True
    there = find_study(storage, name)
    return there is not None and there.fact(REPRODUCES) == wanted and there.spec.data == sweep_spec.data


def _verdict(bundle: Bundle, study: StudyRecord, seeds: int) -> ReproductionVerdict:
    trials = study.all_trials()
    scores = [trial.value if trial.state == "complete" else None for trial in trials[: seeds + 1]]
    fresh = [value for value in scores[1:] if value is not None]
    objective = bundle.results["objective"]
    return ReproductionVerdict(
        str(objective["metric"]), bundle.value, scores[0], fresh, bundle.noise or noise_of_fresh(fresh)
    )
