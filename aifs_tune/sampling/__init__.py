"""Who proposes the next configuration: Optuna's samplers by name, and our own model of configurations and epochs."""

from aifs_tune.sampling.inherited import LEAST_TRIALS, SOURCE_TASKS, SourceTask, standardised
from aifs_tune.sampling.initial import initial_design
from aifs_tune.sampling.proposer import Proposer, check_sampler
from aifs_tune.sampling.searched import distance
from aifs_tune.sampling.stopping import LEAST_CONTINUATION_VALUE, is_rung

__all__ = [
    "LEAST_CONTINUATION_VALUE",
    "LEAST_TRIALS",
    "SOURCE_TASKS",
    "Proposer",
    "SourceTask",
    "check_sampler",
    "distance",
    "initial_design",
    "is_rung",
    "standardised",
]
