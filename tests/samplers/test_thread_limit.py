"""Linear algebra of the model runs in one thread, however many cores the machine has."""

from __future__ import annotations

import optuna
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import aifs_tune.samplers.aifs as aifs
from aifs_tune.samplers.aifs import AifsSampler
from aifs_tune.samplers.thread_limit import single_blas_thread


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_linear_algebra_has_one_thread_while_it_lasts() -> None:
    with threadpool_limits(2, user_api="blas"):
        with single_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {2}


def test_a_proposal_is_made_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, propose = [], aifs.propose
    monkeypatch.setattr(aifs, "propose", lambda *given: seen.append(blas_threads()) or propose(*given))
    study = optuna.create_study(sampler=AifsSampler(seed=0, last_epoch=2))
    with threadpool_limits(2, user_api="blas"):
        for _ in range(14):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
            trial.report(x, 1)
            study.tell(trial, x * x)
    assert seen
    assert all(threads == {1} for threads in seen)
