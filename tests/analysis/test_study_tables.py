"""Tables of a study's trials: against known results, and where nothing can be computed."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

import aifs_tune
from aifs_tune.analysis.importance import REMARK, fit_forest, shares_of
from aifs_tune.analysis.study_tables import analyse
from aifs_tune.cli.analyse import TableName
from aifs_tune.errors import RequestError
from aifs_tune.study.failures import normalised
from aifs_tune.study.study import Study

SPACE = {
    "lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "momentum": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": "sgd"}},
    "optimizer": {"type": "choice", "choices": ["sgd", "adam"]},
    "layers": {"type": "int", "low": 1, "high": 4},
    "kernel": 3,
}
SPACE = {name: SPACE[name] for name in ("lr", "optimizer", "momentum", "layers", "kernel")}


def filled(study: Study, n: int, seed: int = 0) -> Study:
    """Results rise with the learning rate; every seventh trial fails, every fifth is stopped after one of three
    epochs."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        trial = study.ask()
        if i % 7 == 3:
            study.tell(trial, state="failed", reason=f"worker {i} died at /tmp/ray/x{i}")
            continue
        value = float(np.log10(trial.params["lr"])) + 0.05 * float(rng.standard_normal())
        for epoch in (1,) if i % 5 == 1 else (1, 2, 3):
            study.report(trial, epoch, {"value": value - 0.1 * (3 - epoch)}, seconds=2.0)
        study.tell(trial, state="pruned" if i % 5 == 1 else "complete")
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Read by many tests, changed by none."""
    url = f"sqlite:///{tmp_path_factory.mktemp('study')}/lab.db"
    return filled(aifs_tune.open_study("a", space=SPACE, storage=url, sampler="random"), 40)


def test_shares_are_those_of_optunas_fanova():
    """Where all ranges are linear the two must agree, tree by tree."""
    fanova = pytest.importorskip("optuna.importance._fanova._fanova")
    rng = np.random.default_rng(0)
    places = rng.random((40, 3)).astype(np.float32).astype(float)
    values = places[:, 0] + 2 * places[:, 1] * places[:, 2]
    forest = fit_forest(places, values, 3)
    theirs = fanova._Fanova(64, 64, 2, forest.leaf_size, 3)
    theirs.fit(places, values, np.array([[0.0, 1.0]] * 3), [np.array([i]) for i in range(3)])
    assert forest.importances("alone").value == pytest.approx([theirs.get_importance(i)[0] for i in range(3)], rel=1e-6)


def test_shares_of_one_tree_add_up():
    """A function of three parameters has seven parts: of two alone here, with pairs, all is explained."""
    rng = np.random.default_rng(1)
    places = rng.random((60, 2))
    tree = fit_forest(places, places[:, 0] * places[:, 1], 0).trees[0]
    shares = shares_of(tree)
    assert shares.alone.sum() + shares.pairs[0, 1] == pytest.approx(1.0)
    assert shares.total == pytest.approx(shares.alone + shares.pairs[0, 1])


def test_intervals_cover_the_larger_known_share_and_the_smaller_is_second():
    """A sum of two terms with shares of 80 % and 20 % and a third that does nothing. A forest of few trials gives the
    smaller share too little, which docs/how_to/analyse.md says."""
    for seed in range(2):
        places = np.random.default_rng(seed).random((60, 3))
        found = fit_forest(places, 2 * places[:, 0] + places[:, 1], seed).importances("alone")
        assert found.low[0] <= 0.8 <= found.high[0]
        assert found.value[1] > 0.05
        assert found.low[2] == 0.0
        assert found.high[2] < 0.1


@pytest.mark.parametrize("evaluator", ["fanova", "pedanova"])
def test_importance_finds_what_matters(study, evaluator):
    table = analyse(study).importance(evaluator)
    assert table["parameter"].tolist()[0] == "lr"
    assert set(table["parameter"]) == {"lr", "optimizer", "momentum", "layers"}
    assert (table["low"] <= table["importance"]).all()
    assert (table["importance"] <= table["high"]).all()
    assert table["importance"][0] > 0.5


def test_a_log_range_counts_by_its_logarithm(study):
    """By its width the upper tenth of the range would be nearly all of it."""
    found = analyse(study)
    surface = found.contour("lr", "layers")
    assert surface["predicted"][0] < -3
    assert float(surface["predicted"].iloc[-1]) > -2
    assert surface["n_near"].sum() > 0
    assert found.explained()["explained"][0] > 0.8


def test_every_table_of_a_study_without_trials_is_empty_and_says_why(url):
    empty = analyse(aifs_tune.open_study("e", space=SPACE, storage=url))
    for name in set(get_args(TableName)) - {"contour", "slices", "parallel", "suggestions"}:
        table = getattr(empty, name)()
        assert table.empty, name
        assert table.attrs[REMARK], name
    assert empty.contour("lr", "layers").empty
    assert empty.slices().empty
    assert empty.parallel().empty
    assert empty.suggestions()["kind"].tolist() == ["trials"]


def test_equal_values_explain_nothing(url):
    study = aifs_tune.open_study("e", space=SPACE, storage=url, sampler="random")
    for _ in range(10):
        study.tell(study.ask(), 1.0)
    assert "is equal in all 10" in analyse(study).importance().attrs[REMARK]
    assert "is equal in all 10" in analyse(study).importance("pedanova").attrs[REMARK]


def test_several_objectives_have_rows_of_their_own(url):
    study = aifs_tune.open_study("t", space=SPACE, storage=url, metric="strength", trade_off={"cost": "min"})
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, {"strength": np.log10(trial.params["lr"]), "cost": trial.params["layers"]})
    table = analyse(study).importance()
    first = table.groupby("objective")["parameter"].first()
    assert first.to_dict() == {"strength": "lr", "cost": "layers"}
    assert set(analyse(study).slices()["metric"]) == {"strength", "cost"}
    assert "metrics_cost" in analyse(study).parallel()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda a: a.importance("shap"), "allowed: fanova, pedanova"),
        (lambda a: a.contour("lr", "depth"), "allowed: lr, optimizer, momentum, layers"),
        (lambda a: a.contour("lr", "kernel"), "'kernel' is not a parameter that varies"),
        (lambda a: a.contour("lr", "lr"), "two different parameters"),
        (lambda a: a.contour("lr", "layers", metric="cost"), "allowed: value"),
    ],
)
def test_what_is_not_there_is_refused(study, ask, said):
    with pytest.raises(RequestError, match=said):
        ask(analyse(study))


def test_savings_of_early_stopping_use_each_trials_own_epoch_time(study):
    rows = analyse(study).saved().set_index("state")
    n = int(rows.loc["pruned", "n_trials"])
    assert rows.loc["pruned", "seconds"] == 2.0 * n
    assert rows.loc["pruned", "seconds_full"] == 6.0 * n
    assert rows.loc["complete", "share_saved"] == 0.0
    assert rows.loc["all", "epochs_full"] == 3 * int(rows.loc["all", "n_trials"])


def test_the_front_has_what_is_cheapest_for_its_quality(url):
    study = aifs_tune.open_study("p", space={"x": {"type": "float", "low": 0, "high": 1}}, storage=url)
    for seconds, value in ((1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0), (2.0, 3.0)):
        study.tell(study.ask(), value, seconds=seconds)
    front = analyse(study).pareto().set_index("trial")["on_front"]
    assert front.to_dict() == {0: True, 1: True, 2: False, 3: True, 4: True}


def test_reasons_are_grouped_by_what_they_have_in_common(study):
    table = analyse(study).failures()
    assert table["reason"].tolist() == ["worker N died at PATH"]
    assert table["n"][0] == 6
    assert normalised(None) == normalised(" ") == "no reason given"
    assert normalised("loss 1e-5 at 0x7fa3") == "loss N at ID"
