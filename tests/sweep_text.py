"""A small sweep file as text, and the error that a wrong one ends with."""

from __future__ import annotations

from pathlib import Path

import pytest

from aifs_tune.config.loading import load_sweep_file
from aifs_tune.errors import SweepFileError

BASE = """\
name: base
trainer: cnn
search:
  trials: 5
space:
  rate: {type: float, low: 1e-5, high: 1.0e-2, log: true, default: 1e-4, unit: step}
  optimizer: {type: choice, choices: [adam, sgd], default: adam}
  momentum:
    type: float
    low: 0
    high: 0.9
    when: {optimizer: sgd}
  width: 3
"""


def refusal(file: Path, text: str, *overrides: str) -> SweepFileError:
    """The error that loading ``text`` ends with."""
    file.write_text(text)
    with pytest.raises(SweepFileError) as caught:
        load_sweep_file(file, overrides)
    return caught.value
