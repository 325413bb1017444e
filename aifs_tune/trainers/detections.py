"""Detections of bodies compared with a catalogue: matches, completeness, purity, average precision and errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MEASURED = ("f1", "completeness", "purity", "ap", "position_px", "size_error")
"""Metrics of detections, in this order."""
BY_BRIGHTNESS = ("completeness_bright", "completeness_middle", "completeness_faint")
"""Completeness of the brightest, middle and faintest third of the training part's bodies."""


def detection_metrics(numbers: Sequence[str], *, has_brightness: bool) -> tuple[str, ...]:
    """Metrics that an epoch of a detector reports; the first two are of the training batches."""
    of_part = (*MEASURED, *(f"mae_{name}" for name in numbers), *(BY_BRIGHTNESS if has_brightness else ()))
    return ("loss", "offset_px", *(f"val_{name}" for name in of_part))


@dataclass(frozen=True)
class Bodies:
    """Bodies of several frames: true ones, or detections with a score.

    Parameters
    ----------
    frame, label
        Number of the frame and of the class of each body, shape (n,).
    xy
        Places in px, shape (n, 2).
    size
        Sizes in px, above 0, shape (n,).
    numbers
        Further numbers of each body, shape (n, numbers).
    score
        Score of each detection from 0 to 1, shape (n,); of true bodies 1.
    """

    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    xy: Floats
    size: Floats
    numbers: Floats
    score: Floats

    def __len__(self) -> int:
        return len(self.frame)

    def chosen(self, which: NDArray[np.bool_]) -> Bodies:
        """The bodies where ``which`` (n,) is true."""
        numbers, score = self.numbers[which], self.score[which]
        return Bodies(self.frame[which], self.label[which], self.xy[which], self.size[which], numbers, score)


def matches(detected: Bodies, true: Bodies, radius_px: float) -> NDArray[np.int64]:
    """Index of the true body that each detection is matched to, shape (detections,); -1 for none.

    Detections are taken from the highest score down, as in PASCAL VOC (Everingham et al. 2010, sec. 4.2): each gets
    the nearest body of its frame and class within ``radius_px`` that no detection has yet. Places are compared instead
    of boxes, as in nuScenes (Caesar et al. 2020, sec. 3.1).

    Examples
    --------
    >>> import numpy as np
    >>> from aifs_tune.trainers.detections import Bodies, matches
    >>> def bodies(xy, score):
    ...     n = len(xy)
    ...     zeros = np.zeros(n, int)
    ...     return Bodies(zeros, zeros, np.array(xy, float), np.ones(n), np.zeros((n, 0)), np.array(score, float))
    >>> matches(bodies([(5, 5), (5, 6), (9, 9)], [0.9, 0.8, 0.7]), bodies([(5, 5.5)], [1]), 2.0).tolist()
    [0, -1, -1]
    """
    from scipy.spatial import cKDTree

    found = np.full(len(detected), -1, np.int64)
    key_of_true, key_of_detected = (_keys(one) for one in (true, detected))
    rows = {key: np.flatnonzero((key_of_true == key).all(axis=1)) for key in {*map(tuple, key_of_true.tolist())}}
    for key, of_key in rows.items():
        mine = np.flatnonzero((key_of_detected == key).all(axis=1))
        mine = mine[np.argsort(-detected.score[mine], kind="stable")]
        near = cKDTree(true.xy[of_key]).query_ball_point(detected.xy[mine], radius_px) if len(mine) else []
        is_free = np.ones(len(of_key), bool)
        for one, candidates in zip(mine, near, strict=True):
            free = [each for each in sorted(candidates) if is_free[each]]
            if free:
                distances = np.hypot(*(true.xy[of_key[free]] - detected.xy[one]).T)
                best = free[int(np.argmin(distances))]
                is_free[best], found[one] = False, of_key[best]
    return found


def _keys(bodies: Bodies) -> NDArray[np.int64]:
    return np.stack([bodies.frame, bodies.label], axis=1)


def average_precision(is_match: NDArray[np.bool_], score: Floats, n_true: int) -> float:
    """Area under the curve of purity (precision) over completeness (recall) of one class.

    At each completeness the purity is the largest at this or a higher completeness (Everingham et al. 2010, eq. 2), and
    the area is that of all steps, as in PASCAL VOC since 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from aifs_tune.trainers.detections import average_precision
    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]), n_true=2)
    0.8333333333333333
    """
    hits = np.cumsum(is_match[np.argsort(-score, kind="stable")])
    purity = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(purity[::-1])[::-1]
    steps = np.diff(hits, prepend=0)
    return float((envelope * steps).sum() / n_true)


def measure_detections(
    detected: Bodies, true: Bodies, *, radius_px: float, min_score: float, n_classes: int
) -> tuple[dict[str, float], NDArray[np.bool_]]:
    """Metrics :data:`MEASURED`, and whether each true body is found, shape (true bodies,).

    Only ``ap`` uses all detections; all others are of those with a score of at least ``min_score``. ``completeness`` is
    the share of true bodies that are matched, ``purity`` the share of detections that are; ``f1`` is their harmonic
    mean, 2 matches / (bodies + detections) (van Rijsbergen 1979). ``ap`` is :func:`average_precision`, averaged over
    the classes with a body. ``position_px`` is the mean distance of matched pairs, and ``size_error`` their mean
    ``|ln(size / true size)|``; both are NaN without a pair.
    """
    all_matches = matches(detected, true, radius_px)
    precisions = []
    for label in range(n_classes):
        n_true, of_class = int((true.label == label).sum()), detected.label == label
        if n_true:
            precisions.append(average_precision(all_matches[of_class] >= 0, detected.score[of_class], n_true))
    is_kept = detected.score >= min_score  # the highest scores are matched first, so others change nothing here
    kept, matched = detected.chosen(is_kept), all_matches[is_kept]
    pairs, of_true = matched >= 0, matched[matched >= 0]
    n_pairs = int(pairs.sum())
    is_found = np.zeros(len(true), bool)
    is_found[of_true] = True
    measured = {
        "f1": 2 * n_pairs / max(1, len(true) + len(kept)),
        "completeness": n_pairs / max(1, len(true)),
        "purity": n_pairs / max(1, len(kept)),
        "ap": float(np.mean(precisions)) if precisions else 0.0,
        "position_px": _mean(np.hypot(*(kept.xy[pairs] - true.xy[of_true]).T)),
        "size_error": _mean(np.abs(np.log(kept.size[pairs] / true.size[of_true]))),
    }
    errors = np.abs(kept.numbers[pairs] - true.numbers[of_true])
    return measured | {f"number{i}": _mean(column) for i, column in enumerate(errors.T)}, is_found


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
