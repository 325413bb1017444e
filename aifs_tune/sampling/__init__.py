"""Who proposes the next configuration: Optuna's samplers by name, and our own model of configurations and epochs."""

from aifs_tune.sampling.initial import planned
from aifs_tune.sampling.proposer import Proposer, check_sampler
from aifs_tune.sampling.stopping import LEAST_PROMISE, is_rung

__all__ = ["LEAST_PROMISE", "Proposer", "check_sampler", "is_rung", "planned"]
