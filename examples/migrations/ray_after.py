"""The same trainable, which reports to its trial, on Ray too."""

import sys

import numpy as np
from digits import x, x_val, y, y_val
from sklearn.linear_model import SGDClassifier

import aifs_tune


def trainable(config, trial):
    model = SGDClassifier(alpha=config["alpha"], learning_rate="constant", eta0=config["eta0"], random_state=0)
    for _ in range(8):
        model.partial_fit(x, y, classes=np.arange(10))
        trial.report({"accuracy": model.score(x_val, y_val)})


space = {
    "alpha": {"type": "float", "low": 1e-6, "high": 1e-1, "log": True},
    "eta0": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
}
result = aifs_tune.tune(
    trainable, space, trials=int(sys.argv[1]), epochs=8, metric="accuracy", scheduler="asha", workers=2
)
print(result.best.value, result.best.params)
