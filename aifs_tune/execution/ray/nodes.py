"""Nodes of a cluster that cannot run the trials of a study: those are placed on other ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution.resources.request import ResourceRequest
from ray.exceptions import RayActorError
from ray.tune.execution.tune_controller import TuneController
from ray.util.placement_group import placement_group

from aifs_tune.errors import WorkError

_NODE_ID = "ray.io/node-id"
"""A label that Ray gives to each node."""
_MOST_REPEATED = 100


class UncountedError(RayActorError):  # type: ignore[misc]
    """A worker cannot go on, for no fault of its trial: Tune starts that in another one and counts no failure."""

    @property
    def preempted(self) -> bool:
        """What makes Tune not count it."""
        return True


class UnusableNodeError(UncountedError):
    """The machine of a worker cannot run the trials of the study; ``node`` is what Ray calls it."""

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(error_msg=reason)
        self.args = (node, reason)
        self.node, self.reason = node, reason


class ExcludedNodes:
    """The nodes that no trial is given to any more. ``is_room`` says whether any node is left beside some."""

    def __init__(self, is_room: Callable[[Collection[str]], bool], tell: Callable[[str], None]) -> None:
        self._is_room, self._tell = is_room, tell
        self._n_told: Counter[str] = Counter()

    def add(self, node: str, reason: str) -> WorkError | None:
        """Leave a node out; why the sweep cannot go on, if there is no other one."""
        self._n_told[node] += 1
        if self._n_told[node] == 1:
            self._tell(f"node {node[:12]} is given no more trials: {reason}")
        if not self._is_room(self._n_told):
            return WorkError(f"no node is left that can run a trial; the last one: {reason}")
        if self._n_told[node] > _MOST_REPEATED:  # what was placed before it was left out is less than that
            return WorkError(f"Ray goes on placing trials on a node that cannot run them: {reason}")
        return None

    @property
    def selector(self) -> dict[str, str]:
        """What a node is to be for a trial, in Ray's labels."""
        return {_NODE_ID: f"!in({','.join(sorted(self._n_told))})"} if self._n_told else {}


@contextmanager
def avoid_excluded_nodes(excluded_nodes: ExcludedNodes, give_up: Callable[[WorkError], None]) -> Iterator[None]:
    """While it lasts, Tune's trials whose workers raise :class:`UnusableNodeError` go to other nodes; ``give_up`` is
    told
    if there is none."""
    placed, fail = ResourceRequest.to_placement_group, TuneController._process_trial_failure

    def placed_beside(request: Any) -> Any:
        if not excluded_nodes.selector:
            return placed(request)
        return placement_group(
            request.bundles, request.strategy, bundle_label_selector=[excluded_nodes.selector] * len(request.bundles)
        )

    def failed(controller: Any, trial: Any, exception: Any) -> None:
        cause = getattr(exception, "cause", exception)
        if (
            isinstance(cause, UnusableNodeError)
            and (problem := excluded_nodes.add(cause.node, cause.reason)) is not None
        ):
            give_up(problem)
        fail(controller, trial, exception)

    ResourceRequest.to_placement_group = placed_beside
    TuneController._process_trial_failure = failed
    try:
        yield
    finally:
        ResourceRequest.to_placement_group = placed
        TuneController._process_trial_failure = fail
