"""The state of CMA-ES in a storage, to which others can write."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import optuna

from aifs_tune.samplers.cmaes import CmaEsSampler


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self._folder),)


def test_a_forged_state_is_not_executed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(CmaEsSampler, "_attr_key_optimizer", "cma:optimizer")
    sampler = CmaEsSampler.__new__(CmaEsSampler)
    state = pickle.dumps(Payload(tmp_path / "made"))
    pickle.loads(state)
    assert (tmp_path / "made").is_dir(), "Optuna would have run it"
    (tmp_path / "made").rmdir()
    trial = optuna.trial.create_trial(value=1.0, system_attrs={"cma:optimizer:0": state.hex()})
    assert sampler._restore_optimizer([trial]) is None
    assert not (tmp_path / "made").exists()
    assert "cannot be used (posix.mkdir is no part of an optimizer): the search begins anew" in caplog.text
    for damaged in ("", "xyz", "80"):
        trial = optuna.trial.create_trial(value=1.0, system_attrs={"cma:optimizer:0": damaged})
        assert sampler._restore_optimizer([trial]) is None
