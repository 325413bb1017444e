"""Goals, calibration, regions and acquisition of a design, against simulations and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aifs_tune.analysis.design.acquisition import Acquisition, Measured, Posterior, choose
from aifs_tune.analysis.design.calibration import Calibration, calibrate
from aifs_tune.analysis.design.candidates import Region, columns_of, inputs_of, search, values_of
from aifs_tune.analysis.design.ensemble import left_out_of
from aifs_tune.analysis.design.goals import Goals, Limit, Objective, Range, Sum, parse_goals
from aifs_tune.errors import DataError, RequestError

TARGETS = ("strength", "elongation")
MADE = [
    {"name": "ni", "centre": 10.0, "scale": 5.0},
    {"name": "co", "centre": 5.0, "scale": 2.0},
    {"name": "furnace", "level": "A"},
    {"name": "furnace", "level": "B"},
]
COLUMNS = columns_of(MADE)


def goals_of(**given: Any) -> Goals:
    asked: dict[str, Any] = {"maximise": ["strength"], "minimise": (), "subject_to": (), "sums": (), "ranges": ()}
    return parse_goals(**asked | given, targets=TARGETS, columns=["ni", "co", "furnace"], texts=["furnace"])


def test_goals_are_read() -> None:
    found = goals_of(
        minimise=["elongation"],
        subject_to=["elongation >= 10", "ni + co<=30"],
        sums=["ni+co = 20"],
        ranges=["ni=0:20", "co=5", "furnace=A|B"],
    )
    assert found.objectives == (Objective("strength", 1), Objective("elongation", -1))
    assert found.limits == (Limit("elongation", 1, 10.0),)
    assert found.sums == (Sum(("ni", "co"), "=", 20.0), Sum(("ni", "co"), "<=", 30.0))
    assert found.ranges[:2] == (Range("ni", 0.0, 20.0), Range("co", 5.0, 5.0))
    assert found.ranges[2].entries == ("A", "B")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"maximise": ()}, "maximise, minimise: none given; allowed: one or several of strength, elongation"),
        ({"maximise": ["strenght"]}, "no target 'strenght'.*; allowed: strength, elongation"),
        ({"minimise": ["strength"]}, "strength, strength has a target twice; allowed: each once"),
        ({"subject_to": ["elongation"]}, "'?elongation'? is no limit; allowed: such as strength >= 10"),
        ({"subject_to": ["elongation >= ten"]}, "ends with '?ten'?; allowed: a finite number"),
        ({"subject_to": ["zn <= 1"]}, "column '?zn'? is not there.*allowed: strength, elongation, ni, co"),
        ({"sums": ["ni + furnace = 1"]}, "column '?furnace'? is text; allowed: ni, co"),
        ({"ranges": ["ni=20:0"]}, "falls; allowed: the smaller number first"),
        ({"ranges": ["ni"]}, "is no range; allowed: such as ni=0:20"),
    ],
)
def test_goals_that_cannot_be_read_are_refused(given: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        goals_of(**given)


def test_intervals_hold_what_they_say_though_the_spread_of_the_models_does_not() -> None:
    random = np.random.default_rng(0)
    spreads = random.uniform(1, 10, 4000)
    errors = 3 * spreads * random.standard_normal(4000)  # models are three times too sure
    groups = [i // 4 for i in range(4000)]
    found = calibrate("strength", "MPa", errors, spreads, groups)
    assert found.coverage == pytest.approx(0.9, abs=0.02)
    assert found.sd(np.array([5.0]))[0] == pytest.approx(15, rel=0.1)
    assert "of 4000 measured values in 1000 groups" in found.text
    assert "too narrow" not in found.text


def test_errors_that_the_spread_does_not_tell_are_common_to_the_models() -> None:
    random = np.random.default_rng(1)
    found = calibrate("t", "", 7 * random.standard_normal(3000), np.full(3000, 0.01), list(range(3000)))
    assert found.residual == pytest.approx(7, rel=0.06)


def test_too_few_values_are_not_calibrated() -> None:
    with pytest.raises(DataError, match="9 measured values in 9 groups are too few"):
        calibrate("t", "", np.ones(9), np.ones(9), list(range(9)))
    with pytest.raises(DataError, match="20 measured values in 1 groups"):
        calibrate("t", "", np.ones(20), np.ones(20), ["one"] * 20)


def test_inputs_and_values_are_the_same() -> None:
    values = np.array([[0.0, 7.5, 1.0], [19.25, 0.0, 0.0]])
    inputs = inputs_of(COLUMNS, values)
    np.testing.assert_allclose(inputs[0], [-2.0, 1.25, -0.5, 0.5])
    np.testing.assert_array_equal(values_of(COLUMNS, inputs), values)


def region(**goals: Any) -> Region:
    random = np.random.default_rng(0)
    values = np.stack([random.uniform(0, 20, 50), random.uniform(0, 15, 50), random.integers(0, 2, 50)], axis=1)
    return Region(COLUMNS, values, Goals((Objective("strength", 1),), **goals))


def test_candidates_keep_sums_ranges_and_entries() -> None:
    sums = (Sum(("ni", "co"), "=", 20.0),)
    inside = region(sums=sums, ranges=(Range("co", 2.0, 8.0), Range("furnace", np.nan, np.nan, ("B",))))
    found = inside.fresh(200, np.random.default_rng(1))
    assert len(found) > 150
    np.testing.assert_allclose(found[:, 0] + found[:, 1], 20, atol=1e-6)
    assert found[:, 1].min() >= 2
    assert found[:, 1].max() <= 8
    assert set(found[:, 2]) == {1.0}
    under = region(sums=(Sum(("ni", "co"), "<=", 12.0),)).fresh(200, np.random.default_rng(1))
    assert (under[:, 0] + under[:, 1]).max() <= 12 + 1e-6
    assert len(np.unique((under[:, 0] + under[:, 1]).round(3))) > 20, "sums below the limit stay as they are"


def test_what_cannot_be_reached_is_refused_and_what_was_never_measured_is_said() -> None:
    with pytest.raises(RequestError, match=r"sum: ni \+ co is from .* within the ranges, not = 90"):
        region(sums=(Sum(("ni", "co"), "=", 90.0),))
    with pytest.raises(RequestError, match="range: furnace has no entry 'C'; allowed: A, B"):
        region(ranges=(Range("furnace", np.nan, np.nan, ("C",)),))
    assert "ni from 0 to 60 reaches beyond what was measured" in region(ranges=(Range("ni", 0.0, 60.0),)).beyond()[0]


def test_the_search_finds_the_top_of_a_hill() -> None:
    inside = region(sums=(Sum(("ni", "co"), "=", 20.0),))

    def score(values: Any) -> Any:
        return -((values[:, 0] - 13.0) ** 2) - 10 * values[:, 2]

    best = search(inside, score, np.random.default_rng(0), rounds=15)[0]
    assert best[0] == pytest.approx(13, abs=0.1)
    assert best[2] == 0.0


def calibration(residual: float = 1.0) -> Calibration:
    return Calibration("strength", "", 1.0, residual, 100, 50, 0.9, 0.5)


def posterior(mean: list[float], places: list[float], residual: float = 1.0) -> Posterior:
    every = np.array(mean)[None, :, None] + np.array([-0.1, 0.1])[:, None, None]
    return Posterior(every, np.array(places)[:, None], [calibration(residual)], 1.0)


def acquisition(best: float, goals: Goals | None = None, n_targets: int = 1) -> Acquisition:
    values = np.full((2, n_targets), best)
    values[1] -= 5.0
    targets = TARGETS[:n_targets]
    return Acquisition(goals or Goals((Objective("strength", 1),)), targets, Measured(values), np.random.default_rng(0))


def test_expected_improvement_is_that_of_a_simulation() -> None:
    draws = np.random.default_rng(0).normal(4, 2, 200_000)
    found = acquisition(5.0).improvement(np.array([[4.0]]), np.array([[2.0]]))
    assert found[0] == pytest.approx(np.maximum(draws - 5, 0).mean(), rel=0.02)
    down = acquisition(5.0, Goals((Objective("strength", -1),))).improvement(np.array([[4.0]]), np.array([[2.0]]))
    assert down[0] == pytest.approx(np.maximum(0.0 - draws, 0).mean(), rel=0.1), "the best is the smallest measured, 0"


def test_a_batch_is_diverse_where_its_first_choices_are_alike() -> None:
    places = [0.0, 0.01, 0.02, 5.0]
    mean = [5.0, 4.99, 4.98, 4.5]
    assert choose(posterior(mean, places), acquisition(4.0), 2) == [0, 3]
    assert np.argsort(-np.array(mean))[:2].tolist() == [0, 1], "the largest expected values alone are twins"


def test_what_is_known_is_certain_and_what_is_near_to_it_nearly_so() -> None:
    found = posterior([0.0, 0.0, 0.0], [0.0, 0.5, 9.0], residual=2.0)
    before = found.sd[:, 0].copy()
    found.condition(0)
    after = found.sd[:, 0]
    assert after[0] == pytest.approx(0, abs=1e-6)
    assert 0.1 < after[1] / before[1] < 0.6
    assert after[2] == pytest.approx(before[2], rel=0.02)


def test_limits_weigh_by_their_probability_and_alone_while_nothing_holds_them() -> None:
    limited = Goals((Objective("strength", 1),), (Limit("elongation", 1, 10.0),))
    mean, sd = np.array([[6.0, 10.0], [6.0, 13.0]]), np.ones((2, 2))
    holds = acquisition(11.0, limited, 2)
    assert holds.has_feasible
    np.testing.assert_allclose(holds.probability(mean, sd), [0.5, 0.99865], rtol=1e-4)
    assert not acquisition(9.0, limited, 2).has_feasible


def test_a_batch_of_several_objectives_covers_the_trade_off() -> None:
    goals = Goals((Objective("strength", 1), Objective("elongation", 1)))
    along = np.linspace(0, 10, 21)
    every = np.stack([along, 10 - along], axis=1)[None] + np.array([-0.05, 0.05])[:, None, None]
    both = Posterior(every, along[:, None], [calibration(0.3)] * 2, 0.3)
    values = Measured(np.array([[0.0, 1.0], [1.0, 0.0]]))
    chosen = choose(both, Acquisition(goals, TARGETS, values, np.random.default_rng(0)), 8)
    assert len(set(chosen)) == 8
    assert along[chosen].min() < 3
    assert along[chosen].max() > 6.9


def test_each_group_is_unseen_by_a_third_of_the_models() -> None:
    groups = [f"g{i // 5}" for i in range(60)]
    out = left_out_of(groups, 15, np.random.default_rng(0))
    np.testing.assert_array_equal(out.sum(axis=0), 5)
    assert all(len(set(out[model, i : i + 5])) == 1 for model in range(15) for i in range(0, 60, 5))
    assert ((out.mean(axis=1) > 0.25) & (out.mean(axis=1) < 0.42)).all()
