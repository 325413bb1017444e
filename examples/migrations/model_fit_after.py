"""The same script: one more argument, one callback, and a search in place of the loop."""

import sys

import keras
from digits import x, x_val, y, y_val

import aifs_tune
from aifs_tune.trainers import ReportEpochs


def train(units, rate, trial):
    layers = [keras.Input((64,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, validation_data=(x_val, y_val), epochs=8, verbose=0, callbacks=[ReportEpochs(trial)])


space = {
    "units": {"type": "int", "low": 16, "high": 128},
    "rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
}
result = aifs_tune.tune(train, space, trials=int(sys.argv[1]), epochs=8, metric="val_accuracy")
print(result.best.value, result.best.params)
