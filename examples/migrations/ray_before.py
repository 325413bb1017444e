"""A function trainable of Ray Tune, with ASHA."""

import sys

import numpy as np
from digits import x, x_val, y, y_val
from ray import tune
from sklearn.linear_model import SGDClassifier


def trainable(config):
    model = SGDClassifier(alpha=config["alpha"], learning_rate="constant", eta0=config["eta0"], random_state=0)
    for _ in range(8):
        model.partial_fit(x, y, classes=np.arange(10))
        tune.report({"accuracy": model.score(x_val, y_val)})


tuner = tune.Tuner(
    trainable,
    param_space={"alpha": tune.loguniform(1e-6, 1e-1), "eta0": tune.loguniform(1e-4, 1.0)},
    tune_config=tune.TuneConfig(
        num_samples=int(sys.argv[1]), metric="accuracy", mode="max", scheduler=tune.schedulers.ASHAScheduler(max_t=8)
    ),
)
best = tuner.fit().get_best_result()
print(best.metrics["accuracy"], best.config)
