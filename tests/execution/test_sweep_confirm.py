"""From a sweep to a verdict and the test part, on a real Ray."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from sklearn.datasets import load_breast_cancer
from typer.testing import CliRunner

from aifs_tune.analysis.confirmation import CANDIDATES
from aifs_tune.analysis.test_part import find_evaluation
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.cli.main import app
from aifs_tune.config.cross_validation import SIZES, CrossValidation
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import ConflictError, DataError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.confirm import SweepOptions, confirm, evaluate_test, measure_noise
from aifs_tune.execution.sweep import Sweep
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

pytestmark = pytest.mark.usefixtures("one_ray")
TREES = {
    "name": "nuclei",
    "trainer": "boosting",
    "data": {"table": {"bundled": "breast_cancer"}},
    "search": {"trials": 2, "epochs": 3, "workers": 2, "sampler": "random", "scheduler": "none"},
    "space": {"learning_rate": {"type": "float", "low": 0.001, "high": 0.5, "log": True, "default": 0.002}},
}


def test_a_winner_is_confirmed_on_folds_and_answers_the_test_part_once(url: str) -> None:
    study = Sweep.from_spec(parse_sweep(TREES)).run(storage=url).study
    cv, options = CrossValidation(folds=3, repeats=1), SweepOptions(workers=2, callback=NullCallback())
    found = confirm("nuclei", storage=url, top=1, cv=cv, options=options)
    assert found.study.name == "nuclei-confirm"
    assert Counter(trial.state for trial in found.study.all_trials()) == {"complete": 6}
    assert [each["name"] for each in found.study.fact(CANDIDATES)] == ["baseline", "trial 1"]
    n_train, n_fold = map(sum, zip(*found.study.fact(SIZES), strict=True))
    assert (n_train, n_fold) == (2 * 341, 341)
    last = found.study.curve(0)[-1].metrics
    assert found.scores.of("baseline")[0] == last["fold_macro_f1"] != last["val_macro_f1"]
    assert found.leader.name == "trial 1"
    assert found.comparisons[0].n_pairs == 3

    tested = evaluate_test("nuclei", found.leader, storage=url, options=options)
    assert tested.classes is not None
    assert tested.classes.scores["accuracy"].value > 0.85
    assert len(tested.predictions.rows) == tested.classes.n == 113
    told = tested.to_json()
    assert told["n_groups"] is None
    worst, labels = told["classes"]["worst"], load_breast_cancer(as_frame=True)
    for each in worst:
        row = int(each["file"].split("(row ")[1].rstrip(")")) - 1
        assert labels.target_names[labels.target[row]] == each["truth"], "the row of the table has that class"
    kept = {path.name for path in kept_weights(tested.study, tested.trial).iterdir()}
    assert kept == {"test.json", "test.npz", "weights.json", "weights.npz"}
    again = find_evaluation(study.storage, "nuclei")
    assert again is not None
    assert again.predictions.y_pred.tolist() == tested.predictions.y_pred.tolist()
    done = CliRunner().invoke(
        app, ["confirm", "nuclei", "--top", "1", "--folds", "3", "--repeats", "1", "--storage", url]
    )
    assert (done.exit_code, "test set: 113 examples" in done.stdout) == (0, True), "it is shown, and not called locked"
    with pytest.raises(ConflictError, match="was used for trial 1"):
        evaluate_test("nuclei", found.candidates[0], storage=url, options=options)


def test_a_lab_function_is_measured_with_seeds_alone(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    monkeypatch.syspath_prepend(str(lab))
    url = f"sqlite:///{lab}/lab.db"
    (lab / "quick.yaml").write_text((lab / "slow.yaml").read_text().replace("epochs: 6", "epochs: 1"))
    seeds = CrossValidation(folds=1, repeats=3)
    found = measure_noise("quick.yaml", storage=url, cv=seeds, options=SweepOptions(workers=2, callback=NullCallback()))
    assert (found.n, found.mean, found.sd) == (3, -0.5, 0.0)
    assert len({trial.seed for trial in get_study(Storage(url), "slow-noise").all_trials()}) == 3


def test_data_without_a_test_part_answer_nothing(url: str) -> None:
    data = {"table": {"bundled": "breast_cancer"}, "split": {"test": 0.0}}
    with pytest.raises(DataError, match="the data have no test set"):
        Sweep.from_spec(parse_sweep({**TREES, "data": data, "evaluate_test": True})).run(storage=url)
