"""How many trials run at the same time, by what Ray has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aifs_tune.config.search import SearchSpec
from aifs_tune.config.sweep import Resources
from aifs_tune.errors import RequestError, WorkError
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


@pytest.mark.parametrize(
    ("search", "resources", "says"),
    [
        ({"workers": 50}, {}, r"search.workers: 50 trials at a time with 1 CPU each need 50 cores, and .* has 2; .* 2"),
        ({"workers": 1}, {"cpu": 64.0}, "resources.cpu: one trial is to use 64 cores, and this machine has 2"),
        ({"workers": 2}, {"cpu": 1.5}, "search.workers: 2 .* need 3 cores"),
    ],
)
def test_cores_that_do_not_exist_are_refused_before_ray_starts(monkeypatch, search, resources, says):
    monkeypatch.setattr(cluster.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", lambda **_: pytest.fail("Ray was started"))
    with pytest.raises(RequestError, match=says), ray_pool(SearchSpec(**search), Resources(**resources), RayConfig()):
        pass


@pytest.fixture
def init(monkeypatch):
    """In place of Ray's start one that fails as often as asked."""
    asked: list[dict[str, Any]] = []

    def failing(n_times: int) -> list[dict[str, Any]]:
        def start(**options: Any) -> None:
            asked.append(options | {"environment": dict(cluster.os.environ)})
            if len(asked) <= n_times:
                raise Exception("The current node timed out during startup.\n  This could happen because ...")

        monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
        monkeypatch.setattr(cluster.ray, "init", start)
        monkeypatch.setattr(cluster.ray, "shutdown", lambda: None)
        monkeypatch.setattr(cluster.ray, "nodes", list)
        monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 1})
        return asked

    return failing


def test_a_ray_that_does_not_start_in_time_is_started_once_more(init):
    asked = init(1)
    with ray_pool(SearchSpec(workers=1), Resources(), RayConfig()) as pool:
        assert pool.workers == 1
    assert len(asked) == 2


def test_a_ray_that_does_not_start_twice_is_one_sentence(init):
    asked = init(2)
    with (
        pytest.raises(WorkError, match=r"^Ray did not start on this machine, twice: The current node timed") as caught,
        ray_pool(SearchSpec(workers=1), Resources(), RayConfig()),
    ):
        pass
    assert len(asked) == 2
    assert "\n" not in str(caught.value)
    assert "Nothing was run or stored" in str(caught.value)


@pytest.fixture
def authentication_is_off():
    """The environment of somebody who has switched Ray's tokens off; Ray keeps what it reads of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("RAY_AUTH_TOKEN", raising=False)
        yield
    cluster._read_environment_again()


@pytest.mark.usefixtures("authentication_is_off")
def test_a_ray_of_our_own_has_a_token_and_a_folder_of_this_user_whatever_is_inherited(init):
    asked = init(0)
    for _ in range(2):
        with ray_pool(SearchSpec(workers=1), Resources(), RayConfig()):
            folder = Path(asked[-1]["_temp_dir"]).parent
            assert folder.stat().st_mode & 0o077 == 0
        assert not folder.exists()
    tokens = [each["environment"]["RAY_AUTH_TOKEN"] for each in asked]
    assert len(set(tokens)) == 2
    assert min(map(len, tokens)) >= 32
    assert {each["environment"]["RAY_AUTH_MODE"] for each in asked} == {"token"}
    assert cluster.os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in cluster.os.environ
