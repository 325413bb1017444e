"""Fused training: several trials of equal shape in one JAX program on one GPU."""
