"""What a document can make this package compute is bounded, whatever its constraints are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import RequestError
from aifs_tune.space import constraints as constraints_module
from aifs_tune.space.expressions import MAX_LENGTH, parse

FLOATS = {f"p{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(20)}

HANGS_S = 20.0
"""A computation that takes so long does not end in about a second anywhere: a limit against hanging, no timing."""

leaves = st.sampled_from([*FLOATS, "0", "1", "2.5", "9", "1e300", "'a'", "true", "zz"])
signs = st.sampled_from(["+", "-", "*", "/", "%", "**", "<", "<=", ">", "==", "!=", "and", "or"])
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, signs, inner).map(" ".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"not {text}"),
        st.tuples(st.sampled_from(["min", "exp", "log", "foo"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        st.tuples(leaves, st.lists(leaves, max_size=30)).map(lambda t: f"{t[0]} in [{', '.join(t[1])}]"),
    ),
    max_leaves=60,
)


@contextmanager
def ends() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < HANGS_S


def sweep(constraints, space=FLOATS):
    search = {"scheduler": "none"}
    return {"name": "a", "objective": {"metric": "v", "mode": "max"}, "space": space, "constraints": constraints} | {
        "search": search
    }


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(expressions.map(lambda text: text[:MAX_LENGTH]), min_size=1, max_size=100))
def test_any_constraints_are_checked_or_refused_in_bounded_time(texts):
    with ends(), suppress(RequestError):
        parse_sweep(sweep(texts))


@pytest.mark.parametrize("n_parameters", [20, 3000])
def test_the_work_of_looking_for_a_configuration_that_is_allowed_is_bounded(monkeypatch, n_parameters):
    names = [f"p{i}" for i in range(n_parameters)]
    space = {name: {"type": "float", "low": 0.0, "high": 1.0} for name in names}
    of_each = [" + ".join(names[i % n_parameters : i % n_parameters + 30]) for i in range(0, 30 * 100, 30)]
    n_drawn = 0
    drawn = constraints_module.RandomTrial.suggest_float

    def counted(*given, **options):
        nonlocal n_drawn
        n_drawn += 1
        return drawn(*given, **options)

    monkeypatch.setattr(constraints_module.RandomTrial, "suggest_float", counted)
    with pytest.raises(RequestError, match=r"none of .* random configurations satisfies"):
        parse_sweep(sweep([f"{total} < -1" for total in of_each if total], space))
    assert 0 < n_drawn <= constraints_module.MAX_WORK / 10 + n_parameters


def test_threads_may_parse_at_the_same_time():
    nested = [f"{'(' * depth}p{depth}{')' * depth} > 0" for depth in range(1, 60)]

    def parse_all(_: int) -> int:
        n_parsed = 0
        for text in nested:
            with suppress(PydanticCustomError):
                parse(text)
                n_parsed += 1
        return n_parsed

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(parse_all, range(60)))
    assert len(set(found)) == 1
    assert found[0] > 0
