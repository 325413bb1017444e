"""The inside of Ray that is relied upon, attribute by attribute: a release that moves one fails by its name."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import ray
from ray import tune
from ray.air._internal import usage
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution.resources.request import ResourceRequest
from ray.exceptions import RayActorError
from ray.tune.execution.class_cache import _ActorClassCache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.registry import TRAINABLE_CLASS, _global_registry, _Registry
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, PopulationBasedTraining
from ray.tune.schedulers.async_hyperband import _Bracket
from ray.tune.schedulers.pbt import _PBTTrialState
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator

from aifs_tune.execution.ray.nodes import ExcludedNodes, SweepResources, UncountedError, avoid_excluded_nodes
from aifs_tune.execution.ray.patches import apply_patches, searcher_of, trainable_read_once
from aifs_tune.execution.ray.searcher import StudySearcher

METHODS = [
    (TuneController, "_process_trial_failure", ["self", "trial", "exception"]),
    (RayActorManager, "_actor_task_failed", ["self", "tracked_actor_task", "exception"]),
    (_ActorClassCache, "get", ["self", "trainable_cls"]),
    (usage, "_count_callbacks", ["callbacks"]),
    (_Registry, "get", ["self", "category", "key"]),
    (_Registry, "contains", ["self", "category", "key"]),
    (ResourceRequest, "to_placement_group", ["self"]),
    (PopulationBasedTraining, "_quantiles", ["self"]),
    (PopulationBasedTraining, "_save_trial_state", ["self", "state", "time", "result", "trial"]),
    (tune.Trainable, "train_buffered", ["self", "buffer_time_s", "max_buffer_length"]),
    (tune.Trainable, "reset_config", ["self", "new_config"]),
]

ATTRIBUTES = [
    (TuneController, "_search_alg"),
    (TuneController, "_resetting_trials"),
    (TuneController, "_trial_to_actor"),
    (TuneController, "_actor_cache"),
    (_ActorClassCache, "_cache"),
    (SearchGenerator, "searcher"),
    (ConcurrencyLimiter, "searcher"),
    (Trial, "placement_group_factory"),
    (PopulationBasedTraining, "_trial_state"),
    (PopulationBasedTraining, "_num_perturbations"),
    (PopulationBasedTraining, "_perturbation_interval"),
    (PopulationBasedTraining, "_next_perturbation_sync"),
    (_PBTTrialState, "last_train_time"),
    (_PBTTrialState, "last_score"),
    (ASHAScheduler, "_brackets"),
    (ASHAScheduler, "_trial_info"),
    (_Bracket, "_rungs"),
    (MedianStoppingRule, "_stopped_trials"),
]


@pytest.mark.parametrize(("owner", "name", "parameters"), METHODS, ids=lambda part: getattr(part, "__name__", part))
def test_a_private_method_of_ray_has_the_parameters_that_are_passed(owner, name, parameters):
    found = getattr(owner, name)
    assert list(inspect.signature(inspect.unwrap(found)).parameters) == parameters, f"{owner.__name__}.{name}"


@pytest.mark.parametrize(("owner", "name"), ATTRIBUTES, ids=lambda part: getattr(part, "__name__", part))
def test_a_private_attribute_of_ray_is_set(owner, name):
    sources = "".join(inspect.getsource(cls) for cls in owner.__mro__ if cls.__module__.startswith("ray."))
    assert re.search(rf"self\.{name}\b\s*(:[^=\n]+)?=", sources), f"{owner.__name__}.{name} is set nowhere"


def test_an_error_that_says_preempted_counts_as_no_failure():
    assert isinstance(RayActorError.preempted, property)
    assert UncountedError().preempted


def test_a_controller_of_something_else_is_left_alone():
    assert searcher_of(SimpleNamespace(_search_alg=SearchGenerator(Searcher()))) is None
    ours = StudySearcher.__new__(StudySearcher)
    limited = ConcurrencyLimiter.__new__(ConcurrencyLimiter)
    limited.searcher = ours
    assert searcher_of(SimpleNamespace(_search_alg=SimpleNamespace(searcher=limited))) is ours


def test_a_trainable_is_read_once_while_its_sweep_runs(monkeypatch):
    apply_patches()
    n_read = []
    monkeypatch.setattr("ray.tune.registry._internal_kv_initialized", lambda: False)
    monkeypatch.setattr("ray.tune.registry.pickle.loads", lambda value: n_read.append(value) or value)
    monkeypatch.setitem(_global_registry._to_flush, (TRAINABLE_CLASS, "mine"), b"mine")
    monkeypatch.setitem(_global_registry._to_flush, (TRAINABLE_CLASS, "other"), b"other")
    with trainable_read_once("mine"):
        assert [_global_registry.get(TRAINABLE_CLASS, name) for name in ("mine", "other") * 2] == [
            b"mine",
            b"other",
        ] * 2
        assert _global_registry.contains(TRAINABLE_CLASS, "mine")
        assert not _global_registry.contains(TRAINABLE_CLASS, "third")
    assert n_read.count(b"mine") == 1
    assert n_read.count(b"other") == 2
    assert _global_registry.get(TRAINABLE_CLASS, "mine") == b"mine"
    assert n_read.count(b"mine") == 2


def test_only_our_trainables_start_in_preloaded_workers(monkeypatch):
    apply_patches()
    asked = []
    monkeypatch.setattr(ray, "remote", lambda runtime_env: lambda cls: asked.append((cls.__name__, runtime_env)) or cls)

    class Ours:
        uses_preloaded_workers = True

    class Theirs: ...

    classes = _ActorClassCache()
    for cls in (Ours, Theirs, Ours):
        assert classes.get(cls) is cls
    assert asked[0] == ("Ours", {"env_vars": {}})
    assert asked[1][0] == "Theirs"
    assert "PL_DISABLE_FORK" in asked[1][1]["env_vars"]
    assert len(asked) == 2


def test_callbacks_of_a_sweep_are_counted_without_loading_trackers():
    code = (
        "import sys\n"
        "from ray.air._internal import usage\n"
        "from aifs_tune.execution.ray.callback import TrialMonitor\n"
        "from aifs_tune.execution.ray.patches import apply_patches\n"
        "apply_patches()\n"
        "print(usage._count_callbacks([TrialMonitor.__new__(TrialMonitor)]), 'mlflow' in sys.modules)\n"
        "from ray.tune.logger import CSVLoggerCallback\n"
        "print(dict(usage._count_callbacks([CSVLoggerCallback()])))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["{'CustomCallback': 1} False", "{'CSVLoggerCallback': 1}"]


def test_resources_of_a_sweep_avoid_its_excluded_nodes_also_in_a_copy(monkeypatch):
    asked = []

    def placement_group(bundles, strategy="PACK", **options):
        asked.append(options.get("bundle_label_selector"))

    monkeypatch.setattr("aifs_tune.execution.ray.nodes.placement_group", placement_group)
    monkeypatch.setattr("ray.air.execution.resources.request.placement_group", placement_group)
    resources = [pickle.loads(pickle.dumps(SweepResources(cpu=1, gpu=0, sweep=sweep))) for sweep in ("a", "b")]
    excluded = ExcludedNodes(lambda nodes: True, str)
    excluded.add("n1", "others")
    with avoid_excluded_nodes("a", excluded):
        for each in resources:
            each.to_placement_group()
    resources[0].to_placement_group()
    assert asked == [[{"ray.io/node-id": "!in(n1)"}], None, None]
