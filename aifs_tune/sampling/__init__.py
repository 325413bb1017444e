"""Samplers by name: who proposes the next configuration."""

from aifs_tune.sampling.by_name import make_sampler

__all__ = ["make_sampler"]
