"""What the charts of a study are drawn from: bounded, however many trials there are."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from aifs_tune.errors import ServiceError
from aifs_tune.study.importance import METHOD
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

T = TypeVar("T")

MAX_POINTS = 200
"""Of one curve."""
_SURE_OF_BEST = 20
"""So many of the best trials are always among those shown."""
_MAX_REASONS = 20
_RATE_OF = 20
"""Trials that ended last, from which it is told how many end in a minute."""


def progress_response(name: str, study: StudyRecord, now: datetime) -> dict[str, Any]:
    """As :class:`~aifs_tune.service.schemas.charts.ProgressResponse`."""
    trials = study.all_trials()
    running = [trial for trial in trials if trial.state == "running"]
    ends = [trial.finished_at for trial in trials if trial.is_finished and trial.finished_at]
    return {
        "study": name,
        "n_trials": study.counts(),
        "n_requested": study.n_requested,
        "seconds": sum(trial.seconds or 0.0 for trial in trials),
        "per_min": _per_min(ends, now if running else None),
        "running": [
            {
                "trial": trial.number,
                "epochs": trial.epochs,
                "value": trial.value,
                "worker": trial.worker,
                "started_at": _moment(trial.started_at),
            }
            for trial in running[-100:]
        ],
        "failures": _failures(trials),
        "dashboard": f"/dashboard/studies/{study.id}",
    }


def history_response(name: str, study: StudyRecord, most: int) -> dict[str, Any]:
    """As :class:`~aifs_tune.service.schemas.charts.HistoryResponse`."""
    ended = sorted(
        (trial for trial in study.all_trials() if trial.state in ("complete", "pruned") and trial.value is not None),
        key=lambda trial: (_seconds(trial.finished_at), trial.number),
    )
    sign = 1 if study.spec.objective.mode == "max" else -1
    best: list[Trial] = []
    for trial in ended:
        if trial.state == "complete" and (not best or sign * (trial.value or 0) > sign * (best[-1].value or 0)):
            best.append(trial)
    order = {trial.number: number for number, trial in enumerate(ended, start=1)}
    return {
        "study": name,
        "objective": study.spec.objective.model_dump(),
        "n_ended": len(ended),
        "best": [
            {"trial": t.number, "order": order[t.number], "value": t.value, "finished_at": _moment(t.finished_at)}
            for t in _subsample(best, most)
        ],
        "trials": [
            {
                "trial": trial.number,
                "order": order[trial.number],
                "state": trial.state,
                "value": trial.value,
                "finished_at": _moment(trial.finished_at),
                "params": dict(trial.params),
            }
            for trial in _some(ended, [*_ranked(ended, sign), *reversed(best)], most)
        ],
    }


def curves_response(name: str, study: StudyRecord, most: int) -> dict[str, Any]:
    """As :class:`~aifs_tune.service.schemas.charts.CurvesResponse`."""
    curves = {number: curve for number, curve in study.objective_curves().items() if curve}
    trials = [trial for trial in study.all_trials() if trial.number in curves]
    sign = 1 if study.spec.objective.mode == "max" else -1
    running = [trial for trial in reversed(trials) if trial.state == "running"]
    return {
        "study": name,
        "objective": study.spec.objective.model_dump(),
        "n_curves": len(trials),
        "curves": [
            {
                "trial": trial.number,
                "state": trial.state,
                "value": trial.value,
                "points": _subsample(sorted(curves[trial.number].items()), MAX_POINTS),
            }
            for trial in _some(trials, [*_ranked(trials, sign), *running], most)
        ],
    }


def importance_response(
    name: str, study: StudyRecord, n_complete: int, found: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """As :class:`~aifs_tune.service.schemas.charts.ImportanceResponse`."""
    return {
        "study": name,
        "method": METHOD,
        "n_complete": n_complete,
        "objectives": [
            {**objective.model_dump(), "importance": dict(found[objective.metric])}
            for objective in study.spec.objectives
        ],
    }


def workers_response(name: str, study: StudyRecord, most: int, now: datetime) -> dict[str, Any]:
    """As :class:`~aifs_tune.service.schemas.charts.WorkersResponse`."""
    started = sorted((t for t in study.all_trials() if t.started_at), key=lambda t: (_seconds(t.started_at), t.number))
    shown = started[-most:]
    by_worker: dict[str | None, list[Trial]] = defaultdict(list)
    for trial in shown:
        by_worker[trial.worker].append(trial)
    first = shown[0].started_at if shown else None
    if all(trial.finished_at for trial in shown):
        now = max((trial.finished_at for trial in shown if trial.finished_at), default=now)  # nothing is going on since
    in_all_s = max((now - first).total_seconds(), 1e-9) if first else 1.0
    return {
        "study": name,
        "n_started": len(started),
        "started_at": _moment(first),
        "now": _moment(now),
        "workers": [
            {
                "worker": worker,
                "n_trials": len(own),
                "busy": round(min(1.0, _busy_s(own, now) / in_all_s), 4),
                "spans": [
                    {
                        "trial": trial.number,
                        "state": trial.state,
                        "started_at": _moment(trial.started_at),
                        "finished_at": _moment(trial.finished_at),
                    }
                    for trial in own
                ],
            }
            for worker, own in sorted(by_worker.items(), key=lambda entry: (entry[0] is None, entry[0] or ""))
        ],
    }


def _busy_s(trials: Sequence[Trial], now: datetime) -> float:
    """For how long at least one of them ran."""
    busy_s, until = 0.0, 0.0
    for trial in trials:
        start, end = _seconds(trial.started_at), _seconds(trial.finished_at or now)
        busy_s += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy_s


def _failures(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The most frequent reasons first."""
    by_reason: dict[str | None, list[int]] = defaultdict(list)
    for trial in trials:
        if trial.state == "failed":
            by_reason[trial.reason].append(trial.number)
    ranked = sorted(by_reason.items(), key=lambda entry: (-len(entry[1]), entry[1][0]))
    return [{"reason": reason, "n": len(numbers), "first": numbers[0]} for reason, numbers in ranked[:_MAX_REASONS]]


def _per_min(ends: Sequence[datetime], now: datetime | None) -> float | None:
    """``now`` where one more may end any time."""
    last = sorted(ends)[-_RATE_OF:]
    if len(last) < 2:
        return None
    took_s = (max(last[-1], now or last[-1]) - last[0]).total_seconds()
    return round(60 * (len(last) - 1) / took_s, 3) if took_s > 0 else None


def _ranked(trials: Sequence[Trial], sign: int) -> list[Trial]:
    """The best complete ones, the best first."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return sorted(complete, key=lambda trial: (-sign * (trial.value or 0.0), trial.number))[:_SURE_OF_BEST]


def _some(trials: Sequence[Trial], wanted: Sequence[Trial], most: int) -> list[Trial]:
    """At most ``most`` of ``trials`` in their order: those ``wanted``, the first of these first, and of the others some
    from all along."""
    shown = set(list(dict.fromkeys(trial.number for trial in wanted))[:most])
    others = [trial for trial in trials if trial.number not in shown]
    shown.update(trial.number for trial in _subsample(others, most - len(shown)))
    return [trial for trial in trials if trial.number in shown]


def _subsample(entries: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of them, evenly, with the first and the last."""
    if len(entries) <= most:
        return list(entries)
    if most < 2:
        return list(entries[-most:]) if most else []
    return [entries[round(i * (len(entries) - 1) / (most - 1))] for i in range(most)]


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


MAX_STUDIES = 100
WAIT_TIMEOUT_S = 2.0
"""How long somebody waits for another study's, before what was known is told, or that it takes a while."""
Shares: TypeAlias = Mapping[str, Mapping[str, float]]


class Importances:
    """Those of the studies that were asked for last."""

    def __init__(self, *, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        self._computing, self._timeout_s = threading.Lock(), timeout_s
        self._known: dict[int, tuple[int, Shares]] = {}

    def of(self, study: StudyRecord) -> tuple[int, Shares]:
        """As :meth:`~aifs_tune.study.study.Study.importance`, after the number of complete trials that it is from.

        Raises
        ------
        ServiceError
            If others are being computed, which may take a while for a very large study.
        """
        known = self._known.get(study.id)
        if known is not None and known[0] == study.counts()["complete"]:
            return known
        if not self._computing.acquire(timeout=self._timeout_s):
            if known is not None:
                return known
            raise ServiceError("the importance of another study is being computed; try again")
        try:
            self._known.pop(study.id, None)
            self._known[study.id] = study.counts()["complete"], study.importance()
            while len(self._known) > MAX_STUDIES:
                del self._known[next(iter(self._known))]
            return self._known[study.id]
        finally:
            self._computing.release()
