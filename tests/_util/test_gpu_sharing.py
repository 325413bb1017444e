"""How much of a GPU a trial needs, gets and is retried with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifs_tune._util.gpu_sharing import (
    CONTEXT_MB,
    MARGIN,
    choose_fraction,
    describe_gpus,
    gpu_fraction,
    larger_fraction,
    limit_mb,
    memory_verdict,
    n_fitting,
    needed_fraction,
)
from aifs_tune._util.memory import MemoryUsage
from aifs_tune.errors import RequestError

TOTAL_MB = st.floats(2_000, 200_000)
N = st.integers(1, 64)


def test_a_share_is_limited_to_its_part_without_the_drivers():
    assert limit_mb(0.25, 80_000) == 19_400
    with pytest.raises(
        RequestError, match=r"resources\.gpu: 0\.05 of a GPU with 8,192 MB is too little.*allowed: 0\.086 or more"
    ):
        limit_mb(0.05, 8_192)
    assert limit_mb(0.086, 8_192) >= 100


@given(n=N, total=TOTAL_MB)
def test_the_limits_of_all_who_share_a_gpu_and_their_contexts_fit_on_it(n, total):
    share = gpu_fraction(n)
    if share * total >= CONTEXT_MB + 101:
        assert n * (limit_mb(share, total) + CONTEXT_MB) <= total
    assert n * share <= 1
    assert int(1 / share + 1e-9) >= n


@given(peak=st.floats(1, 100_000), total=TOTAL_MB)
def test_as_many_fit_as_their_margin_and_contexts_leave_room_for(peak, total):
    n = n_fitting(peak, total)
    assert n == 1 or n * (MARGIN * peak + CONTEXT_MB) <= total * (1 + 1e-9)
    assert (n + 1) * needed_fraction(peak, total) > 1


def test_a_larger_share_is_twice_as_much_up_to_a_whole_gpu():
    assert [larger_fraction(share) for share in (0.1, 0.3333, 0.5, 0.7)] == [0.2, 0.6666, 1.0, 1.0]
    assert [larger_fraction(share) for share in (0.0, 1.0, 2.0)] == [None, None, None]


def test_shares_in_words():
    assert [describe_gpus(share) for share in (0.25, 1.0, 2.0)] == ["0.25 of a GPU", "a whole GPU", "2 GPUs"]


@pytest.mark.parametrize(
    ("share", "words", "silent"),
    [
        (
            0.0625,
            ["at most 3,000 MB of a GPU with 81,920 MB: 16 such trials fit on it, each with 1.5 times"],
            "warning",
        ),
        (
            0.5,
            ["16 such trials fit", "warning: resources.gpu, 0.5, is 8.0 times what a trial needs; with 0.0625 or auto"],
            "less",
        ),
        (1.0, ["warning: resources.gpu, 1, is 16.1 times"], "less"),
        (0.05, ["warning: resources.gpu, 0.05, is less than the 0.062 that a trial needs"], "auto"),
    ],
)
def test_the_first_trials_memory_says_how_many_fit_on_a_gpu(share, words, silent):
    said = memory_verdict(MemoryUsage(gpu_peak_mb=3_000, gpu_mb=81_920), share, per_node=4)
    assert said is not None
    assert all(word in said for word in words), said
    assert silent not in said


def test_the_share_is_chosen_by_memory_and_by_what_else_limits():
    memory_usage = MemoryUsage(gpu_peak_mb=3_000, gpu_mb=81_920)
    share, said = choose_fraction(memory_usage, useful=64)
    assert share == 0.0625
    assert said.startswith("resources.gpu: auto is 0.0625; the first trial used at most 3,000 MB")
    assert choose_fraction(memory_usage, useful=3)[0] == 0.3333
    assert choose_fraction(MemoryUsage(gpu_peak_mb=70_000, gpu_mb=81_920), useful=64)[0] == 1.0


@pytest.mark.parametrize(
    ("memory_usage", "words"),
    [
        (MemoryUsage(gpu_mb=81_920), "the GPU memory used by the first trial is unknown"),
        (MemoryUsage(gpu_peak_mb=3_000), "the memory of the GPU is unknown"),
    ],
)
def test_without_a_measurement_a_trial_keeps_a_whole_gpu(memory_usage, words):
    share, said = choose_fraction(memory_usage, useful=4)
    assert share == 1.0
    assert words in said


def test_a_trial_that_needs_a_whole_gpu_is_not_warned_of():
    said = memory_verdict(MemoryUsage(gpu_peak_mb=70_000, gpu_mb=81_920), 1.0, per_node=1)
    assert said is not None
    assert "1 such trials fit" in said
    assert "warning" not in said


def test_what_is_not_known_is_said_or_left_out():
    assert "nvidia-smi does not report" in str(memory_verdict(MemoryUsage(gpu_peak_mb=3_000), 0.5, per_node=1))
    assert memory_verdict(MemoryUsage(ram_mb=900, node_mb=8_000), 0.5, per_node=1) is None
    assert memory_verdict(MemoryUsage(gpu_peak_mb=3_000, gpu_mb=81_920), 2.0, per_node=1) is None
    assert memory_verdict(MemoryUsage(), 0.0, per_node=99) is None


def test_workers_that_a_machine_has_no_memory_for_are_warned_of():
    memory_usage = MemoryUsage(ram_mb=900, node_mb=8_000)
    assert memory_verdict(memory_usage, 0.0, per_node=8) is None
    said = memory_verdict(memory_usage, 0.0, per_node=9)
    assert said is not None
    assert "9 workers run at the same time on a machine with 8,000 MB, which is enough for 8" in said
