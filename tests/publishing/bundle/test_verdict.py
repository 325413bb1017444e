"""Verdicts of a reproduction, computed by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from aifs_tune.publishing.bundle.noise import RecordedNoise
from aifs_tune.publishing.bundle.reproduce import TOLERANCE, ReproductionVerdict, noise_of_fresh

NOISE = RecordedNoise(0.01, 10, "folds")
T9 = 2.262157
"""The 97.5 % quantile of Student's t with 9 degrees of freedom, from a table."""


def test_the_limit_is_that_of_a_prediction() -> None:
    verdict = ReproductionVerdict("score", 0.8, 0.8, [0.79, 0.8, 0.81], NOISE)
    assert verdict.limit(1) == pytest.approx(T9 * 0.01 * 2**0.5, abs=2e-6)
    assert verdict.limit(3) == pytest.approx(T9 * 0.01 * (4 / 3) ** 0.5, abs=2e-6)


@pytest.mark.parametrize(
    ("same", "fresh", "noise", "is_reproduced", "says"),
    [
        (0.8, [0.79, 0.81], NOISE, True, "REPRODUCED: the same score"),
        (0.8 + 1e-8, [], None, True, "same seed: 0.8, the same score"),
        (0.82, [0.79, 0.81], NOISE, True, "REPRODUCED: within the noise"),
        (0.84, [0.79, 0.81], NOISE, False, "+0.04 from the recorded score, OUTSIDE the noise limit of 0.032"),
        (0.8, [0.7, 0.71], NOISE, False, "only the recorded seed"),
        (0.79, [], None, False, "the noise is unknown. Measure the noise with --seeds 2 or more"),
        (0.79, [0.79], None, False, "-0.01 from the recorded score, the noise is unknown"),
        (None, [0.8, 0.8], NOISE, False, "NOT REPRODUCED: the training run failed"),
        (0.8, [0.8, 0.8], RecordedNoise(0.0, 2, "these"), True, "REPRODUCED"),
        (0.8, [0.8, 0.81], RecordedNoise(0.0, 2, "these"), False, "only the recorded seed"),
    ],
)
def test_a_verdict_in_words(
    same: float | None, fresh: list[float], noise: RecordedNoise | None, is_reproduced: bool, says: str
) -> None:
    verdict = ReproductionVerdict("score", 0.8, same, fresh, noise)
    assert verdict.is_reproduced is is_reproduced
    assert says in verdict.text
    assert verdict.text.splitlines()[-1].startswith("REPRODUCED" if is_reproduced else "NOT REPRODUCED")
    assert verdict.to_json()["is_reproduced"] is is_reproduced


def test_results_in_small_units_do_not_match_by_their_unit() -> None:
    verdict = ReproductionVerdict("resistance_ohm", 3e-8, 9e-7, [5e-7, 8e-7], None)
    assert not verdict.is_exact
    assert not verdict.is_reproduced
    assert ReproductionVerdict("resistance_ohm", 3e-8, 3e-8 * (1 + 1e-7), [], None).is_exact
    noise = RecordedNoise(0.0, 5, "folds")
    assert not ReproductionVerdict("resistance_ohm", 3e-8, 9e-7, [], noise).is_reproduced


def test_scores_of_a_model_in_bfloat16_differ_by_more() -> None:
    assert not ReproductionVerdict("score", 0.8, 0.802, [], None).is_exact
    assert ReproductionVerdict("score", 0.8, 0.802, [], None, TOLERANCE["mixed_bfloat16"]).is_exact


def test_seeds_that_change_nothing_are_named() -> None:
    text = ReproductionVerdict("score", 0.8, 0.8, [0.8, 0.8], RecordedNoise(0.0, 3, "these")).text
    assert "Seeds change nothing here: all trainings gave the same score, so they say nothing about chance" in text
    for fresh in ([], [0.8, 0.81]):
        assert "Seeds change nothing" not in ReproductionVerdict("score", 0.8, 0.8, fresh, NOISE).text


@pytest.mark.parametrize("is_recorded", [True, False])
def test_an_honest_score_is_reached_again_in_nineteen_of_twenty(is_recorded: bool) -> None:
    random, n = np.random.default_rng(0), 2000
    reached = 0
    for _ in range(n):
        recorded, *fresh = random.normal(0.8, 0.01, 4).tolist()
        known = RecordedNoise(float(random.normal(0, 0.01, 10).std(ddof=1)), 10, "folds")
        noise = known if is_recorded else noise_of_fresh(fresh)
        reached += ReproductionVerdict("score", recorded, recorded, fresh, noise).is_reproduced
    assert reached / n == pytest.approx(0.95, abs=0.02)


def test_fewer_than_two_fresh_seeds_say_nothing_of_noise() -> None:
    assert noise_of_fresh([1.0]) is None
    found = noise_of_fresh([1.0, 3.0])
    assert found is not None
    assert (found.n, found.sd) == (2, pytest.approx(2**0.5))
