"""Data of the charts of a study, limited in size however many trials there are."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from aifs_tune.errors import ServiceError
from aifs_tune.study.failures import failure_groups
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

T = TypeVar("T")

MAX_POINTS = 200
"""Maximum number of points of one learning curve."""
_N_BEST = 20
"""Number of best trials that are always among those shown."""
_MAX_REASONS = 20
_N_RATE = 20
"""Number of most recently finished trials from which the rate per minute is computed."""


def progress_response(name: str, study: StudyRecord, now: datetime) -> dict[str, Any]:
    """Build a :class:`~aifs_tune.service.schemas.charts.ProgressResponse`."""
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
        "notices": study.notices,
        "dashboard": f"/dashboard/studies/{study.id}",
    }


def history_response(name: str, study: StudyRecord, limit: int) -> dict[str, Any]:
    """Build a :class:`~aifs_tune.service.schemas.charts.HistoryResponse` with at most ``limit`` trials."""
    ended = sorted(
        (trial for trial in study.all_trials() if trial.state in ("complete", "pruned") and trial.value is not None),
        key=lambda trial: (_seconds(trial.finished_at), trial.number),
    )
    sign = 1 if study.spec.objective.mode == "max" else -1
    best: list[Trial] = []
    for trial in ended:
        if _counts(trial) and (not best or sign * (trial.value or 0) > sign * (best[-1].value or 0)):
            best.append(trial)
    order = {trial.number: number for number, trial in enumerate(ended, start=1)}
    return {
        "study": name,
        "objective": study.spec.objective.model_dump(),
        "n_ended": len(ended),
        "best": [
            {"trial": t.number, "order": order[t.number], "value": t.value, "finished_at": _moment(t.finished_at)}
            for t in _subsample(best, limit)
        ],
        "trials": [
            {
                "trial": trial.number,
                "order": order[trial.number],
                "state": trial.state,
                "value": trial.value,
                "finished_at": _moment(trial.finished_at),
                "params": dict(trial.params),
                "values": dict(trial.values),
                "counts": _counts(trial),
            }
            for trial in _select(ended, [*_best_trials(ended, sign), *reversed(best)], limit)
        ],
    }


def curves_response(name: str, study: StudyRecord, limit: int) -> dict[str, Any]:
    """Build a :class:`~aifs_tune.service.schemas.charts.CurvesResponse` with at most ``limit`` curves."""
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
                "counts": _counts(trial),
                "points": _subsample(sorted(curves[trial.number].items()), MAX_POINTS),
            }
            for trial in _select(trials, [*_best_trials(trials, sign), *running], limit)
        ],
    }


def importance_response(name: str, study: StudyRecord, n_complete: int, found: Importance) -> dict[str, Any]:
    """Build an :class:`~aifs_tune.service.schemas.charts.ImportanceResponse`."""
    return {
        "study": name,
        "method": "fANOVA",
        "n_complete": n_complete,
        "remark": found.remark,
        "objectives": [
            {**objective.model_dump(), "importance": found.rows.get(objective.metric, [])}
            for objective in study.spec.objectives
        ],
    }


def workers_response(name: str, study: StudyRecord, limit: int, now: datetime) -> dict[str, Any]:
    """Build a :class:`~aifs_tune.service.schemas.charts.WorkersResponse` with at most ``limit`` trials."""
    started = sorted((t for t in study.all_trials() if t.started_at), key=lambda t: (_seconds(t.started_at), t.number))
    shown = started[-limit:]
    by_worker: dict[str | None, list[Trial]] = defaultdict(list)
    for trial in shown:
        by_worker[trial.worker].append(trial)
    first = shown[0].started_at if shown else None
    if all(trial.finished_at for trial in shown):
        now = max((trial.finished_at for trial in shown if trial.finished_at), default=now)  # nothing runs since then
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
    """Return the seconds during which at least one of the trials ran."""
    busy_s, until = 0.0, 0.0
    for trial in trials:
        start, end = _seconds(trial.started_at), _seconds(trial.finished_at or now)
        busy_s += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy_s


def _failures(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Group failed trials by similar reasons, the most frequent first, each with the reason of its first trial."""
    groups = failure_groups(trials)[:_MAX_REASONS]
    return [{"reason": group[0].reason, "n": len(group), "first": group[0].number} for _, group in groups]


def _per_min(ends: Sequence[datetime], now: datetime | None) -> float | None:
    """Return how many trials finish in a minute; ``now`` is given while trials are running."""
    last = sorted(ends)[-_N_RATE:]
    if len(last) < 2:
        return None
    took_s = (max(last[-1], now or last[-1]) - last[0]).total_seconds()
    return round(60 * (len(last) - 1) / took_s, 3) if took_s > 0 else None


def _best_trials(trials: Sequence[Trial], sign: int) -> list[Trial]:
    """Return the best complete trials, the best first."""
    return sorted(filter(_counts, trials), key=lambda trial: (-sign * (trial.value or 0.0), trial.number))[:_N_BEST]


def _counts(trial: Trial) -> bool:
    """Return whether a trial can be the best one: those outside the limits cannot."""
    return trial.state == "complete" and trial.value is not None and trial.feasible is not False and not trial.problem


def _select(trials: Sequence[Trial], wanted: Sequence[Trial], limit: int) -> list[Trial]:
    """Return at most ``limit`` trials in their order: first those ``wanted``, then an even sample of the others."""
    shown = set(list(dict.fromkeys(trial.number for trial in wanted))[:limit])
    others = [trial for trial in trials if trial.number not in shown]
    shown.update(trial.number for trial in _subsample(others, limit - len(shown)))
    return [trial for trial in trials if trial.number in shown]


def _subsample(entries: Sequence[T], limit: int) -> list[T]:
    """Return at most ``limit`` evenly spaced entries, with the first and the last."""
    if len(entries) <= limit:
        return list(entries)
    if limit < 2:
        return list(entries[-limit:]) if limit else []
    return [entries[round(i * (len(entries) - 1) / (limit - 1))] for i in range(limit)]


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


MAX_STUDIES = 100
WAIT_TIMEOUT_S = 2.0
"""Seconds to wait while the importance of another study is computed."""


@dataclass(frozen=True)
class Importance:
    """Rows of the importance by metric, and a remark on how it was computed, or why it was not."""

    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    remark: str | None

    @staticmethod
    def of(study: StudyRecord) -> Importance:
        """Compute it as :meth:`aifs_tune.analysis.study_tables.Analysis.importance` does for everybody."""
        from aifs_tune.analysis.study_tables import analyse

        table = analyse(study).importance()
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in table[["objective", "parameter", "importance", "low", "high"]].to_dict("records"):
            rows[str(row.pop("objective"))].append({str(key): value for key, value in row.items()})
        return Importance(rows, table.attrs.get("remark"))


class Importances:
    """Cache of parameter importances of the studies that were requested last."""

    def __init__(self, *, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        self._computing, self._timeout_s = threading.Lock(), timeout_s
        self._known: dict[int, tuple[int, Importance]] = {}

    def of(self, study: StudyRecord) -> tuple[int, Importance]:
        """Return the number of complete trials and the importance computed from them.

        An older result is returned while the importance of another study is computed.

        Raises
        ------
        ServiceError
            If the importance of another study is being computed and there is no older result.
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
            self._known[study.id] = study.counts()["complete"], Importance.of(study)
            while len(self._known) > MAX_STUDIES:
                del self._known[next(iter(self._known))]
            return self._known[study.id]
        finally:
            self._computing.release()
