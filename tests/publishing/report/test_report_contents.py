"""Content of the reports of different studies, and its reproducibility."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from reported import add_noise, confirm, evaluate_test_set, sky_study

from aifs_tune.analysis.confirmation import read_confirmation
from aifs_tune.errors import NotFoundError, RequestError, StorageError
from aifs_tune.publishing.bundle.model_card import _test_lines
from aifs_tune.publishing.report import report_of, write_report
from aifs_tune.publishing.report.blocks import Bullets, Code, Paragraph, ReportDocument, Table
from aifs_tune.publishing.report.confirmation import confirmation_section
from aifs_tune.publishing.report.context import gather
from aifs_tune.publishing.report.html import to_html
from aifs_tune.publishing.report.markdown import to_markdown
from aifs_tune.publishing.report.pdf import to_pdf
from aifs_tune.publishing.report.test_set import test_set_section as section_of_test_set
from aifs_tune.publishing.report.verdict import confirmed_text, verdict_section
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study
from aifs_tune.study.record import StudyRecord

CLASSES = ("artifact", "edge_on", "elliptical", "merger", "spiral", "stars")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """A folder with the study of a simulated sky after its search."""
    folder = tmp_path_factory.mktemp("sky")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIFS_TUNE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        sky_study(Storage(f"sqlite:///{folder}/lab.db", create=True)).storage.close()
    return folder


@pytest.fixture
def study(lab: Path, tmp_path: Path) -> StudyRecord:
    """The same study, to be changed."""
    shutil.copytree(lab, tmp_path, dirs_exist_ok=True)
    return get_study(Storage(f"sqlite:///{tmp_path}/lab.db"), "sky")


def section(report: ReportDocument, title: str) -> tuple:
    return next(each.blocks for each in report.sections if each.title == title)


def words(report: ReportDocument, title: str) -> str:
    """The text of a section, without its tables."""
    found = []
    for block in section(report, title):
        if isinstance(block, Paragraph | Code):
            found.append(block.text)
        elif isinstance(block, Bullets):
            found += block.items
        else:
            found.append(block.caption)
    return "\n".join(found)


def table(report: ReportDocument, title: str, caption: str) -> Table:
    return next(b for b in section(report, title) if isinstance(b, Table) and caption in b.caption)


def test_a_search_alone_is_said_to_look_better_than_it_is(study: StudyRecord) -> None:
    report = report_of(study)
    text = words(report, "Verdict")
    n = study.counts()["complete"]
    assert text.startswith(f"Not confirmed yet. The value of the best of {n} complete trials is optimistic")
    assert "aifs-tune confirm sky --top 3 --folds 5 --repeats 2 --test" in text
    assert f"trial {study.best.number} has the highest val_macro_f1" in text
    methods = words(report, "Methods")
    assert "16 trials finished: 11 complete, 4 stopped early and 1 failed" in methods
    assert "2 parameters of the trainer cnn were tuned to maximise val_macro_f1" in methods
    assert "by uniform random sampling (sampler random, seed 0)" in methods
    assert re.search(r": \d+ training, \d+ validation and \d+ test examples\.", methods)
    assert study.fingerprint is not None
    assert study.fingerprint[:16] in methods
    assert "with 1 worker on 1 machine" in methods
    best = table(report, "Best configuration", "The best configuration")
    assert [row[0] for row in best.rows] == ["learning_rate", "dropout", "filters"]
    assert best.rows[1][2:] == ("fraction", "0 to 0.8", "0.5")
    assert f"learning_rate: {study.best.params['learning_rate']!r}" in words(report, "Best configuration")
    failure = table(report, "Failures", "1 failed trial of 16").rows[0]
    assert failure[1:3] == ("1", "5")
    assert table(report, "Search history", "saved by early stopping").rows[1][:3] == ("stopped early", "4", "8 of 16")
    captions = [figure.caption for figure in report.figures]
    for expected in (
        "the best so far",
        "Learning curves",
        "Cost against",
        "Importance",
        "Slices",
        "two most important",
    ):
        assert any(expected in caption for caption in captions), expected
    assert all("n = " in caption for caption in captions)
    assert all(figure.alt for figure in report.figures)


def test_a_confirmed_study_says_by_how_much_with_its_interval(study: StudyRecord) -> None:
    add_noise(study)
    confirm(study)
    evaluate_test_set(study, CLASSES)
    report = report_of(study)
    text = words(report, "Verdict")
    best = f"trial {study.best.number}"
    match = re.match(
        rf"Confirmed in val_macro_f1 on 8 fresh splits of the data\. T{best[1:]} is better than the baseline by "
        r"(0\.\d+) \[(0\.\d+), (0\.\d+)\] \(97\.5 % interval\)\.",
        text,
    )
    assert match is not None, text
    middle, low, high = map(float, match.groups())
    assert low < middle < high
    assert middle == pytest.approx(0.1, abs=0.02)
    assert "from 8 training runs of the default configuration" in text
    assert "On the test set (30 examples that no trial has seen)" in text
    methods = words(report, "Methods")
    for part in (
        "noise floor",
        "twice on 4 folds of the training set alone",
        "40 examples for training and 10 for evaluation",
    ):
        assert part in methods
    results = table(report, "Confirmation", "8 fresh splits")
    assert [row[0] for row in results.rows][:2] == ["baseline", best]
    assert results.rows[0][3] == "8 of 8"
    classes = table(report, "Test set", "Classification report")
    assert [row[0] for row in classes.rows] == [*CLASSES, "micro avg", "macro avg", "weighted avg"]
    assert sum(int(row[4]) for row in classes.rows[:6]) == 30
    captions = " ".join(figure.caption for figure in report.figures)
    for expected in ("Confusion", "Reliability", "each class against the rest", "Worst mistakes", "± 1 sd"):
        assert expected in captions or expected in "".join(figure.svg for figure in report.figures), expected
    references = words(report, "References")
    for key in ("nadeau2003", "holm1979", "wilcoxon1945", "efron1993", "naeini2015", "li2020"):
        assert f"[{key}]" in references
    assert "hansen2001" not in references


def test_the_test_set_of_classes_and_numbers_has_scores_of_both(study: StudyRecord) -> None:
    evaluate_test_set(study, CLASSES, ("energy",))
    context = gather(study, with_data=False)
    report = ReportDocument("", "", (verdict_section(context), section_of_test_set(context)), "")
    text = words(report, "Verdict")
    assert re.search(r"a macro F1 of 0\.\d+ .* Of the numbers: energy: R² 0\.9\d+ .*, mean absolute error 0\.\d+", text)
    assert [row[0] for row in table(report, "Test set", "Classification report").rows][:-3] == list(CLASSES)
    scores = table(report, "Test set", "Scores of the numbers")
    assert ("energy", "GeV", "rmse") in {row[:3] for row in scores.rows}
    assert context.tested is not None
    told = context.tested.to_json()
    assert [target["name"] for target in told["targets"]] == ["energy"]
    lines = "\n".join(_test_lines(told))
    assert "\n- accuracy: " in lines
    assert "\n- energy rmse: " in lines


def test_what_is_not_distinguishable_is_not_called_confirmed(study: StudyRecord) -> None:
    found = read_confirmation(study.storage, confirm(study, gains=(0.001, -0.1)).name)
    text = confirmed_text(found)
    assert text.startswith("Not confirmed: no configuration is significantly better than the baseline in val_macro_f1")
    assert "is not distinguishable from the baseline" in text


def test_repeated_confirmations_are_all_shown_and_owned_up_to(study: StudyRecord) -> None:
    confirm(study, gains=(0.0, 0.0))
    confirm(study, gains=(0.1, 0.0), name="sky-confirm-2")
    context = gather(study, with_data=False)
    report = ReportDocument("", "", (verdict_section(context), confirmation_section(context)), "")
    assert words(report, "Verdict").startswith("Confirmed")
    assert "There were 2 confirmations" in words(report, "Verdict")
    assert "sky-confirm:" in words(report, "Confirmation")


def test_the_same_study_gives_the_same_bytes(study: StudyRecord) -> None:
    confirm(study)
    evaluate_test_set(study, CLASSES)
    one, two = (report_of(get_study(Storage(study.storage.url), "sky")) for _ in range(2))
    assert to_html(one) == to_html(two)
    assert to_pdf(one) == to_pdf(two)
    assert to_markdown(one, folder="pictures") == to_markdown(two, folder="pictures")


def test_data_that_changed_is_said(study: StudyRecord) -> None:
    evaluate_test_set(study, CLASSES)
    study.storage.transact(lambda: study._optuna.set_user_attr("aifs_tune:data", "0" * 64))
    report = report_of(study)
    assert "unknown here: the data have changed since the sweep" in words(report, "Methods")
    worst = table(report, "Test set", "Worst mistakes")
    assert "the data have changed since the sweep" in worst.caption
    assert worst.rows


def test_several_objectives_have_a_front(url: str) -> None:
    study = open_study(
        "alloy",
        storage=url,
        metric="strength",
        trade_off={"cost": "min"},
        sampler="random",
        space={name: {"type": "float", "low": 0, "high": 1} for name in "abc"},
        mixtures=[{"components": ["a", "b", "c"], "total": 1.0}],
    )
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, {"strength": trial.params["a"] * trial.params["b"], "cost": trial.params["a"]})
    report = report_of(study)
    front = table(report, "Best configuration", "Pareto front")
    assert [int(row[0]) for row in front.rows] == [trial.number for trial in study.front]
    assert "traded off against cost" in words(report, "Verdict")
    assert "subject to a + b + c = 1" in words(report, "Methods")
    assert any("Pareto front" in figure.caption for figure in report.figures)


def test_one_trial_is_enough_and_claims_nothing(url: str) -> None:
    study = open_study("once", storage=url, space={"x": {"type": "float", "low": 0, "high": 1}})
    study.tell(study.ask(), 0.5)
    report = report_of(study)
    assert "one score does not show how much of it is chance" in words(report, "Verdict")
    assert report.figures == ()
    assert "at least" in words(report, "Parameter importance")
    assert "aifs-tune recommend once" in words(report, "Verdict")


def test_without_a_complete_trial_there_is_no_report(url: str) -> None:
    study = open_study("dark", storage=url, space={"x": {"type": "float", "low": 0, "high": 1}})
    study.tell(study.ask(), state="failed", reason="the lamp broke")
    with pytest.raises(NotFoundError, match="'dark' has no complete trial yet; its trials: 1 failed"):
        report_of(study)


def test_a_confirmation_is_reported_with_its_study(study: StudyRecord) -> None:
    with pytest.raises(RequestError, match="evaluates configurations of another study"):
        report_of(confirm(study))


def test_a_report_that_cannot_be_written_says_so(study: StudyRecord, tmp_path) -> None:
    with pytest.raises(RequestError, match=r"the folder .*missing does not exist"):
        write_report(study, tmp_path / "missing" / "report.html")
    with pytest.raises(RequestError, match=r"unknown file ending of a report; allowed: \.html"):
        write_report(study, tmp_path / "report.docx")
    (tmp_path / "report_figures").write_text("a file where pictures would lie")
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(study, tmp_path / "report.md")


@pytest.mark.soak
def test_many_trials_and_long_names_stay_a_small_file(url: str) -> None:
    space = {f"p{i}": {"type": "float", "low": 0, "high": 1} for i in range(12)}
    study = open_study("big", storage=url, sampler="random", space=space)
    with study.storage.writing():
        for i in range(610):
            params = {name: (i * (k + 3)) % 101 / 100 for k, name in enumerate(space)}
            study.attach(params, params["p0"] + params["p1"] ** 2 if i else -1e9, seconds=1.0 + i % 7)
    report = report_of(study)
    assert len(to_html(report)) < 600_000
    history = next(figure for figure in report.figures if "the best so far" in figure.caption)
    assert "About 600 trials are drawn" in history.caption
    assert "1 far worse value lies outside the axis" in history.caption
    assert "4 more parameters are not shown" in table(report, "Best trials", "The best 20").caption
