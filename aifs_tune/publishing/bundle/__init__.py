"""Bundles: a study as a folder to publish, check, import and reproduce."""
