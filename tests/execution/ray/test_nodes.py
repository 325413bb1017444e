"""Nodes that cannot run the trials of a study."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

from aifs_tune.config.data import DataSpec
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import DataError, NodeError, StorageError, WorkError
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.ray.fused import _started
from aifs_tune.execution.ray.nodes import ExcludedNodes, UnusableNodeError
from aifs_tune.execution.ray.trainable import TrialTrainable
from aifs_tune.execution.runner import Runner


@pytest.mark.parametrize("error", [DataError("the data on far are others"), StorageError("no room")])
def test_what_keeps_a_machine_from_its_data_is_no_fault_of_the_trial(tmp_path, monkeypatch, error):
    def fails(*_: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aifs_tune.data.node_copy.find_local_copy", fails)
    spec = parse_sweep({"name": "r", "trainer": "cnn", "space": {"dropout": 0.1}})
    spec = spec.model_copy(update={"data": DataSpec(folder=tmp_path)})
    context = TrialContext(spec, tmp_path / "elsewhere", tmp_path, tmp_path, "fingerprint")
    runner = Runner(context, lambda params, seed: pytest.fail(f"trains on {context.data_location()}"))
    runner.start(0, {"dropout": 0.1}, 1)
    with pytest.raises(NodeError, match=str(error)):
        runner.next_result()


def test_a_trial_that_was_misplaced_is_tried_again_whatever_its_retries():
    told = pickle.loads(pickle.dumps(UnusableNodeError("a1", "others")))
    assert (told.node, told.reason, str(told)) == ("a1", "others", "others")
    trial = Trial("x", stub=True)
    for _ in range(3):
        trial._handle_ray_task_error(RayTaskError("train", "", told).as_instanceof_cause())
    assert trial.run_metadata.num_failures == 0


@pytest.mark.parametrize("error", [StorageError("the store does not answer"), OSError(28, "No space left on device")])
def test_a_population_that_cannot_keep_a_checkpoint_loses_no_trial(monkeypatch, error):
    def fails() -> None:
        raise error

    here = SimpleNamespace(get_node_id=lambda: "a1")
    monkeypatch.setattr("aifs_tune.execution.ray.trainable.ray", SimpleNamespace(get_runtime_context=lambda: here))
    worker = TrialTrainable.__new__(TrialTrainable)
    worker._runner = SimpleNamespace(keep=fails)
    with pytest.raises(UnusableNodeError, match=r"a checkpoint cannot be saved: .*(answer|space left)") as raised:
        worker.save()
    assert raised.value.node == "a1"


def test_the_sweep_ends_when_no_node_is_left():
    said: list[str] = []
    excluded_nodes = ExcludedNodes(lambda nodes: len(nodes) < 3, said.append)
    assert excluded_nodes.selector == {}
    assert [excluded_nodes.add(node, "others") for node in ("b2", "a1", "a1")] == [None] * 3
    assert said == [f"node {node} gets no more trials: others" for node in ("b2", "a1")]
    assert excluded_nodes.selector == {"ray.io/node-id": "!in(a1,b2)"}
    problem = str(excluded_nodes.add("c3", "others"))
    assert "no node is left that can run a trial; the last one failed with: others" in problem


def test_the_sweep_ends_when_ray_goes_on_with_a_node_that_is_left_out():
    excluded_nodes = ExcludedNodes(lambda nodes: True, str)
    told = [excluded_nodes.add("a1", "others") for _ in range(101)]
    assert told[:-1] == [None] * 100
    assert "Ray keeps placing trials on a node that cannot run them: others" in str(told[-1])


def test_a_population_that_was_misplaced_is_started_on_another_node(monkeypatch):
    """With a Ray that answers at once."""

    def get(answer: object, timeout: float | None = None) -> object:
        del timeout
        if isinstance(answer, Exception):
            raise answer
        return answer

    killed: list[object] = []
    fake = SimpleNamespace(get=get, wait=lambda *_, **__: None, kill=killed.append)
    monkeypatch.setattr("aifs_tune.execution.ray.fused.ray", fake)
    excluded_nodes = ExcludedNodes(lambda nodes: len(nodes) < 2, lambda line: None)
    started: list[dict[str, str]] = []

    def start() -> object:
        answer = 3 if excluded_nodes.selector else RayTaskError("size", "", UnusableNodeError("a1", "others"))
        started.append(excluded_nodes.selector)
        return SimpleNamespace(size=SimpleNamespace(remote=lambda: answer))

    assert [population.size.remote() for population in _started(2, start, excluded_nodes)] == [3, 3]
    assert started == [{}, {}, *[{"ray.io/node-id": "!in(a1)"}] * 2]
    assert len(killed) == 2
    with pytest.raises(WorkError, match="no node is left"):
        _started(
            1,
            lambda: SimpleNamespace(size=SimpleNamespace(remote=lambda: UnusableNodeError("b2", "x"))),
            excluded_nodes,
        )
    assert len(killed) == 3
