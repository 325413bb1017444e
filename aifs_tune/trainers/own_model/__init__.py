"""Sweeps of a user's own Keras model on the data of a sweep file: its training is that of the built-in networks."""
