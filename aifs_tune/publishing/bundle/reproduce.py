"""Reproduction of a bundle: training of its best configuration again, and comparison of the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aifs_tune.artifacts.data_files import changes
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.config.trusted_code import trust
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
TOLERANCE = {"mixed_bfloat16": 2.0**-8}
"""Largest relative difference of two scores that count as the same, by the precision in which a model was trained."""
DEFAULT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ReproductionVerdict:
    """Scores of a configuration that was trained again, and whether they reproduce the recorded score.

    ``same_seed`` is the score with the seed of the recorded trial, None if that training run failed. ``fresh`` has the
    scores of the other seeds whose run was successful. ``noise`` is the recorded noise, else the noise of ``fresh``,
    else None. ``tolerance`` is the largest relative difference of two scores that count as the same.
    """

    metric: str
    recorded: float
    same_seed: float | None
    fresh: Sequence[float]
    noise: RecordedNoise | None
    tolerance: float = DEFAULT_TOLERANCE

    @property
    def is_exact(self) -> bool:
        """Whether the recorded seed gave the recorded score."""
        return self.same_seed is not None and self._is_same(self.same_seed, self.recorded)

    @property
    def is_without_chance(self) -> bool:
        """Whether seeds change nothing: each fresh seed gave exactly the score of the recorded one."""
        return bool(self.fresh) and all(value == self.same_seed for value in self.fresh)

    def _is_same(self, one: float, other: float) -> bool:
        return math.isclose(one, other, rel_tol=self.tolerance)

    @property
    def mean(self) -> float | None:
        """Mean score of the fresh seeds; None without any."""
        return float(np.mean(self.fresh)) if self.fresh else None

    def limit(self, n: int) -> float | None:
        """Largest difference between the mean of ``n`` training runs and one other run that is within the noise.

        It is the half width of the 95 % prediction interval, t sd sqrt(1 + 1 / n), of Student's t with the degrees of
        freedom of the noise. None without noise.
        """
        if self.noise is None:
            return None
        from scipy.stats import t

        quantile = float(t.ppf((1 + CONFIDENCE) / 2, self.noise.n - 1))
        return quantile * self.noise.sd * math.sqrt(1 + 1 / n) + self.tolerance * abs(self.recorded)

    @property
    def is_reproduced(self) -> bool:
        """Whether the score of the recorded seed and the mean of the fresh seeds are within the noise."""
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
        """The verdict in words, one line for each comparison."""
        lines = [f"recorded: {self.metric} {self.recorded:.6g}", f"same seed: {self._same_text()}"]
        if self.mean is not None:
            limit = self.limit(len(self.fresh))
            each = ", ".join(f"{value:.4g}" for value in self.fresh)
            seeds = "1 fresh seed" if len(self.fresh) == 1 else f"{len(self.fresh)} fresh seeds"
            lines.append(f"{seeds}: mean {self.mean:.4g} ({each}), {self._difference_text(self.mean, limit)}")
        if self.is_without_chance:
            lines.append(
                "Seeds change nothing here: all trainings gave the same score, so they say nothing about chance. Other "
                "divisions of the data do: aifs-tune import, then aifs-tune confirm --folds 5"
            )
        if self.noise is not None:
            lines.append(
                f"noise: {self.noise.sd:.2g} (standard deviation, {self.noise.n} training runs: {self.noise.of})"
            )
        lines.append(self._conclusion())
        return "\n".join(lines)

    def _same_text(self) -> str:
        if self.same_seed is None:
            return "the training run failed"
        if self.is_exact:
            return f"{self.same_seed:.6g}, the same score"
        return f"{self.same_seed:.6g}, {self._difference_text(self.same_seed, self.limit(1))}"

    def _difference_text(self, value: float, limit: float | None) -> str:
        difference = f"{value - self.recorded:+.2g} from the recorded score"
        if limit is None:
            return f"{difference}, the noise is unknown"
        relation = "within" if abs(value - self.recorded) <= limit else "OUTSIDE"
        return f"{difference}, {relation} the noise limit of {limit:.2g}"

    def _conclusion(self) -> str:
        if self.is_reproduced:
            return "REPRODUCED: " + ("the same score" if self.is_exact else "within the noise")
        if self.same_seed is None:
            return "NOT REPRODUCED: the training run failed"
        if self.is_exact:
            return (
                "NOT REPRODUCED: only the recorded seed gives the recorded score. Fresh seeds give another score. The "
                "recorded score was the best of many trials, and is partly due to chance"
            )
        if self.noise is None:
            return "NOT REPRODUCED: another score, and the noise is unknown. Measure the noise with --seeds 2 or more"
        return "NOT REPRODUCED: outside the noise"

    def to_json(self) -> dict[str, Any]:
        """A JSON object, as ``aifs-tune reproduce --json`` prints it."""
        return {
            "metric": self.metric,
            "recorded": self.recorded,
            "same_seed": self.same_seed,
            "is_exact": self.is_exact,
            "is_without_chance": self.is_without_chance,
            "fresh": list(self.fresh),
            "mean": self.mean,
            "noise": None if self.noise is None else self.noise.to_json(),
            "limit": None if not self.fresh else self.limit(len(self.fresh)),
            "is_reproduced": self.is_reproduced,
            "text": self.text,
        }


def noise_of_fresh(fresh: Sequence[float]) -> RecordedNoise | None:
    """Noise of the scores of fresh seeds; None for fewer than two."""
    if len(fresh) < 2:
        return None
    return RecordedNoise(float(np.std(fresh, ddof=1)), len(fresh), "these fresh seeds, because no noise was recorded")


REPRODUCES = "reproduces"
"""Fact of a reproduction study: the bundle, the number of seeds and the difference of the data."""
_SEED_OFFSET = 2_000_003
"""Offset of the seed of a reproduction, so that it repeats no run of the study or of a confirmation."""
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Reproduction:
    """Result of :func:`reproduce`: verdict, study of the training runs, and difference of the data, if any."""

    verdict: ReproductionVerdict
    study: StudyRecord
    changed_data: str | None = None

    @property
    def is_reproduced(self) -> bool:
        """See :attr:`ReproductionVerdict.is_reproduced`."""
        return self.verdict.is_reproduced

    def to_json(self) -> dict[str, Any]:
        """A JSON object, as ``aifs-tune reproduce --json`` prints it."""
        return {"study": self.study.name, **self.verdict.to_json(), "changed_data": self.changed_data}


def reproduce(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    seeds: int = 3,
    allow_changed_data: bool = False,
    storage: str | None = None,
    options: SweepOptions | None = None,
    trust_code: Sequence[str] = (),
) -> Reproduction:
    """Train the best configuration of a bundle again, and compare the scores.

    The configuration is trained with its recorded seed and with fresh seeds. The training runs are a study,
    ``NAME-reproduce``. A second call continues an interrupted reproduction, and trains nothing twice.

    Parameters
    ----------
    folder
        The folder of the bundle.
    data : str or Path, optional
        Folder, file or URL of the data, as for ``run --data``. Default: the location in the sweep file.
    seeds : int
        Number of fresh seeds, 0 to 1000. Default: 3.
    allow_changed_data : bool
        Whether to train although the data differ from the recorded data. Default: False.
    storage : str, optional
        URL of the storage of the training runs. Default: the storage that commands use without ``--storage``.
    options : SweepOptions, optional
        Workers, time limit, Ray cluster and callback of the training runs. Default: those of a sweep.
    trust_code : sequence of str, optional
        Functions, as ``module:name``, that the bundle may run as its trainer. Default: none.

    Returns
    -------
    Reproduction
        Its ``verdict`` has the scores, and ``is_reproduced`` says whether they are within the noise.

    Raises
    ------
    NotFoundError
        If the folder is not a bundle.
    DamagedError
        If a file is not the one that the metadata describe, or if ``best.yaml`` is not one configuration.
    UntrustedCodeError
        If the trainer is a function that nobody has allowed here.
    RequestError
        If the trainer cannot be imported here, or if the study is of an instrument.
    DataError
        If the data are not here.
    ConflictError
        If the data differ from the recorded data, unless ``allow_changed_data`` is set.

    Examples
    --------
    >>> found = aifs_tune.reproduce("galaxies-bundle", data="survey/", seeds=3)  # doctest: +SKIP
    >>> found.is_reproduced, found.verdict.mean  # doctest: +SKIP

    Measurements of an instrument cannot be repeated:

    >>> study = aifs_tune.open_study("oven", space={"heat": {"type": "float", "low": 20, "high": 90, "unit": "K"}})
    >>> trial = study.tell(study.ask(), 0.5)
    >>> made = aifs_tune.export("oven", "oven-bundle")
    >>> aifs_tune.reproduce("oven-bundle")
    Traceback (most recent call last):
    ...
    aifs_tune.errors.RequestError: study 'oven' is of an instrument, so its measurements cannot be repeated here
    """
    if not 0 <= seeds <= MAX_SEEDS:
        raise RequestError(f"--seeds: {seeds} is not allowed; allowed: a whole number from 0 to {MAX_SEEDS}")
    trust(trust_code)
    bundle = open_bundle(folder)
    spec = with_data_at(bundle.best, data)
    free = [name for name, parameter in spec.space.items() if parameter.type != "fixed"]
    if free:
        raise DamagedError(f"{Path(folder) / BEST}: {', '.join(free)} can vary; allowed: one configuration, all fixed")
    if spec.trainer is None:
        raise RequestError(f"study {bundle.name!r} is of an instrument, so its measurements cannot be repeated here")
    check_trainer_here(spec)
    if needs_data(spec):
        name = bundle.results["data"]["name"]
        raise DataError(f"the bundle does not contain the data of study {bundle.name!r} ({name}); give --data PATH")
    options = options or SweepOptions()
    difference = _difference(bundle, spec, options)
    if difference is not None and not allow_changed_data:
        raise ConflictError(f"{difference}\nUse --allow-changed-data to train on them anyway")
    opened = Storage(storage, create=True)
    with opened.writing():
        study = _study(opened, bundle, located(spec), seeds, difference)
    options.finish(study)
    return Reproduction(_verdict(bundle, study, seeds), study, difference)


def _difference(bundle: Bundle, spec: SweepSpec, options: SweepOptions) -> str | None:
    """Difference between the data here and the recorded data; None if they are the same, or were not recorded."""
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
    what = "the changed files are unknown" if before is None else str(changes(before, prepared.files.to_frame()))
    return (
        f"the data differ from those of study {bundle.name!r} (fingerprint {prepared.fingerprint[:12]}, recorded "
        f"{bundle.fingerprint[:12]}): {what}"
    )


def _study(storage: Storage, bundle: Bundle, spec: SweepSpec, seeds: int, difference: str | None) -> StudyRecord:
    """The study of these training runs, new or to be continued; other reproductions have another number in the name."""
    wanted = {"bundle": bundle.sha256, "seeds": seeds, "changed_data": difference}
    base = f"{split_name(bundle.name)[1]}-reproduce"
    seed = (spec.search.seed + _SEED_OFFSET) % 2**32
    sweep_spec = changed(spec, {"trials": seeds + 1, "seed": seed})
    name = next(
        each
        for each in (base, *(f"{base}-{n}" for n in range(2, len(study_names(storage)) + 3)))
        if _is_free(storage, each, wanted, sweep_spec)
    )
    existing = find_study(storage, name)
    if existing is not None:
        return existing

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
    existing = find_study(storage, name)
    return existing is not None and existing.fact(REPRODUCES) == wanted and existing.spec.data == sweep_spec.data


def _verdict(bundle: Bundle, study: StudyRecord, seeds: int) -> ReproductionVerdict:
    trials = study.all_trials()
    scores = [trial.value if trial.state == "complete" else None for trial in trials[: seeds + 1]]
    fresh = [value for value in scores[1:] if value is not None]
    objective = bundle.results["objective"]
    return ReproductionVerdict(
        str(objective["metric"]),
        bundle.value,
        scores[0],
        fresh,
        bundle.noise or noise_of_fresh(fresh),
        TOLERANCE.get(str(bundle.results.get("precision")), DEFAULT_TOLERANCE),
    )
