"""Schedules and populations in sweep files: what is refused, and in which words."""

from __future__ import annotations

import pytest
from sweep_text import BASE, refusal

from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.trusted_code import trust
from aifs_tune.errors import ConflictError, RequestError, SweepFileError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study
from aifs_tune.trainers.factory import check_trainer, heavy_modules, why_not_fused

RATE = {"type": "float", "low": 1e-4, "high": 0.1, "log": True}
FIRST = {"epoch": 1, "params": {"learning_rate": 0.01, "dropout": 0.3}}


def sweep(**sections):
    section = {"name": "p", "trainer": "mlp", "space": {"units": 8}}
    return parse_sweep(section | sections)


def population(**sections):
    search = {"scheduler": "pbt", "trials": 4, "epochs": 6} | sections.pop("search", {})
    return sweep(**({"space": {"learning_rate": RATE}, "search": search} | sections))


def test_a_schedule_and_a_population_are_read():
    read = sweep(replay=[FIRST, {"epoch": 4, "params": {"learning_rate": 1e-3}}])
    check_trainer(read)
    assert [(entry.epoch, entry.params["learning_rate"]) for entry in read.replay] == [(1, 0.01), (4, 1e-3)]
    assert parse_sweep(read.model_dump(mode="json")) == read
    check_trainer(population())
    assert population().search.perturb_epochs == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("[{epoch: 2, params: {rate: 1}}]", "base.yaml:3: replay.0.epoch: 2 is out of order; allowed: 1 for the first"),
        (
            "[{epoch: 1, params: {zoom: 1}}, {epoch: 1, params: {zoom: 1}}]",
            "base.yaml:3: replay.1.epoch: 1 is out of order; allowed: a whole number above 1",
        ),
        ("[{epoch: 1, params: {}}]", "base.yaml:3: replay.0.params: {} has too few entries"),
        ("[{epoch: 1, parms: {zoom: 1}}]", "base.yaml:3: replay.0.parms: unknown key 'parms', did you mean params?"),
        ("[{epoch: 1, params: {zoom: {a: 1}}}]", "base.yaml:3: replay.0.params.zoom: {'a': 1} is not a valid parame"),
        (
            "[{epoch: 1, params: {rate: 1e-4}}]",
            "replay.0.params.rate: is also searched in space; allowed: remove",
        ),
        (
            "[{epoch: 1, params: {width: 4}}]",
            "replay.0.params.width: the first entry has 4, but space.width is 3; allowed: the sa",
        ),
    ],
)
def test_a_schedule_that_is_none_is_refused_with_its_line(tmp_path, lines, said):
    text = str(refusal(tmp_path / "base.yaml", BASE.replace("search:", f"replay: {lines}\nsearch:")))
    assert said in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"search": {"epochs": 2}}, "perturb_epochs: 2 is not less than epochs .2..*; allowed: a whole number below 2"),
        ({"search": {"perturb_epochs": 0}}, "search.perturb_epochs: 0 is too small"),
        ({"replay": [FIRST], "space": {"noise": RATE}}, "replay: cannot be combined with pbt, which changes"),
        ({"resources": {"gpu": "auto"}}, "resources.gpu: auto needs one trial .*; allowed: a number from 0 to 64"),
        (
            {"trade_off": [{"metric": "val_loss", "mode": "min"}], "search": {"sampler": "tpe"}},
            "search.scheduler: pbt compares trials by one objective, .*; allowed: none",
        ),
    ],
)
def test_a_population_that_is_none_is_refused(wrong, said):
    with pytest.raises(SweepFileError, match=said):
        population(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"trainer": "processes:start"},
            "search.scheduler: pbt: parameters cannot change in a running trial of processes:start",
        ),
        (
            {"trainer": "boosting"},
            "pbt: parameters cannot change in a running trial of boosting; allowed: trainers cnn, .*mlp",
        ),
        ({"search": {"trials": 3}}, "search.trials: 3 are too few for pbt; allowed: 4 or more"),
        (
            {"space": {"units": {"type": "choice", "choices": [8, 16]}, "dropout": 0.1}},
            "space: no searched parameter can change in a running trial; allowed: any of learning_rate, momentum",
        ),
        (
            {"trainer": "cnn", "resources": {"fused_trials": 4}},
            "resources.fused_trials: 4 is not possible: the parameters of trials change while they train; allowed: 1",
        ),
    ],
)
def test_what_cannot_be_a_population_is_refused_before_anything_runs(wrong, said):
    trust(["processes:start"])
    with pytest.raises(RequestError, match=said):
        check_trainer(population(**wrong))


@pytest.mark.parametrize(
    ("params", "trainer", "said"),
    [
        ({"zoom": 0.1}, "mlp", "replay.0.params.zoom: cannot change in a running trial of the mlp; allowed: learning_"),
        ({"layers": 1}, "mlp", "replay.0.params.layers: cannot change in a running trial of the mlp; allowed: learni"),
        ({"dropout": 2.0}, "mlp", "replay.0.params.dropout: 2.0 is not allowed; allowed: a number from 0"),
        ({"x": 1.0}, "processes:start", "replay: parameters cannot change in a running trial of processes:start"),
        ({"l2": 1.0}, "boosting", "replay: parameters cannot change in a running trial of boosting"),
    ],
)
def test_a_schedule_of_what_cannot_change_is_refused_before_anything_runs(params, trainer, said):
    trust(["processes:start"])
    space = {"leaves": 8} if trainer == "boosting" else {"units": 8}
    with pytest.raises(RequestError, match=said):
        check_trainer(sweep(trainer=trainer, space=space, replay=[{"epoch": 1, "params": params}]))


def test_trials_that_change_train_alone_on_a_gpu():
    reason = "the parameters of trials change while they train"
    for changing in (
        population(trainer="cnn", resources={"gpu": 1}),
        sweep(trainer="cnn", space={"filters": 8}, resources={"gpu": 1}, replay=[FIRST]),
    ):
        assert why_not_fused(changing) == reason
        check_trainer(changing)
        assert heavy_modules(changing)


def test_another_schedule_is_another_question(url):
    storage = Storage(url, create=True)
    start_study(storage, sweep(replay=[FIRST]), "p")
    with pytest.raises(ConflictError, match="another schedule to replay"):
        start_study(storage, sweep(), "p")
