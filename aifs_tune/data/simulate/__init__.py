"""Simulated data with known classes and values: sky surveys, moving sources, micrographs and time series."""
