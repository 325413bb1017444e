"""Where a sweep runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RayConfig:
    """A Ray cluster by its address, or this machine (``address`` None)."""

    address: str | None = None
    """``HOST:PORT``, ``ray://HOST:PORT``, or ``auto`` for the cluster that runs here."""
    allow_unauthenticated: bool = False
    """Join a cluster that lets everybody in without a token."""
