"""Optuna samplers, with one that models configurations and epochs together."""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.samplers.aifs import AifsSampler

__all__ = ["AifsSampler"]

# Names load on first use, so importing this package stays cheap.
__getattr__, __dir__ = lazy_names(__name__, {"AifsSampler": "aifs"})
