"""A backbone that was trained on other images, with new classes, as a trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images import ImageSet
from aifs_tune.errors import RequestError
from aifs_tune.scalars import Scalar
from aifs_tune.trainers.image_network import ImageNetwork
from aifs_tune.trainers.image_trainer import ImageTrainer
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.runtime import keras, tf
from aifs_tune.trainers.transfer_params import (
    BACKBONES,
    BackboneName,
    TransferParams,
    TransferShape,
    check_weights,
    how_to_get,
)
from aifs_tune.trainers.weights import PRETRAINED, initial_weights

_ENDS = {"depthwise_kernel": "kernel", "gamma": "scale", "beta": "offset", "moving_mean": "mean"}
_ENDS |= {"moving_variance": "variance"}


class TransferNetwork(ImageNetwork):
    """A backbone, the mean of its features, dropout and the classes.

    Images are scaled as the backbone's own, grey ones repeated in three channels. The running statistics of its batch
    norms stay those of the file, in training too, as Keras advises for fine-tuning. In mixed precision it is computed
    under Keras's policy of that name.
    """

    def __init__(self, shape: TransferShape, precision: Precision = "float32") -> None:
        self._backbone = make_backbone(shape.backbone, shape.image[:2], precision)
        variables = self._backbone.trainable_variables, self._backbone.non_trainable_variables
        trained, fixed = ({_name(v): tuple(v.shape) for v in some} for some in variables)
        self._trained, self._fixed = list(trained), list(fixed)
        n_features = self._backbone.output_shape[-1]
        self._new = {"classes.kernel": (n_features, shape.n_classes), "classes.bias": (shape.n_classes,)}
        self._prepare = scaling_of(shape.backbone)
        self.pretrained: Mapping[str, NDArray[np.float32]] = {}
        """What :meth:`initialise` begins with, by name; see :meth:`read`."""
        super().__init__(shape, precision, trained | self._new, fixed)

    def read(self, file: Path | None) -> None:
        """Take what ``file``, written by ``save_weights`` of Keras, has for the backbone.

        Raises
        ------
        RequestError
            If it is missing or of another network.
        """
        name = self.shape.backbone
        found = check_weights(file, name)
        try:
            self._backbone.load_weights(found)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RequestError(
                f"trainer.weights: {found} does not fit the backbone {name} ({reason}); {how_to_get(name)}"
            ) from error
        self.pretrained = {_name(variable): np.array(variable) for variable in self._backbone.variables}

    def initialise(self, seed: int) -> None:
        """The file's weights, and new classes by the seed."""
        self.assign({**initial_weights(self._new, seed), **self.pretrained})

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Logits of shape (n, classes) for float images of 0 to 1; ``drop`` is applied to the mean features."""
        del is_training
        colour = tf.repeat(inputs, 3 // self.shape.image[2], axis=3)
        trained = [self.weights[name] for name in self._trained]
        fixed = [self.states[name] for name in self._fixed]
        features, _ = self._backbone.stateless_call(trained, fixed, self._prepare(colour * 255.0), training=False)
        kept = drop(tf.cast(features, tf.float32))
        return tf.nn.bias_add(tf.matmul(kept, self.weights["classes.kernel"]), self.weights["classes.bias"])


class TransferTrainer(ImageTrainer):
    """Trains new classes on a backbone, and then the backbone; see
    :class:`~aifs_tune.trainers.transfer_params.TransferParams`.

    ``weights`` is the file of the backbone; all else is as for every :class:`ImageTrainer`.
    """

    params_type: ClassVar = TransferParams
    shape_type: ClassVar = TransferShape

    def __init__(
        self, images: ImageSet, params: Mapping[str, Scalar] | None = None, *, weights: Path | None, **task: Any
    ) -> None:
        self._file = weights
        super().__init__(images, params, **task)

    def _make_network(self, shape: Any) -> ImageNetwork:
        network = TransferNetwork(shape, self.precision)
        network.read(self._file)
        return network


def make_backbone(name: BackboneName, image: tuple[int, int], precision: Precision = "float32") -> Any:
    """A network of Keras, not trained, from images of this height and width in colour to features (n, features)."""
    backbone, policy = BACKBONES[name], keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return getattr(import_module(backbone.module), backbone.maker)(input_shape=(*image, 3), **backbone.options)
    finally:
        keras.config.set_dtype_policy(policy)


def scaling_of(name: BackboneName) -> Callable[[Any], Any]:
    """What the backbone's images are changed by; of pixels of 0 to 255."""
    scaling: Callable[[Any], Any] = import_module(BACKBONES[name].module).preprocess_input
    return scaling


def _name(variable: Any) -> str:
    *_, layer, end = variable.path.split("/")
    return f"{PRETRAINED}{layer}.{_ENDS.get(end, end)}"
