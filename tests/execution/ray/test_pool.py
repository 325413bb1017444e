"""How many trials run at the same time, by what Ray has."""

from __future__ import annotations

from typing import Any

import pytest

from aifs_tune.config.search import SearchSpec
from aifs_tune.config.sweep import Resources
from aifs_tune.errors import RequestError
from aifs_tune.execution.context import RayConfig
from aifs_tune.execution.ray import cluster
from aifs_tune.execution.ray.cluster import Pool, ray_pool


@pytest.fixture
def pool_of(monkeypatch):
    """The pool of a Ray that has these resources; ``search`` and ``resources`` as in a sweep file."""

    def made(there: dict[str, float], search: dict[str, Any] | None = None, **resources: Any) -> Pool:
        monkeypatch.setattr(cluster.ray, "is_initialized", lambda: True)
        monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: there)
        monkeypatch.setattr(cluster.ray, "nodes", lambda: [{"Alive": True}, {"Alive": False}, {"Alive": True}])
        with ray_pool(SearchSpec(**(search or {})), Resources(**resources), RayConfig()) as pool:
            return pool

    return made


def test_auto_without_a_gpu_is_the_cpu(pool_of):
    pool = pool_of({"CPU": 4}, gpu="auto")
    assert (pool.gpu, pool.workers, pool.is_to_be_measured) == (0.0, 4, False)


def test_auto_begins_with_a_whole_gpu_and_can_be_shared_out_then(pool_of):
    pool = pool_of({"CPU": 16, "GPU": 2}, gpu="auto")
    assert (pool.gpu, pool.workers, pool.is_to_be_measured, pool.n_nodes) == (1.0, 2, True, 2)
    shared = pool.with_gpu(0.25)
    assert (shared.gpu, shared.workers, shared.is_to_be_measured) == (0.25, 8, False)
    assert pool.useful_on_a_gpu(100) == 8
    assert pool.useful_on_a_gpu(3) == 2
    assert pool_of({"CPU": 16, "GPU": 2}, {"workers": 4}, gpu="auto").useful_on_a_gpu(100) == 2


@pytest.mark.parametrize(("gpu", "workers"), [(0.25, 8), (0.3, 6), (0.4, 4), (0.6, 2), (1.0, 2), (2.0, 1), (0.3333, 6)])
def test_no_trial_has_parts_of_two_gpus(pool_of, gpu, workers):
    assert pool_of({"CPU": 64, "GPU": 2}, gpu=gpu).workers == workers


def test_more_than_there_is_is_refused(pool_of):
    with pytest.raises(RequestError, match=r"one trial needs 1 CPU and 0\.5 GPU; Ray has 4 CPU and 0 GPU"):
        pool_of({"CPU": 4}, gpu=0.5)
