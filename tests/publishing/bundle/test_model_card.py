"""The model card shows what a study says, and runs nothing of it."""

from __future__ import annotations

import pytest

from aifs_tune.publishing.bundle.model_card import _summary, _unbiased


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


CONFIRMED = {
    "confirmation": "lab-confirm",
    "candidates": [{"name": "baseline", "mean": 0.5}, {"name": "trial 3", "mean": 0.6}],
}
MEAN = "score, mean of lab-confirm with fresh seeds and folds"
TESTED = {"candidate": "trial 3", "classes": {"scores": {"accuracy": {"value": 0.65}, "auc": {"value": None}}}}


@pytest.mark.parametrize(
    ("test", "confirmations", "told"),
    [
        (TESTED, [CONFIRMED], {"accuracy on the test set": 0.65}),
        (
            {**TESTED, "candidate": "trial 4"},
            [CONFIRMED],
            {"score, mean of lab-confirm with fresh seeds and folds": 0.6},
        ),
        (None, [CONFIRMED], {"score, mean of lab-confirm with fresh seeds and folds": 0.6}),
        (None, [], {}),
        (
            {"candidate": "trial 3", "targets": [{"name": "mass", "scores": {"r2": {"value": 0.9}}}]},
            [],
            {"mass r2 on the test set": 0.9},
        ),
    ],
)
def test_the_model_index_has_no_value_that_the_trial_was_selected_by(test, confirmations, told):
    results = {
        "objective": {"metric": "score"},
        "best": {"trial": 3, "value": 0.99},
        "test": test,
        "confirmations": confirmations,
        "final_model": None,
    }
    assert {each["name"]: each["value"] for each in _unbiased(results)} == told
