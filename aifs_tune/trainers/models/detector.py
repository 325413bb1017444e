"""Detector of many bodies in a frame: hyperparameters, architecture and trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.bodies.prepare import CLASS, IS_OWN, N_FIXED, SIZE, STATE, X, Y
from aifs_tune.data.bodies.tiles import is_counted
from aifs_tune.data.examples import ExampleSet, Target
from aifs_tune.errors import DataError, RequestError
from aifs_tune.space.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.augment.images import GEOMETRIC, drawn_transforms, warp
from aifs_tune.trainers.augment.moving import MIN_BRIGHTNESS, TargetTransform, relit
from aifs_tune.trainers.detections import BY_BRIGHTNESS, Bodies, detection_metrics, measure_detections
from aifs_tune.trainers.network.examples import ExamplesTask, ExamplesTrainer
from aifs_tune.trainers.network.images import check_mode, check_training
from aifs_tune.trainers.network.layers import NORM, make_model, outputs_of, weights_and_states
from aifs_tune.trainers.network.losses import Hyperparameters, LossFunction
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.params import (
    AUGMENTATION,
    TRAINING,
    Optimizer,
    Precision,
    TrainingParams,
    check_n_weights,
    check_static_params,
)
from aifs_tune.trainers.network.runtime import keras, resident, tf
from aifs_tune.trainers.network.trial_state import check_one_of
from aifs_tune.trainers.predictions import Predictions

KERNEL = 3
"""Kernel size of convolutions in px, except for the last ones, whose kernels have 1 px."""

_MOVED = (*GEOMETRIC, "brightness", "noise")
"""Augmentations that bodies can follow."""

ALLOWED: dict[str, Parameter] = {
    **TRAINING,
    "dropout": FloatParameter(low=0, high=0.999, description="Share of the last features that are dropped."),
    **{name: AUGMENTATION[name] for name in _MOVED},
    "filters": IntParameter(low=1, high=1024, description="Filters at full size; each halving has twice as many."),
    "halvings": IntParameter(low=1, high=6, description="How often width and height are halved."),
    "output_stride": ChoiceParameter(choices=(1, 2, 4), description="Pixels of a frame along a pixel of the output."),
    "spread": FloatParameter(
        low=0.01, high=1, description="Standard deviation of the peak at each body, in parts of its size."
    ),
    "position_weight": FloatParameter(low=0, high=100, description="Weight of the error of places in the loss."),
    "size_weight": FloatParameter(low=0, high=100, description="Weight of the error of log sizes in the loss."),
    "number_weight": FloatParameter(low=0, high=100, description="Weight of the error of further numbers in the loss."),
    "min_score": FloatParameter(low=0.01, high=0.99, description="Score from which a peak counts as a body."),
}
"""Allowed values of each hyperparameter."""

STATIC_PARAMS = ("optimizer", "batch_size", "filters", "halvings", "output_stride")
"""Hyperparameters that change the compiled program."""

_MAX_WIDENINGS = 3
"""Halvings with twice as many filters; those after it have as many as the last one."""
_FIRST_LOGIT = -2.19
"""Added to the scores: an untrained network says 0.1 everywhere (Zhou et al. 2019, sec. 5)."""
_MIN_SPREAD = 0.7
"""Smallest standard deviation of a peak in pixels of the output."""
_FOCAL_POWER, _NEAR_POWER = 2, 4
"""Alpha and beta of the focal loss (Zhou et al. 2019, eq. 1)."""
_MASKED = -1e9
_BODIES_AT_ONCE = 16
_N_PLACE = 3
"""Outputs beside scores and numbers: offset along x and y, and log size."""
_N_DETECTION = 5
"""Columns of a detection before its numbers: score, class, x, y and size."""


@dataclass(frozen=True, kw_only=True)
class DetectorParams(TrainingParams):
    """Hyperparameters. Weights of the loss are those of Zhou et al. (2019) for places; there is no augmentation."""

    trainer: ClassVar[str] = "detector"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar[tuple[str, ...]] = STATIC_PARAMS

    batch_size: int = 8
    dropout: float = 0.0
    rotation_deg: float = 0.0
    width_shift: float = 0.0
    height_shift: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    zoom: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    filters: int = 16
    halvings: int = 2
    output_stride: int = 2
    spread: float = 0.15
    position_weight: float = 1.0
    size_weight: float = 0.5
    number_weight: float = 0.5
    min_score: float = 0.3


class Convolution(NamedTuple):
    """A convolution of 3 x 3 px from ``before`` to ``after`` channels with its batch norm."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class DetectorShape:
    """Shape of the network: all that its compiled program depends on; ``image`` is that of a tile.

    ``most_detections`` are the peaks that are kept of a tile, and ``usual_size_px`` is the size that an untrained
    network says.
    """

    image: tuple[int, int, int]
    n_classes: int
    n_numbers: int
    most_detections: int
    usual_size_px: int
    optimizer: Optimizer = "adam"
    batch_size: int = 8
    filters: int = 16
    halvings: int = 2
    output_stride: int = 2

    def __post_init__(self) -> None:
        check_static_params(self, ALLOWED, STATIC_PARAMS)
        edge, block = self.image[0], 2**self.halvings
        if edge % block:
            raise RequestError(
                f"halvings: {self.halvings} is not possible for tiles of {edge} px; allowed: tiles of a multiple of "
                f"{block} px (data.bodies.tile), or fewer halvings"
            )
        if self.output_stride > block:
            raise RequestError(
                f"output_stride: {self.output_stride} is not possible with {self.halvings} halvings; "
                f"allowed: 1 to {block}"
            )
        check_n_weights(self, self.n_weights, ("filters", "halvings"))

    @classmethod
    def of(cls, params: DetectorParams, examples: ExampleSet) -> DetectorShape:
        """Shape of a network with ``params`` for prepared tiles."""
        height, width, bands = examples.inputs[0].shape[1:]
        facts = examples.facts
        made = {name: getattr(params, name) for name in STATIC_PARAMS}
        sizes = facts["most_detections"], facts["usual_size_px"]
        return cls((height, width, bands), len(examples.classes), len(examples.targets), *sizes, **made)

    @property
    def n_channels(self) -> int:
        """Channels of the output: scores of the classes, place, size and numbers."""
        return self.n_classes + _N_PLACE + self.n_numbers

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the output."""
        return self.image[0] // self.output_stride, self.image[1] // self.output_stride

    @property
    def encoder(self) -> list[list[Convolution]]:
        """Two convolutions at each size, from the full one down."""
        widths = [self._width(level) for level in range(self.halvings + 1)]
        before = [self.image[2], *widths]
        return [
            [Convolution(f"down{i}.first", before[i], wide), Convolution(f"down{i}.second", wide, wide)]
            for i, wide in enumerate(widths)
        ]

    @property
    def decoder(self) -> list[Convolution]:
        """A convolution at each size from the smallest up to that of the output."""
        levels = range(self.halvings - 1, self.output_stride // 2 - 1, -1)
        return [Convolution(f"up{i}", self._width(i + 1) + self._width(i), self._width(i)) for i in levels]

    @property
    def head(self) -> Convolution:
        """The convolution before the outputs."""
        before = self._width(self.output_stride // 2)
        return Convolution("head", before, before)

    @property
    def convolutions(self) -> Iterator[Convolution]:
        """All convolutions with batch norm."""
        for both in self.encoder:
            yield from both
        yield from self.decoder
        yield self.head

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each trainable weight by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for one in self.convolutions:
            shapes[f"{one.name}.kernel"] = (KERNEL, KERNEL, one.before, one.after)
            shapes[f"{one.name}.scale"] = shapes[f"{one.name}.offset"] = (one.after,)
        last = {"bodies.kernel": (1, 1, self.head.after, self.n_channels), "bodies.bias": (self.n_channels,)}
        return shapes | last

    @property
    def n_weights(self) -> int:
        """Number of trainable weights."""
        return sum(prod(shape) for shape in self.weight_shapes.values())

    def _width(self, level: int) -> int:
        factor: int = 2 ** min(level, _MAX_WIDENINGS)
        return self.filters * factor


class DetectorNetwork(Network):
    """Fully convolutional network to a map of peaks, one at the centre of each body, and regression beside it.

    The layers are those of a U-Net (Ronneberger et al. 2015) with batch norm; what the map means and its loss are those
    of CenterNet (Zhou et al. 2019, "Objects as Points", arXiv:1904.07850). A pixel of the map is a body if no score
    around it (3 x 3, all classes) is higher. Inputs are tiles (n, height, width, bands), and in training masks
    (n, height, width); a prediction has a row for each of the ``most_detections`` highest peaks: score, class, x, y and
    size in px of the tile, and the standardised numbers.
    """

    def __init__(self, shape: DetectorShape, precision: Precision = "float32") -> None:
        self.shape = shape
        self.model = make_model(self.layers, keras.Input(shape.image), precision)
        super().__init__(*weights_and_states(self.model))

    @property
    def n_outputs(self) -> int:
        """Numbers of all detections of a tile."""
        return self.shape.most_detections * (_N_DETECTION + self.shape.n_numbers)

    def preprocess(self, raw: Any) -> Any:
        """Tiles as float32, with their masks where there are any."""
        return tuple(tf.cast(each, tf.float32) for each in raw[:2])

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Map, shape (n, rows, columns, channels); masked pixels have no scores."""
        found = outputs_of(self.model, inputs[0], drop, is_training=is_training)
        if is_training or len(inputs) == 1:
            return found
        usable = usable_cells(inputs[1], self.shape.output_stride)[..., None] > 0
        n = self.shape.n_classes
        return tf.concat([tf.where(usable, found[..., :n], _MASKED), found[..., n:]], axis=-1)

    def activation(self, outputs: Any) -> Any:
        """Detections, shape (n, detections * columns)."""
        shape, stride = self.shape, self.shape.output_stride
        rows, columns = shape.grid
        scores = tf.sigmoid(outputs[..., : shape.n_classes])
        highest = tf.reduce_max(scores, axis=-1, keepdims=True)
        is_peak = highest >= tf.nn.max_pool2d(highest, 3, 1, "SAME")
        peaks = tf.reshape(tf.where(is_peak, highest, 0.0), (-1, rows * columns))
        score, cell = tf.math.top_k(peaks, shape.most_detections)
        label = tf.argmax(outputs[..., : shape.n_classes], axis=-1, output_type=tf.int32)
        label = tf.gather(tf.reshape(label, (-1, rows * columns)), cell, batch_dims=1)
        flat = tf.reshape(outputs[..., shape.n_classes :], (-1, rows * columns, _N_PLACE + shape.n_numbers))
        beside = tf.gather(flat, cell, batch_dims=1)
        places = tf.cast(tf.stack([cell % columns, cell // columns], axis=-1), tf.float32) + beside[..., :2]
        size = float(shape.usual_size_px) * tf.exp(tf.clip_by_value(beside[..., 2:3], -10.0, 10.0))
        parts = [score[..., None], tf.cast(label, tf.float32)[..., None], (places + 0.5) * stride - 0.5, size]
        found = tf.concat([*parts, beside[..., _N_PLACE:]], axis=-1)
        return tf.reshape(found, (-1, self.n_outputs))

    def layers(self, given: Any, dropout: float = 0.0) -> Any:
        """The network as new Keras layers, from a tile to the map."""
        layers, shape = keras.layers, self.shape

        def normal(values: Any, one: Convolution) -> Any:
            wide = layers.Conv2D(one.after, KERNEL, padding="same", use_bias=False, name=one.name)(values)
            wide = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=one.name + NORM, dtype="float32")(wide)
            return layers.ReLU(dtype="float32")(wide)

        values, beside = given, []
        for level, (first, second) in enumerate(shape.encoder):
            values = normal(normal(layers.MaxPooling2D(2)(values) if level else values, first), second)
            beside.append(values)
        for level, one in zip(range(shape.halvings - 1, -1, -1), shape.decoder, strict=False):
            values = layers.Concatenate(dtype="float32")([layers.UpSampling2D(2)(values), beside[level]])
            values = normal(values, one)
        kept = layers.Dropout(dropout, name="dropout", dtype="float32")(normal(values, shape.head))
        found = layers.Conv2D(shape.n_channels, 1, name="bodies", dtype="float32")(kept)
        offsets = [_FIRST_LOGIT] * shape.n_classes + [0.0] * (_N_PLACE + shape.n_numbers)
        return layers.Rescaling([1.0] * shape.n_channels, offset=offsets, name="first_scores", dtype="float32")(found)


def usable_cells(masks: Any, stride: int) -> Any:
    """1 for pixels of the output (n, rows, columns) whose pixels of the tile all count, else 0."""
    return -tf.nn.max_pool2d(-masks[..., None], stride, stride, "VALID")[..., 0]


class DetectorLoss:
    """Focal loss of the map (Zhou et al. 2019, eq. 1), and absolute errors at the centres (eq. 2 and 3).

    The peak of a body is a Gaussian with ``spread`` times its size as standard deviation, at least 0.7 pixels of the
    output. The loss of a tile is divided by the mean number of bodies in a training tile, where the paper divides by
    that of the batch. Masked pixels have no loss. Augmentation moves bodies with their pixels.
    """

    def __init__(self, shape: DetectorShape, targets: tuple[Target, ...], facts: Mapping[str, Any]) -> None:
        self._shape, self._mean_bodies = shape, float(facts["mean_bodies"])
        place = (Target("x", "px", 0.0, 1.0), Target("y", "px", 0.0, 1.0), Target("size", "px", 0.0, 1.0))
        self._transform = TargetTransform((*place, *targets), ("x", "y", "length", *facts["roles"]))
        self._bends = np.array(facts["bends"])

    def prepare(
        self, inputs: Any, y_true: Any, weights: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any]:
        """Augment; ``y_true`` becomes the map, usable cells, cells, offsets, numbers, which bodies count, weights."""
        images, masks = inputs
        images, masks, bodies = self._augmented(images, masks, y_true, hyperparameters, seed)
        stride = self._shape.output_stride
        rows, columns = self._shape.grid
        places = (bodies[..., X : Y + 1] + 0.5) / stride - 0.5
        cells = tf.round(places)
        is_inside = tf.reduce_all((cells >= 0) & (cells < tf.constant([columns, rows], tf.float32)), axis=-1)
        usable = usable_cells(masks, stride)
        index = tf.where(is_inside, tf.cast(cells[..., 1] * columns + cells[..., 0], tf.int32), 0)
        is_usable = tf.gather(tf.reshape(usable, (-1, rows * columns)), index, batch_dims=1) > 0
        counts = tf.cast(is_inside & is_usable & (bodies[..., STATE] > 0), tf.float32)
        sizes = tf.math.log(tf.maximum(bodies[..., SIZE], 1e-3) / float(self._shape.usual_size_px))
        wanted = tf.concat([places - cells, sizes[..., None], bodies[..., N_FIXED:]], axis=-1)
        widths = tf.maximum(hyperparameters["spread"] * bodies[..., SIZE] / stride, _MIN_SPREAD)
        heat = self._heat(cells, widths, bodies[..., CLASS], counts)
        return (images, masks), (heat, usable, index, wanted, counts, weights)

    def compute_loss(self, outputs: Any, y_true: Any, hyperparameters: Hyperparameters) -> Any:
        """Loss of each tile, shape (n,)."""
        heat, usable, _, wanted, counts, weights = y_true
        logits = outputs[..., : self._shape.n_classes]
        score, is_body = tf.sigmoid(logits), tf.cast(heat >= 1, tf.float32)
        body = is_body * tf.pow(1 - score, _FOCAL_POWER) * -tf.math.log_sigmoid(logits)
        sky = (1 - is_body) * tf.pow(1 - heat, _NEAR_POWER) * tf.pow(score, _FOCAL_POWER) * tf.nn.softplus(logits)
        focal = tf.reduce_sum((body + sky) * usable[..., None], axis=(1, 2, 3))
        errors = tf.abs(self._at_bodies(outputs, y_true) - wanted) * counts[..., None]
        place, size = (tf.reduce_sum(errors[..., a:b], axis=(1, 2)) for a, b in ((0, 2), (2, 3)))
        total = focal + hyperparameters["position_weight"] * place + hyperparameters["size_weight"] * size
        if self._shape.n_numbers:
            numbers = tf.reduce_sum(tf.reduce_mean(errors[..., _N_PLACE:], axis=-1), axis=1)
            total += hyperparameters["number_weight"] * numbers
        return weights * total / self._mean_bodies

    def scores(self, outputs: Any, y_true: Any) -> Any:
        """Mean error of the place along an axis at the centres of bodies, in px of the tile, shape (n,)."""
        wanted, counts = y_true[3], y_true[4]
        errors = tf.reduce_mean(tf.abs(self._at_bodies(outputs, y_true) - wanted)[..., :2], axis=-1) * counts
        return self._shape.output_stride * tf.reduce_sum(errors, axis=1) / tf.maximum(tf.reduce_sum(counts, axis=1), 1)

    def _at_bodies(self, outputs: Any, y_true: Any) -> Any:
        """What the map says at the centres of bodies, shape (n, bodies, 3 + numbers)."""
        rows, columns = self._shape.grid
        flat = tf.reshape(outputs[..., self._shape.n_classes :], (-1, rows * columns, _N_PLACE + self._shape.n_numbers))
        return tf.gather(flat, y_true[2], batch_dims=1)

    def _heat(self, cells: Any, widths: Any, labels: Any, counts: Any) -> Any:
        """The largest of all Gaussians at each pixel, shape (n, rows, columns, classes)."""
        rows, columns = self._shape.grid
        n, classes = cells.shape[0], tf.range(self._shape.n_classes, dtype=tf.float32)
        heat = tf.zeros((n, rows, columns, self._shape.n_classes))
        down, across = (
            tf.exp(-(((tf.range(length, dtype=tf.float32) - cells[..., axis : axis + 1]) / widths[..., None]) ** 2) / 2)
            for axis, length in ((1, rows), (0, columns))
        )
        is_of_class = tf.cast(labels[..., None] == classes, tf.float32) * counts[..., None]
        for first in range(0, cells.shape[1], _BODIES_AT_ONCE):
            some = slice(first, first + _BODIES_AT_ONCE)
            each = down[:, some, :, None, None] * across[:, some, None, :, None] * is_of_class[:, some, None, None, :]
            heat = tf.maximum(heat, tf.reduce_max(each, axis=1))
        return heat

    def _augmented(
        self, images: Any, masks: Any, bodies: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any, Any]:
        n, height, width, _ = images.shape
        most = bodies.shape[1]
        seeds = tf.random.split(seed, 2)
        draws = tf.unstack(tf.random.stateless_uniform((7, n), seeds[0], -1.0, 1.0))
        flat = tf.reshape(bodies[..., X:], (n * most, -1))

        def moved() -> tuple[Any, Any, Any]:
            transforms = drawn_transforms(draws, hyperparameters, height, width)
            seen = tf.cast(warp(masks[..., None], transforms)[..., 0] > 0.999, tf.float32)
            seen *= _from_inside(transforms, height, width)
            return warp(images, transforms), seen, self._transform.moved(flat, tf.repeat(transforms, most, axis=0))

        is_moved = tf.add_n([hyperparameters[name] for name in GEOMETRIC]) > 0
        images, masks, flat = tf.cond(is_moved, moved, lambda: (images, masks, flat))
        factors = tf.maximum(draws[6] * hyperparameters["brightness"] + 1, MIN_BRIGHTNESS)
        images, flat = tf.cond(
            hyperparameters["brightness"] > 0,
            lambda: (
                relit(images, factors[:, None, None, None], self._bends),
                self._transform.brightened(flat, tf.repeat(factors, most)),
            ),
            lambda: (images, flat),
        )
        grain = hyperparameters["noise"]
        images = tf.cond(
            grain > 0, lambda: images + tf.random.stateless_normal(images.shape, seeds[1]) * grain, lambda: images
        )
        return images, masks, tf.concat([bodies[..., :X], tf.reshape(flat, (n, most, -1))], axis=-1)


def _from_inside(transforms: Any, height: int, width: int) -> Any:
    """1 for pixels (n, height, width) that ``transforms`` take from inside of the image, else 0."""
    x, y = tf.range(width, dtype=tf.float32)[None, None, :], tf.range(height, dtype=tf.float32)[None, :, None]
    a0, a1, a2, b0, b1, b2 = (each[:, None, None] for each in tf.unstack(transforms[:, :6], axis=1))
    column, row = a0 * x + a1 * y + a2, b0 * x + b1 * y + b2
    is_inside = (column > -0.5) & (column < width - 0.5) & (row > -0.5) & (row < height - 0.5)
    return tf.cast(is_inside, tf.float32)


def with_masks(inputs: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.int32]]:
    """Inputs as in prepared data from tiles, and masks where there are any; a prediction does not use the places."""
    tiles = inputs[0]
    masks = inputs[1] if len(inputs) > 1 else np.ones(tiles.shape[:3], np.uint8)
    return tiles, masks, np.zeros((len(tiles), 7), np.int32)


def in_units(y_pred: Any, targets: tuple[Target, ...]) -> Any:
    """Detections as a tensor (n, detections, 5 + numbers), with numbers in their units."""
    rows = tf.reshape(y_pred, (-1, y_pred.shape[1] // (_N_DETECTION + len(targets)), _N_DETECTION + len(targets)))
    scales, centres = ([getattr(one, name) for one in targets] for name in ("scale", "centre"))
    return rows * tf.constant([1.0] * _N_DETECTION + scales) + tf.constant([0.0] * _N_DETECTION + centres)


def detections_in_units(y_pred: NDArray[np.float32], targets: tuple[Target, ...]) -> NDArray[np.float32]:
    """Detections (n, detections, 5 + numbers) of predictions (n, outputs), with numbers in their units."""
    found: NDArray[np.float32] = np.array(in_units(tf.constant(y_pred), targets))
    return found


def detections_of(detections: NDArray[np.float32], places: NDArray[np.int32], facts: Mapping[str, Any]) -> Bodies:
    """Detections in the counted areas of tiles, with places and sizes in px of their frames.

    Parameters
    ----------
    detections
        Detections of tiles, shape (n, detections, 5 + numbers); see :func:`detections_in_units`.
    places
        Places of the tiles, shape (n, 7); see :func:`~aifs_tune.data.bodies.prepare.prepare_bodies`.
    facts
        Facts of the prepared data.
    """
    tile, _ = np.nonzero(detections[..., 0] > 0)
    found = detections[detections[..., 0] > 0].astype(np.float64)
    return _in_frames(found[:, 0], found[:, 1], found[:, 2:], places[tile], facts)


def catalogue_rows(loaded: Any, inputs: Sequence[NDArray[Any]], names: Sequence[str]) -> dict[str, Any]:
    """Columns of a catalogue of the bodies in tiles, from the highest score of each frame down.

    Parameters
    ----------
    loaded
        A detector of :func:`~aifs_tune.trainers.load.load_network`.
    inputs
        Tiles, masks and places of prepared frames.
    names
        Name of the frame of each tile.
    """
    facts, places = loaded.facts["inputs"], inputs[2]
    found = detections_of(loaded.predict(*inputs[:2]), places, facts)
    found = found.chosen(found.score >= loaded.params.min_score)
    order = np.lexsort((-found.score, found.frame))
    name_of = dict(zip(places[:, 0].tolist(), names, strict=True))
    columns: dict[str, Any] = {
        "file": [name_of[frame] for frame in found.frame[order].tolist()],
        "x": found.xy[order, 0],
        "y": found.xy[order, 1],
        "class": [loaded.classes[label] for label in found.label[order].tolist()],
        "size": found.size[order],
        "score": found.score[order],
    }
    return columns | {
        f"{target.name} [{target.unit}]" if target.unit else target.name: found.numbers[order, i]
        for i, target in enumerate(loaded.targets)
    }


def true_bodies(examples: ExampleSet, part: NDArray[np.int32]) -> Bodies:
    """True bodies of the tiles of ``part``, in px of their frames; each is counted once."""
    y_true = np.asarray(examples.y_true[part], np.float64)
    is_own = (y_true[..., STATE] > 0) & (y_true[..., IS_OWN] > 0)
    tile, _ = np.nonzero(is_own)
    found, places = y_true[is_own], np.asarray(examples.inputs[2])[part][tile]
    centres, scales = (np.array([getattr(one, name) for one in examples.targets]) for name in ("centre", "scale"))
    found[:, N_FIXED:] = found[:, N_FIXED:] * scales + centres
    return _in_frames(found[:, STATE], found[:, CLASS], found[:, X:], places, examples.facts)


def _in_frames(
    score: NDArray[np.float64],
    label: NDArray[np.float64],
    values: NDArray[np.float64],
    places: NDArray[np.int32],
    facts: Mapping[str, Any],
) -> Bodies:
    """Bodies in counted areas; ``values`` are x, y and size in px of the tile, then the numbers."""
    xy, binning = values[:, :2] + places[:, 1:3], int(facts["binning"])
    is_here = is_counted(xy[:, 0], xy[:, 1], places[:, 3:].T)
    everything = Bodies(
        places[:, 0].astype(np.int64),
        label.astype(np.int64),
        (xy + 0.5) * binning - 0.5,
        values[:, 2] * binning,
        values[:, 3:],
        score,
    )
    return everything.chosen(is_here)


@dataclass(frozen=True)
class DetectorTask(ExamplesTask):
    """Task that all trials of a detector share."""

    def __post_init__(self) -> None:
        examples = self.examples
        names = [target.name for target in examples.targets]
        allowed = detection_metrics(names, has_brightness="brightness" in examples.facts)
        check_one_of("metric", self.metric, allowed)
        check_mode(self.mode, self.patience)
        check_training(self.precision, self.epochs)
        if len(examples.train) == 0 or len(examples.val) == 0:
            n_train, n_val = len(examples.train), len(examples.val)
            raise DataError(f"train, val: {n_train} and {n_val} tiles are too few; allowed: at least 1 and 1")

    def weights(self) -> NDArray[np.float32]:
        """Weight 1 of each tile."""
        return np.ones(len(self.examples.y_true), np.float32)

    def measure_at(self, part: str, y_pred: NDArray[np.float32], min_score: float) -> dict[str, float]:
        """Metrics of detections from ``min_score``; all are NaN if a prediction is not finite."""
        examples, facts = self.examples, self.examples.facts
        names = [target.name for target in examples.targets]
        if not np.isfinite(y_pred).all():
            all_names = detection_metrics(names, has_brightness="brightness" in facts)[2:]
            return {f"{part}_{name.removeprefix('val_')}": float("nan") for name in all_names}
        rows = getattr(examples, part)
        found = detections_in_units(y_pred, examples.targets)
        detected = detections_of(found, np.asarray(examples.inputs[2])[rows], facts)
        true = true_bodies(examples, rows)
        measured, is_found = measure_detections(
            detected, true, radius_px=facts["radius_px"], min_score=min_score, n_classes=len(examples.classes)
        )
        measured = {
            f"mae_{names[int(name.removeprefix('number'))]}" if name.startswith("number") else name: value
            for name, value in measured.items()
        }
        if "brightness" in facts:
            measured |= _by_brightness(true, is_found, examples.targets, facts["brightness"])
        return {f"{part}_{name}": value for name, value in measured.items()}

    def predictions_of(self, part: str, y_pred: NDArray[np.float32]) -> Predictions:
        """Number of bodies of each class that each tile counts: true, and expected as the sum of all scores."""
        examples = self.examples
        rows, classes = getattr(examples, part), examples.classes
        numbered = np.asarray(examples.inputs[2])[rows].copy()
        numbered[:, 0] = np.arange(len(rows))  # tiles instead of frames
        y_true = np.asarray(examples.y_true[rows])
        counts = np.zeros((2, len(rows), len(classes)), np.float32)
        is_own = (y_true[..., STATE] > 0) & (y_true[..., IS_OWN] > 0)
        np.add.at(counts[0], (np.nonzero(is_own)[0], y_true[is_own][:, CLASS].astype(int)), 1)
        detected = detections_of(detections_in_units(y_pred, examples.targets), numbered, examples.facts)
        np.add.at(counts[1], (detected.frame, detected.label), detected.score)
        described = tuple({"name": f"n_{name}", "unit": None} for name in classes)
        return Predictions(rows, counts[0], counts[1], (), described)


def _by_brightness(
    true: Bodies, is_found: NDArray[np.bool_], targets: tuple[Target, ...], facts: Mapping[str, Any]
) -> dict[str, float]:
    """Completeness of each third of brightness; NaN for a third without a body."""
    column = facts["column"]
    values = (true.numbers[:, column] - targets[column].centre) / targets[column].scale * facts["sign"]
    third = 2 - np.digitize(values, facts["limits"])
    shares = [float(is_found[third == i].mean()) if (third == i).any() else float("nan") for i in range(3)]
    return dict(zip(BY_BRIGHTNESS, shares, strict=True))


class DetectorTrainer(ExamplesTrainer):
    """Trainer of detectors on prepared tiles of frames with many bodies.

    Parameters
    ----------
    examples
        Tiles of :func:`~aifs_tune.data.prepare_bodies`.
    params
        Hyperparameters of :class:`DetectorParams`; missing ones have their defaults.
    metric, mode
        Metric that decides which epoch is best. Default: the maximum of ``val_f1``.

    All other parameters are those of :class:`~aifs_tune.trainers.network.trainer.NetTrainer`. ``class_weights`` have no
    effect: classes compete in the map.
    """

    params_type: ClassVar = DetectorParams
    backends: ClassVar = ("tensorflow",)
    shape_type: ClassVar = DetectorShape
    task_type: ClassVar = DetectorTask
    learns_both: ClassVar = True

    def measures(self, examples: ExampleSet) -> tuple[str, tuple[str, Literal["max", "min"]]]:
        """Second metric of training batches, and default metric and mode."""
        del examples
        return "offset_px", ("val_f1", "max")

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Predict new tiles with the weights of the best epoch.

        Parameters
        ----------
        *inputs
            Tiles (n, tile, tile, bands), and masks (n, tile, tile) unless all pixels count.

        Returns
        -------
        numpy.ndarray
            Detections, shape (n, detections, 5 + numbers), from the highest score down: score (0 for none), class, x, y
            and size in px of the tile, and the numbers in their units.
        """
        everything = np.arange(len(inputs[0]), dtype=np.int32)
        stored = tuple(resident(np.array(array)) for array in with_masks(inputs))
        with self._best_weights() as network:
            y_pred: NDArray[np.float32] = network.predict(stored, everything)
        return detections_in_units(y_pred, self._data.targets)

    def _make_network(self, shape: Any) -> Network:
        return DetectorNetwork(shape, self.precision)

    def _make_loss_function(self, shape: Any) -> LossFunction:
        return DetectorLoss(shape, self._data.targets, self._data.facts)

    def _measure(self, part: str) -> dict[str, float]:
        params: Any = self._train_state.params
        with self._timed("evaluate"):
            y_pred = self._train_function.network.predict(self._examples.inputs, self._part(part))
            measured: dict[str, float] = self._task.measure_at(part, y_pred, params.min_score)
            return measured
