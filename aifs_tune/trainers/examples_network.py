"""What networks for examples have in common: classes or numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aifs_tune.trainers.network import Network, dtype_of
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.runtime import tf


class ExamplesNetwork(Network):
    """To logits (n, classes) or scaled numbers (n, targets): ``n_outputs`` and ``is_classes`` of ``shape``."""

    def __init__(
        self,
        shape: Any,
        precision: Precision,
        sizes: Mapping[str, tuple[int, ...]],
        states: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__(sizes, states)
        self._shape, self._dtype = shape, dtype_of(precision)

    @property
    def n_outputs(self) -> int:
        n_outputs: int = self._shape.n_outputs
        return n_outputs

    def activation(self, outputs: Any) -> Any:
        """Logarithms of probabilities, or the numbers."""
        return tf.nn.log_softmax(outputs) if self._shape.is_classes else outputs

    def _weight(self, name: str) -> Any:
        """In the precision that dense layers and convolutions are computed in."""
        return tf.cast(self.weights[name], self._dtype)
