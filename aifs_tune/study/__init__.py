"""Studies: trials, leases, results, rankings and warm starts.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.study.lease import Lease
    from aifs_tune.study.open import load_study, open_study
    from aifs_tune.study.recommendation import Recommendation
    from aifs_tune.study.study import Study
    from aifs_tune.study.trial import Event, Measurement, Replicates, Trial

__all__ = [
    "Event",
    "Lease",
    "Measurement",
    "Recommendation",
    "Replicates",
    "Study",
    "Trial",
    "load_study",
    "open_study",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Event": "trial",
        "Lease": "lease",
        "Measurement": "trial",
        "Recommendation": "recommendation",
        "Replicates": "trial",
        "Study": "study",
        "Trial": "trial",
        "load_study": "open",
        "open_study": "open",
    },
)
