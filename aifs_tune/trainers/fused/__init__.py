"""Fused training: several trials in one JAX program on one GPU."""
