"""An objective of Optuna, with its own loop."""

import sys

import optuna
from digits import x, x_val, y, y_val
from sklearn.svm import SVC


def objective(trial):
    c = trial.suggest_float("c", 1e-2, 1e3, log=True)
    gamma = trial.suggest_float("gamma", 1e-4, 1.0, log=True)
    return SVC(C=c, gamma=gamma).fit(x, y).score(x_val, y_val)


study = optuna.create_study(storage="sqlite:///optuna.db", direction="maximize")
study.optimize(objective, n_trials=int(sys.argv[1]))
print(study.best_value, study.best_params)
