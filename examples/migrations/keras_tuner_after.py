"""The same model, with the parameters as arguments."""

import sys

import keras
from digits import x, x_val, y, y_val

import aifs_tune
from aifs_tune.trainers import KerasTrainer


def build(units, dropout, rate):
    layers = [keras.Input((64,)), keras.layers.Dense(units, "relu"), keras.layers.Dropout(dropout)]
    model = keras.Sequential([*layers, keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


space = {
    "units": {"type": "int", "low": 16, "high": 128, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
    "rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
}
trainer = KerasTrainer(build, (x, y, x_val, y_val))
result = aifs_tune.tune(trainer, space, trials=int(sys.argv[1]), epochs=8, metric="val_accuracy")
print(result.best.value, result.best.params)
