"""Import of TensorFlow, Keras and scikit-learn's metrics, for workers that start before there is work."""

import sklearn.metrics  # noqa: F401

from aifs_tune.trainers.network.runtime import keras, tf

_LOADED = (tf.Variable, keras.layers)
"""Attributes whose use loads the two libraries."""
