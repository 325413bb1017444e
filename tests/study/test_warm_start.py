"""A study that begins with what earlier ones found."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import open_record
from typer.testing import CliRunner

from aifs_tune.cli.main import app
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.samplers.transfer import SOURCE_TASKS
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import start_study
from aifs_tune.study.similarity import find_similar
from aifs_tune.study.warm_start import MAX_TRIALS, common_parameters, describe_transfer, warm_start

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}, "y": {"type": "float", "low": 0.0, "high": 1.0}}
NARROW = {"x": {"type": "float", "low": 0.2, "high": 1.0}, "y": {"type": "float", "low": 0.0, "high": 1.0}}


def hill(params):
    return 1.0 - (params["x"] - 0.3) ** 2 - (params["y"] - 0.7) ** 2


def measured(study, n, value=hill):
    for _ in range(n):
        trial = study.ask()
        study.tell(trial, value(trial.params))
    return study


@pytest.fixture(scope="module")
def measured_once(tmp_path_factory):
    file = tmp_path_factory.mktemp("earlier") / "lab.db"
    measured(open_record("earlier", space=SPACE, storage=f"sqlite:///{file}"), 16).storage.close()
    return file


@pytest.fixture
def earlier(measured_once, url):
    shutil.copyfile(measured_once, url.removeprefix("sqlite:///"))
    return get_study(Storage(url), "earlier")


def test_what_is_borne_out_is_followed_and_what_misleads_is_dropped(url, earlier):
    right = measured(open_record("right", space=SPACE, storage=url, warm_start="earlier"), 8)
    assert right.trial(0).params == earlier.best.params
    assert right.transfer_weights()["earlier"] > 0.4
    assert describe_transfer(right)[0].startswith(
        "warm start from earlier: its results agree with this study and have weight "
    )
    wrong = measured(open_record("wrong", space=SPACE, storage=url, warm_start="earlier"), 8, lambda p: -hill(p))
    assert wrong.transfer_weights() == {"earlier": 0.0}
    assert describe_transfer(wrong) == [
        "warm start from earlier: its results contradict this study and are not used any more"
    ]
    cold = measured(open_record("cold", space=SPACE, storage=url), 8)
    assert (cold.transfer_weights(), describe_transfer(cold)) == ({}, [])


def test_with_epochs_too_nothing_of_the_earlier_study_is_read_later(url, tmp_path):
    """Its storage is gone when the study is opened again, and proposals are the same."""

    def spec(name):
        return parse_sweep({"name": name, "trainer": "lab:curve", "search": {"epochs": 4}, "space": SPACE})

    def trained(study, n):
        for _ in range(n):
            trial = study.ask()
            for epoch in range(1, 5):
                study.report(trial, epoch, {"val_macro_f1": hill(trial.params) - 1 / epoch})
            study.tell(trial)
        return study

    old = Storage(f"sqlite:///{tmp_path}/old.db", create=True)
    first = trained(start_study(old, spec("first"), "first"), 12)
    assert max(first.posterior_means(), key=first.posterior_means().get) == first.best.number
    proposals = []
    for name in ("one", "two"):
        storage = Storage(f"sqlite:///{tmp_path}/{name}.db", create=True)
        study = start_study(storage, spec("later"), "later")
        warm_start(study, first)
        trained(study, 7)
        if name == "two":
            study = get_study(Storage(f"sqlite:///{tmp_path}/{name}.db"), "later")
        proposals.append([dict(trial.params) for trial in trained(study, 4).all_trials()])
    assert proposals[0] == proposals[1]
    assert study.transfer_weights()["first"] > 0.0


def test_spaces_that_differ_share_what_they_can(url, earlier):
    study = open_record("narrow", space=NARROW, storage=url)
    (taken,) = warm_start(study, earlier)
    inside = [trial for trial in earlier.all_trials() if trial.params["x"] >= 0.2]
    assert (taken.n_trials, taken.n_outside) == (len(inside), 16 - len(inside))
    assert taken.n_outside > 0
    assert f"{taken.n_outside} of its trials are outside the search space" in taken.text
    assert all(trial.params["x"] >= 0.2 for trial in study.all_trials())
    wider = open_record("wider", space={**SPACE, "z": {"type": "float", "low": 0, "high": 1}}, storage=url)
    (learnt,) = warm_start(wider, earlier)
    assert (learnt.n_trials, learnt.first) == (16, ()), "z has no default: nothing can be tried again"
    assert measured(wider, 7).transfer_weights()["earlier"] > 0.0


def test_other_samplers_try_the_best_and_learn_nothing(url, earlier):
    study = open_record("random", space=SPACE, storage=url, sampler="random")
    (taken,) = warm_start(study, earlier)
    assert (taken.n_trials, taken.first) == (0, (0, 1, 2))
    assert study.transfer_weights() == {}


def test_a_large_study_is_sampled(url):
    earlier = open_record("large", space=SPACE, storage=url)
    with earlier.storage.writing():
        for i in range(MAX_TRIALS + 20):
            earlier.attach({"x": i / 99, "y": (37 * i % 100) / 99}, hill({"x": i / 99, "y": 0.0}))
    study = open_record("later", space=SPACE, storage=url, warm_start=["large"])
    (stored,) = study._optuna.user_attrs[SOURCE_TASKS]
    posterior_means = [posterior_mean for _, posterior_mean in stored["trials"]]
    assert len(posterior_means) == MAX_TRIALS
    assert min(posterior_means) < 0 < max(posterior_means)


def test_once_begun_it_needs_nobody(url, earlier):
    study = open_record("later", space=SPACE, storage=url, warm_start="earlier")
    n_trials = len(study.all_trials())
    import optuna

    optuna.delete_study(study_name="earlier", storage=study.storage.optuna)
    again = open_record("later", space=SPACE, storage=url, warm_start="earlier")
    assert len(again.all_trials()) == n_trials
    with pytest.raises(ConflictError, match="'later' has warm started from earlier, not from other"):
        open_record("later", space=SPACE, storage=url, warm_start="other")


@pytest.mark.parametrize(
    ("name", "names", "space", "beside", "error", "words"),
    [
        ("b", "nobody", SPACE, {}, NotFoundError, "holds no study 'nobody'"),
        ("b", "empty", SPACE, {}, NotFoundError, "'empty': it has no complete trial"),
        ("earlier", "earlier", SPACE, {}, RequestError, "'earlier' cannot warm start from itself"),
        ("b", ["earlier", "earlier"], SPACE, {}, RequestError, "'earlier' is named twice"),
        ("b", "earlier", {"q": SPACE["x"]}, {}, RequestError, "no parameter is searched in both; here q, there x, y"),
        ("b", "earlier", SPACE, {"trade_off": {"c": "min"}}, RequestError, "this sweep has several objectives"),
        ("b", "several", SPACE, {}, RequestError, "that study has several objectives"),
        ("b", "earlier", {"x": {"type": "float", "low": 5, "high": 6}}, {}, RequestError, "no parameter is searched"),
    ],
)
def test_what_cannot_be_begun_with_is_refused_before_anything_is_stored(
    url, earlier, name, names, space, beside, error, words
):
    open_record("empty", space=SPACE, storage=url)
    several = open_record("several", space=SPACE, storage=url, trade_off={"c": "min"})
    several.attach({"x": 0.1, "y": 0.1}, {"value": 1.0, "c": 1.0})
    with pytest.raises(error, match=words):
        open_record(name, space=space, storage=url, warm_start=names, **beside)
    if name == "b":
        with pytest.raises(NotFoundError):
            get_study(Storage(url), "b")


def test_the_command_refuses_in_one_line(url, lab, monkeypatch):
    monkeypatch.chdir(lab)
    monkeypatch.syspath_prepend(lab)
    open_record("empty", space=SPACE, storage=url)
    command = ["run", "slow.yaml", "--storage", url, "--warm-start"]
    told = CliRunner().invoke(app, [*command, "nobody"])
    assert isinstance(told.exception, NotFoundError)
    assert "holds no study 'nobody'" in str(told.exception)
    elsewhere = CliRunner().invoke(app, [*command, "empty", "--warm-start-storage", f"sqlite:///{lab}/none.db"])
    assert "none.db" in str(elsewhere.exception)


def test_studies_that_are_alike_are_found_and_the_others_named(url, earlier):
    opened = {
        "other-metric": open_record("other-metric", space=SPACE, storage=url, metric="loss", mode="min"),
        "few": measured(open_record("few", space=SPACE, storage=url), 2),
        "little": open_record("little", space={"x": SPACE["x"], "p": SPACE["y"], "q": SPACE["y"]}, storage=url),
    }
    measured(opened["little"], 5, lambda p: p["x"])
    study = open_record("new", space={**SPACE, "z": SPACE["x"], "w": SPACE["x"]}, storage=url)
    found = find_similar(study.storage, study)
    assert [each.name for each in found.studies] == ["earlier"]
    assert found.others == {
        "other-metric": "its objective is loss (min)",
        "few": "it has 2 results; at least 4 are needed",
        "little": "it searched 1 of the 4 parameters of this study",
    }
    assert "warm start: study few is not used: it has 2 results; at least 4 are needed" in found.lines
    auto = open_record("auto", space=SPACE, storage=url, warm_start="auto")
    assert [taken["study"] for taken in auto.fact("warm_start")] == ["earlier", "little"], "half of the space is enough"


def test_data_are_alike_by_their_facts(url):
    def study(name, fingerprint, **facts):
        spec = parse_sweep(
            {"name": "s", "trainer": "cnn", "space": {"learning_rate": {"type": "float", "low": 0.0, "high": 1.0}}}
        )
        made = start_study(Storage(url, create=True), spec, name)
        made.match_data(fingerprint)
        if facts:
            made.record_fact(
                "data", {"kind": "images", "classes": 3, "channels": 3, "side_px": 64, "train": 500, **facts}
            )
        for rate in (0.1, 0.2, 0.3, 0.4):
            made.attach({"learning_rate": rate}, {"val_macro_f1": rate})
        return made

    new = study("new", "a" * 64, train=500)
    study("same", "a" * 64)
    study("near", "b" * 64, train=900)
    study("gray", "c" * 64, channels=1)
    study("many", "d" * 64, classes=40)
    study("huge", "e" * 64, train=50_000)
    study("unknown", "f" * 64)
    found = find_similar(new.storage, new)
    assert [each.name for each in found.studies] == ["same", "near"]
    assert found.others["gray"] == "its data have channels 1, those of this study 3"
    assert found.others["many"].startswith("its data have classes 40, those of this study 3")
    assert "train 50000, those of this study 500" in found.others["huge"]
    assert found.others["unknown"] == "the properties of its data were not recorded"
    taken = warm_start(study("later", "b" * 64, train=900), *found.studies)
    assert [(each.study, each.same_data) for each in taken] == [("same", False), ("near", True)]


bounds = st.tuples(st.floats(-10, 10), st.floats(0.01, 10)).map(lambda at: (at[0], at[0] + at[1]))


@given(bounds, bounds)
def test_ranges_are_shared_where_they_overlap(here, there):
    def space(low, high):
        return parse_sweep({"name": "s", "space": {"x": {"type": "float", "low": low, "high": high}}}).space

    overlaps = max(here[0], there[0]) <= min(here[1], there[1])
    assert (common_parameters(space(*here), space(*there)) == ["x"]) is overlaps
