"""The network of a trial's best epoch, read back from what ``save_best`` wrote, for use outside of a search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.hashes import Hashes, check_hashes
from aifs_tune.trainers.checkpoint import WEIGHTS_NAME, read_state
from aifs_tune.trainers.cnn_network import CnnNetwork
from aifs_tune.trainers.cnn_params import CnnParams, CnnShape
from aifs_tune.trainers.image_network import ImageNetwork
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.residual import ResidualNetwork
from aifs_tune.trainers.residual_params import ResidualParams, ResidualShape
from aifs_tune.trainers.transfer import TransferNetwork
from aifs_tune.trainers.transfer_params import TransferParams, TransferShape

_TYPES: dict[str, tuple[Any, Any, Any]] = {
    "cnn": (CnnParams, CnnShape, CnnNetwork),
    "residual_cnn": (ResidualParams, ResidualShape, ResidualNetwork),
    "transfer": (TransferParams, TransferShape, TransferNetwork),
}
"""Of params, shapes and networks, by the name of the trainer."""


def load_classifier(folder: Path, *, hashes: Hashes | None = None) -> Classifier:
    """The classifier in ``folder``, in the precision it was measured in.

    Built from our own code and plain arrays, so that nothing in the files is executed. ``hashes`` are those of a
    trial's ``weights``, for a folder that was copied; of one that :func:`~aifs_tune.artefacts.kept_weights` gave they
    have been checked.

    Raises
    ------
    DamagedError
        If the files are not those of ``hashes``; names the first one and both of its hashes.
    TrainerError
        If the files are missing, damaged or do not describe a network.
    """
    if hashes is not None:
        check_hashes(folder, hashes)
    arrays, facts = read_state(folder, WEIGHTS_NAME)
    try:
        described = dict(facts["architecture"])
        params_type, shape_type, network_type = _types_of(facts.get("trainer", "cnn"))
        shape = shape_type(**{**described, "image": tuple(described["image"])})
        knobs = params_type.from_mapping(facts["params"]).knobs()
        classes, precision = tuple(facts["classes"]), facts["precision"]
        if precision not in get_args(Precision):
            raise ValueError(f"precision {precision!r} is unknown")
    except (KeyError, TypeError, ValueError, RequestError) as error:
        raise TrainerError(f"{folder}/{WEIGHTS_NAME}.json: describes no network ({error})") from error
    network = network_type(shape, precision)
    if {name: array.shape for name, array in arrays.items()} != network.sizes:
        raise TrainerError(f"{folder}/{WEIGHTS_NAME}.npz: its arrays are not those of the network in the JSON file")
    network.assign(arrays)
    return Classifier(network, classes, knobs)


class Classifier:
    """Gives the probabilities of ``classes`` for images that were decoded as those it learnt from."""

    def __init__(self, network: ImageNetwork, classes: tuple[str, ...], knobs: Mapping[str, float]) -> None:
        self._network, self._knobs = network, knobs
        self.classes = classes

    def predict(self, images: NDArray[np.uint8], views: int = 1, *, seed: int = 0) -> NDArray[np.float32]:
        """Probabilities, shape (n, classes), of uint8 images (n, height, width, channels).

        With more than one of ``views``, the mean over so many random views of each image, changed as the trial
        changed training images; see :meth:`~aifs_tune.trainers.image_network.ImageNetwork.probabilities_of_views`.
        """
        return self._network.probabilities_of_views(images, views, knobs=self._knobs, seed=seed)


def _types_of(trainer: object) -> tuple[Any, Any, Any]:
    if not isinstance(trainer, str) or trainer not in _TYPES:
        raise ValueError(f"trainer {trainer!r} is none of {', '.join(_TYPES)}")
    return _TYPES[trainer]
