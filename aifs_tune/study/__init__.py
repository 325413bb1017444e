"""Studies: trials, leases, results, rankings and warm starts.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.study.open import open_study
    from aifs_tune.study.study import Study
    from aifs_tune.study.trial import Trial

__all__ = [
    "Study",
    "Trial",
    "open_study",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Study": "study",
        "Trial": "trial",
        "open_study": "open",
    },
)
