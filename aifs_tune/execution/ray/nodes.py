"""Excluded nodes: trials are placed beside nodes that cannot run them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.util.placement_group import placement_group

from aifs_tune.errors import WorkError

_NODE_ID = "ray.io/node-id"
"""A label that Ray gives to each node."""
_MOST_REPEATED = 100
NODE_DIED = "its node has died"
"""What Ray says of an actor that was lost with its node."""


class LeavingNodes:
    """Nodes that are about to leave the cluster, or have left since the last look."""

    def __init__(self) -> None:
        self._gone: set[str] = set()

    def are_there(self) -> bool:
        """Whether there are any: a worker that dies now may have been ended with its machine."""
        if not ray.is_initialized():
            return False
        gone = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
        is_new, self._gone = bool(gone - self._gone), gone
        return is_new or bool(ray._private.state.state.get_draining_nodes())


class UncountedError(RayActorError):  # type: ignore[misc]
    """A worker cannot go on, by no fault of its trial. Tune starts that in another one and counts no failure."""

    @property
    def preempted(self) -> bool:
        """True: Tune does not count the failure."""
        return True


class UnusableNodeError(UncountedError):
    """The machine of a worker cannot run trials of the study; ``node`` is its id in Ray."""

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(error_msg=reason)
        self.args = (node, reason)
        self.node, self.reason = node, reason


class ExcludedNodes:
    """Nodes that get no more trials. ``is_room`` says whether any other node is left."""

    def __init__(self, is_room: Callable[[Collection[str]], bool], tell: Callable[[str], None]) -> None:
        self._is_room, self._tell = is_room, tell
        self._n_told: Counter[str] = Counter()

    def add(self, node: str, reason: str) -> WorkError | None:
        """Exclude a node; return the error that ends the sweep if there is no other node."""
        self._n_told[node] += 1
        if self._n_told[node] == 1:
            self._tell(f"node {node[:12]} gets no more trials: {reason}")
        if not self._is_room(self._n_told):
            return WorkError(f"no node is left that can run a trial; the last one failed with: {reason}")
        if self._n_told[node] > _MOST_REPEATED:  # what was placed before it was left out is less than that
            return WorkError(f"Ray keeps placing trials on a node that cannot run them: {reason}")
        return None

    @property
    def selector(self) -> dict[str, str]:
        """Label selector for Ray's placement groups."""
        return {_NODE_ID: f"!in({','.join(sorted(self._n_told))})"} if self._n_told else {}


_EXCLUDED: dict[str, ExcludedNodes] = {}
"""Excluded nodes of the sweeps that run in this process, by the sweep's id."""


@contextmanager
def avoid_excluded_nodes(sweep: str, excluded_nodes: ExcludedNodes) -> Iterator[None]:
    """While this lasts, the :class:`SweepResources` of ``sweep`` are placed beside these nodes."""
    _EXCLUDED[sweep] = excluded_nodes
    try:
        yield
    finally:
        del _EXCLUDED[sweep]


class SweepResources(tune.PlacementGroupFactory):  # type: ignore[misc]
    """CPUs and GPUs of one trial of a sweep, on a node that the sweep does not exclude.

    Tune keeps copies of it in several processes, so it knows its sweep by the id.
    """

    def __init__(self, *, cpu: float, gpu: float, sweep: str) -> None:
        super().__init__([{"CPU": cpu, "GPU": gpu}])
        self._sweep = sweep

    def to_placement_group(self) -> Any:
        """Ask Ray for the resources."""
        excluded_nodes = _EXCLUDED.get(self._sweep)
        selector = excluded_nodes.selector if excluded_nodes is not None else {}
        if not selector:
            return super().to_placement_group()
        return placement_group(self.bundles, self.strategy, bundle_label_selector=[selector] * len(self.bundles))
