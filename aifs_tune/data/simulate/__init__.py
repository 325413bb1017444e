"""Simulated skies and series."""
