"""Simulated data with known classes and values: sky surveys, moving sources and time series."""
