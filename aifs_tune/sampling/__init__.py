"""Who proposes the next configuration: Optuna's samplers by name, and our own model of configurations and epochs."""

from aifs_tune.sampling.inherited import INHERITED, LEAST_TRIALS, Inherited, standardised
from aifs_tune.sampling.initial import planned
from aifs_tune.sampling.proposer import Proposer, check_sampler
from aifs_tune.sampling.searched import distance
from aifs_tune.sampling.stopping import LEAST_PROMISE, is_rung

__all__ = [
    "INHERITED",
    "LEAST_PROMISE",
    "LEAST_TRIALS",
    "Inherited",
    "Proposer",
    "check_sampler",
    "distance",
    "is_rung",
    "planned",
    "standardised",
]
