"""Any network of a trial's best epoch, read back from what ``save_best`` wrote, for use outside of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.hashing import Hashes, check_hashes
from aifs_tune.data.examples import Target
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.checkpoint import WEIGHTS_NAME, read_state
from aifs_tune.trainers.network.images import ImageNetwork
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.params import Precision, TrainingParams
from aifs_tune.trainers.network.runtime import resident


class _Types(NamedTuple):
    """Where the params, shape and network of a trainer are: a module and the beginning of their names, and the module
    of the network."""

    params: str
    begins: str
    network: str

    def load(self) -> tuple[Any, Any, Any]:
        """The three types."""
        params, network = (import_module(f"aifs_tune.trainers.{name}") for name in (self.params, self.network))
        kinds = [getattr(params, f"{self.begins}{kind}") for kind in ("Params", "Shape")]
        return kinds[0], kinds[1], getattr(network, f"{self.begins}Network")


_TYPES = {
    "cnn": _Types("cnn_params", "Cnn", "cnn_network"),
    "residual_cnn": _Types("residual_params", "Residual", "residual"),
    "transfer": _Types("transfer_params", "Transfer", "transfer"),
    "mlp": _Types("mlp_params", "Mlp", "mlp"),
    "rnn": _Types("rnn_params", "Rnn", "rnn"),
    "cnn1d": _Types("cnn1d_params", "Cnn1d", "cnn1d"),
    "cnn_values": _Types("cnn_values_params", "CnnValues", "cnn_values"),
}
NETWORKS = tuple(_TYPES)
"""The trainers whose weights are those of a network."""
IMAGE_CLASSES = ("cnn", "residual_cnn", "transfer")
"""Those of images of 0 to 255 and their classes."""


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights; ``classes`` or ``targets`` are what it predicts, ``params`` what it trained with,
    ``facts`` all that ``weights.json`` says."""

    trainer: str
    network: Network
    params: TrainingParams
    shape: Any
    classes: tuple[str, ...]
    targets: tuple[Target, ...]
    facts: Mapping[str, Any]

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities, shape (n, classes), or numbers in the units of their targets, shape (n, targets), for examples
        that were prepared as those it learnt from.

        Images are uint8 (n, height, width, channels); tables one float32 (n, columns); series values
        (n, steps, channels) and lengths (n,); images of numbers one array (n, height, width, bands).
        """
        stored = tuple(resident(np.array(array)) for array in inputs)
        raw = stored[0] if self.trainer in IMAGE_CLASSES else stored
        y_pred = self.network.predict(raw, np.arange(len(inputs[0]), dtype=np.int32))
        return predicted(y_pred, self.targets)


def predicted(y_pred: NDArray[np.float32], targets: tuple[Target, ...]) -> NDArray[np.float32]:
    """What a network's answers say: of classes probabilities, else numbers in the units of their targets."""
    if not targets:
        return np.asarray(np.exp(y_pred), np.float32)
    centres, scales = (np.array([getattr(target, name) for target in targets]) for name in ("centre", "scale"))
    return np.asarray(y_pred * scales + centres, np.float32)


def load_network(folder: Path, *, hashes: Hashes | None = None, precision: Precision | None = None) -> LoadedNetwork:
    """The network in ``folder``, in the precision it was measured in, or another one.

    Built from our own code and plain arrays, so that nothing in the files is executed. ``hashes`` are those of a
    trial's ``weights``, for a folder that was copied; of one that
    :func:`~aifs_tune.artifacts.trial_artifacts.kept_weights` gave they
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
        trainer = facts.get("trainer", "cnn")
        params_type, shape_type, network_type = _types_of(trainer)
        params = _params(facts["params"], params_type)
        shape = _shape(facts["architecture"], shape_type, params)
        classes, targets = tuple(facts["classes"]), tuple(Target(**one) for one in facts.get("targets", ()))
        told = facts["precision"]
        if told not in get_args(Precision):
            raise ValueError(f"precision {told!r} is unknown")
        network = network_type(shape, *(() if trainer == "rnn" else (precision or told,)))
    except (KeyError, TypeError, ValueError, AttributeError, RequestError) as error:
        raise TrainerError(f"{folder}/{WEIGHTS_NAME}.json: describes no network ({error})") from error
    if {name: array.shape for name, array in arrays.items()} != network.sizes:
        raise TrainerError(f"{folder}/{WEIGHTS_NAME}.npz: its arrays are not those of the network in the JSON file")
    network.assign(arrays)
    return LoadedNetwork(trainer, network, params, shape, classes, targets, facts)


def _types_of(trainer: object) -> tuple[Any, Any, Any]:
    if not isinstance(trainer, str) or trainer not in _TYPES:
        raise ValueError(f"trainer {trainer!r} is none of {', '.join(_TYPES)}")
    return _TYPES[trainer].load()


def _params(told: Mapping[str, Any], params_type: Any) -> Any:
    """What can be tuned in the trainer: a file also has what its type inherited, and cannot be."""
    idle = {field.name for field in fields(params_type)} - params_type.allowed.keys()
    return params_type.from_mapping({name: value for name, value in told.items() if name not in idle})


def _shape(described: Mapping[str, Any], shape_type: Any, params: TrainingParams) -> Any:
    """The shape that the JSON file says: what can be tuned in it is what the params have."""
    given = dict(described)
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
    """The classifier in ``folder``, in the precision it was measured in; of any other network see
    :func:`~aifs_tune.trainers.load.load_network`, whose arguments and errors these are.

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
        changed training images; see :meth:`~aifs_tune.trainers.network.images.ImageNetwork.probabilities_of_views`.
        """
        return self._network.probabilities_of_views(images, views, hyperparameters=self._hyperparameters, seed=seed)
