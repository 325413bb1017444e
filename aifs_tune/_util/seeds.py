"""Seeds derived from a study's seed, so that a trial can be reproduced from its record."""

from __future__ import annotations

import numpy as np


def trial_seed(study_seed: int, number: int) -> int:
    """Return the seed of trial ``number``, below 2**31; the streams of different trials are independent."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0] >> 1)


def exploit_seed(study_seed: int, number: int, epoch: int) -> int:
    """Return the seed of the exploit and explore step of trial ``number`` after ``epoch``."""
    return int(np.random.SeedSequence([study_seed, number, epoch]).generate_state(1)[0])
