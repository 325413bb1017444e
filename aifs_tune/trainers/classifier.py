"""The network of a trial's best epoch that tells classes of images apart, for use outside of a search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import TrainerError
from aifs_tune.hashes import Hashes
from aifs_tune.trainers.checkpoint import WEIGHTS_NAME
from aifs_tune.trainers.image_network import ImageNetwork
from aifs_tune.trainers.loaded import IMAGE_CLASSES, load_network


def load_classifier(folder: Path, *, hashes: Hashes | None = None) -> Classifier:
    """The classifier in ``folder``, in the precision it was measured in; of any other network see
    :func:`~aifs_tune.trainers.loaded.load_network`, whose arguments and errors these are.

    Raises
    ------
    TrainerError
        If the network is not one of classes of images.
    """
    loaded = load_network(folder, hashes=hashes)
    if loaded.trainer not in IMAGE_CLASSES:
        raise TrainerError(
            f"{folder}/{WEIGHTS_NAME}.json: is of the {loaded.trainer}; allowed: {', '.join(IMAGE_CLASSES)}, or "
            "load_network"
        )
    return Classifier(cast(ImageNetwork, loaded.network), loaded.classes, loaded.params.hyperparameters())


class Classifier:
    """Gives the probabilities of ``classes`` for images that were decoded as those it learnt from."""

    def __init__(self, network: ImageNetwork, classes: tuple[str, ...], hyperparameters: Mapping[str, float]) -> None:
        self._network, self._hyperparameters = network, hyperparameters
        self.classes = classes

    def predict(self, images: NDArray[np.uint8], views: int = 1, *, seed: int = 0) -> NDArray[np.float32]:
        """Probabilities, shape (n, classes), of uint8 images (n, height, width, channels).

        With more than one of ``views``, the mean over so many random views of each image, changed as the trial
        changed training images; see :meth:`~aifs_tune.trainers.image_network.ImageNetwork.probabilities_of_views`.
        """
        return self._network.probabilities_of_views(images, views, hyperparameters=self._hyperparameters, seed=seed)
