"""JAX as fused training uses it; other modules import it from here."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # other processes may use the GPU too

__all__ = ["jax", "jnp"]
