"""A hypermodel of KerasTuner."""

import sys

import keras
import keras_tuner
from digits import x, x_val, y, y_val


def build(hp):
    units = hp.Int("units", 16, 128, sampling="log")
    dropout = hp.Float("dropout", 0.0, 0.5)
    rate = hp.Float("rate", 1e-4, 1e-1, sampling="log")
    layers = [keras.Input((64,)), keras.layers.Dense(units, "relu"), keras.layers.Dropout(dropout)]
    model = keras.Sequential([*layers, keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


tuner = keras_tuner.RandomSearch(build, objective="val_accuracy", max_trials=int(sys.argv[1]), directory="keras_tuner")
tuner.search(x, y, validation_data=(x_val, y_val), epochs=8, verbose=0)
print(tuner.oracle.get_best_trials(1)[0].score, tuner.get_best_hyperparameters(1)[0].values)
