"""What confirm, compare and noise say of requests that cannot be met. No training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from aifs_tune.analysis.candidates import BASELINE
from aifs_tune.analysis.test_part import HeldOutEvaluation
from aifs_tune.artifacts.data_files import match_files
from aifs_tune.cli.main import app
from aifs_tune.config.cross_validation import CrossValidation
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import AifsTuneError, ConflictError, RequestError
from aifs_tune.execution.confirm import confirm
from aifs_tune.execution.data import prepared_data
from aifs_tune.execution.finalize import finalize
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.trainers.predictions import Predictions

pytestmark = pytest.mark.usefixtures("one_ray")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"u": random.normal(size=60), "patient": [f"p{i // 4}" for i in range(60)]})
    frame.assign(target=list("ab") * 30).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


@pytest.fixture
def study(url: str, file: Path) -> StudyRecord:
    """Two complete trials on the table, whose files are recorded."""
    spec = parse_sweep(
        {
            "name": "cells",
            "trainer": "mlp",
            "data": {"table": {"file": str(file), "group": "patient"}},
            "space": {"dropout": {"type": "float", "low": 0, "high": 0.9, "default": 0.5}},
        }
    )
    study, made = start_study(Storage(url, create=True), spec, "cells"), prepared_data(spec)
    match_files(study, made.fingerprint, made.files)
    study.tell(study.ask(), {"val_macro_f1": 0.7})
    study.enqueue({"dropout": 0.1})
    study.tell(study.ask(), {"val_macro_f1": 0.8})
    study.storage.close()
    return study


def refusal(*words: str) -> str:
    done = CliRunner().invoke(app, [*words])
    assert isinstance(done.exception, AifsTuneError), done.output
    return str(done.exception)


def test_an_unknown_study_or_trial_is_named(study: StudyRecord, url: str) -> None:
    assert "holds no study 'stars' of aifs-tune; it holds: cells" in refusal("confirm", "stars", "--storage", url)
    assert "holds no study 'stars'" in refusal("compare", "stars", "0", "1", "--storage", url)
    assert "study 'cells' has no trial 9" in refusal("confirm", "cells", "--baseline", "9", "--storage", url)
    assert "study 'cells' has no trial 7" in refusal("compare", "cells", "0", "7", "--storage", url)


def test_what_cannot_be_compared_is_named(study: StudyRecord, url: str) -> None:
    storage = Storage(url)
    asks = study.spec.model_dump(mode="json")
    for name, change in (
        ("wide", {"space": {"dropout": {"type": "float", "low": 0, "high": 0.99, "default": 0.95}}}),
        ("long", {"search": {**asks["search"], "epochs": 3}}),
        ("loss", {"objective": {"metric": "val_loss", "mode": "min"}}),
        ("elsewhere", {}),
    ):
        other = start_study(storage, parse_sweep({**asks, **change}), name)
        if name != "elsewhere":
            other.match_data(study.fingerprint)
        other.tell(other.ask(), {other.spec.objective.metric: 0.9})
    storage.close()
    for entry, said in (
        ("wide", "wide trial 0 does not fit the space of study 'cells': dropout: 0.95"),
        ("long", "Study 'long' trains 3 epochs and 'cells' 20; allowed: the same number of epochs"),
        ("loss", "Studies 'cells' and 'loss' have different objectives"),
        ("elsewhere", "Studies 'cells' and 'elsewhere' have different data"),
        ("cells", "cells trial 1 and cells trial 1 have the same configuration"),
        ("wide:4", "study 'wide' has no trial 4"),
        ("0", "TRIAL: one trial is not enough; allowed: two or more"),
    ):
        assert said in refusal("compare", "cells", entry, "--storage", url)


def test_a_study_without_a_finished_trial_says_what_it_has(study: StudyRecord, url: str) -> None:
    start_study(Storage(url), study.spec, "young").storage.close()
    found = refusal("confirm", "young", "--storage", url)
    assert "study 'young' has no complete trial yet; its trials: 1 waiting" in found


def test_changed_data_are_refused_and_the_file_is_named(study: StudyRecord, url: str, file: Path) -> None:
    frame = pd.read_csv(file)
    frame.assign(u=frame["u"] + 1).to_csv(file, index=False)
    with pytest.raises(ConflictError, match=r"was run on other data .*\n  1 file changed \(t.csv\)"):
        confirm("cells", storage=url, cv=CrossValidation(folds=2, repeats=1))


def test_data_that_cannot_be_divided_so_are_refused(study: StudyRecord, url: str, file: Path) -> None:
    found = refusal("confirm", "cells", "--folds", "50", "--repeats", "1", "--storage", url)
    assert "class a has 9 groups for the folds; allowed: at least 50, one for each fold" in found
    words = ("noise", "gene_expression", "--storage", url, "--data", str(file), "--folds", "40", "--repeats", "1")
    assert "class a has " in refusal(*words)
    frame = pd.read_csv(file)
    frame.assign(target="a").to_csv(file, index=False)
    assert "target has 1 class(es); allowed: at least 2" in refusal(*words)


def test_worst_answers_have_their_rows_and_intervals_their_groups(study: StudyRecord) -> None:
    table = pd.DataFrame({"row": np.arange(60)})
    rows = np.array(prepared_data(study.spec).files.to_frame().query("part == 'test'")["example"], np.int32)
    y_true = (rows % 2).astype(np.int32)
    y_pred = np.where(y_true[:, None] == [0, 1], 0.9, 0.1).astype(np.float32)
    y_pred[3] = y_pred[3][::-1]
    tested = HeldOutEvaluation(BASELINE, study, study.trial(0), Predictions(rows, y_true, y_pred, ("a", "b"), ()))
    told = tested.to_json()
    (worst,) = told["classes"]["worst"]
    assert worst["file"] == f"t.csv (row {table['row'][rows[3]] + 1})"
    assert tested.groups == [f"p{row // 4}" for row in rows.tolist()]
    assert told["n_groups"] == len(set(tested.groups))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"trainer": None}, "has no trainer, so there is no model to train"),
        ({"trade_off": [{"metric": "val_loss", "mode": "min"}]}, "has several objectives"),
        ({"replay": [{"epoch": 1, "params": {"learning_rate": 0.01}}]}, "changes its parameters during training"),
    ],
)
def test_what_has_no_single_model_is_not_finalized(url: str, changes: dict[str, object], why: str) -> None:
    document = {
        "name": "cells",
        "trainer": "mlp",
        "data": {"table": {"bundled": "breast_cancer"}},
        "space": {"dropout": {"type": "float", "low": 0, "high": 0.9}},
    }
    start_study(Storage(url, create=True), parse_sweep(document | changes), "cells")
    with pytest.raises(RequestError, match=f"{why}.*; allowed: a study of a built-in trainer"):
        finalize("cells", storage=url)
