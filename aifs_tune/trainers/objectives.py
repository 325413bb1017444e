"""Check that a trainer reports the metrics of a sweep's objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aifs_tune._util.scalars import did_you_mean
from aifs_tune.config.data import DataSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.data.signal import BRIER, rate_of
from aifs_tune.errors import RequestError


def check_metrics(
    spec: SweepSpec, who: str, metrics: Sequence[str], reasons: Mapping[str, str] | None = None, *, has_classes: bool
) -> None:
    """Check that each objective of ``spec`` is one of ``metrics``.

    Parameters
    ----------
    spec
        The sweep.
    who
        Name of the trainer in messages.
    metrics
        What it reports.
    reasons
        Why a metric that others report is missing, and what is allowed instead.
    has_classes
        Whether classes are predicted.

    Raises
    ------
    RequestError
        If one is not reported; names it, and what is allowed.
    """
    for i, objective in enumerate(spec.objectives):
        metric, key = objective.metric, f"trade_off.{i - 1}" if i else "objective"
        if metric in metrics:
            continue
        reason = (reasons or {}).get(metric) or (_of_signal(metric, spec.data or DataSpec()) if has_classes else None)
        if reason is not None:
            raise RequestError(f"{key}.metric: {reason}")
        raise RequestError(
            f"{key}.metric: {who} does not report {metric!r}{did_you_mean(metric, list(metrics))}; allowed: "
            f"{', '.join(metrics)}"
        )


def _of_signal(metric: str, data: DataSpec) -> str | None:
    """Why a metric of the signal is not reported; None for other metrics."""
    rate = rate_of(metric)
    if rate is None and metric != f"val_{BRIER}":
        return None
    if rate is not None and math.isnan(rate):
        text = metric.partition("@")[2]
        return (
            f"{metric}: {text!r} is no false-positive rate; allowed after @: a number above 0 and below 1, as in "
            "val_signal_efficiency@0.01"
        )
    if data.signal is None:
        return f"{metric} needs the class that is the signal; allowed: with data.signal, the name of that class"
    return None
