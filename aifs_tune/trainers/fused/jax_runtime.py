"""JAX as the populations use it; import it from here."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU may be shared

__all__ = ["jax", "jnp"]
