"""What the workers of a sweep spend, and what the first trial takes of the memory: heard by the driver."""

from __future__ import annotations

from collections.abc import Mapping

from aifs_tune.listener import Listener
from aifs_tune.memory import Occupied
from aifs_tune.profile import Profile
from aifs_tune.shares import n_fitting, verdict


class Meter:
    """Hears what workers report beside their measurements and fills the profile with it.

    ``give`` tells it what each worker has. When the first trial has ended, it says once how many such trials there is
    memory for, if that is known.
    """

    def __init__(self, profile: Profile, listener: Listener) -> None:
        self._profile, self._listener = profile, listener
        self.occupied: Occupied | None = None
        """The most that any worker took until the first trial ended."""
        self._is_first = True

    def give(self, gpu: float, *, per_node: int, is_chosen: bool) -> None:
        """Each of ``per_node`` workers on a machine has this share of a GPU from now on; ``is_chosen`` by a user, who
        may be told of a better one."""
        self._gpu, self._per_node, self._is_chosen = gpu, per_node, is_chosen

    def heard(self, spent: Mapping[str, float], occupied: Occupied | None) -> None:
        """A worker reported an epoch, or the end of a trial."""
        self._profile.add(spent)
        if self._is_first and occupied is not None and _size(occupied) >= _size(self.occupied or Occupied()):
            self.occupied = occupied

    def ended(self) -> None:
        """A trial ended."""
        if not self._is_first or self.occupied is None:
            return
        self._is_first = False
        said = verdict(self.occupied, self._gpu, self._per_node)
        if said is not None and self._is_chosen:
            self._listener.stage(said)
        self._profile.memory = self._told(self.occupied)

    def _told(self, occupied: Occupied) -> dict[str, float | None]:
        peak, total = occupied.gpu_peak_mb, occupied.gpu_mb
        return {
            "gpu": self._gpu,
            "gpu_peak_mb": peak,
            "gpu_mb": total,
            "fit_on_gpu": None if peak is None or total is None else n_fitting(peak, total),
            "ram_peak_mb": occupied.ram_mb,
            "ram_mb": occupied.node_mb,
            "fit_in_ram": int(occupied.node_mb / occupied.ram_mb) if occupied.node_mb and occupied.ram_mb else None,
        }


def _size(occupied: Occupied) -> tuple[float, float]:
    return occupied.gpu_peak_mb or 0.0, occupied.ram_mb or 0.0
