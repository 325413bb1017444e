"""Samplers of OptunaHub, from a copy of its registry in a folder."""

from __future__ import annotations

import pytest

import aifs_tune
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.trusted_code import allow, trust
from aifs_tune.errors import RequestError, SweepFileError, UntrustedCodeError
from aifs_tune.samplers import hub
from aifs_tune.samplers.proposer import Proposer

X = {"x": {"type": "float", "low": 0, "high": 1}}
INIT = "from .sampler import EdgeSampler\n__all__ = ['EdgeSampler']\n"
SAMPLER = """
import optunahub


class EdgeSampler(optunahub.samplers.SimpleBaseSampler):
    def __init__(self, search_space=None, seed: int | None = None, *, share: float = 1.0):
        super().__init__(search_space, seed=seed)
        self._share = share

    def sample_relative(self, study, trial, search_space):
        return {name: each.low + self._share * (each.high - each.low) for name, each in search_space.items()}


class OtherSampler(EdgeSampler):
    pass
"""


@pytest.fixture(autouse=True)
def registry(tmp_path, monkeypatch):
    def package(name: str, init: str, sampler: str = SAMPLER) -> None:
        folder = tmp_path / "registry" / "package" / "samplers" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(init)
        (folder / "sampler.py").write_text(sampler)

    package("edge", INIT)
    package("two", "from .sampler import EdgeSampler, OtherSampler\n__all__ = ['EdgeSampler', 'OtherSampler']\n")
    package("none", "x = 1\n")
    package("needy", "import no_such_package_of_ours\n")
    package("broken", "1 / 0\n")
    monkeypatch.setenv(hub.REGISTRY, str(tmp_path / "registry"))
    monkeypatch.chdir(tmp_path)
    hub._loaded.cache_clear()
    return tmp_path / "registry"


def made(name, **options):
    spec = parse_sweep({"name": "lab", "space": X, "search": {"sampler": {"name": name, "options": options}}})
    allow(spec)
    return Proposer(spec).sampler(0)


def test_a_sweep_searches_with_a_sampler_of_the_hub_and_its_options():
    sampler = {"name": "optunahub:samplers/edge", "options": {"share": 0.25}}
    result = aifs_tune.tune(lambda x: x, X, trials=3, sampler=sampler, storage="sqlite:///lab.db", name="edges")
    assert [t.params["x"] for t in result.study.all_trials()][1:] == [0.25, 0.25]  # the first one knows no space
    assert aifs_tune.load_study("edges", "sqlite:///lab.db").spec.search.sampler.options == {"share": 0.25}


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("edge", {"shore": 1.0}, "options.shore: is no option of optunahub:samplers/edge, did you mean share"),
        ("edge", {"share": "all"}, r"share: 'all' .str. is not allowed; allowed: "),
        ("two", {}, "has several samplers; allowed: optunahub:samplers/two:EdgeSampler, .*OtherSampler"),
        ("two:Third", {}, "has no sampler Third; allowed: optunahub:samplers/two:EdgeSampler"),
        ("none", {}, "samplers/none of OptunaHub has no sampler"),
        ("needy", {}, "needs the package no_such_package_of_ours, which is not installed"),
        ("broken", {}, "cannot be loaded .ZeroDivisionError"),
        ("absent", {}, r"there is no optunahub:samplers/absent in \$AIFS_TUNE_OPTUNAHUB"),
    ],
)
def test_what_cannot_be_used_is_told_before_a_trial(name, options, told):
    with pytest.raises(RequestError, match=told):
        made(f"optunahub:samplers/{name}", **options)


def test_one_of_several_is_named_with_its_class():
    assert type(made("optunahub:samplers/two:OtherSampler")).__name__ == "OtherSampler"


def test_without_a_network_it_says_what_is_needed(monkeypatch):
    import optunahub

    def unreachable(package):
        raise OSError("fatal: unable to access: Could not resolve host")

    monkeypatch.delenv(hub.REGISTRY)
    monkeypatch.setattr(optunahub, "load_module", unreachable)
    with pytest.raises(RequestError, match=r"Could not resolve host.*connection to github.com.*\$AIFS_TUNE_OPTUNAHUB"):
        made("optunahub:samplers/edge")


def test_what_a_study_of_somebody_else_names_needs_trust(registry):
    name = "optunahub:samplers/two:EdgeSampler"
    spec = parse_sweep({"name": "lab", "space": X, "search": {"sampler": name, "seed": 5}})
    with pytest.raises(UntrustedCodeError, match="imported from OptunaHub"):
        Proposer(spec).sampler(0)
    trust([name])
    Proposer(spec).sampler(0)


def test_names_that_lead_out_of_the_registry_are_refused():
    for name in ("optunahub:../x", "optunahub:samplers", "optunahub:samplers/../../x", "optunahub:/etc/x"):
        with pytest.raises(SweepFileError, match=r"search\.sampler"):
            parse_sweep({"name": "lab", "space": X, "search": {"sampler": name}})
