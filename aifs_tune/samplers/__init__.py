"""Samplers: Optuna's by name, and a model of configurations and epochs.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.samplers.aifs import AifsSampler
    from aifs_tune.samplers.initial_design import initial_design
    from aifs_tune.samplers.proposer import Proposer, check_sampler
    from aifs_tune.samplers.search_space import distance
    from aifs_tune.samplers.stopping import LEAST_CONTINUATION_VALUE, is_rung
    from aifs_tune.samplers.transfer import LEAST_TRIALS, SOURCE_TASKS, SourceTask, standardised

__all__ = [
    "LEAST_CONTINUATION_VALUE",
    "LEAST_TRIALS",
    "SOURCE_TASKS",
    "AifsSampler",
    "Proposer",
    "SourceTask",
    "check_sampler",
    "distance",
    "initial_design",
    "is_rung",
    "standardised",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AifsSampler": "aifs",
        "LEAST_CONTINUATION_VALUE": "stopping",
        "LEAST_TRIALS": "transfer",
        "Proposer": "proposer",
        "SOURCE_TASKS": "transfer",
        "SourceTask": "transfer",
        "check_sampler": "proposer",
        "distance": "search_space",
        "initial_design": "initial_design",
        "is_rung": "stopping",
        "standardised": "transfer",
    },
)
