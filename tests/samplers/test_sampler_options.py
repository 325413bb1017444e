"""Options of samplers: in sweep files, in Python, checked before anything runs."""

from __future__ import annotations

import sys

import optuna
import pytest

import aifs_tune
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import NotFoundError, RequestError, SweepFileError
from aifs_tune.samplers.proposer import Proposer, check_sampler

X = {"x": {"type": "float", "low": 0, "high": 1}, "n": {"type": "int", "low": 0, "high": 5}}


def spec_with(sampler, **more):
    return parse_sweep({"name": "lab", "space": X, "search": {"sampler": sampler}, **more})


def made(name, **options):
    return Proposer(spec_with({"name": name, "options": options})).sampler(0)


def test_a_name_alone_is_written_as_before_and_options_come_along():
    assert spec_with("tpe") == spec_with({"name": "tpe"})
    assert spec_with("tpe").model_dump(mode="json")["search"]["sampler"] == "tpe"
    spec = spec_with({"name": "tpe", "options": {"n_startup_trials": 20}})
    written = spec.model_dump(mode="json")
    assert written["search"]["sampler"] == {"name": "tpe", "options": {"n_startup_trials": 20}}
    assert parse_sweep(written) == spec


def test_options_reach_the_sampler_and_leave_its_other_arguments():
    sampler = made("tpe", n_startup_trials=7)
    assert (sampler._n_startup_trials, sampler._multivariate, sampler._group) == (7, True, True)
    sampler = made("tpe", multivariate=False)
    assert (sampler._n_startup_trials, sampler._multivariate, sampler._group) == (10, False, False)
    assert made("qmc", qmc_type="halton")._qmc_type == "halton"


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        (
            ("tpe", {"n_startup": 3}),
            "options.n_startup: is no option of tpe, did you mean n_startup_trials.*; allowed: ",
        ),
        (("tpe", {"n_startup_trials": "3"}), r"n_startup_trials: '3' \(str\) is not allowed; allowed: int"),
        (("tpe", {"multivariate": 1}), r"multivariate: 1 \(int\) is not allowed; allowed: bool"),
        (("tpe", {"gamma": 5}), "gamma: 5 .int. is not allowed"),
        (("tpe", {"seed": 3}), "options.seed: is set by the study; allowed: "),
        (("random", {"width": 3}), "width: is no option of random; allowed: no options"),
        (("qmc", {"qmc_type": "best"}), "qmc cannot be made with qmc_type='best' .*Choose either"),
        (("nsga2", {"population_size": 1}), "nsga2 cannot be made with population_size=1"),
    ],
)
def test_options_that_are_not_allowed_are_named_before_anything_runs(sampler, told, url):
    given = dict(zip(("name", "options"), sampler, strict=True))
    with pytest.raises(RequestError, match=told):
        check_sampler(spec_with(given))
    with pytest.raises(RequestError, match=told):
        aifs_tune.open_study("lab", space=X, sampler=given, storage=url)
    with pytest.raises(RequestError, match=told):
        aifs_tune.tune(lambda x, n: x, X, sampler=given, name="lab", storage=url)
    with pytest.raises(NotFoundError):
        aifs_tune.load_study("lab", storage=url)


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        ({"name": "aifs", "options": {"width": 1}}, "search.sampler.options: width: the sampler aifs has no options"),
        ({"name": "tpee"}, "search.sampler.name: 'tpee' is not allowed, did you mean tpe"),
        ({"nme": "tpe"}, "search.sampler.nme: unknown key 'nme', did you mean name"),
        ({"name": "tpe", "options": {"gamma": {1, 2}}}, "search.sampler.options: cannot be stored"),
        ({"name": "tpe", "options": {"a b": 1}}, "a b"),
    ],
)
def test_what_is_no_sampler_with_options_is_refused(sampler, told):
    with pytest.raises(SweepFileError, match=told):
        spec_with(sampler)


def test_a_class_of_ones_own_gets_its_options(tmp_path, monkeypatch, url):
    (tmp_path / "optionlab.py").write_text(
        "import optuna\n\n\nclass Mine(optuna.samplers.RandomSampler):\n"
        "    def __init__(self, seed=None, *, width: float = 1.0) -> None:\n"
        "        super().__init__(seed)\n        self.width = width\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sampler = {"name": "optionlab:Mine", "options": {"width": 2}}
    study = aifs_tune.open_study("lab", space=X, sampler=sampler, storage=url)
    assert study.tell(study.ask(), 0.5).value == 0.5
    assert study._proposer.sampler(0).width == 2
    with pytest.raises(RequestError, match=r"width: 'wide' \(str\) is not allowed; allowed: float"):
        aifs_tune.open_study("b", space=X, sampler={**sampler, "options": {"width": "wide"}}, storage=url)
    result = aifs_tune.tune(lambda x, n: x, X, trials=2, sampler=sampler, storage=url)
    assert result.study.spec.search.sampler.options == {"width": 2}
    del sys.modules["optionlab"]


def test_every_sampler_can_be_made_with_options_of_its_class(monkeypatch):
    monkeypatch.setattr("aifs_tune.samplers.optuna_samplers._need", lambda *_: None)
    assert isinstance(made("cmaes", sigma0=0.5, popsize=8), optuna.samplers.CmaEsSampler)
    assert isinstance(made("nsga3", population_size=8), optuna.samplers.NSGAIIISampler)
