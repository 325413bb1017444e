from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifs_tune.errors import RequestError
from aifs_tune.trainers.models.cnn import ALLOWED, CnnParams, CnnShape


def test_every_parameter_has_a_default_that_is_allowed() -> None:
    defaults = CnnParams()
    assert set(vars(defaults)) == set(ALLOWED)
    assert CnnParams.from_mapping({}) == defaults
    assert CnnParams.from_mapping(vars(defaults)) == defaults


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("dropout", 1.0),
        ("dropout", "0.5"),
        ("batch_size", 32.5),
        ("batch_size", True),
        ("horizontal_flip", 1),
        ("optimizer", "rmsprop"),
        ("zoom", -0.1),
        ("conv_blocks", 0),
    ],
)
def test_a_value_that_is_not_allowed_is_named(name: str, value: float | str) -> None:
    with pytest.raises(RequestError, match=f"{name}: .*allowed: ") as caught:
        CnnParams.from_mapping({name: value})
    assert repr(value) in str(caught.value)


def test_an_unknown_name_is_named_with_all_that_are_known() -> None:
    with pytest.raises(RequestError, match=r"'lerning_rate': 0\.1 .*learning_rate, optimizer"):
        CnnParams.from_mapping({"lerning_rate": 0.1})


def test_a_whole_number_becomes_a_float_where_one_is_wanted() -> None:
    assert type(CnnParams(rotation_deg=15).rotation_deg) is float
    assert type(CnnParams(filters=8.0).filters) is int  # type: ignore[arg-type]


def test_hyperparameters_of_a_step_are_all_that_leave_the_shape_as_it_is() -> None:
    params = CnnParams()
    numbers = [name for name in params.hyperparameters() if type(vars(params)[name]) is not bool]
    changed = CnnParams(**{name: vars(params)[name] / 2 for name in numbers})
    assert CnnShape.of(changed, (64, 64, 3), 3) == CnnShape.of(params, (64, 64, 3), 3)
    assert params.hyperparameters()["horizontal_flip"] == 1.0
    assert params.hyperparameters()["vertical_flip"] == 0.0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(1, 7))
def test_a_shape_either_fits_or_says_from_which_size_on(height: int, width: int, blocks: int, kernel: int) -> None:
    least = 1
    for _ in range(blocks):
        least = 2 * least + kernel - 1
    params = CnnParams(conv_blocks=blocks, kernel_size=kernel, filters=2)
    if min(height, width) >= least:
        shape = CnnShape.of(params, (height, width, 1), 2)
        assert all(length >= 1 for size in shape.block_sizes for length in size)
    else:
        with pytest.raises(RequestError, match=f"{height}x{width} px; .* at least {least} px"):
            CnnShape.of(params, (height, width, 1), 2)


def test_a_network_beyond_memory_is_refused() -> None:
    with pytest.raises(RequestError, match=r"1024, 2 and 65536 .* weights; allowed: at most 268,435,456"):
        CnnShape.of(CnnParams(filters=1024, dense_units=65536), (224, 224, 3), 3)


def test_sizes_of_the_default_network() -> None:
    shape = CnnShape.of(CnnParams(), (224, 224, 3), 10)
    assert shape.block_sizes == [(111, 111, 32), (54, 54, 64)]
    assert shape.weight_shapes["dense.kernel"] == (54 * 54 * 64, 256)
    assert shape.n_weights == 896 + 18496 + 54 * 54 * 64 * 256 + 256 + 2570


def test_checking_parameters_loads_no_tensorflow() -> None:
    check = "import sys, aifs_tune.trainers.models.cnn; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
