"""Metrics of detections against independent implementations."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from aifs_tune.trainers.detections import Bodies, average_precision, matches, measure_detections


def drawn(random: np.random.Generator, n: int, *, frames: int = 3, classes: int = 2, edge: float = 30.0) -> Bodies:
    return Bodies(
        random.integers(frames, size=n),
        random.integers(classes, size=n),
        random.uniform(0, edge, (n, 2)),
        random.uniform(1, 5, n),
        random.normal(size=(n, 1)),
        random.permutation(n) / n,
    )


def matched_by_hand(detected: Bodies, true: Bodies, radius: float) -> list[int]:
    """Every pair is looked at, in the order of scores."""
    found, taken = [-1] * len(detected), set[int]()
    for one in sorted(range(len(detected)), key=lambda i: -detected.score[i]):
        best = None
        for other in range(len(true)):
            is_same = detected.frame[one] == true.frame[other] and detected.label[one] == true.label[other]
            distance = float(((detected.xy[one] - true.xy[other]) ** 2).sum() ** 0.5)
            if is_same and other not in taken and distance <= radius and (best is None or distance < best[0]):
                best = distance, other
        if best is not None:
            found[one] = best[1]
            taken.add(best[1])
    return found


@pytest.mark.parametrize("seed", range(8))
def test_matches_are_those_of_looking_at_every_pair(seed: int) -> None:
    random = np.random.default_rng(seed)
    detected, true = drawn(random, 60), drawn(random, 50)
    assert matches(detected, true, 4.0).tolist() == matched_by_hand(detected, true, 4.0)


@pytest.mark.parametrize("seed", range(4))
def test_bodies_far_from_each_other_are_matched_as_by_the_best_assignment(seed: int) -> None:
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(6) * 20.0, np.arange(6) * 20.0), axis=-1).reshape(-1, 2)
    n = len(grid)
    zeros = np.zeros(n, np.int64)
    true = Bodies(zeros, zeros, grid, np.ones(n), np.zeros((n, 0)), np.ones(n))
    moved = grid[random.permutation(n)] + random.normal(0, 2, (n, 2))
    detected = Bodies(zeros, zeros, moved, np.ones(n), np.zeros((n, 0)), random.random(n))
    distances = np.hypot(*(moved[:, None] - grid[None]).transpose(2, 0, 1))
    cost = np.where(distances <= 3, distances, 1e6)
    rows, columns = linear_sum_assignment(cost)
    expected = np.full(n, -1)
    is_near = cost[rows, columns] < 1e6
    expected[rows[is_near]] = columns[is_near]
    assert 0 < is_near.sum() < n
    assert matches(detected, true, 3.0).tolist() == expected.tolist()


def area_of_all_steps(is_match: NDArray[np.bool_], score: NDArray[Any], n_true: int) -> float:
    """Every score as a threshold, then the largest purity at each completeness or above."""
    points = [(0.0, 1.0)]
    for threshold in sorted(score, reverse=True):
        kept = score >= threshold
        points.append((is_match[kept].sum() / n_true, is_match[kept].mean()))
    area = 0.0
    for (before, _), (after, _) in pairwise(points):
        area += (after - before) * max(purity for complete, purity in points[1:] if complete >= after)
    return area


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_the_area_of_all_steps(seed: int) -> None:
    random = np.random.default_rng(seed)
    score, is_match = random.permutation(40) / 40, random.random(40) < 0.6
    assert average_precision(is_match, score, 30) == pytest.approx(area_of_all_steps(is_match, score, 30))


def test_metrics_by_hand() -> None:
    zeros = np.zeros(4, np.int64)
    xy = np.array([(5, 5), (20, 20), (20, 23), (5, 25)], float)
    true = Bodies(zeros, np.array([0, 0, 1, 1]), xy, np.full(4, 2.0), np.zeros((4, 1)), np.ones(4))
    found = np.array([(5, 6), (20, 20), (20, 23.5), (11, 25)], float)
    detected = Bodies(
        zeros, np.array([0, 1, 1, 1]), found, np.full(4, 4.0), np.full((4, 1), 0.5), np.array([0.9, 0.8, 0.7, 0.2])
    )
    measured, is_found = measure_detections(detected, true, radius_px=2.0, min_score=0.3, n_classes=2)
    # Of four bodies two are found by three detections: the second one has the wrong class.
    assert is_found.tolist() == [True, False, True, False]
    assert measured["completeness"] == 0.5
    assert measured["purity"] == pytest.approx(2 / 3)
    assert measured["f1"] == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))
    assert measured["position_px"] == pytest.approx((1 + 0.5) / 2)
    assert measured["size_error"] == pytest.approx(np.log(2))
    assert measured["number0"] == pytest.approx(0.5)
    # Class 0: purity 1 up to half of its bodies. Class 1: the first detection is wrong, the second right.
    assert measured["ap"] == pytest.approx((0.5 + 0.25) / 2)


def test_nothing_found_is_no_error_of_places() -> None:
    random = np.random.default_rng(0)
    nothing = drawn(random, 0)
    measured, is_found = measure_detections(nothing, drawn(random, 5), radius_px=2, min_score=0.3, n_classes=2)
    assert (measured["f1"], measured["completeness"], measured["purity"], measured["ap"]) == (0, 0, 0, 0)
    assert np.isnan(measured["position_px"])
    assert not is_found.any()
