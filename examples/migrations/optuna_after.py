"""The same objective, with the parameters as arguments."""

import sys

from digits import x, x_val, y, y_val
from sklearn.svm import SVC

import aifs_tune


def objective(c, gamma):
    return SVC(C=c, gamma=gamma).fit(x, y).score(x_val, y_val)


space = {
    "c": {"type": "float", "low": 1e-2, "high": 1e3, "log": True},
    "gamma": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
}
result = aifs_tune.tune(objective, space, trials=int(sys.argv[1]), storage="sqlite:///tune.db")
print(result.best.value, result.best.params)
