"""Settings without effect, and functions that cannot be called, are refused before anything runs."""

from __future__ import annotations

import sys

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.trusted_code import trust
from aifs_tune.errors import RequestError
from aifs_tune.trainers.effects import check_effects

LAB = """
def keywords(heat, hold): return heat
def defaults(heat, hold, seed, epochs, rate=0.1): return heat
def one_dictionary(params, seed): return params["heat"]
def config(config, epochs=3): return config["heat"]
def anything(**parameters): return 0.0
def also_anything(heat, **parameters): return 0.0
def keyword_only(*, heat, hold): return heat
def typo(heat, hodl): return heat
def less(heat): return heat
def other(cfg): return cfg["heat"]
def by_position(heat, hold, /): return heat
def nothing(): return 1.0
def gas_required(heat, kind, gas): return heat
def gas_with_default(heat, kind, gas=None): return heat
class Furnace:
    def __init__(self, heat, hold): pass
"""
SPACE = {name: {"type": "float", "low": 0, "high": 1} for name in ("heat", "hold")}
GAS = {"type": "choice", "choices": ["argon", "air"], "when": {"kind": ["closed"]}}


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    (tmp_path / "labofeffects.py").write_text(LAB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("labofeffects", None)


def spec_of(function="keywords", space=SPACE, **more):
    name = f"labofeffects:{function}"
    trust([name])
    given = more.pop("trainer", {})
    return parse_sweep(
        {"name": "lab", "trainer": {"name": name, **given}, "objective": {"metric": "value"}, "space": space, **more}
    )


@pytest.mark.parametrize(
    "function", ["keywords", "defaults", "one_dictionary", "config", "anything", "also_anything", "keyword_only"]
)
def test_a_function_that_takes_the_parameters_is_allowed(function):
    check_effects(spec_of(function))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("typo", r"requires the argument hodl, which is no parameter of the space, did you mean hold\?"),
        ("less", r"space.hold: labofeffects:less takes no such argument.*; allowed: heat"),
        ("other", r"requires the argument cfg, which is no parameter of the space.*allowed: heat, hold, seed, epochs"),
        ("by_position", r"takes heat by its position only"),
        ("nothing", r"space.heat: .* takes no such argument; allowed: none"),
    ],
)
def test_a_function_that_does_not_take_the_parameters_is_refused(function, says):
    with pytest.raises(RequestError, match=says):
        check_effects(spec_of(function))


def test_an_argument_that_is_only_sometimes_given_needs_a_default():
    kind = {"type": "choice", "choices": ["open", "closed"]}
    space = {"heat": SPACE["heat"], "kind": kind, "gas": GAS}
    check_effects(spec_of("gas_with_default", space))
    with pytest.raises(RequestError, match="requires the argument gas, which has a value only where its condition"):
        check_effects(spec_of("gas_required", space))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"trainer": {"patience": 5}}, "trainer.patience: 5 has no effect: a function ends its trials itself"),
        ({"trainer": {"class_weights": "none"}}, "trainer.class_weights: none has no effect"),
        ({"trainer": {"precision": "float32"}}, "trainer.precision: float32 has no effect"),
        ({"trainer": {"checkpoint_s": 5}}, "trainer.checkpoint_s: 5.* has no effect: checkpoints need a function"),
        ({"trainer": {"weights": "w.h5"}}, "trainer.weights: w.h5 has no effect"),
        ({"data": {"folder": "pictures"}}, "data: folder: pictures has no effect: a function reads its own data"),
        ({"evaluate_test": True}, "evaluate_test: true has no effect"),
        ({"search": {"scheduler": "none", "grace_epochs": 3}}, "search.grace_epochs: 3 .* scheduler is none"),
        ({"search": {"reduction_factor": 4}}, "search.reduction_factor: 4.0 .* scheduler is aifs"),
        ({"search": {"perturb_epochs": 4}}, "search.perturb_epochs: 4 .* scheduler is aifs"),
        ({"search": {"scheduler": "pbt", "stop_after_failures": 3}}, "search.stop_after_failures: 3 .* pbt starts all"),
        ({"search": {"finalist_seeds": 4}}, "search.finalist_seeds: 4 has no effect: there are no finalists"),
    ],
)
def test_a_setting_without_effect_is_refused_with_the_reason(given, says):
    with pytest.raises(RequestError, match=says):
        check_effects(spec_of(**given))


@pytest.mark.parametrize(
    ("sweep", "says"),
    [
        (
            {"trainer": {"name": "boosting", "precision": "float32"}, "data": {"table": {"bundled": "breast_cancer"}}},
            "trainer.precision: float32 has no effect: trees",
        ),
        (
            {
                "trainer": {"name": "mlp", "class_weights": "none"},
                "data": {"table": {"file": "t.csv", "target": "yield", "predict": "values"}},
                "objective": {"metric": "val_rmse", "mode": "min"},
            },
            "trainer.class_weights: none has no effect: yield: numbers, not classes",
        ),
        (
            {
                "trainer": {"name": "detector", "class_weights": "none"},
                "data": {"bodies": {"catalogue": "bodies.csv"}},
                "objective": {"metric": "val_f1", "mode": "max"},
            },
            "trainer.class_weights: none has no effect: a detector has a map for each class",
        ),
    ],
)
def test_settings_of_networks_of_classes_are_refused_for_others(sweep, says):
    spec = parse_sweep({"name": "a", "space": {"learning_rate": 0.1}, **sweep})
    with pytest.raises(RequestError, match=says):
        check_effects(spec)


def test_a_name_that_is_no_argument_needs_a_dictionary():
    dotted = {"model.lr": 0.1, "heat": 1.0}
    for name in ("anything", "also_anything", "one_dictionary"):
        check_effects(spec_of(name, dotted))
    with pytest.raises(
        RequestError, match=r"space\.model\.lr: .*model\.lr cannot be the name of one in Python.*\*\*params"
    ):
        check_effects(spec_of("less", dotted))
    with pytest.raises(RequestError, match="lambda cannot be the name of one in Python"):
        check_effects(spec_of("less", {"lambda": 0.1, "heat": 1.0}))


def test_settings_that_have_an_effect_are_allowed():
    for search in (
        {"scheduler": "asha", "grace_epochs": 2, "reduction_factor": 4},
        {"scheduler": "hyperband", "reduction_factor": 4},
        {"scheduler": "median", "grace_epochs": 2},
        {"finalists": 2, "finalist_seeds": 4},
    ):
        check_effects(spec_of(search=search))


def test_the_space_command_refuses_what_run_refuses(run, tmp_path):
    (tmp_path / "typo.yaml").write_text(
        "name: typo\ntrainer: labofeffects:typo\nobjective: {metric: value}\n"
        "space: {heat: {type: float, low: 0, high: 1}, hold: {type: float, low: 0, high: 1}}\n"
    )
    (tmp_path / "missing.yaml").write_text((tmp_path / "typo.yaml").read_text().replace(":typo", ":nowhere"))
    for name, says in (("typo", "did you mean hold?"), ("missing", "nowhere")):
        told = run("space", str(tmp_path / f"{name}.yaml"))
        assert (told.code, says in told.err) == (2, True)
        ran = run("run", str(tmp_path / f"{name}.yaml"))
        assert (ran.code, ran.err) == (told.code, told.err)
