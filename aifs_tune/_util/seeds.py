"""Seeds that follow from a study's seed, so that a trial can be run again from its record alone."""

from __future__ import annotations

import numpy as np


def trial_seed(study_seed: int, number: int) -> int:
    """The seed of trial ``number``: independent streams from one study seed, below 2**31."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0] >> 1)


def exploit_seed(study_seed: int, number: int, epoch: int) -> int:
    """What trial ``number`` takes over after ``epoch``, and how it is varied, follows from this."""
    return int(np.random.SeedSequence([study_seed, number, epoch]).generate_state(1)[0])
