"""Augmentation of images inside the compiled training step."""
