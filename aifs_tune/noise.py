"""The noise floor: how much one configuration scatters over seeds and divisions of the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aifs_tune.confirmation import read_confirmation, start_confirmation
from aifs_tune.confirming import SweepOptions
from aifs_tune.contenders import BASELINE, Candidate
from aifs_tune.cross_validation import CrossValidation
from aifs_tune.errors import RequestError
from aifs_tune.noise_floor import SUFFIX, Noise, noise_of
from aifs_tune.storage import Storage
from aifs_tune.sweep import load_sweep
from aifs_tune.sweep_data import located


def measure_noise(
    sweep: str | Path,
    *,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    cv: CrossValidation | None = None,
    storage: str | None = None,
    options: SweepOptions | None = None,
) -> Noise:
    """Train the default configuration of a sweep file on each division with another seed each.

    Raises
    ------
    RequestError
        If its space states no default configuration; WorkError if fewer than two trainings ended well.
    """
    spec = located(load_sweep(sweep, data=data, overrides=overrides).spec)
    default = spec.space.default_params()
    if default is None:
        raise RequestError(f"{spec.name}: its space states no default configuration; allowed: one for each parameter")
    opened = Storage(storage, create=True)
    with opened.writing():
        asked = cv or CrossValidation(folds=5, repeats=2)
        created = start_confirmation(opened, spec, f"{spec.name}{SUFFIX}", [Candidate(BASELINE, None, default)], asked)
    (options or SweepOptions()).finish(created)
    return noise_of(read_confirmation(opened, created.name))
