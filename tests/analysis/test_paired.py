"""Comparisons of configurations over the same splits: test, intervals, verdicts and families."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aifs_tune.analysis.paired import compare, compare_all, comparison_table
from aifs_tune.analysis.scores import Scores, Split
from aifs_tune.analysis.tests import holm, holm_levels, resampled_t, signed_rank_p
from aifs_tune.errors import RequestError

BASE = np.array([0.80, 0.81, 0.79, 0.82, 0.80, 0.78, 0.80, 0.81, 0.79, 0.80])
GAINS = np.array([0.04, 0.02, 0.05, 0.01, 0.03, 0.04, 0.02, 0.05, 0.03, 0.02])
finite = st.floats(-100, 100).map(lambda x: round(x, 3))
gains_of_ten = st.lists(finite, min_size=10, max_size=10).map(np.array)


def splits(n: int = 10, *, n_train: int = 400, n_test: int = 100) -> list[Split]:
    return [Split(i // 5, i % 5, n_train, n_test) for i in range(n)]


def scores(mode: Any = "max", unit: str = "", **values: Any) -> Scores:
    return Scores("score", mode, splits(len(next(iter(values.values())))), values, unit=unit)


def test_the_statistic_is_that_of_the_paper_by_hand() -> None:
    test = resampled_t(np.array([1.0, 2.0, 3.0, 4.0]), 0.25)
    assert (test.mean, test.df) == (2.5, 3)
    assert test.standard_error == pytest.approx(math.sqrt((1 / 4 + 1 / 4) * 5 / 3))
    assert test.t == pytest.approx(2.5 / math.sqrt(5 / 6))
    assert test.effect == pytest.approx(2.5 / math.sqrt(5 / 3))
    low, high = test.interval(0.95)
    assert (low, high) == (pytest.approx(2.5 - 3.182446 * 0.912871, abs=1e-5), pytest.approx(5.405, abs=1e-3))


def test_it_gives_the_published_figures_of_scikit_learns_example() -> None:
    """The two best of https://scikit-learn.org/stable/auto_examples/model_selection/plot_grid_search_stats.html"""
    from sklearn.datasets import make_moons
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
    from sklearn.svm import SVC

    features, labels = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    radial, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), features, labels, scoring="roc_auc", cv=folds)
        for kernel in ("rbf", "linear")
    )
    test = resampled_t(radial - linear, 10 / 90)
    assert (round(test.t, 3), round(test.p / 2, 3)) == (0.750, 0.227)


def test_without_correction_it_is_students_test() -> None:
    test, students = resampled_t(GAINS, 0.0), stats.ttest_1samp(GAINS, 0.0)
    assert (test.t, test.p) == (pytest.approx(students.statistic), pytest.approx(students.pvalue))
    assert test.interval(0.9) == pytest.approx(tuple(students.confidence_interval(0.9)))


def test_it_errs_as_often_as_it_says_where_student_errs_more() -> None:
    """2,000 times ten differences of mean 0 that correlate as the paper assumes, by n_test / (n_test + n_train)."""
    rng, share = np.random.default_rng(3), 100 / 500
    drawn = np.sqrt(share) * rng.normal(size=(2000, 1)) + np.sqrt(1 - share) * rng.normal(size=(2000, 10))
    corrected, students = (np.mean([resampled_t(row, ratio).p <= 0.05 for row in drawn]) for ratio in (0.25, 0.0))
    assert 0.035 < corrected < 0.065  # three standard errors of a rate of 5 %
    assert students > 0.2


@pytest.mark.parametrize("factor", [0.1, 1.0, 4.0])
def test_the_interval_of_the_effect_inverts_the_noncentral_t(factor: float) -> None:
    test = resampled_t(GAINS * factor - 0.03 * (factor - 1) + 0.01 * factor, 0.25)
    low, high = (end * test.spread / test.standard_error for end in test.effect_interval(0.95))
    assert stats.nct.cdf(test.t, test.df, low) == pytest.approx(0.975, abs=1e-6)
    assert stats.nct.cdf(test.t, test.df, high) == pytest.approx(0.025, abs=1e-6)


def test_the_interval_of_a_huge_effect_joins_on() -> None:
    """On either side of the t from which on it is taken for that of the denominator."""
    spread = np.array([-1.0, 1.0, -1.0, 1.0, 0.0])
    near, far = (resampled_t(spread + mean, 0.25) for mean in (199.9, 203.0))
    assert near.t < 300 < far.t
    for one, other in zip(near.effect_interval(0.95), far.effect_interval(0.95), strict=True):
        assert other / far.effect == pytest.approx(one / near.effect, rel=1e-3)


def test_a_better_one_in_words_and_numbers() -> None:
    found = compare(scores(baseline=BASE, tuned=BASE + GAINS), "tuned", "baseline")
    assert found.text == "tuned: better than the baseline by 0.031 [0.013, 0.049] (95 % interval)"
    assert (found.verdict, found.n_pairs, found.df, found.confidence) == ("better", 10, 9, 0.95)
    assert found.signed_rank_p == pytest.approx(stats.wilcoxon(GAINS.round(3)).pvalue)
    turned = compare(scores(baseline=BASE, tuned=BASE + GAINS), "baseline", "tuned")
    assert turned.text == "baseline: worse than tuned by 0.031 [0.013, 0.049] (95 % interval)"


def test_what_is_within_chance_is_not_distinguished() -> None:
    noise = np.array([0.02, -0.01, 0.03, -0.02, 0.01, -0.01, 0.02, -0.02, 0.01, 0.01])
    found = compare(scores("min", "mm", old=BASE, new=BASE - noise), "new", "old")
    assert found.text == "new: not distinguishable from old: difference 0.004 mm [-0.020, 0.028] (95 % interval)"
    assert found.p_adjusted == found.p > 0.05


def test_an_end_near_zero_is_shown_with_the_digits_that_tell_it_from_zero() -> None:
    test = resampled_t(GAINS, 0.25)
    shift = test.interval(0.95)[0] - 1e-5
    assert compare(scores(a=BASE, b=BASE + GAINS - shift), "b", "a").text.endswith(
        "0.01835 [0.00001, 0.03669] (95 % interval)"
    )


def test_plain_values_and_a_table() -> None:
    several = compare_all(scores(baseline=BASE, tuned=BASE + GAINS, flat=BASE), "baseline")
    plain = json.loads(json.dumps([found.to_dict() for found in several]))
    assert plain[0]["text"] == several[0].text
    assert plain[1]["interval"] is None
    table = comparison_table(several)
    assert table["name"].tolist() == ["tuned", "flat"]
    assert table.loc[0, "interval_low"] == several[0].interval[0]  # type: ignore[index]


def test_one_split_is_no_test() -> None:
    found = compare(scores(a=[0.8], b=[0.9]), "b", "a")
    assert (found.verdict, found.difference) == ("not tested", pytest.approx(0.1))
    assert found.text == (
        "b: not tested against a: difference 0.1 (one split gives one difference, and a test needs several)"
    )
    assert (found.p, found.interval, found.effect, found.signed_rank_p) == (None, None, None, None)


def test_splits_with_a_failed_run_are_left_out_and_reported() -> None:
    failing = np.where(np.arange(10) < 2, [np.nan, np.inf] * 5, BASE + GAINS)
    found = compare(scores(a=BASE, b=failing), "b", "a")
    assert (found.n_pairs, found.n_splits, found.df) == (8, 10, 7)
    assert found.remark == "2 of 10 splits left out because a training run failed"
    alone = compare(Scores("score", "max", splits()[2:], {"a": BASE[2:], "b": failing[2:]}), "b", "a")
    assert (alone.p, alone.interval) == (found.p, found.interval)


def test_too_few_pairs_are_no_test() -> None:
    found = compare(scores(a=BASE, b=np.where(np.arange(10) < 6, np.nan, BASE + GAINS)), "b", "a")
    assert found.verdict == "not tested"
    assert "a test needs at least 5 pairs of scores, and there are 4" in found.text
    none = compare(scores(a=BASE, b=np.full(10, np.nan)), "b", "a")
    assert (none.difference, none.text.split(" (")[0]) == (None, "b: not compared with a")
    assert (
        "a test needs at least 3 pairs of scores, and there are 2"
        in compare(scores(a=BASE[:2], b=GAINS[:2]), "b", "a").text
    )


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_equal_differences_are_no_test(shift: float) -> None:
    found = compare(scores(a=BASE, b=BASE + shift), "b", "a")
    assert found.verdict == "not tested"
    assert "all 10 differences are equal" in found.remark


def test_uneven_splits_count_by_their_sums() -> None:
    uneven = [Split(0, 0, 300, 100), Split(0, 1, 500, 300), Split(0, 2, 400, 200)]
    found = compare(Scores("score", "max", uneven, {"a": [0.0, 0, 0], "b": [1.0, 2, 6]}), "b", "a")
    assert found.t == pytest.approx(3 / math.sqrt((1 / 3 + 600 / 1200) * 7))


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.9, 0.6])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []
    assert holm_levels(np.array([0.01, 0.04, 0.03]), 0.05).tolist() == pytest.approx([0.05 / 3, 0.025, 0.025])
    assert holm_levels(np.array([0.01, 0.04, 0.02]), 0.05).tolist() == pytest.approx([0.05 / 3, 0.05, 0.025])


def test_a_family_needs_more_than_one_of_it_alone() -> None:
    rng = np.random.default_rng(1)
    others = {f"other {i}": BASE + rng.normal(0, 0.02, 10) for i in range(9)}
    alone = compare(scores(baseline=BASE, tuned=BASE + 0.8 * GAINS - 0.007), "tuned", "baseline")
    among = compare_all(scores(baseline=BASE, tuned=BASE + 0.8 * GAINS - 0.007, **others), "baseline")[0]
    assert (alone.verdict, among.verdict) == ("better", "not distinguishable")
    assert (among.p, among.p_adjusted) == (alone.p, pytest.approx(10 * alone.p))  # type: ignore[operator]
    assert among.confidence == pytest.approx(0.995)
    assert among.interval[0] < 0 < alone.interval[0]  # type: ignore[index]


def test_one_that_cannot_be_tested_counts_in_the_family() -> None:
    found = compare_all(scores(baseline=BASE, tuned=BASE + GAINS, flat=BASE, failed=[np.nan] * 10), "baseline")
    assert found[0].p_adjusted == pytest.approx(3 * found[0].p)  # type: ignore[operator]
    assert [one.verdict for one in found] == ["better", "not tested", "not tested"]


def test_the_signed_rank_test_passes_over_pairs_without_difference() -> None:
    assert signed_rank_p(np.zeros(5)) == 1.0
    assert signed_rank_p(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 32)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-4, 4).filter(bool), min_size=3, max_size=10).map(np.array))
def test_the_signed_rank_test_is_exact_with_ties_too(differences: np.ndarray) -> None:
    every = stats.wilcoxon(differences, method=stats.PermutationMethod(n_resamples=2**12))
    assert signed_rank_p(differences / 7) == pytest.approx(every.pvalue)


def test_the_signed_rank_test_is_scipys_without_ties() -> None:
    differences = np.random.default_rng(0).normal(0.4, 1, 40)
    assert signed_rank_p(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scores("best", a=BASE), "mode: 'best' is not allowed; allowed: max, min"),
        (lambda: Scores("s", "max", splits(2) * 2, {}), "repeat 0, fold 0: given twice"),
        (lambda: Scores("s", "max", splits(3), {"a": [1.0, 2.0]}), r"a: values of shape \(2,\); allowed: one for each"),
        (lambda: Split(1, 2, 10, 0), "repeat 1, fold 2: 10 training and 0 test examples"),
        (lambda: compare(scores(tuned=BASE, b=BASE), "tunde", "b"), "tunde: no such configuration, did you mean tuned"),
        (lambda: compare_all(scores(a=BASE), "b"), "b: no such configuration"),
        (lambda: compare(scores(a=BASE), "a", "a"), "a cannot be compared with itself"),
        (lambda: compare(scores(a=BASE, b=BASE), "a", "b", alpha=1.5), "alpha: 1.5 is not allowed"),
    ],
)
def test_wrong_requests_are_named(make: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


def test_scores_are_copies_that_stay() -> None:
    mine = BASE.copy()
    kept = scores(a=mine)
    mine[0] = 9
    assert kept.of("a")[0] == 0.80
    with pytest.raises(ValueError, match="read-only"):
        kept.of("a")[0] = 1


@settings(max_examples=25, deadline=None)
@given(gains_of_ten)
def test_turning_a_comparison_round_turns_its_signs(gains: np.ndarray) -> None:
    both = scores(a=np.zeros(10), b=gains)
    there, back = compare(both, "b", "a"), compare(both, "a", "b")
    assert (back.p, back.verdict) == (there.p, {"better": "worse", "worse": "better"}.get(there.verdict, there.verdict))
    smaller = compare(scores("min", a=np.zeros(10), b=-gains), "b", "a")
    assert smaller.to_dict() == there.to_dict()
    if there.interval is not None and there.effect_interval is not None:
        assert back.interval == pytest.approx([-there.interval[1], -there.interval[0]])
        assert back.effect_interval == pytest.approx([-end for end in there.effect_interval[::-1]], abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(gains_of_ten, st.floats(1e-3, 1e3))
def test_another_unit_scales_the_difference_and_leaves_the_rest(gains: np.ndarray, factor: float) -> None:
    one, scaled = (compare(scores(a=np.zeros(10), b=f * gains), "b", "a") for f in (1.0, factor))
    assert scaled.verdict == one.verdict
    assert scaled.difference == pytest.approx(factor * one.difference)  # type: ignore[operator]
    if one.interval is not None:
        assert scaled.interval == pytest.approx([factor * end for end in one.interval], abs=1e-9 * factor)
        assert (scaled.p, scaled.effect) == (pytest.approx(one.p, abs=1e-12), pytest.approx(one.effect, abs=1e-12))


@settings(max_examples=25, deadline=None)
@given(st.lists(gains_of_ten, min_size=1, max_size=6), st.sampled_from([0.01, 0.05, 0.3]))
def test_verdict_and_intervals_never_contradict(family: list[np.ndarray], alpha: float) -> None:
    several = {f"trial {i}": gains for i, gains in enumerate(family)}
    found = compare_all(scores(baseline=np.zeros(10), **several), "baseline", alpha=alpha)
    tested = [one for one in found if one.verdict != "not tested"]
    for one in tested:
        assert one.interval is not None
        assert one.effect_interval is not None
        assert one.p is not None
        holds_zero = one.interval[0] <= 0 <= one.interval[1]
        assert holds_zero == (one.verdict == "not distinguishable") == (one.p_adjusted > alpha)  # type: ignore[operator]
        assert holds_zero == (one.effect_interval[0] <= 0 <= one.effect_interval[1])
        assert 1 - alpha <= one.confidence <= 1 - alpha / len(found)  # type: ignore[operator]
        assert one.p <= one.p_adjusted <= min(1.0, len(found) * one.p * (1 + 1e-12))  # type: ignore[operator]
    in_order = sorted(tested, key=lambda one: one.p or 0)
    assert [one.p_adjusted for one in in_order] == sorted(one.p_adjusted or 0 for one in in_order)
    for one in found:
        shuffled = compare_all(
            scores(baseline=np.zeros(10), **dict(reversed(several.items()))), "baseline", alpha=alpha
        )
        assert one.to_dict() in [other.to_dict() for other in shuffled]
