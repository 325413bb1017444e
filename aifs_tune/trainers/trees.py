"""Boosted trees as plain arrays: what scikit-learn trained, saved and predicted with without pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.hashing import Hashes, check_hashes
from aifs_tune.data.examples import Target
from aifs_tune.errors import TrainerError
from aifs_tune.trainers.checkpoint import WEIGHTS_NAME, read_state, write_state
from aifs_tune.trainers.predictions import in_target_units

BOOSTING = "boosting"
_NODE = ("feature_idx", "num_threshold", "left", "right", "value", "is_leaf")
"""Fields of a node of scikit-learn's trees that predictions need."""


@dataclass(frozen=True)
class LoadedTrees:
    """Trained trees.

    Parameters
    ----------
    nodes
        The fields of all nodes of all trees, one array (nodes,) each; ``left`` and ``right`` count within a tree.
    starts
        First node of each tree, shape (epochs, outputs).
    baseline
        Prediction without any tree, shape (outputs,).
    columns
        Indices of the columns that the trees use, shape (kept,).
    edges, edge_starts
        Bounds of the bins of all kept columns one after the other, and where those of each column begin, shape
        (kept + 1,). A column without bounds is used as it is.
    seen
        Indices into ``classes`` of the classes in the training data.
    classes, targets
        Classes or numbers that the trees predict; the other of the two is empty.
    facts
        Content of ``weights.json``.
    """

    nodes: Mapping[str, NDArray[Any]]
    starts: NDArray[np.int64]
    baseline: NDArray[np.float64]
    columns: NDArray[np.int64]
    edges: NDArray[np.float32]
    edge_starts: NDArray[np.int64]
    seen: NDArray[np.int64]
    classes: tuple[str, ...]
    targets: tuple[Target, ...]
    facts: Mapping[str, Any]

    @property
    def trainer(self) -> str:
        """Name of the trainer."""
        return BOOSTING

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Predict rows that were prepared like the training rows.

        Parameters
        ----------
        *inputs
            One float32 array (n, columns).

        Returns
        -------
        numpy.ndarray
            Probabilities, shape (n, classes), or numbers in the units of their targets, shape (n, targets).
        """
        (rows,) = inputs
        raw = self._raw(self._binned(np.asarray(rows, np.float32)))
        if self.targets:
            return in_target_units(raw.astype(np.float32), self.targets, n_classes=0)
        if raw.shape[1] == 1:
            positive = 1 / (1 + np.exp(-raw[:, 0]))
            known = np.stack([1 - positive, positive], axis=1)
        else:
            powers = np.exp(raw - raw.max(axis=1, keepdims=True))
            known = powers / powers.sum(axis=1, keepdims=True)
        probabilities = np.zeros((len(rows), len(self.classes)), np.float32)
        probabilities[:, self.seen] = known
        return probabilities

    def _binned(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        kept = rows[:, self.columns]
        for i, (begin, end) in enumerate(zip(self.edge_starts[:-1], self.edge_starts[1:], strict=True)):
            if end > begin:
                kept[:, i] = np.searchsorted(self.edges[begin:end], kept[:, i], side="right")
        return kept.astype(np.float64)

    def _raw(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the trees' values, shape (n, outputs)."""
        total = np.repeat(self.baseline[None, :], len(rows), axis=0)
        every = np.arange(len(rows))
        for starts in self.starts:
            for output, start in enumerate(starts.tolist()):
                at = np.full(len(rows), start)
                while not (is_leaf := self.nodes["is_leaf"][at]).all():
                    goes_left = rows[every, self.nodes["feature_idx"][at]] <= self.nodes["num_threshold"][at]
                    below = start + np.where(goes_left, self.nodes["left"][at], self.nodes["right"][at])
                    at = np.where(is_leaf, at, below)
                total[:, output] += self.nodes["value"][at]
        return total


def write_trees(
    folder: Path,
    model: Any,
    columns: NDArray[np.intp],
    edges: Sequence[NDArray[np.float32]],
    facts: Mapping[str, Any],
) -> Path:
    """Write the trees of a scikit-learn model as ``weights.npz`` and ``weights.json``; return the path of the first.

    ``columns`` are the indices of its inputs, ``edges`` the bounds of the bins of each, none for one that is used as it
    is.
    """
    trees = [tree.nodes for iteration in model._predictors for tree in iteration]
    sizes = np.cumsum([0, *(len(nodes) for nodes in trees)], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {f"node/{name}": np.concatenate([tree[name] for tree in trees]) for name in _NODE}
    arrays["starts"] = sizes[:-1].reshape(len(model._predictors), -1)
    arrays["baseline"] = np.asarray(model._baseline_prediction, np.float64).reshape(-1)
    arrays["columns"] = np.asarray(columns, np.int64)
    arrays["edges"] = np.concatenate([np.zeros(0, np.float32), *edges]).astype(np.float32)
    arrays["edge_starts"] = np.cumsum([0, *(len(each) for each in edges)], dtype=np.int64)
    arrays["seen"] = np.asarray(getattr(model, "classes_", []), np.int64)
    return write_state(folder, WEIGHTS_NAME, arrays, {"trainer": BOOSTING, **facts})


def load_trees(folder: Path, *, hashes: Hashes | None = None) -> LoadedTrees:
    """Load the files of :func:`write_trees`; nothing in them is executed.

    Raises
    ------
    DamagedError
        If the files do not have these ``hashes``.
    TrainerError
        If the files are missing or damaged, or do not describe trees.
    """
    if hashes is not None:
        check_hashes(folder, hashes)
    arrays, facts = read_state(folder, WEIGHTS_NAME)
    try:
        found = LoadedTrees(
            {name: arrays[f"node/{name}"] for name in _NODE},
            arrays["starts"].astype(np.int64),
            arrays["baseline"].astype(np.float64),
            arrays["columns"].astype(np.int64),
            arrays["edges"],
            arrays["edge_starts"].astype(np.int64),
            arrays["seen"].astype(np.int64),
            tuple(facts["classes"]),
            tuple(Target(**one) for one in facts["targets"]),
            facts,
        )
        _check(found, n_columns=int(facts["n_columns"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise TrainerError(f"{folder}/{WEIGHTS_NAME}.npz does not describe boosted trees ({error})") from error
    return found


def _check(found: LoadedTrees, *, n_columns: int) -> None:
    """Raise ValueError unless every walk through a tree ends, within its arrays."""
    n_nodes = len(found.nodes["value"])
    if any(array.shape != (n_nodes,) for array in found.nodes.values()) or found.starts.ndim != 2:
        raise ValueError("arrays of nodes have different lengths")
    bounds = np.append(found.starts.reshape(-1), n_nodes)
    if bounds[0] != 0 or (np.diff(bounds) < 1).any() or len(found.baseline) != found.starts.shape[1]:
        raise ValueError("trees are not one after the other")
    sizes, own = np.diff(bounds), np.arange(n_nodes) - np.repeat(bounds[:-1], np.diff(bounds))
    inner = found.nodes["is_leaf"] == 0
    for side in ("left", "right"):
        child = found.nodes[side].astype(np.int64)
        if (inner & ((child <= own) | (child >= np.repeat(sizes, sizes)))).any():
            raise ValueError("a node leads out of its tree or back")
    features = found.nodes["feature_idx"][inner].astype(np.int64)
    if len(features) and not 0 <= features.min() <= features.max() < len(found.columns):
        raise ValueError("a node asks for a column that is not there")
    if len(found.columns) and not 0 <= found.columns.min() <= found.columns.max() < n_columns:
        raise ValueError("a column is not there")
    if len(found.edge_starts) != len(found.columns) + 1 or found.edge_starts[-1] != len(found.edges):
        raise ValueError("bounds of bins do not fit the columns")
    n_outputs = max(1, len(found.targets)) if found.targets else (len(found.seen) if len(found.seen) > 2 else 1)
    if len(found.baseline) != n_outputs or (found.classes and not set(found.seen) <= set(range(len(found.classes)))):
        raise ValueError("outputs do not fit the classes")
