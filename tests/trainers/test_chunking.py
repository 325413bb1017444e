from __future__ import annotations

import pytest

from aifs_tune.trainers.network import devices
from aifs_tune.trainers.network.devices import CALL_S, ChunkSizer


class Clock:
    """Passes only when work is done."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize("batch_s", [0.001, 0.06, 0.3])
def test_calls_come_to_take_what_they_should(monkeypatch: pytest.MonkeyPatch, batch_s: float) -> None:
    clock = Clock()
    monkeypatch.setattr(devices, "time", clock)
    found = []
    for first, last in ChunkSizer().slices(2000):
        clock.now += batch_s * (last - first)
        found.append((first, last))
    assert [first for first, _ in found] == [0, *(last for _, last in found[:-1])]
    assert found[-1][1] == 2000
    lengths = [(last - first) * batch_s for first, last in found]
    assert max(lengths) <= max(CALL_S, batch_s) + 1e-6
    assert sorted(lengths)[len(lengths) // 2] >= min(0.8 * CALL_S, batch_s)


def test_a_first_call_that_compiles_does_not_slow_down_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(devices, "time", clock)
    calls = 0
    for first, last in ChunkSizer().slices(1000):
        clock.now += 0.001 * (last - first) + (2.0 if first == 0 else 0)
        calls += 1
    assert calls < 20
