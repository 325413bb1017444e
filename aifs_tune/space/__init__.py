"""Search spaces: parameters, constraints, mixtures and what is excluded.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.space.constraints import Constraint
    from aifs_tune.space.search_space import Space

__all__ = [
    "Constraint",
    "Space",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Constraint": "constraints",
        "Space": "search_space",
    },
)
