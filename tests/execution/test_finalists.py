"""Finalists: which configurations noise leaves open, and what is best once they were trained again."""

from __future__ import annotations

import pytest

from aifs_tune.artifacts.trial_artifacts import BestWeights
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import SweepFileError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.finalists import record_noise_floor, retrain_finalists, settle
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study
from aifs_tune.study.ranking import finalists

SWEEP = {
    "name": "s",
    "trainer": "cnn",
    "search": {"finalists": 2, "finalist_seeds": 3},
    "space": {"learning_rate": {"type": "float", "low": 0.0, "high": 1.0}},
}


class Heard(NullCallback):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def on_status(self, text):
        self.lines.append(text)


@pytest.fixture
def study(url):
    made = start_study(Storage(url, create=True), parse_sweep(SWEEP), "s")
    for rate, value in ((0.1, 0.90), (0.2, 0.89), (0.3, 0.88), (0.4, 0.5)):
        made.attach({"learning_rate": rate}, {"val_macro_f1": value})
    return made


def again(study, sd, **search):
    spec = parse_sweep({**SWEEP, "search": {**SWEEP["search"], **search}})
    return [(trial.number, lacks) for trial, lacks in finalists(study.all_trials(), spec, sd)]


def test_who_is_within_the_noise_of_the_best_is_a_finalist(study):
    assert again(study, 0.02) == [(0, 2), (1, 2)], "two at most"
    assert again(study, 0.02, finalists=9) == [(0, 2), (1, 2), (2, 2)]
    assert again(study, 0.001) == [], "one is clearly best"
    study.attach({"learning_rate": 0.1}, {"val_macro_f1": 0.86})
    # its mean is 0.88 now, over two trainings
    assert again(study, 0.02) == [(1, 2), (0, 1)]
    assert again(study, 0.02, finalists=3) == [(1, 2), (0, 1), (2, 2)]


def test_the_best_goes_by_means_and_its_weights_alone_stay(study, tmp_path):
    folder = study.artifacts
    for number in range(8):
        (folder / f"trial-{number:06d}" / "weights").mkdir(parents=True)
    kept = BestWeights(folder, study.spec.objectives, [], most=6)
    for trial in study.all_trials():
        kept.ended(trial)
    heard = Heard()
    study.record_fact("noise", {"sd": 0.02, "freedom": 9, "study": "s-noise"})
    assert retrain_finalists(study, heard) == 4
    assert heard.lines == ["trials 0, 1 are within the noise of 0.02: training them 4 more times"]
    assert study.n_requested == 4
    for value in (0.80, 0.88, 0.81, 0.885):  # in turn
        kept.ended(study.tell(study.ask(), {"val_macro_f1": value}))
    best = study.best
    assert (best.number, best.replicates.trials) == (1, (1, 5, 7))
    assert [trial.number for trial in study.best_trials(9)] == [1, 7, 5, 0, 6, 4, 2, 3]
    settle(study)
    assert sorted(entry.name for entry in folder.iterdir()) == ["trial-000001"]
    assert retrain_finalists(study, heard) == 2, "by the means another one is open now, which the next sweep trains"
    assert heard.lines[1].startswith("trials 1, 2 are within")


def test_without_noise_or_finalists_nothing_happens_and_why_is_said(study, url):
    heard = Heard()
    assert retrain_finalists(study, heard) == 0
    assert heard.lines == ["no finalist is trained again: noise unknown; measure it with: aifs-tune noise s"]
    study.record_fact("noise", {"sd": 0.0001, "freedom": 9, "study": "s-noise"})
    assert retrain_finalists(study, heard) == 0
    assert heard.lines[1:] == ["no finalist is trained again: one configuration leads by more than the noise of 0.0001"]
    plain = start_study(study.storage, parse_sweep({**SWEEP, "search": {}}), "plain")
    assert (retrain_finalists(plain, heard), len(heard.lines)) == (0, 2)


def test_the_noise_of_other_data_or_another_trainer_does_not_count(study):
    noise = start_study(study.storage, parse_sweep({**SWEEP, "search": {}}), "s-noise")
    noise.match_data("b" * 64)
    study.match_data("a" * 64)
    heard = Heard()
    record_noise_floor(study, heard)
    assert heard.lines == ["The measured noise is not used: the noise of study s-noise was measured on other data"]
    assert study.noise_floor is None


def test_a_measured_floor_lets_the_stop_rule_judge(study):
    assert study.recommendation().reason.startswith("Noise unknown")
    study.record_fact("noise", {"sd": 0.05, "freedom": 9, "study": "s-noise"})
    assert (study.recommendation().noise, study.recommendation().noise_freedom) == (0.05, 9)
    for _ in range(4):
        study.attach({"learning_rate": 0.4}, {"val_macro_f1": 0.5 + 0.001 * _})
    assert study.recommendation().noise < 0.01, "what the study repeated itself counts first"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainer": None}, "there is no trainer"),
        (
            {"trainer": "m:f", "search": {"finalists": 2, "replicates": 2}},
            "replicates already evaluate every",
        ),
        ({"search": {"finalists": 2, "scheduler": "pbt"}}, "pbt changes configurations"),
        ({"trade_off": [{"metric": "c"}]}, "several objectives have no single best"),
        ({"search": {"finalists": -1}}, "greater than or equal to 0|at least 0|0 to 100|from 0"),
    ],
)
def test_what_cannot_have_finalists_is_refused(change, words):
    document = {key: value for key, value in {**SWEEP, **change}.items() if value is not None}
    with pytest.raises(SweepFileError, match=words):
        parse_sweep(document)
