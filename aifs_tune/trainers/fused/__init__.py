"""Fused trials: several trials trained as one JAX program on one GPU."""
