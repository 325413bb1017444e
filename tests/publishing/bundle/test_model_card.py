"""The model card shows what a study says, and runs nothing of it."""

from __future__ import annotations

from aifs_tune.publishing.bundle.model_card import _summary


def test_a_description_is_shown_as_it_was_written():
    results = {
        "study": "lab",
        "objective": {"metric": "score", "mode": "max"},
        "n_trials": {"complete": 1},
        "best": {"trial": 0, "value": 0.5},
        "description": "Trees & <script>alert(1)</script>\n# [free](javascript:x)",
    }
    text = _summary(results)
    assert text.endswith("\n\nTrees \\& \\<script\\>alert(1)\\</script\\> \\# \\[free\\](javascript:x)\n"), text
