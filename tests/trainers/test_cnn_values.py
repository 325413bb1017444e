"""The CNN on images of numbers; above all, that truths go where their images go."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from compiled_once import CompiledOnce
from numpy.typing import NDArray

from aifs_tune.data.examples import ExampleSet, Target
from aifs_tune.errors import ConflictError, DataError, RequestError
from aifs_tune.trainers.augment.images import transforms_of, warp
from aifs_tune.trainers.augment.moving import TargetTransform, change
from aifs_tune.trainers.models.cnn import CnnNetwork, CnnShape
from aifs_tune.trainers.models.cnn_values import CnnValuesNetwork, CnnValuesShape, CnnValuesTrainer
from aifs_tune.trainers.network.runtime import tf
from aifs_tune.trainers.predictions import CLASS_METRICS, both_metrics, value_metrics
from aifs_tune.trainers.protocol import Trainer

SMALL_NET = {"filters": 4, "dense_units": 16, "batch_size": 16, "learning_rate": 3e-3}
TURNED = {"rotation_deg": 180.0, "width_shift": 0.1, "height_shift": 0.1, "horizontal_flip": True, "zoom": 0.1}
OFF = dict.fromkeys(
    ("rotation_deg", "width_shift", "height_shift", "zoom", "horizontal_flip", "vertical_flip", "brightness", "noise"),
    0.0,
)
ROLES = ("x", "y", "vx", "vy", "magnitude", "flux", "length", "scalar")
HEIGHT, WIDTH = 31, 40


def star(x: float, y: float, *, height: int = HEIGHT, width: int = WIDTH, sigma: float = 1.6) -> NDArray[np.float64]:
    rows, columns = np.mgrid[:height, :width]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)


def centroid(image: NDArray[Any]) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()


def targets(names: tuple[str, ...] = ROLES) -> tuple[Target, ...]:
    """With a centre and scale each, so that a mistake in scaling shows."""
    return tuple(Target(name, None, 3.0 + i, 0.5 + i / 3) for i, name in enumerate(names))


def scaled(values: Any, of: tuple[Target, ...]) -> Any:
    centres, scales = (np.array([getattr(t, name) for t in of]) for name in ("centre", "scale"))
    return tf.constant((np.asarray(values) - centres) / scales, tf.float32)


def in_units(y_true: Any, of: tuple[Target, ...]) -> NDArray[np.float64]:
    return np.array(y_true, np.float64) * [t.scale for t in of] + [t.centre for t in of]


# --- truths follow their images


TRANSFORMS: dict[str, dict[str, Any]] = {
    "turned": {"angle": 0.7},
    "far round": {"angle": -2.4},
    "right": {"shift": (4.3, 0.0)},
    "down": {"shift": (0.0, -3.6)},
    "larger": {"scale": 1.3},
    "smaller": {"scale": 0.75},
    "mirrored": {"mirror": (-1.0, 1.0)},
    "upside down": {"mirror": (1.0, -1.0)},
    "all": {"angle": 1.1, "shift": (2.2, -1.4), "scale": 1.15, "mirror": (-1.0, -1.0)},
}


def rows_of(angle: float = 0.0, shift: Any = (0.0, 0.0), scale: float = 1.0, mirror: Any = (1.0, 1.0)) -> Any:
    one = [tf.constant([value], tf.float32) for value in (angle, *shift, scale, *mirror)]
    return transforms_of(one[0], (one[1], one[2]), one[3], (one[4], one[5]), height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize(("first_pixel", "scale"), [(0, (1.0, 1.0)), (1, (2.0, 2.0)), (1, (0.5, 1.5))])
def test_positions_and_vectors_go_where_a_rendered_source_goes(
    transform: dict[str, Any], first_pixel: int, scale: tuple[float, float]
) -> None:
    """The reference is the picture itself: a source at two moments is drawn, warped and measured again."""
    before = np.array([22.3, 13.8]), np.array([24.7, 17.1])
    frames = np.stack([star(*place) for place in before], axis=-1)[np.newaxis].astype(np.float32)
    rows = rows_of(**transform)
    warped = np.array(warp(tf.constant(frames), rows), np.float64)[0]
    after = [centroid(warped[..., i]) for i in (0, 1)]

    def native(place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels of the image as a file of another sampling has them."""
        return (place + 0.5) / scale - 0.5 + first_pixel

    def told(places: Any) -> list[float]:
        return [*native(places[0]), *((places[1] - places[0]) / scale)]

    of = targets(("x", "y", "vx", "vy"))
    y_true = TargetTransform(of, ("x", "y", "vx", "vy"), scale, first_pixel)
    moved = in_units(y_true.moved(scaled([told(before)], of), rows), of)[0]
    np.testing.assert_allclose(moved * [*scale, *scale], np.array(told(after)) * [*scale, *scale], atol=0.05)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_flux_magnitude_and_length_follow_the_pixels(transform: dict[str, Any]) -> None:
    image = 100 * star(20.4, 14.6, sigma=2.5)
    rows = rows_of(**transform)
    warped = np.array(warp(tf.constant(image[np.newaxis, ..., np.newaxis], tf.float32), rows), np.float64)[0, ..., 0]

    def measured(picture: NDArray[np.float64]) -> list[float]:
        flux, place = picture.sum(), centroid(picture)
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        width = math.sqrt((picture * ((x - place[0]) ** 2 + (y - place[1]) ** 2)).sum() / flux / 2)
        return [flux, -2.5 * math.log10(flux), width, 7.0]

    names = ("flux", "magnitude", "length", "scalar")
    of = targets(names)
    moved = in_units(TargetTransform(of, names).moved(scaled([measured(image)], of), rows), of)[0]
    np.testing.assert_allclose(moved, measured(warped), rtol=0.02)


def changed(
    images: Any, values: Any, *, bends: Any = (0.0,), seed: int = 0, **hyperparameters: float
) -> tuple[Any, Any]:
    given = {name: tf.constant(value, tf.float32) for name, value in (OFF | hyperparameters).items()}
    of = targets()
    y_true = TargetTransform(of, ROLES)
    found = change(
        tf.constant(images, tf.float32),
        scaled(values, of),
        given,
        tf.constant([seed, 1], tf.int64),
        of=y_true,
        bends=bends,
    )
    return np.array(found[0], np.float64), in_units(found[1], of)


def test_drawn_changes_keep_every_source_in_its_image_and_its_truth_on_it() -> None:
    random = np.random.default_rng(2)
    n = 64
    places = random.uniform((7, 7), (WIDTH - 8, HEIGHT - 8), (n, 2))
    images = np.array([star(x, y) for x, y in places])[..., np.newaxis]
    values = np.concatenate([places, np.tile([1.0, 0.5, 15.0, 2.0, 3.0, 4.0], (n, 1))], axis=1)
    strengths = {"rotation_deg": 180.0, "width_shift": 0.3, "height_shift": 0.3, "zoom": 0.2, "vertical_flip": 1.0}
    warped, moved = changed(images, values, **strengths)
    is_moved = np.abs(moved - values).max(axis=1) > 1e-3
    assert 20 < is_moved.sum() < n, "those that would leave stay"
    assert (moved[:, :2] > -0.5).all()
    assert (moved[:, :2] < (WIDTH - 0.5, HEIGHT - 0.5)).all()
    whole = (moved[:, :2] > 5).all(axis=1) & (moved[:, :2] < (WIDTH - 6, HEIGHT - 6)).all(axis=1)
    assert whole.sum() > 20
    found = np.array([centroid(image[..., 0]) for image in warped[whole]])
    np.testing.assert_allclose(found, moved[whole, :2], atol=0.1)
    np.testing.assert_allclose(moved[:, 7], 4.0, rtol=1e-5)


@pytest.mark.parametrize("bend", [0.0, 3.0])
def test_brightness_multiplies_the_light_and_moves_the_magnitude(bend: float) -> None:
    light = np.tile(np.abs(star(20, 15))[np.newaxis, ..., np.newaxis] * 40, (50, 1, 1, 1))
    stored = np.arcsinh(light) / bend if bend else light
    values = np.tile([20.0, 15.0, 0.0, 0.0, 15.0, 2.0, 3.0, 4.0], (50, 1))
    images, moved = changed(stored, values, bends=(bend,), brightness=0.5)
    now = np.sinh(images * bend) if bend else images
    factors = now.sum(axis=(1, 2, 3)) / light.sum(axis=(1, 2, 3))
    assert factors.min() < 0.6 < 1.4 < factors.max()
    np.testing.assert_allclose(moved[:, 4], 15 - 2.5 * np.log10(factors), atol=1e-3)
    np.testing.assert_allclose(moved[:, 5], 2 * factors, rtol=1e-3)
    np.testing.assert_allclose(np.delete(moved, (4, 5), axis=1), np.delete(values, (4, 5), axis=1), atol=1e-4)


def test_noise_changes_no_truth_and_nothing_changes_at_strength_0() -> None:
    images, values = np.zeros((8, 9, 9, 1)), np.tile([4.0, 4, 0, 0, 15, 2, 3, 4], (8, 1))
    noisy, moved = changed(images, values, noise=0.1)
    assert noisy.std() == pytest.approx(0.1, rel=0.1)
    assert noisy.min() < 0, "frames of an instrument have no full scale to be cut at"
    np.testing.assert_allclose(moved, values, atol=1e-5)
    same, _ = changed(images, values)
    np.testing.assert_array_equal(same, images)


# --- the trainer


def frames(*, n: int = 90, is_classes: bool = False, is_both: bool = False, edge: int = 16) -> ExampleSet:
    """A star that moves between two frames: where it is, how it moves and how bright it is, or whether it is bright.

    With ``is_both`` it is all of these.
    """
    random = np.random.default_rng(0)
    places, velocities = random.uniform(4, edge - 5, (n, 2)), random.uniform(-2, 2, (n, 2))
    flux = random.uniform(10, 30, n)
    images = np.zeros((n, edge, edge, 2), np.float16)
    for i in range(n):
        for band in (0, 1):
            x, y = places[i] + band * velocities[i]
            images[i, ..., band] = flux[i] * star(x, y, height=edge, width=edge) + random.normal(0, 0.02, (edge, edge))
    values = np.concatenate([places, velocities, -2.5 * np.log10(flux)[:, np.newaxis]], axis=1)
    names, units = ("x", "y", "vx", "vy", "magnitude"), ("px", "px", "px/s", "px/s", "mag")
    centres, scales = values.mean(axis=0), values.std(axis=0)
    told = tuple(Target(*one) for one in zip(names, units, centres.tolist(), scales.tolist(), strict=True))
    order = random.permutation(n).astype(np.int32)
    train, val, test = np.split(order, [n * 4 // 6, n * 5 // 6])
    facts = {"roles": list(names), "shape": [edge, edge, 2], "native": [edge, edge], "bends": [0.0, 0.0]}
    if is_classes:
        labels = (flux > 20).astype(np.int32)
        return ExampleSet(
            (images,), labels, ("faint", "bright"), (), train, val, test, "classes", facts | {"roles": []}
        )
    y_true = ((values - centres) / scales).astype(np.float32)
    if is_both:
        y_true = np.concatenate([(flux > 20)[:, None], y_true], axis=1, dtype=np.float32)
        return ExampleSet((images,), y_true, ("faint", "bright"), told, train, val, test, f"both{n}", facts)
    return ExampleSet((images,), y_true, (), told, train, val, test, f"frames{n}", facts)


class TestCnnValues(CompiledOnce):
    first: ClassVar = SMALL_NET
    second: ClassVar = SMALL_NET | TURNED

    def make_new(self) -> Trainer:
        return CnnValuesTrainer(frames(), threads=1)


class TestCnnValuesOfBoth(CompiledOnce):
    first: ClassVar = SMALL_NET | TURNED | {"mixup": 0.2, "values_weight": 0.5}
    second: ClassVar = SMALL_NET | TURNED | {"values_weight": 2.0}

    def make_new(self) -> Trainer:
        return CnnValuesTrainer(frames(is_both=True), threads=1)


def test_learns_classes_and_positions_together_that_move_with_their_images() -> None:
    examples = frames(n=480, is_both=True)
    params = SMALL_NET | {"dense_units": 64, "rotation_deg": 180.0}
    trainer = CnnValuesTrainer(examples, params, precision="float32", threads=2)
    for _ in range(12):
        metrics = trainer.epoch()
    assert tuple(metrics) == both_metrics(CLASS_METRICS, ["x", "y", "vx", "vy", "magnitude"])
    assert metrics["val_accuracy"] > 0.8
    assert metrics["val_mae_x"] < 0.3 * examples.targets[0].scale, "places that did not turn would teach nothing"
    assert trainer.predict(examples.inputs[0][:3]).shape == (3, 7)


def test_learns_positions_and_measures_them_in_their_units() -> None:
    examples = frames(n=480)
    still = CnnValuesTrainer(examples, SMALL_NET | {"dense_units": 64}, precision="float32")
    for _ in range(12):
        metrics = still.epoch()
    assert tuple(metrics) == value_metrics(["x", "y", "vx", "vy", "magnitude"])
    assert metrics["val_mae_x"] < 0.3 * examples.targets[0].scale
    assert metrics["val_r2_vx"] > 0.5
    test = examples.test
    guesses = still.predict(examples.inputs[0][test])
    told = in_units(examples.y_true[test], examples.targets)
    measured = still.evaluate("test")
    np.testing.assert_allclose(np.abs(guesses - told).mean(axis=0)[0], measured["test_mae_x"], rtol=1e-4)


def test_turned_images_teach_what_a_still_network_cannot_know() -> None:
    """Trained on stars that all move to the right; only turning the pairs shows it the other directions."""
    examples = frames(n=480)
    vx = examples.y_true[:, 2]
    to_right = dataclasses.replace(examples, train=examples.train[vx[examples.train] > 0.4])
    errors = {}
    for name, more in (("still", {}), ("turned", {"rotation_deg": 180.0})):
        trainer = CnnValuesTrainer(to_right, SMALL_NET | {"dense_units": 64} | more, precision="float32", threads=2)
        for _ in range(15):
            trainer.epoch()
        errors[name] = trainer.evaluate("test")["test_mae_vx"]
    assert errors["turned"] < 0.7 * errors["still"]


def test_classes_are_measured_as_classes() -> None:
    examples = frames(is_classes=True)
    trainer = CnnValuesTrainer(examples, SMALL_NET | TURNED | {"mixup": 0.2}, threads=1)
    assert tuple(trainer.epoch()) == CLASS_METRICS
    probabilities = trainer.predict(examples.inputs[0][examples.val])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    is_right = probabilities.argmax(axis=1) == examples.y_true[examples.val]
    assert trainer.evaluate("val")["val_accuracy"] == pytest.approx(is_right.mean())


def test_the_network_is_the_cnn_on_other_numbers() -> None:
    shape = CnnValuesShape((16, 16, 2), 3, filters=3, dense_units=8)
    ours, plain = CnnValuesNetwork(shape), CnnNetwork(CnnShape((16, 16, 2), 3, filters=3, dense_units=8))
    ours.initialise(4)
    plain.initialise(4)
    images = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 2), dtype=np.uint8)
    picked = np.arange(5, dtype=np.int32)
    numbers = ours.predict((tf.constant(images / 255, tf.float16),), picked)
    logits = plain.predict(tf.constant(images), picked)
    np.testing.assert_allclose(
        numbers - numbers.mean(axis=1, keepdims=True), logits - logits.mean(axis=1, keepdims=True), atol=2e-3
    )


def test_wrong_requests_are_named(tmp_path: Path) -> None:
    examples = frames()
    with pytest.raises(RequestError, match=r"'colour': 1 is not a parameter of the cnn_values; allowed: learning_rate"):
        CnnValuesTrainer(examples, {"colour": 1})
    with pytest.raises(RequestError, match=r"loss: 'l4' is not .*; allowed: .*mse"):
        CnnValuesTrainer(examples, {"loss": "l4"})
    with pytest.raises(RequestError, match=r"16x16 px; .* at least 46 px"):
        CnnValuesTrainer(examples, {"conv_blocks": 4})
    with pytest.raises(
        RequestError, match="metric: 'val_accuracy' is not allowed; allowed: loss, mae, val_loss, val_r2"
    ):
        CnnValuesTrainer(examples, metric="val_accuracy")
    with pytest.raises(DataError, match="train, val: 0 and 15 examples"):
        CnnValuesTrainer(dataclasses.replace(examples, train=examples.train[:0]))
    trainer = CnnValuesTrainer(examples, SMALL_NET)
    trainer.epoch()
    trainer.save(tmp_path)
    other = CnnValuesTrainer(frames(n=96), SMALL_NET)
    with pytest.raises(ConflictError, match="fingerprint is 'frames90'; allowed: 'frames96'"):
        other.load(tmp_path)
