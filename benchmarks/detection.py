"""A detector and a blob finder on the part of the data that neither ever saw, with the same matching.

    python benchmarks/detection.py sky_fields --seeds 3 --epochs 40
    python benchmarks/detection.py blood_cell_boxes --data bccd/BCCD/Annotations --finder log --seeds 3

The configuration of the sweep file's first trial (its defaults) is trained with several seeds; the validation part
chooses the epoch. The finder is DAOFIND (Stetson 1987) of photutils (``dao``) or the Laplacian of Gaussian (Lindeberg
1993) of scikit-image (``log``, which here looks for dark on bright); of a grid of widths and thresholds the pair with
the largest F1 on the validation part is used. Finders tell no class, so the detector is also scored with all classes
as one. Masked pixels count for neither. Needs aifs-tune[bench].
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import aifs_tune
from aifs_tune.data.examples import ExampleSet, open_examples
from aifs_tune.data.sources import prepare
from aifs_tune.trainers.detections import Bodies, measure_detections
from aifs_tune.trainers.factory import make_trainer
from aifs_tune.trainers.models.detector import detections_of, true_bodies

SHOWN = ("f1", "completeness", "purity", "ap", "position_px")
Finder = Callable[[NDArray[np.float64], float, float], NDArray[np.float64]]


def dao(image: NDArray[np.float64], width: float, threshold: float) -> NDArray[np.float64]:
    """x, y and peak of the stars in an image; ``width`` is their FWHM in px, ``threshold`` counts the noise."""
    from photutils.detection import DAOStarFinder

    noise = 1.4826 * np.median(np.abs(image - np.median(image)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a frame without a star
        found = DAOStarFinder(threshold=threshold * noise, fwhm=width)(image - np.median(image))
    if found is None:
        return np.zeros((0, 3))
    x, y = ("x_centroid", "y_centroid") if "x_centroid" in found.colnames else ("xcentroid", "ycentroid")
    return np.stack([np.asarray(found[name], float) for name in (x, y, "peak")], axis=1)


def log(image: NDArray[np.float64], width: float, threshold: float) -> NDArray[np.float64]:
    """x, y and scale of the blobs in an image from half of ``width`` to twice; ``threshold`` is that of the filter."""
    from skimage.feature import blob_log

    spread = image.max() - image.min()
    scaled = (image.max() - image) / (spread or 1.0)
    sigma = width / 2 / np.sqrt(2)
    found = blob_log(scaled, min_sigma=sigma / 2, max_sigma=2 * sigma, num_sigma=5, threshold=threshold, overlap=0.4)
    return np.stack([found[:, 1], found[:, 0], found[:, 2]], axis=1)


FINDERS: dict[str, tuple[Finder, tuple[float, ...], tuple[float, ...]]] = {
    "dao": (dao, (2.5, 3.5, 4.5, 6.0, 8.0), (2.5, 3.0, 3.5, 4.0, 5.0, 7.0)),
    "log": (log, (26.0, 34.0, 44.0), (0.02, 0.05, 0.1)),
}


def found_by(finder: Finder, examples: ExampleSet, part: NDArray[np.int32], width: float, threshold: float) -> Bodies:
    """Detections of a finder in the tiles of ``part``; the second band of several."""
    rows = []
    for tile in part:
        pixels = np.asarray(examples.inputs[0][tile], np.float64)
        band = pixels[..., min(1, pixels.shape[2] - 1)]
        bend = examples.facts["bends"][0]
        usable = np.asarray(examples.inputs[1][tile], bool)
        light = np.sinh(band * bend) if bend else band
        light = np.where(usable, light, np.median(light[usable]))
        here = finder(light, width, threshold)
        column, row = (np.rint(here[:, i]).astype(int) for i in (0, 1))
        is_inside = (row >= 0) & (row < usable.shape[0]) & (column >= 0) & (column < usable.shape[1])
        here, row, column = here[is_inside], row[is_inside], column[is_inside]
        here = here[usable[row, column]]
        score = (here[:, 2] - here[:, 2].min() + 1e-6) / (np.ptp(here[:, 2]) + 2e-6) if len(here) else here[:, 2]
        rows.append(np.column_stack([score, np.zeros(len(here)), here[:, :2], np.ones(len(here))]))
    most = max(map(len, rows))
    stacked = np.zeros((len(rows), most, 5), np.float32)
    for i, one in enumerate(rows):
        stacked[i, : len(one)] = one
    return detections_of(stacked, np.asarray(examples.inputs[2])[part], examples.facts)


def as_one_class(bodies: Bodies) -> Bodies:
    """The bodies without their classes and numbers."""
    return replace(bodies, label=np.zeros_like(bodies.label), numbers=np.zeros((len(bodies), 0)))


def scores(found: Bodies, true: Bodies, examples: ExampleSet, min_score: float, *, n_classes: int) -> dict[str, float]:
    measured, _ = measure_detections(
        found, true, radius_px=examples.facts["radius_px"], min_score=min_score, n_classes=n_classes
    )
    return measured


def lines_of_finder(name: str, examples: ExampleSet) -> Iterator[str]:
    """Scores on the test part with what is best on the validation part."""
    finder, widths, thresholds = FINDERS[name]
    true = {part: as_one_class(true_bodies(examples, getattr(examples, part))) for part in ("val", "test")}

    def score(part: str, width: float, threshold: float) -> dict[str, float]:
        found = as_one_class(found_by(finder, examples, getattr(examples, part), width, threshold))
        return scores(found, true[part], examples, 0.0, n_classes=1)

    best = max(itertools.product(widths, thresholds), key=lambda each: score("val", *each)["f1"])
    yield f"{name} (width {best[0]:g} px, threshold {best[1]:g}), one class: {shown([score('test', *best)])}"


def lines_of_detector(spec: Any, location: Path, examples: ExampleSet, seeds: int) -> Iterator[str]:
    """Scores on the test part of the sweep file's defaults."""
    params = spec.space.default_params()
    each: list[dict[str, float]] = []
    merged: list[dict[str, float]] = []
    for seed in range(seeds):
        trainer: Any = make_trainer(spec, location, params=params, seed=seed, threads=2)
        for _ in range(spec.search.epochs):
            trainer.epoch()
        measured = {name.removeprefix("test_"): value for name, value in trainer.evaluate("test").items()}
        each.append(measured)
        rows = examples.test
        found = detections_of(
            trainer.predict(examples.inputs[0][rows], examples.inputs[1][rows]),
            np.asarray(examples.inputs[2])[rows],
            examples.facts,
        )
        true = as_one_class(true_bodies(examples, rows))
        merged.append(scores(as_one_class(found), true, examples, float(params["min_score"]), n_classes=1))
    yield f"detector, {seeds} seeds, one class: {shown(merged)}"
    yield f"detector, {seeds} seeds, classes: {shown(each)}"
    others = [name for name in each[0] if name not in SHOWN]
    yield f"  also {shown(each, others)}"


def shown(measured: list[dict[str, float]], names: Any = SHOWN) -> str:
    """Means, with the standard deviation of several runs."""
    texts = []
    for name in names:
        values = [one[name] for one in measured]
        spread = f" +- {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        texts.append(f"{name} {statistics.fmean(values):.3f}{spread}")
    return ", ".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep")
    parser.add_argument("--data")
    parser.add_argument("--finder", choices=list(FINDERS), default="dao")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    asked = parser.parse_args()
    overrides = [] if asked.epochs is None else [f"search.epochs={asked.epochs}"]
    spec = aifs_tune.load_sweep(asked.sweep, data=asked.data, overrides=overrides).spec
    assert spec.data is not None
    made = prepare(spec.data, "bodies", strict=False, tell=print, progress=lambda *_: None)
    examples = open_examples(made.location)
    for line in lines_of_finder(asked.finder, examples):
        print(line, flush=True)
    for line in lines_of_detector(spec, made.location, examples, asked.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
