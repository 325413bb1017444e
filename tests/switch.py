"""A network switch in a process of its own: frames between TAP devices, which it can hold back, lose or cut off.

Run with the file descriptors of the devices as arguments. Each line on standard input is a JSON object that replaces
the settings: ``delay_s`` of every frame, ``loss`` (a fraction), ``cut`` (positions of devices that are unplugged).
"""

from __future__ import annotations

import heapq
import json
import os
import random
import selectors
import sys
import time
from contextlib import suppress
from itertools import count

_BIGGEST_FRAME = 65536
_FOR_SEVERAL = 1  # in the first byte of an address: for several, or for all


class Switch:
    """Reads frames from devices and hands them on."""

    def __init__(self, devices: list[int]) -> None:
        self._devices = devices
        self._delay_s, self._loss, self._unplugged = 0.0, 0.0, set[int]()
        self._chance = random.Random(0)
        self._behind: dict[bytes, int] = {}  # an address, and the device it was seen behind
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._order = count()

    def run(self) -> None:
        """Until standard input ends."""
        ready = selectors.DefaultSelector()
        for source in [*self._devices, sys.stdin.fileno()]:
            ready.register(source, selectors.EVENT_READ)
        while True:
            wait_s = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            for key, _ in ready.select(wait_s):
                if key.fd != sys.stdin.fileno():
                    self._hand_on(key.fd)
                elif line := sys.stdin.readline():
                    self._set(**json.loads(line))
                else:
                    return
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                *_, device, frame = heapq.heappop(self._waiting)
                _send(device, frame)

    def _set(self, *, delay_s: float, loss: float, cut: list[int]) -> None:
        self._delay_s, self._loss, self._unplugged = delay_s, loss, {self._devices[position] for position in cut}

    def _hand_on(self, source: int) -> None:
        try:
            frame = os.read(source, _BIGGEST_FRAME)
        except OSError:
            return
        self._behind[frame[6:12]] = source
        to = None if frame[0] & _FOR_SEVERAL else self._behind.get(frame[:6])
        for device in [each for each in self._devices if each != source] if to is None else [to]:
            if {source, device} & self._unplugged or self._chance.random() < self._loss:
                continue
            if self._delay_s or self._waiting:
                due = time.monotonic() + self._delay_s
                heapq.heappush(self._waiting, (due, next(self._order), device, frame))
            else:
                _send(device, frame)


def _send(device: int, frame: bytes) -> None:
    with suppress(OSError):  # the host behind it is gone, or its queue is full: as on a wire, the frame is lost
        os.write(device, frame)


if __name__ == "__main__":
    Switch([int(each) for each in sys.argv[1:]]).run()
