"""A member of the model as boosted trees in plain arrays."""

from itertools import pairwise

import numpy as np


def member(file, settings):
    """The function that predicts rows with the trees in a file."""
    arrays = dict(np.load(file, allow_pickle=False))
    node = {name.removeprefix("node/"): array for name, array in arrays.items() if name.startswith("node/")}
    bounds = arrays["edge_starts"].astype(int)

    def predict(inputs):
        rows = inputs[0][:, arrays["columns"].astype(int)]
        for i, (begin, end) in enumerate(pairwise(bounds)):
            if end > begin:
                rows[:, i] = np.searchsorted(arrays["edges"][begin:end], rows[:, i], side="right")
        rows, every = rows.astype(np.float64), np.arange(len(rows))
        raw = np.repeat(arrays["baseline"].astype(np.float64)[None], len(rows), axis=0)
        for starts in arrays["starts"].astype(int):
            for output, start in enumerate(starts):
                at = np.full(len(rows), start)
                while not (is_leaf := node["is_leaf"][at] != 0).all():
                    goes_left = rows[every, node["feature_idx"][at].astype(int)] <= node["num_threshold"][at]
                    below = start + np.where(goes_left, node["left"][at], node["right"][at]).astype(int)
                    at = np.where(is_leaf, at, below)
                raw[:, output] += node["value"][at]
        if settings["targets"]:
            scales, centres = ([target[key] for target in settings["targets"]] for key in ("scale", "centre"))
            return raw * scales + centres
        if raw.shape[1] == 1:
            raw = np.concatenate([np.zeros_like(raw), raw], axis=1)
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        made = np.zeros((len(rows), len(settings["classes"])))
        made[:, arrays["seen"].astype(int)] = powers / powers.sum(axis=1, keepdims=True)
        return made

    return predict
