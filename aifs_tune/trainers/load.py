"""Loading of trained networks from the files that ``save_best`` wrote, for use outside of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.hashing import Hashes, check_hashes
from aifs_tune.config.sweep import KERAS
from aifs_tune.data.examples import Target
from aifs_tune.errors import RequestError, TrainerError, UntrustedCodeError
from aifs_tune.trainers.attribution import Attribution, integrated_gradients
from aifs_tune.trainers.checkpoint import WEIGHTS_NAME, read_state
from aifs_tune.trainers.models.cnn import CnnNetwork, CnnParams, CnnShape
from aifs_tune.trainers.models.cnn1d import Cnn1dNetwork, Cnn1dParams, Cnn1dShape
from aifs_tune.trainers.models.cnn_values import CnnValuesNetwork, CnnValuesParams, CnnValuesShape
from aifs_tune.trainers.models.detector import (
    DetectorNetwork,
    DetectorParams,
    DetectorShape,
    detections_in_units,
    with_masks,
)
from aifs_tune.trainers.models.mlp import MlpNetwork, MlpParams, MlpShape
from aifs_tune.trainers.models.residual import ResidualNetwork, ResidualParams, ResidualShape
from aifs_tune.trainers.models.rnn import RnnNetwork, RnnParams, RnnShape
from aifs_tune.trainers.models.transfer import TransferNetwork, TransferParams, TransferShape
from aifs_tune.trainers.network.images import ImageNetwork
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.params import Precision, TrainingParams
from aifs_tune.trainers.network.runtime import import_quietly, resident, tf
from aifs_tune.trainers.own_model.recipe import PARAMS
from aifs_tune.trainers.predictions import in_target_units

_TYPES: dict[str, tuple[Any, Any, Any]] = {
    "cnn": (CnnParams, CnnShape, CnnNetwork),
    "residual_cnn": (ResidualParams, ResidualShape, ResidualNetwork),
    "transfer": (TransferParams, TransferShape, TransferNetwork),
    "mlp": (MlpParams, MlpShape, MlpNetwork),
    "rnn": (RnnParams, RnnShape, RnnNetwork),
    "cnn1d": (Cnn1dParams, Cnn1dShape, Cnn1dNetwork),
    "cnn_values": (CnnValuesParams, CnnValuesShape, CnnValuesNetwork),
    "detector": (DetectorParams, DetectorShape, DetectorNetwork),
}
NETWORKS = (*_TYPES, KERAS)
"""Trainers whose weights are those of a network."""
_IMAGE_CLASSIFIERS = ("cnn", "residual_cnn", "transfer")


@dataclass(frozen=True)
class LoadedNetwork:
    """A trained network with its weights.

    Parameters
    ----------
    trainer
        Name of the trainer.
    network
        The network with the weights of the best epoch.
    params
        Hyperparameters that it was trained with.
    shape
        Shape of the network.
    classes, targets
        Classes and numbers that it predicts, each quantile of a number as one; either may be empty.
    facts
        Content of ``weights.json``.
    make
        Makes the same network without its weights, in another precision.
    folder
        Folder of its files.
    """

    trainer: str
    network: Network
    params: TrainingParams
    shape: Any
    classes: tuple[str, ...]
    targets: tuple[Target, ...]
    facts: Mapping[str, Any]
    make: Callable[[Precision], Network]
    folder: Path

    @property
    def is_of_images(self) -> bool:
        """Whether it classifies images with pixel values of 0 to 255."""
        return self.trainer in _IMAGE_CLASSIFIERS or getattr(self.shape, "kind", "") == "images"

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Predict examples that were prepared like the training examples.

        Parameters
        ----------
        *inputs
            Images as one uint8 array (n, height, width, channels); tables as one float32 array (n, columns); series as
            values (n, steps, channels) and lengths (n,); images of numbers as one array (n, height, width, bands);
            tiles of a detector likewise, with masks (n, height, width) unless all pixels count.

        Returns
        -------
        numpy.ndarray
            Probabilities, shape (n, classes), or numbers in the units of their targets, shape (n, targets), of which
            each quantile of a number is one, or both in this order, shape (n, classes + targets); of a detector those
            of :meth:`~aifs_tune.trainers.models.detector.DetectorTrainer.predict`.
        """
        given = with_masks(inputs) if self.trainer == "detector" else inputs
        stored = tuple(resident(np.array(array)) for array in given)
        raw = stored[0] if self.is_of_images else stored
        y_pred = self.network.predict(raw, np.arange(len(inputs[0]), dtype=np.int32))
        if self.trainer == "detector":
            return detections_in_units(y_pred, self.targets)
        return in_target_units(y_pred, self.targets, n_classes=len(self.classes))

    def named(self, y_pred: Any) -> dict[str, Any]:
        """Tensors ``probabilities`` and ``values``, in the units of the targets, of those that it predicts.

        ``y_pred``, shape (n, outputs), are outputs of the network after its activation.
        """
        if not self.targets:
            return {"probabilities": tf.exp(y_pred)}
        scales, centres = ([getattr(one, name) for one in self.targets] for name in ("scale", "centre"))
        numbers = y_pred[:, len(self.classes) :] if self.classes else y_pred
        values = {"values": numbers * tf.constant(scales, tf.float32) + tf.constant(centres, tf.float32)}
        return {"probabilities": tf.exp(y_pred[:, : len(self.classes)])} | values if self.classes else values

    def attributions(
        self, inputs: Sequence[NDArray[Any]], references: NDArray[Any], of: NDArray[np.int64]
    ) -> Attribution:
        """Contributions of the first input of each example to its answer, by integrated gradients in float32.

        Parameters
        ----------
        inputs
            The arrays that :meth:`predict` takes.
        references
            What the first of them is compared with, shape (n, ...); the others stay as they are.
        of
            Number of the class or target that is explained, shape (n,).

        Returns
        -------
        Attribution
            Contributions to the probability, or to the number in its unit.
        """
        network = self.make("float32")
        network.assign(self.network.values())
        is_alone = self.is_of_images
        rest = [np.asarray(array) for array in inputs[1:]]

        def outputs(line: Any, example: int) -> Any:
            others = [tf.repeat(tf.constant(array[example : example + 1]), len(line), axis=0) for array in rest]
            y_pred = network.activation(
                network.outputs(line if len(inputs) == 1 else (line, *others), lambda values: values, is_training=False)
            )
            return tf.concat(list(self.named(y_pred).values()), axis=1)

        given, start = np.asarray(inputs[0], np.float32), np.asarray(references, np.float32)
        if len(inputs) == 1:
            given, start = (np.array(network.preprocess(each if is_alone else (each,))) for each in (given, start))
        return integrated_gradients(outputs, given, start, of)


def load_network(folder: Path, *, hashes: Hashes | None = None, precision: Precision | None = None) -> LoadedNetwork:
    """Load the network of any trainer of :data:`NETWORKS`.

    The network is built from this package's code and plain arrays; nothing in the files is executed.

    Parameters
    ----------
    folder
        Folder with ``weights.npz`` and ``weights.json``.
    hashes
        Hashes of the trial's ``weights``, to check a folder that was copied.
        :func:`~aifs_tune.artifacts.trial_artifacts.kept_weights` has checked the folder that it returns.
    precision
        Precision to compute in; None for the precision that the network was measured in.

    Returns
    -------
    LoadedNetwork
        The network, its hyperparameters and what it predicts.

    Raises
    ------
    DamagedError
        If the files do not have these ``hashes``; names the first one and both of its hashes.
    TrainerError
        If the files are missing, damaged or do not describe a network.
    """
    if hashes is not None:
        check_hashes(folder, hashes)
    arrays, facts = read_state(folder, WEIGHTS_NAME)
    try:
        trainer = facts.get("trainer", "cnn")
        if not isinstance(trainer, str) or trainer not in NETWORKS:
            raise ValueError(f"trainer {trainer!r} is unknown; allowed: {', '.join(NETWORKS)}")
        params, shape, make = _read_own_model(folder, facts) if trainer == KERAS else _read_built_in(facts, trainer)
        classes, targets = tuple(facts["classes"]), tuple(Target(**one) for one in facts.get("targets", ()))
        measured_in = facts["precision"]
        if measured_in not in get_args(Precision):
            raise ValueError(f"precision {measured_in!r} is unknown")
        import_quietly()
        network = make(precision or measured_in)
    except UntrustedCodeError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RequestError) as error:
        raise TrainerError(f"{folder}/{WEIGHTS_NAME}.json does not describe a network ({error})") from error
    if {name: array.shape for name, array in arrays.items()} != network.sizes:
        raise TrainerError(
            f"{folder}/{WEIGHTS_NAME}.npz: its arrays do not fit the network that {WEIGHTS_NAME}.json describes"
        )
    network.assign(arrays)
    return LoadedNetwork(trainer, network, params, shape, classes, targets, facts, make, folder)


def _read_built_in(facts: Mapping[str, Any], trainer: str) -> tuple[Any, Any, Callable[[Precision], Network]]:
    """Hyperparameters and shape of a network, and what makes it."""
    params_type, shape_type, network_type = _TYPES[trainer]
    params = _read_params(facts["params"], params_type)
    shape = _read_shape(facts["architecture"], shape_type, params)

    def make(precision: Precision) -> Network:
        made: Network = network_type(shape, *(() if trainer == "rnn" else (precision,)))
        return made

    return params, shape, make


def _read_own_model(folder: Path, facts: Mapping[str, Any]) -> tuple[Any, Any, Callable[[Precision], Network]]:
    """As :func:`_read_built_in`, for a user's Keras model; its function is imported only if it has layers of its own.

    Raises
    ------
    UntrustedCodeError
        If the function has to be imported and nobody has allowed that.
    """
    import_quietly()
    from aifs_tune.trainers.own_model.load import network_maker, read_shape

    stored = facts["params"]
    kind = facts["architecture"]["kind"]
    params = replace(_read_params(stored, PARAMS[kind]), model=dict(stored["model"]))
    shape = read_shape(facts["architecture"])
    return params, shape, network_maker(folder, shape)


def _read_params(stored: Mapping[str, Any], params_type: Any) -> Any:
    """Hyperparameters that the trainer allows; a file also has inherited ones that it does not allow."""
    unused = {field.name for field in fields(params_type)} - params_type.allowed.keys()
    return params_type.from_mapping({name: value for name, value in stored.items() if name not in unused})


def _read_shape(stored: Mapping[str, Any], shape_type: Any, params: TrainingParams) -> Any:
    """Shape that ``weights.json`` describes, if it agrees with ``params``."""
    given = dict(stored)
    if "image" in given:
        given["image"] = tuple(given["image"])
    shape, chosen = shape_type(**given), asdict(params)
    for name in type(params).static_params:
        if getattr(shape, name) != chosen[name]:
            raise ValueError(f"{name} is {getattr(shape, name)!r} in architecture and {chosen[name]!r} in params")
    for name in given.keys() - chosen.keys():
        sizes = given[name] if isinstance(given[name], tuple) else (given[name],)
        if not all(isinstance(size, int) and 0 <= size < 2**24 for size in sizes):
            raise ValueError(f"{name} is {given[name]!r}; allowed: whole numbers below 2**24")
    return shape


def load_classifier(folder: Path, *, hashes: Hashes | None = None) -> Classifier:
    """Load a trained classifier of images.

    It computes in the precision that it was measured in. :func:`~aifs_tune.trainers.load.load_network` loads the
    networks of all other trainers.

    Parameters
    ----------
    folder
        Folder with ``weights.npz`` and ``weights.json``, as a trainer's ``save_best`` writes them.
    hashes
        Hashes of the trial's ``weights``, to check a folder that was copied. Default: no check.

    Returns
    -------
    Classifier
        The classifier, ready to predict.

    Raises
    ------
    DamagedError
        If the files do not have these ``hashes``.
    TrainerError
        If the files are missing or damaged, or the network does not classify images.

    Examples
    --------
    >>> from pathlib import Path
    >>> from aifs_tune.trainers import load_classifier
    >>> load_classifier(Path("trial_7"))
    Traceback (most recent call last):
    aifs_tune.errors.TrainerError: trial_7: weights.json and weights.npz cannot be read ...

    With the files of a trial, ``load_classifier(folder).predict(images)`` returns probabilities of shape (n, classes).
    """
    loaded = load_network(folder, hashes=hashes)
    if not loaded.is_of_images:
        raise TrainerError(
            f"{folder}/{WEIGHTS_NAME}.json: {loaded.trainer} is not allowed; allowed: {', '.join(_IMAGE_CLASSIFIERS)}, "
            f"{KERAS} on images; load_network loads every network"
        )
    return Classifier(cast(ImageNetwork, loaded.network), loaded.classes, loaded.params.hyperparameters())


class Classifier:
    """Classifier of images that are decoded like the training images."""

    def __init__(self, network: ImageNetwork, classes: tuple[str, ...], hyperparameters: Mapping[str, float]) -> None:
        self._network, self._hyperparameters = network, hyperparameters
        self.classes = classes

    def predict(self, images: NDArray[np.uint8], views: int = 1, *, seed: int = 0) -> NDArray[np.float32]:
        """Predict probabilities of the classes.

        Parameters
        ----------
        images
            uint8, shape (n, height, width, channels).
        views
            Random views of each image, 1 to 1000. Above 1, probabilities are averaged over views that are augmented
            like the training images; see
            :meth:`~aifs_tune.trainers.network.images.ImageNetwork.probabilities_of_views`.
        seed
            Seed of the views, from 0.

        Returns
        -------
        numpy.ndarray
            Probabilities, shape (n, classes).

        Raises
        ------
        RequestError
            If the images have another shape or type, or ``views`` or ``seed`` is not allowed.
        """
        return self._network.probabilities_of_views(images, views, hyperparameters=self._hyperparameters, seed=seed)
