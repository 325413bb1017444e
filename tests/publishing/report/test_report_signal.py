"""The ROC curve of a signal in the test set section of a report."""

from __future__ import annotations

import numpy as np

from aifs_tune.analysis.bootstrap import Resampling
from aifs_tune.analysis.classification import HeldOutClasses, evaluate_classes
from aifs_tune.publishing.report.blocks import Figure
from aifs_tune.publishing.report.test_set import _scores_table, _signal_blocks


def evaluated(signal: str | None) -> HeldOutClasses:
    y_true = np.arange(400) % 2
    share = np.clip(np.random.default_rng(0).normal(0.35 + 0.3 * y_true, 0.15), 0.001, 0.999)
    shares = np.stack([1 - share, share], axis=1)
    return evaluate_classes(y_true, shares, classes=["h", "g"], signal=signal, resampling=Resampling(100))


def test_a_signal_has_a_curve_with_a_logarithmic_axis() -> None:
    found = evaluated("g")
    (block,) = _signal_blocks(found)
    assert isinstance(block, Figure)
    assert block.caption.startswith("Signal efficiency: share of g kept")
    assert "200 examples of the signal, 200 of the background" in block.caption
    assert f"{found.scores['signal_efficiency@0.02']} at 0.02" in block.alt
    assert ("g kept at 2 % background", str(found.scores["signal_efficiency@0.02"])) in _scores_table(found).rows


def test_without_a_signal_there_is_none() -> None:
    assert _signal_blocks(evaluated(None)) == []
