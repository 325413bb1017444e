"""Failed trials, grouped by their reasons."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aifs_tune.study.trial import Trial

_NORMALISED = (
    (re.compile(r"(?:[A-Za-z]:)?(?:[/\\][\w.+-]+){2,}"), "PATH"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{12,}\b"), "ID"),
    (re.compile(r"(?<![A-Za-z_])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"), "N"),
    (re.compile(r"\s+"), " "),
)
NO_REASON = "no reason given"


def normalised(reason: str | None) -> str:
    """Replace paths, numbers and identifiers of a reason by PATH, N and ID, so that similar reasons are equal."""
    text = (reason or "").strip()
    for pattern, word in _NORMALISED:
        text = pattern.sub(word, text)
    return text or NO_REASON


def failure_groups(trials: Iterable[Trial]) -> list[tuple[str, list[Trial]]]:
    """The failed trials by :func:`normalised` reason, the most frequent first."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.state == "failed":
            groups.setdefault(normalised(trial.reason), []).append(trial)
    return sorted(groups.items(), key=lambda group: (-len(group[1]), group[1][0].number))


def commonest_failure(trials: Iterable[Trial]) -> str | None:
    """The most frequent reason of failed trials, in one line of at most 300 characters; None if none failed."""
    groups = failure_groups(trials)
    if not groups:
        return None
    first, n = groups[0][1][0], sum(len(group) for _, group in groups)
    reason = " ".join((first.reason or NO_REASON).split())
    many = "the failed trial" if n == 1 else f"{len(groups[0][1])} of {n} failed trials"
    return f"{many}: {reason if len(reason) <= 300 else reason[:297] + '...'} (trial {first.number})"
