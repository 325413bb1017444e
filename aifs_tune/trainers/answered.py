"""What a trained model answered for the test part, on disk: ``test.npz`` and ``test.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import TrainerError
from aifs_tune.trainers.checkpoint import read_state, write_state

NAME = "test"


@dataclass(frozen=True)
class Predictions:
    """Truths and answers for ``rows`` (n,) of the prepared data.

    Of classes: ``truths`` (n,) are indices into ``classes`` and ``answers`` (n, classes) probabilities. Of numbers:
    both are (n, targets), in the units of the targets.
    """

    rows: NDArray[np.int32]
    y_true: NDArray[Any]
    y_pred: NDArray[np.float32]
    classes: tuple[str, ...]
    targets: tuple[Mapping[str, Any], ...]


def write_predictions(folder: Path, found: Predictions) -> Path:
    """Write them into the existing ``folder``; the path of the arrays."""
    arrays = {"rows": found.rows, "y_true": found.y_true, "y_pred": found.y_pred}
    facts = {"classes": list(found.classes), "targets": [dict(target) for target in found.targets]}
    return write_state(folder, NAME, arrays, facts)


def read_predictions(folder: Path) -> Predictions:
    """What :func:`write_predictions` wrote.

    Raises
    ------
    TrainerError
        If there is nothing, or it is damaged.
    """
    arrays, facts = read_state(folder, NAME)
    try:
        return Predictions(
            arrays["rows"].astype(np.int32),
            arrays["y_true"],
            arrays["y_pred"],
            tuple(facts["classes"]),
            tuple(facts["targets"]),
        )
    except (KeyError, TypeError) as error:
        raise TrainerError(f"{folder}: {NAME}.npz and {NAME}.json are no answers ({error})") from error
