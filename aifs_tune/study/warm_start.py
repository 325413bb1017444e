"""Warm start: a study that begins with the best configurations and the results of earlier studies.

Everything that is taken over is stored in the study when it starts; the earlier studies are not read later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest

from aifs_tune._util.scalars import Scalar
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.samplers.proposer import Proposer
from aifs_tune.samplers.search_space import distance
from aifs_tune.samplers.transfer import SourceTask, standardised
from aifs_tune.space.search_space import Space
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.study import Study

WARM_START = "warm_start"
"""Fact of a study: what it took over from which earlier studies."""
MAX_FIRST = 3
"""Configurations of all earlier studies together that are tried again."""
MAX_TRIALS = 80
"""Trials of one earlier study that the sampler learns from: the best, and a sample of the others."""
MIN_DISTANCE = 0.1
"""Root mean square distance that configurations to try again must have, in units of the parameter ranges."""


@dataclass(frozen=True)
class WarmStartRecord:
    """What was taken over from one earlier ``study``.

    ``n_trials`` results went to the sampler, and the new trials ``first`` have its best configurations. ``n_outside``
    trials were left out, because the new space does not allow one of their values. ``fingerprint`` is that of its
    data; ``same_data`` is None if one of the studies has no data.
    """

    study: str
    n_trials: int
    n_outside: int
    first: tuple[int, ...]
    fingerprint: str | None
    same_data: bool | None
    epochs: int
    objective: str

    @property
    def text(self) -> str:
        """The record as one line of text."""
        data = {True: " (same data)", False: " (other data)", None: ""}[self.same_data]
        numbers = ", ".join(map(str, self.first))
        tried = f"trials {numbers} try its best configurations" if self.first else "its best configurations are not new"
        learnt = f"{self.n_trials} of its results" if self.n_trials else "none of its results"
        outside = f"; {self.n_outside} of its trials are outside the search space" if self.n_outside else ""
        return f"warm start from {self.study}{data}: {tried}; the sampler learns from {learnt}{outside}"


def check_source(spec: SweepSpec, earlier: StudyRecord) -> None:
    """Check that a study with ``spec`` can learn from an ``earlier`` study.

    Raises
    ------
    RequestError
        If one of the two has several objectives, or no parameter is searched in both.
    NotFoundError
        If the earlier study has no complete trial.
    """
    what = f"warm start from study {earlier.name!r}"
    for asked, whose in ((spec, "this sweep"), (earlier.spec, "that study")):
        if asked.trade_off:
            raise RequestError(f"{what}: {whose} has several objectives; allowed: one objective in both")
    if not common_parameters(spec.space, earlier.spec.space):
        mine, theirs = (", ".join(space.root) for space in (spec.space, earlier.spec.space))
        raise RequestError(f"{what}: no parameter is searched in both; here {mine}, there {theirs}")
    if earlier.find_best() is None:
        raise NotFoundError(f"{what}: it has no complete trial; allowed: a study with results")


def common_parameters(here: Space, there: Space) -> list[str]:
    """The parameters that both spaces search and that have a value in common."""
    found = []
    for name, parameter in here.items():
        if parameter.type == "fixed" or name not in there or there[name].type == "fixed":
            continue
        other = there[name]
        if "choice" in (parameter.type, other.type):
            overlaps = any(parameter.convert(value) is not None for value in getattr(other, "choices", other.extremes))
        else:
            (low, high), (low_there, high_there) = _ends(parameter.extremes), _ends(other.extremes)
            overlaps = max(low, low_there) <= min(high, high_there)
        if overlaps:
            found.append(name)
    return found


def _ends(extremes: Sequence[Scalar]) -> tuple[float, float]:
    numbers = [float(value) for value in extremes]
    return min(numbers), max(numbers)


def warm_start(study: StudyRecord, *sources: StudyRecord, max_first: int = MAX_FIRST) -> list[WarmStartRecord]:
    """Start ``study`` with the best configurations and the results of ``sources``, in one transaction.

    Their best configurations that differ, at most ``max_first`` in all, are tried before any new proposal; the sampler
    ``aifs`` tries one of its own initial points between two of them. The sampler also learns from their results, see
    :mod:`aifs_tune.samplers.transfer`. Parameters that an earlier study did not have take their default; parameters
    that ``study`` does not have are left out. A second call with the same sources changes nothing.

    Raises
    ------
    RequestError
        As :func:`check_source`, or if a source is ``study`` itself, or if ``study`` allows none of its configurations.
    ConflictError
        If the study has warm started from other studies.
    """
    if not sources:
        return []
    if has_warm_started(study, [earlier.name for earlier in sources]):
        return []
    for earlier in sources:
        if earlier.name == study.name and earlier.storage.url == study.storage.url:
            raise RequestError(f"study {study.name!r} cannot warm start from itself; allowed: another study")
        check_source(study.spec, earlier)
    read = [_read(study, earlier) for earlier in sources]
    for earlier, (source_task, _, best, reason) in zip(sources, read, strict=True):
        if not best and not source_task.params:
            raise RequestError(
                f"study {earlier.name!r} has no configuration that study {study.name!r} allows; {reason}"
            )
    return study.transact(lambda: _store(study, sources, read, max_first))


def has_warm_started(study: StudyRecord, names: Sequence[str]) -> bool:
    """Whether ``study`` has warm started from the studies with these ``names``.

    Raises
    ------
    ConflictError
        If it has warm started from other studies.
    """
    begun = study.fact(WARM_START)
    if begun is None:
        return False
    there = [taken["study"] for taken in begun]
    if set(there) != set(names):
        raise ConflictError(
            f"study {study.name!r} has warm started from {', '.join(there)}, not from {', '.join(names)}; "
            "allowed: a new study"
        )
    return True


_Read = tuple[SourceTask, int, list[dict[str, Scalar]], str]


def _read(study: StudyRecord, earlier: StudyRecord) -> _Read:
    """What ``study`` can take over from ``earlier``: results, the number of trials outside the space, configurations
    with the best first, and why the best trial's configuration is not allowed."""
    space, posterior_means = study.spec.space, earlier.posterior_means()
    params, values, n_outside, reason = list[dict[str, Scalar]](), list[float](), 0, ""
    for number, posterior_mean in _sample(posterior_means):
        shared = _shared(earlier.trial(number).coded_params, space)
        if shared is None:
            n_outside += 1
        else:
            params.append(shared)
            values.append(posterior_mean)
    best = list[dict[str, Scalar]]()
    for trial in earlier.best_trials(earlier.counts()["complete"]):
        try:
            best.append(study.spec.check_params(_adapted(trial.coded_params, space)))
        except RequestError as error:
            reason = reason or f"trial {trial.number}: {error}"
    return SourceTask(earlier.name, tuple(params), standardised(values)), n_outside, best, reason


def _sample(posterior_means: Mapping[int, float]) -> list[tuple[int, float]]:
    """At most :data:`MAX_TRIALS` trials: two thirds are the best ones, the others are spread over the rest."""
    order = sorted(posterior_means.items(), key=lambda entry: (-entry[1], entry[0]))
    if len(order) <= MAX_TRIALS:
        return order
    n_best = 2 * MAX_TRIALS // 3
    step = (len(order) - 1 - n_best) / (MAX_TRIALS - n_best - 1)
    return order[:n_best] + [order[n_best + round(i * step)] for i in range(MAX_TRIALS - n_best)]


def _store(
    study: StudyRecord, sources: Sequence[StudyRecord], read: Sequence[_Read], max_first: int
) -> list[WarmStartRecord]:
    numbers: dict[str, list[int]] = {earlier.name: [] for earlier in sources}
    known = [trial.coded_params for trial in study.all_trials()]
    chosen = _chosen(study.spec, sources, [best for _, _, best, _ in read], known, max_first)
    for i, (name, params) in enumerate(chosen):
        own = Proposer(study.spec).startup_params(len(study.all_trials())) if i else None
        if own is not None and own not in known:
            known.append(study.enqueue(own).coded_params)
        numbers[name].append(study.enqueue(params).number)
    study.set_source_tasks([source_task for source_task, _, _, _ in read])
    taken = [
        WarmStartRecord(
            study=earlier.name,
            n_trials=len(source_task.params) if study.spec.search.sampler.name == "aifs" else 0,
            n_outside=n_outside,
            first=tuple(numbers[earlier.name]),
            fingerprint=earlier.fingerprint,
            same_data=_is_same(study.fingerprint, earlier.fingerprint),
            epochs=earlier.spec.search.epochs,
            objective=f"{earlier.spec.objective.mode} {earlier.spec.objective.metric}",
        )
        for earlier, (source_task, n_outside, _, _) in zip(sources, read, strict=True)
    ]
    study.record_fact(WARM_START, [asdict(each) for each in taken])
    return taken


def _is_same(here: str | None, there: str | None) -> bool | None:
    return None if here is None or there is None else here == there


def _chosen(
    spec: SweepSpec,
    sources: Sequence[StudyRecord],
    bests: Sequence[list[dict[str, Scalar]]],
    known: Sequence[Mapping[str, Scalar]],
    max_first: int,
) -> list[tuple[str, dict[str, Scalar]]]:
    """The configurations to try, with the name of their source.

    The sources take turns with their best configuration that has :data:`MIN_DISTANCE` to those before; where there is
    none left, with one that is at least different.
    """
    chosen: list[tuple[str, dict[str, Scalar]]] = []
    for apart in (MIN_DISTANCE, 0.0):
        for name, params in _in_turn(sources, bests):
            taken = [*known, *(each for _, each in chosen)]
            is_new = params not in taken
            is_apart = all(distance(spec, params, each) >= apart for _, each in chosen)
            if is_new and is_apart and len(chosen) < max_first:
                chosen.append((name, params))
    return chosen


def _in_turn(
    sources: Sequence[StudyRecord], bests: Sequence[list[dict[str, Scalar]]]
) -> Iterator[tuple[str, dict[str, Scalar]]]:
    for row in zip_longest(*bests):
        yield from ((earlier.name, params) for earlier, params in zip(sources, row, strict=True) if params is not None)


def _adapted(params: Mapping[str, Scalar], space: Space) -> dict[str, Scalar]:
    """The values that ``params`` has for the parameters of ``space``; defaults where one is missing."""
    adapted: dict[str, Scalar] = {}
    for name, parameter in space.items():
        if space.is_active(name, adapted):
            value = params.get(name, parameter.default_value)
            if value is not None:
                adapted[name] = value
    return adapted


def _shared(params: Mapping[str, Scalar], space: Space) -> dict[str, Scalar] | None:
    """The values of ``params`` that ``space`` has, converted to its types; None if it does not allow one of them."""
    shared: dict[str, Scalar] = {}
    for name, value in _adapted(params, space).items():
        if name in params:
            converted = space[name].convert(value)
            if converted is None:
                return None
            shared[name] = converted
    return shared


def describe_transfer(study: Study) -> list[str]:
    """One line of text for each earlier study: how much the sampler still uses its results."""
    lines = []
    for name, weight in study.transfer_weights().items():
        if weight > 0.0:
            lines.append(f"warm start from {name}: its results agree with this study and have weight {weight:.2f}")
        else:
            lines.append(f"warm start from {name}: its results contradict this study and are not used any more")
    return lines
