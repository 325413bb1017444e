from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from aifs_tune.samplers.encoding import Axis, Encoding

AXES = {
    "float": FloatDistribution(-2.0, 3.0),
    "log": FloatDistribution(1e-6, 1e-1, log=True),
    "step": FloatDistribution(0.0, 0.7, step=0.1),
    "int": IntDistribution(1, 5),
    "int step": IntDistribution(16, 64, step=16),
    "int log": IntDistribution(1, 1024, log=True),
    "choice": CategoricalDistribution(["adam", "sgd", True, 3]),
}
axes = pytest.mark.parametrize("distribution", AXES.values(), ids=AXES)


@axes
@given(unit_point=st.floats(0, 1))
def test_every_unit_point_has_an_allowed_value_whose_unit_point_is_the_snapped_one(distribution, unit_point):
    axis = Axis(distribution)
    value = axis.values(np.array([unit_point]))[0]
    assert distribution._contains(distribution.to_internal_repr(value))
    assert axis.unit_point(value) == pytest.approx(axis.snapped(np.array([unit_point]))[0], abs=1e-9)
    assert axis.values(np.array([axis.unit_point(value)]))[0] == pytest.approx(value) if value != "adam" else True


@pytest.mark.parametrize("name", [name for name in AXES if "log" not in name])
def test_values_share_the_unit_interval_evenly(name):
    distribution = AXES[name]
    axis = Axis(distribution)
    values = axis.values((np.arange(20_000) + 0.5) / 20_000)
    counts = Counter(values)
    if len(counts) < 20:
        assert max(counts.values()) - min(counts.values()) <= 2
        return
    assert np.mean(values) == pytest.approx((distribution.low + distribution.high) / 2, abs=1e-3)


def test_choices_are_columns_that_are_all_equally_far_apart():
    encoding = Encoding({"a": CategoricalDistribution(["x", "y", "z"]), "b": FloatDistribution(0, 1)})
    assert encoding.columns.tolist() == [0, 0, 0, 1]
    x = encoding.features(np.stack([encoding.unit_point({"a": a, "b": 0.25}) for a in "xyz"]))
    squared = ((x[:, None] - x[None, :]) ** 2).sum(2)
    np.testing.assert_allclose(squared, 1 - np.eye(3))


def test_parameters_with_one_value_are_left_out():
    encoding = Encoding({"a": CategoricalDistribution(["x"]), "b": FloatDistribution(0, 1), "c": IntDistribution(3, 3)})
    assert encoding.names == ["b"]


CONDITIONAL = Encoding(
    {
        "optimizer": CategoricalDistribution(["adam", "sgd"]),
        "momentum": FloatDistribution(0, 1),
        "nesterov": CategoricalDistribution([True, False]),
        "layers": IntDistribution(1, 3),
        "third": FloatDistribution(0, 1),
    },
    {"momentum": {"optimizer": ["sgd"]}, "nesterov": {"momentum": [0.0, 1.0]}, "third": {"layers": [2, 3]}},
)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_conditions_decide_what_is_active(unit_points):
    unit_point = CONDITIONAL.deactivated(np.array([unit_points]))[0]
    params = CONDITIONAL.params(unit_point)
    assert ("momentum" in params) == (params["optimizer"] == "sgd")
    assert ("third" in params) == (params["layers"] >= 2)
    assert "nesterov" not in params or min(params["momentum"], 1 - params["momentum"]) < 1e-8
    np.testing.assert_array_equal(np.isnan(CONDITIONAL.unit_point(params)), np.isnan(unit_point))


def test_what_is_inactive_makes_no_difference():
    drawn = np.random.default_rng(0).random((50, 5))
    drawn[:, 0], drawn[:, 3], drawn[:, 4] = 0.2, 0.1, 0.5  # adam, one layer
    x = CONDITIONAL.features(CONDITIONAL.deactivated(drawn))
    assert len(np.unique(x, axis=0)) == 1


def test_a_child_whose_parent_is_fixed_to_another_value_is_never_active():
    encoding = Encoding(
        {
            "optimizer": CategoricalDistribution(["adam"]),
            "momentum": FloatDistribution(0, 1),
            "x": FloatDistribution(0, 1),
        },
        {"momentum": {"optimizer": ["sgd"]}},
    )
    assert encoding.params(encoding.deactivated(np.array([[0.3, 0.6]]))[0]) == {"x": 0.6}


def test_values_outside_a_range_that_has_changed_are_at_its_ends():
    assert Axis(FloatDistribution(0, 1)).unit_point(7.0) == 1.0
    assert Axis(IntDistribution(2, 9)).unit_point(-1) == 0.0
