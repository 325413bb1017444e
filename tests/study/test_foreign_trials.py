"""Trials and studies that another program wrote: listed with the reason, in nobody's way, and mended where possible."""

from __future__ import annotations

import math
import sqlite3

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from records import every_answer_is_json

from aifs_tune import check_storage, import_optuna, load_study, open_study
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.publishing.summary import studies_summary
from aifs_tune.study.record import record_of

SPACE = {
    "x": {"type": "float", "low": 0.0, "high": 1.0},
    "kind": {"type": "choice", "choices": ["a", "b"]},
    "n": {"type": "int", "low": 1, "high": 4, "when": {"kind": ["a"]}},
}
X, KIND, N = FloatDistribution(0.0, 1.0), CategoricalDistribution(["a", "b"]), IntDistribution(1, 4)


def add(params, distributions, value=None, **more):
    state = TrialState.COMPLETE if value is not None else TrialState.PRUNED
    trial = create_trial(params=params, distributions=distributions, value=value, state=state, **more)
    return lambda study: study.add_trial(trial)


def attribute(kind, key, value):
    def write(study):
        trial_id = study._storage.create_new_trial(study._study_id)
        getattr(study._storage, f"set_trial_{kind}_attr")(trial_id, key, value)

    return write


WHOLE = {"x": 0.5, "kind": "b"}
OF_WHOLE = {"x": X, "kind": KIND}
FOREIGN = {
    "told inf": (add(WHOLE, OF_WHOLE, math.inf), "told it inf; allowed: finite numbers"),
    "told -inf": (add(WHOLE, OF_WHOLE, -math.inf), "told it -inf"),
    "another name": (add({"y": 0.5}, {"y": X}, 99.0), r"'y': no such parameter.* \(it told 99.0\)"),
    "missing": (add({"x": 0.5}, {"x": X}, 98.0), "kind: missing"),
    "no parameters": (add({}, {}, 97.0), "x: missing"),
    "outside": (add({"x": 5.5, "kind": "b"}, {"x": FloatDistribution(0, 9), "kind": KIND}, 96.0), "x: 5.5 is not"),
    "inactive": (add({**WHOLE, "n": 3}, {**OF_WHOLE, "n": N}, 95.0), "n: 3 is given but inactive"),
    "a step of inf": (add(WHOLE, OF_WHOLE, intermediate_values={1: math.inf}), "reported inf for epoch 1"),
    "runs without all": (lambda study: study.ask().suggest_float("x", 0, 1), "kind: missing"),
    "a reason of numbers": (attribute("user", "reason", [1]), "attribute: reason: .* a valid string"),
    "an epoch of letters": (attribute("system", "aifs_tune:epoch:xx", [1]), "names no epoch"),
    "a lease of text": (attribute("system", "aifs_tune:lease", {"until": "soon"}), "attribute: aifs_tune:lease"),
}


@pytest.fixture
def url(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return f"sqlite:///{tmp_path}/lab.db"


def measured(url):
    study = open_study("lab", space=SPACE, storage=url)
    for i in range(6):
        study.tell(study.ask(), i / 10)
    return study


@pytest.mark.parametrize(("write", "says"), FOREIGN.values(), ids=FOREIGN)
def test_what_the_study_does_not_allow_is_marked_and_counts_for_nothing(url, write, says):
    study = measured(url)
    write(optuna.load_study(study_name="lab", storage=url))
    foreign = study.all_trials()[6]
    assert foreign.value is None
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(foreign.problem)
    assert foreign.reason == foreign.problem == foreign.to_json()["problem"]
    assert study.best.value == 0.5
    every_answer_is_json(study)
    for _ in range(3):
        assert study.tell(study.ask(), 0.3).problem is None
    assert 6 not in study.posterior_means()
    assert study.curve(6) == []


def test_attributes_of_our_own_trial_that_cannot_be_read_are_marked_too(url):
    study = measured(url)
    running = study.ask()
    theirs = optuna.load_study(study_name="lab", storage=url)
    theirs._storage.set_trial_system_attr(theirs.trials[running.number]._trial_id, "aifs_tune:epoch:xx", [1])
    assert "'aifs_tune:epoch:xx' names no epoch" in study.trial(running).problem
    every_answer_is_json(study)


def test_a_result_of_another_program_within_the_space_counts_like_any_other(url):
    study = measured(url)
    add(WHOLE, OF_WHOLE, 7.0)(optuna.load_study(study_name="lab", storage=url))
    assert (study.best.number, study.best.value, study.best.problem) == (6, 7.0, None)


@pytest.mark.parametrize(
    ("queued", "says"),
    [
        ({"x": 25.0, "kind": "b"}, "x: 25.0 is not allowed"),
        ({"x": "text"}, "x: 'text' is not allowed"),
        ({"kind": "c"}, "kind: 'c' is not allowed"),
        ({"zz": 1}, "zz: no such parameter; allowed: x, kind, n"),
        ({"x": 0.5, "kind": "b", "n": 2}, "n: 2 is given but inactive"),
    ],
)
def test_a_queued_value_that_is_not_allowed_fails_alone(url, queued, says):
    study = measured(url)
    theirs = optuna.load_study(study_name="lab", storage=url)
    theirs.enqueue_trial(queued)
    theirs.enqueue_trial({"x": 0.75})
    assert study.ask().params["x"] == 0.75
    refused = study.all_trials()[6]
    assert refused.state == "failed"
    assert f"another program queued it: {says}" in refused.reason


def test_a_queued_value_that_breaks_a_constraint_fails_alone(url):
    both = {name: {"type": "float", "low": 0.0, "high": 1.0} for name in ("x", "y")}
    study = open_study("lab", space=both, storage=url, constraints=["x + y <= 1"], sampler="random")
    optuna.load_study(study_name="lab", storage=url).enqueue_trial({"x": 1.0})
    asked = study.ask()
    assert sum(asked.params.values()) <= 1
    assert [trial.state for trial in study.all_trials()] == ["failed", "running"]


# -- a whole storage ----------------------------------------------------------------------------


def junk(url):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        number = database.execute("INSERT INTO studies (study_name) VALUES ('junk')").lastrowid
        database.execute(
            "INSERT INTO study_directions (direction, study_id, objective) VALUES ('MAXIMIZE', ?, 0)", (number,)
        )
        row = (number, "aifs_tune:spec", '{"name": 3}')
        database.execute("INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (?, ?, ?)", row)


def of_optuna(url, name="theirs"):
    study = optuna.create_study(study_name=name, storage=url, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(
        lambda trial: (
            trial.suggest_float("rate", 1e-4, 1.0, log=True)
            + trial.suggest_int("layers", 1, 8)
            + (trial.suggest_categorical("kind", ["a", "b"]) == "a")
        ),
        n_trials=6,
    )
    return study


def test_a_study_that_cannot_be_read_hides_no_other(url, run):
    measured(url)
    junk(url)
    of_optuna(url)
    rows = {row["study"]: row for row in studies_summary(load_study("lab", storage=url).storage)}
    assert rows["lab"]["value"] == 0.5
    assert "name: 3 is not text" in rows["junk"]["problem"]
    assert "a study of Optuna with 6 trials; copy it into a study of aifs-tune with: " in rows["theirs"]["problem"]
    told = run("studies", "--storage", url)
    assert told.code == 0
    assert "junk: " in told.out
    with pytest.raises(NotFoundError, match=r"is a study of Optuna with 6 trials; .* --optuna-study theirs"):
        load_study("theirs", storage=url)


def test_a_study_of_optuna_is_copied_and_searched_on(url, tmp_path):
    theirs = of_optuna(url)
    theirs.add_trial(
        create_trial(params=theirs.trials[0].params, distributions=theirs.trials[0].distributions, value=math.inf)
    )
    theirs.enqueue_trial({"rate": 0.5})
    copy, left_out = import_optuna("theirs", str(tmp_path / "lab.db"), study="ours", storage=url)
    assert left_out == {"trial 6": "has the value inf; allowed: finite numbers", "trial 7": "is waiting"}
    assert [(t.params, t.value) for t in copy.all_trials()] == [(t.params, t.value) for t in theirs.trials[:6]]
    assert copy.best.value == theirs.best_value == min(t.value for t in theirs.trials[:6])
    assert copy.spec.space["rate"].log
    assert copy.tell(copy.ask(), 0.0).value == copy.best.value == 0.0
    with pytest.raises(ConflictError, match="already"):
        import_optuna("theirs", url, study="ours", storage=url)
    with pytest.raises(NotFoundError, match="holds no study 'other'; it holds: theirs, ours"):
        import_optuna("other", url)
    with pytest.raises(NotFoundError, match="no such file"):
        import_optuna("theirs", str(tmp_path / "nowhere.db"))
    assert not (tmp_path / "nowhere.db").exists()


def test_curves_states_notes_and_conditions_of_optuna_are_kept(url):
    theirs = optuna.create_study(study_name="theirs", storage=url, direction="maximize")
    theirs.set_user_attr("lab", "B12")
    theirs.set_user_attr("aifs_tune:leader", "nobody")

    def objective(trial):
        shape = trial.suggest_categorical("net.shape", ["wide", None])
        rate = trial.suggest_float("rate", 0, trial.number + 1)
        depth = trial.suggest_int("depth", 1, 9, step=4) if shape is None else 0
        trial.set_user_attr("depth", [depth])
        for step in range(0, 30, 10):
            trial.report(float("nan") if step == 10 else rate + step, step)
        if trial.number == 6:
            raise optuna.TrialPruned
        if trial.number == 7:
            raise ValueError("no data")
        return 7.0 * trial.number

    theirs.optimize(objective, n_trials=8, catch=(ValueError,))
    copy, left_out = import_optuna("theirs", url, study="ours", storage=url)
    trials = copy.all_trials()
    assert [t.state for t in trials] == ["complete"] * 6 + ["pruned", "failed"]
    assert [t.value for t in trials[:6]] == [7.0 * n for n in range(6)]
    assert [m.metrics for m in copy.curve(2)] == [
        {"value": theirs.trials[2].params["rate"]},
        {"value": None, "step": 10.0},
        {"value": theirs.trials[2].params["rate"] + 20, "step": 20.0},
    ]
    for ours, other in zip(trials, theirs.trials, strict=True):
        assert ours.notes == other.user_attrs
        assert ours.params["net.shape"] == other.params["net.shape"]
        assert ours.started_at == other.datetime_start.astimezone()
        assert ours.epochs == 3
    assert (trials[6].reason, trials[7].reason) == ("pruned in Optuna", "failed in Optuna")
    assert copy.spec.space["depth"].when == {"net.shape": ("null",)}
    assert (copy.spec.space["depth"].step, copy.spec.space["rate"].high) == (4, 8.0)
    assert optuna.load_study(study_name="ours", storage=url).user_attrs["lab"] == "B12"
    assert set(left_out) == {
        "the smaller ranges of rate",
        "attribute aifs_tune:leader",
    }
    assert copy.ask().params["net.shape"] in (None, "wide")


def test_several_objectives_of_optuna_and_a_space_that_is_given(url):
    theirs = optuna.create_study(study_name="theirs", storage=url, directions=["minimize", "maximize"])
    theirs.set_metric_names(["loss", "speed!"])
    theirs.optimize(lambda trial: (x := trial.suggest_float("x", 0, 1), 1 - x), n_trials=4)
    copy, left_out = import_optuna("theirs", url, study="a", storage=url)
    assert [o.metric for o in copy.spec.objectives] == ["loss", "speed_"]
    assert [t.values["speed_"] for t in copy.all_trials()] == [t.values[1] for t in theirs.trials]
    assert left_out == {}
    low = sorted(t.params["x"] for t in theirs.trials)[0]
    space = {"x": {"type": "float", "low": low + 1e-6, "high": 2}}
    copy, left_out = import_optuna("theirs", url, study="b", space=space, storage=url)
    assert len(copy.all_trials()) == 3
    assert "x: " in next(iter(left_out.values()))


def test_the_doctor_names_what_is_wrong_and_mends_what_it_can(url, tmp_path):
    measured(url)
    assert check_storage(url) == ([], None)
    theirs = optuna.load_study(study_name="lab", storage=url)
    FOREIGN["a lease of text"][0](theirs)
    FOREIGN["told inf"][0](theirs)
    theirs.enqueue_trial({"x": 25.0})
    junk(url)
    (tmp_path / "lab (conflicted copy).db").touch()
    with sqlite3.connect(tmp_path / "lab.db") as database:
        database.execute("DROP TRIGGER aifs_tune_final_trials")
        database.execute("UPDATE trials SET number = 1 WHERE number = 2")
        before = database.execute("SELECT trial_id, value FROM trial_values ORDER BY 1").fetchall()
    found, copy = check_storage(url)
    assert copy is None
    what = [(f.study, f.trial, f.remedy is not None) for f in found]
    # a sync program's copy, the trigger, the number, the study, the lease, the value, the queued trial
    of_lab = [("lab", 1, True), ("lab", 6, True), ("lab", 7, False), ("lab", 8, True)]
    assert set(what) == {(None, None, False), (None, None, True), ("junk", None, False), *of_lab}
    assert len(what) == 7
    found, copy = check_storage(url, repair=True)
    assert copy == tmp_path / "lab-before-repair-1.db"
    with sqlite3.connect(copy) as database:
        assert database.execute("SELECT count(*) FROM trials WHERE number = 1").fetchone() == (2,)
    left, _ = check_storage(url)
    assert [(f.study, f.trial) for f in left] == [(None, None), ("junk", None), ("lab", 6), ("lab", 7)]
    with sqlite3.connect(tmp_path / "lab.db") as database:
        assert database.execute("SELECT trial_id, value FROM trial_values ORDER BY 1").fetchall() == before
    there = load_study("lab", storage=url).all_trials()
    assert [trial.number for trial in there] == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert there[-1].value == 0.2
    assert there[-2].reason.startswith("another program queued it: x: 25.0 is not allowed")


def test_the_doctor_does_not_repair_a_server(postgres_url):
    open_study("lab", space=SPACE, storage=postgres_url)
    with pytest.raises(RequestError, match=r"--repair: .* is on a server"):
        check_storage(postgres_url, repair=True)


def test_the_doctor_of_the_command_line_says_whether_all_is_well(url, run):
    measured(url)
    assert run("doctor", "--storage", url).out.strip() == "nothing is wrong"
    optuna.load_study(study_name="lab", storage=url).enqueue_trial({"x": 25.0})
    told = run("doctor", "--storage", url)
    assert told.code == 1
    assert "x: 25.0 is not allowed" in told.out
    told = run("doctor", "--repair", "--json", "--storage", url)
    assert [f["is_repaired"] for f in told.json["findings"]] == [True]


def test_a_queued_trial_of_another_program_that_claims_to_be_ours_stops_nothing(url, space):
    study = open_study("lab", space=space, storage=url)
    foreign = optuna.load_study(study_name="lab", storage=url)
    foreign.enqueue_trial({"x": "hot"}, user_attrs={"seed": 1})
    foreign.enqueue_trial({"x": 7.0}, user_attrs={"seed": 1})
    assert len(check_storage(url)[0]) == 2
    trial = study.ask()
    assert study.tell(trial, 1.0).state == "complete"
    assert [each.state for each in study.all_trials()] == ["complete", "failed", "failed"], "the default came first"


def test_notices_that_another_program_wrote_are_left_out(url, space):
    study = record_of(open_study("lab", space=space, storage=url))
    for junk in ("abc", 5, [1, {"at": "now"}, {"at": "now", "text": "a node has left"}]):
        study.record_fact("notices", junk)
        assert [notice["text"] for notice in study.notices] == (["a node has left"] if isinstance(junk, list) else [])
