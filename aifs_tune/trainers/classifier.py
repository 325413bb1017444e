"""The network of a trial's best epoch, read back from what ``save_best`` wrote, for use outside of a search."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.checkpoint import WEIGHTS_NAME, read_state
from aifs_tune.trainers.cnn_network import CnnNetwork
from aifs_tune.trainers.cnn_params import CnnShape
from aifs_tune.trainers.params import Precision


def load_classifier(folder: Path) -> Classifier:
    """The classifier in ``folder``, in the precision it was measured in.

    Built from our own code and plain arrays, so that nothing in the files is executed.

    Raises
    ------
    TrainerError
        If the files are missing, damaged or do not describe a network.
    """
    arrays, facts = read_state(folder, WEIGHTS_NAME)
    try:
        described = dict(facts["architecture"])
        shape = CnnShape(**{**described, "image": tuple(described["image"])})
        classes, precision = tuple(facts["classes"]), facts["precision"]
        if precision not in get_args(Precision):
            raise ValueError(f"precision {precision!r} is unknown")
    except (KeyError, TypeError, ValueError, RequestError) as error:
        raise TrainerError(f"{folder}/{WEIGHTS_NAME}.json: describes no network ({error})") from error
    if {name: array.shape for name, array in arrays.items()} != shape.weight_shapes:
        raise TrainerError(f"{folder}/{WEIGHTS_NAME}.npz: its arrays are not those of the network in the JSON file")
    network = CnnNetwork(shape, precision)
    network.assign(arrays)
    return Classifier(network, classes)


class Classifier:
    """Gives the probabilities of ``classes`` for images that were decoded as those it learnt from."""

    def __init__(self, network: CnnNetwork, classes: tuple[str, ...]) -> None:
        self._network = network
        self.classes = classes

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, shape (n, classes), of uint8 images (n, height, width, channels)."""
        return self._network.probabilities(images)
