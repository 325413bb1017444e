"""Contract tests for trainers of your own, to be run with pytest, which the package itself does not need."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import RequestError
from aifs_tune.trainers.protocol import Adaptable, Resumable, SavesBest, Trainer

__all__ = ["TrainerContract"]


class TrainerContract:
    """Contract tests that every trainer must pass.

    Subclass it as ``TestSomething`` in a test file, set ``first`` and ``second``, and implement :meth:`make`. Tests of
    protocols that the trainer does not have are skipped; see :mod:`aifs_tune.trainers.protocol`.

    Attributes
    ----------
    first, second
        Two configurations whose metrics differ in the first epoch.

    Examples
    --------
    >>> from aifs_tune.testing import TrainerContract
    >>> class Line:
    ...     is_finished = False
    ...     def reset(self, params, *, seed):
    ...         self.slope, self.n = params["slope"], 0
    ...     def epoch(self):
    ...         self.n += 1
    ...         return {"score": float(self.slope * self.n)}
    >>> class TestLine(TrainerContract):
    ...     first, second = {"slope": 1.0}, {"slope": 2.0}
    ...     def make(self):
    ...         return Line()
    >>> contract = TestLine()
    >>> trainer = contract.make()
    >>> trainer.reset(contract.first, seed=1)
    >>> contract.test_an_epoch_measures_plain_finite_floats(trainer)
    """

    first: ClassVar[Mapping[str, Scalar]]
    second: ClassVar[Mapping[str, Scalar]]

    def make(self) -> Trainer:
        """Make a new trainer; the tests reset it before anything else.

        Returns
        -------
        Trainer
            A trainer that shares nothing with the ones made before.
        """
        raise NotImplementedError

    @pytest.fixture
    def trainer(self) -> Trainer:
        """Make a trainer and reset it to ``first`` with seed 1.

        Returns
        -------
        Trainer
            The trainer.
        """
        trainer = self.make()
        trainer.reset(self.first, seed=1)
        return trainer

    def test_an_epoch_measures_plain_finite_floats(self, trainer: Trainer) -> None:
        """Check that metrics are finite Python floats by name.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        """
        metrics = trainer.epoch()
        assert metrics
        assert all(type(name) is str and type(value) is float for name, value in metrics.items())
        assert all(math.isfinite(value) for value in metrics.values())

    def test_every_epoch_measures_the_same_metrics(self, trainer: Trainer) -> None:
        """Check that two epochs report the same metrics in the same order.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        """
        one = trainer.epoch()
        two = trainer.epoch()
        assert list(one) == list(two) or (not two and trainer.is_finished)

    def test_is_not_finished_after_a_reset(self, trainer: Trainer) -> None:
        """Check that a new trial is not finished.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        """
        trainer.epoch()
        trainer.reset(self.second, seed=2)
        assert not trainer.is_finished

    def test_a_reset_forgets_the_trials_before(self, trainer: Trainer) -> None:
        """Check that metrics depend on params and seed, not on earlier trials.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        """
        fresh = [trainer.epoch(), trainer.epoch()]
        trainer.reset(self.second, seed=2)
        other = trainer.epoch()
        trainer.reset(self.first, seed=1)
        assert [trainer.epoch(), trainer.epoch()] == fresh
        assert other != fresh[0]

    def test_params_stay_the_callers(self, trainer: Trainer) -> None:
        """Check that the trainer does not change the params that it gets.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        """
        params = dict(self.first)
        trainer.reset(params, seed=1)
        trainer.epoch()
        assert params == dict(self.first)

    def test_a_loaded_trial_continues_as_if_never_stopped(self, trainer: Trainer, tmp_path: Path) -> None:
        """Check that a trial that was saved and loaded has the metrics of one without interruption.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        tmp_path
            Empty folder for files.
        """
        if not isinstance(trainer, Resumable):
            pytest.skip("not resumable")
        trainer.epoch()
        trainer.save(tmp_path)
        rest = [trainer.epoch(), trainer.epoch()]
        later = self.make()
        later.reset(self.second, seed=2)
        later.epoch()
        later.reset(self.first, seed=1)
        assert isinstance(later, Resumable)
        later.load(tmp_path)
        assert [later.epoch(), later.epoch()] == rest

    def test_saving_does_not_disturb_the_trial(self, trainer: Trainer, tmp_path: Path) -> None:
        """Check that saving does not change later epochs.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        tmp_path
            Empty folder for files.
        """
        if not isinstance(trainer, Resumable):
            pytest.skip("not resumable")
        expected = [trainer.epoch(), trainer.epoch()]
        trainer.reset(self.first, seed=1)
        one = trainer.epoch()
        trainer.save(tmp_path)
        if isinstance(trainer, SavesBest):
            trainer.save_best(tmp_path)
        assert [one, trainer.epoch()] == expected

    def test_a_change_to_what_it_has_changes_nothing(self, trainer: Trainer) -> None:
        """Check that a change to the current params has no effect.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        """
        if not isinstance(trainer, Adaptable):
            pytest.skip("not adaptable")
        expected = [trainer.epoch(), trainer.epoch()]
        trainer.reset(self.first, seed=1)
        one = trainer.epoch()
        trainer.change(self.first)
        assert [one, trainer.epoch()] == expected

    def test_a_change_keeps_the_weights_or_is_refused(self, trainer: Trainer) -> None:
        """Check that a change continues from the current weights, or leaves the trial unchanged.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        """
        if not isinstance(trainer, Adaptable):
            pytest.skip("not adaptable")
        expected = [trainer.epoch(), trainer.epoch()]
        trainer.reset(self.second, seed=1)
        afresh = trainer.epoch()
        trainer.reset(self.first, seed=1)
        one = trainer.epoch()
        try:
            trainer.change(self.second)
        except RequestError:
            assert [one, trainer.epoch()] == expected
        else:
            two = trainer.epoch()
            assert list(two) == list(one)
            assert two not in (expected[1], afresh)

    def test_a_trial_goes_on_from_another_one(self, trainer: Trainer, tmp_path: Path) -> None:
        """Check that a trial can load the files of another one and continue with other params.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        tmp_path
            Empty folder for files.
        """
        if not isinstance(trainer, Adaptable) or not isinstance(trainer, Resumable):
            pytest.skip("not adaptable and resumable")
        trainer.epoch()
        trainer.save(tmp_path)
        try:
            trainer.change(self.second)
        except RequestError:
            pytest.skip("the second configuration has another shape")
        expected = trainer.epoch()
        later = self.make()
        later.reset(self.second, seed=1)
        assert isinstance(later, Resumable)
        assert isinstance(later, Adaptable)
        later.load(tmp_path)
        later.change(self.second)
        assert later.epoch() == expected

    def test_files_are_plain_arrays_and_json(self, trainer: Trainer, tmp_path: Path) -> None:
        """Check that files hold JSON and arrays without pickle; a file of skops is an archive of these.

        Parameters
        ----------
        trainer
            Trainer after a reset with ``first`` and seed 1.
        tmp_path
            Empty folder for files.
        """
        if not isinstance(trainer, Resumable) and not isinstance(trainer, SavesBest):
            pytest.skip("saves nothing")
        trainer.epoch()
        if isinstance(trainer, Resumable):
            trainer.save(tmp_path)
        if isinstance(trainer, SavesBest):
            best = trainer.save_best(tmp_path)
            assert best.parent == tmp_path
            assert best.is_file()
        for file in (path for path in tmp_path.rglob("*") if path.is_file()):
            if file.suffix == ".skops":
                with zipfile.ZipFile(file) as members:
                    members.extractall(tmp_path / "skops")
                file.unlink()
        for file in (path for path in tmp_path.rglob("*") if path.is_file()):
            if file.suffix == ".json":
                json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
            elif file.suffix == ".npy":
                assert np.load(file, allow_pickle=False).dtype != object
            else:
                with np.load(file, allow_pickle=False) as archive:
                    assert all(archive[name].dtype != object for name in archive.files)
