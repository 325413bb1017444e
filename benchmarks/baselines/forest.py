"""A random forest on what one measures first in a micrograph: grey levels, edges, and the size of dark spots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from aifs_tune.data.cache import open_images
from aifs_tune.trainers.network.metrics import measure

TREES = 500
WIDTHS_PX = (3, 5, 9)
DARK = (1.5, 2.5)

Floats = NDArray[np.float64]


def score_forest(location: str, seed: int) -> dict[str, float]:
    """Fit 500 trees to the training and validation parts of images, and measure them on the test part."""
    images = open_images(Path(location))
    both = np.concatenate([images.train, images.val])
    rows = np.stack([features(image) for image in images.images])
    model = RandomForestClassifier(TREES, random_state=seed).fit(rows[both], images.labels[both])
    probabilities = np.zeros((len(images.test), len(images.classes)))
    probabilities[:, model.classes_] = model.predict_proba(rows[images.test])
    smallest = 0.5 / TREES  # where no tree has voted for a class
    log_probabilities = np.log(np.maximum(probabilities, smallest)).astype(np.float32)
    return measure(images.labels[images.test], log_probabilities)


def features(image: NDArray[np.uint8]) -> Floats:
    """Features of an image (height, width, channels), of the mean of its channels.

    At two scales: moments and percentiles of the grey levels, the mean gradient, what closings of three widths fill,
    and of the pixels darker than the mean by 1.5 and 2.5 standard deviations the share, the number of connected spots,
    and area and length of the largest one.
    """
    grey = image.mean(axis=2)
    found: list[float] = []
    for scale in (0.0, 1.0):
        seen = ndimage.gaussian_filter(grey, scale) if scale else grey
        mean, spread = seen.mean(), seen.std() + 1e-9
        scaled = (seen - mean) / spread
        found += [mean, spread, (scaled**3).mean(), (scaled**4).mean()]
        found += np.percentile(scaled, [0.5, 2, 10, 25, 50, 75, 90, 98]).tolist()
        found.append(float(np.hypot(*np.gradient(seen)).mean()))
        for width in WIDTHS_PX:
            filled = ndimage.grey_closing(scaled, (width, width)) - scaled
            found += [filled.mean(), filled.std(), float(np.percentile(filled, 98))]
        for level in DARK:
            found += _spots(scaled < -level)
    return np.array(found, np.float64)


def _spots(is_dark: NDArray[np.bool_]) -> list[float]:
    """Share of the dark pixels, number of spots, and area and largest extent in px of the largest spot."""
    spots, n_spots = ndimage.label(is_dark, np.ones((3, 3)))
    if not n_spots:
        return [0.0, 0.0, 0.0, 0.0]
    areas = np.bincount(spots.ravel())[1:]
    rows, columns = ndimage.find_objects(spots)[int(areas.argmax())]
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    return [float(is_dark.mean()), float(n_spots), float(areas.max()), float(extent)]
