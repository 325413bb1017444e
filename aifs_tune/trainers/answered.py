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
class Answered:
    """Truths and answers for ``rows`` (n,) of the prepared data.

    Of classes: ``truths`` (n,) are indices into ``classes`` and ``answers`` (n, classes) probabilities. Of numbers:
    both are (n, targets), in the units of the targets.
    """

    rows: NDArray[np.int32]
    truths: NDArray[Any]
    answers: NDArray[np.float32]
    classes: tuple[str, ...]
    targets: tuple[Mapping[str, Any], ...]


def write_answers(folder: Path, found: Answered) -> Path:
    """Write them into the existing ``folder``; the path of the arrays."""
    arrays = {"rows": found.rows, "truths": found.truths, "answers": found.answers}
    facts = {"classes": list(found.classes), "targets": [dict(target) for target in found.targets]}
    return write_state(folder, NAME, arrays, facts)


def read_answers(folder: Path) -> Answered:
    """What :func:`write_answers` wrote.

    Raises
    ------
    TrainerError
        If there is nothing, or it is damaged.
    """
    arrays, facts = read_state(folder, NAME)
    try:
        return Answered(
            arrays["rows"].astype(np.int32),
            arrays["truths"],
            arrays["answers"],
            tuple(facts["classes"]),
            tuple(facts["targets"]),
        )
    except (KeyError, TypeError) as error:
        raise TrainerError(f"{folder}: {NAME}.npz and {NAME}.json are no answers ({error})") from error
