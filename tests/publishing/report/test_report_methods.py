"""The methods paragraph says what happened, for each way to divide the data and each way in which trials end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.config.loading import parse_sweep
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.data import data_for, located, record_data
from aifs_tune.publishing.report.blocks import Paragraph
from aifs_tune.publishing.report.context import gather
from aifs_tune.publishing.report.methods import methods_section
from aifs_tune.storage.storage import Storage
from aifs_tune.study.document import study_document
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.schema import checked_attributes

SPACE = {"learning_rate": {"type": "float", "low": 0.001, "high": 0.1}}


def pictures(folder: Path, parts: tuple[str, ...]) -> Path:
    """Folders of two classes, below those of the parts if there are any."""
    rng = np.random.default_rng(0)
    for part in parts or (".",):
        for label in ("galaxy", "star"):
            (folder / part / label).mkdir(parents=True)
            for i in range(12):
                image = Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8))
                image.save(folder / part / label / f"field{i % 6}_{i}.png")
    return folder


def rows(file: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["a,b,plate,part,kind,yield"]
    for i in range(60):
        part = ("train", "train", "train", "val", "test")[i % 5]
        lines.append(f"{rng.random():.6f},{rng.random():.6f},p{i // 6},{part},{'ab'[i % 2]},{rng.random():.4f}")
    file.write_text("\n".join(lines))
    return file


def study_of(tmp_path: Path, trainer: Any, data: Any, metric: str = "val_macro_f1", **search: Any) -> StudyRecord:
    """A study whose data were prepared and recorded as a sweep does."""
    spec = parse_sweep(
        {
            "name": "lab",
            "trainer": trainer,
            "data": data,
            "objective": {"metric": metric},
            "search": {"sampler": "random", "epochs": 4, "seed": 0, **search},
            "space": SPACE,
        }
    )
    spec = located(spec)
    study = start_study(Storage(f"sqlite:///{tmp_path}/lab.db", create=True), spec, "lab", with_default=False)
    record_data(study, data_for(spec, strict=False, callback=NullCallback()))
    return study


def methods_of(study: StudyRecord) -> str:
    blocks = methods_section(gather(study, with_data=False)).blocks
    return " ".join(block.text for block in blocks if isinstance(block, Paragraph))


def a_trial(study: StudyRecord, epochs: int = 4, state: Any = "complete") -> None:
    trial = study.ask()
    for epoch in range(1, epochs + 1):
        study.report(trial, epoch, {study.spec.objective.metric: 0.5}, seconds=1.0, worker="here:1")
    study.tell(trial, state=state)


SHARES = "training, validation (20 %) and test (20 %) sets"
TABLE = {"predict": "values", "target": "yield", "leave_out": ["kind"]}
DIVISIONS = {
    "images": (
        lambda at: ("cnn", {"folder": pictures(at, ())}),
        f"at random (seed 0, each class alike) into {SHARES}.",
    ),
    "images in groups": (
        lambda at: ("cnn", {"folder": pictures(at, ()), "group_by": "^(field[0-9])_"}),
        f"at random (seed 0, each class alike) into {SHARES}, with groups (^(field[0-9])_) kept together.",
    ),
    "images in parts": (
        lambda at: ("cnn", {"folder": pictures(at, ("train", "val", "test"))}),
        "as the folders train, val and test say.",
    ),
    "images in two parts": (
        lambda at: ("cnn", {"folder": pictures(at, ("train", "test"))}),
        "as the folders train and test say, with a validation set (20 %) drawn from the training folder at random "
        "(seed 0, each class alike).",
    ),
    "a table of classes": (
        lambda at: (
            "mlp",
            {"table": {"file": rows(at / "t.csv"), "target": "kind", "leave_out": ["plate", "part", "yield"]}},
        ),
        f"at random (seed 0, each class alike) into {SHARES}.",
    ),
    "a table of numbers": (
        lambda at: ("mlp", {"table": {**TABLE, "file": rows(at / "t.csv"), "leave_out": ["plate", "part", "kind"]}}),
        f"at random (seed 0) into {SHARES}.",
    ),
    "a table with groups": (
        lambda at: ("mlp", {"table": {**TABLE, "file": rows(at / "t.csv"), "leave_out": ["part"], "group": "plate"}}),
        f"at random (seed 0) into {SHARES}, with groups (plate) kept together.",
    ),
    "a table with parts": (
        lambda at: ("mlp", {"table": {**TABLE, "file": rows(at / "t.csv"), "leave_out": ["plate"], "part": "part"}}),
        "as the column part says.",
    ),
    "series": (
        lambda _: ("rnn", {"series": {"simulate": {"what": "light_curves", "series": 60, "steps": 24}}}),
        f"at random (seed 0, each class alike) into {SHARES}.",
    ),
    "a forecast": (
        lambda _: (
            "rnn",
            {
                "series": {
                    "forecast": {"target": "value", "history": 8, "horizon": 2},
                    "simulate": {"what": "mackey_glass", "steps": 300},
                }
            },
        ),
        "in time: the first train, the next 20 % validate, the last 20 % test.",
    ),
}


@pytest.mark.parametrize(("make", "says"), DIVISIONS.values(), ids=DIVISIONS)
def test_the_division_is_the_one_that_was_made(make, says, tmp_path, monkeypatch):
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    trainer, data = make(tmp_path / "data")
    is_of_classes = "each class alike" in says or "folders" in says
    study = study_of(tmp_path, trainer, data, "val_macro_f1" if is_of_classes else "val_r2")
    a_trial(study)
    assert f"The data were divided {says}" in methods_of(study)


@pytest.fixture
def sky(tmp_path, monkeypatch):
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "cache"))
    return lambda trainer="cnn", **search: study_of(
        tmp_path, trainer, {"simulate": {"images": 60, "size": 16}}, **search
    )


def test_the_channels_of_images_are_kept_with_the_study_and_stand_in_the_report(sky):
    study = sky()
    a_trial(study)
    blocks = methods_section(gather(study, with_data=False)).blocks
    table = next(block for block in blocks if getattr(block, "caption", "").startswith("Bands of the images"))
    assert table.header == ("band", "taken for", "range", "missing", "use")
    assert [row[:2] for row in table.rows] == [(name, "colour, 8 bits") for name in "RGB"]
    assert checked_attributes(study_document(study)["attributes"])["aifs_tune:fact:columns"]["n"] == 3


def test_a_division_that_was_not_recorded_is_not_invented(sky):
    study = sky()
    study.record_fact("division", None)
    a_trial(study)
    assert "The data were divided in a way that was not recorded." in methods_of(study)


@pytest.mark.parametrize(
    ("ends", "trainer", "scheduler", "says", "not_said"),
    [
        (
            [(4, "complete")] * 3,
            "cnn",
            "asha",
            ["3 trials trained to the last epoch.", "asha stopped no trial."],
            "were",
        ),
        (
            [(4, "complete"), (2, "pruned"), (1, "pruned")],
            "cnn",
            "asha",
            ["1 trial trained to the last epoch.", "2 trials were stopped early by asynchronous successive halving"],
            "no trial",
        ),
        ([(4, "complete")], "cnn", "none", ["1 trial trained to the last epoch."], "stopped"),
        (
            [(3, "complete"), (2, "complete")],
            {"name": "cnn", "patience": 1},
            "none",
            ["2 trials ended after 1 epoch without a better value (patience)."],
            "last epoch",
        ),
    ],
)
def test_what_ended_the_trials_is_said_and_nothing_else(sky, ends, trainer, scheduler, says, not_said):
    study = sky(trainer, scheduler=scheduler)
    for epochs, state in ends:
        a_trial(study, epochs, state)
    told = methods_of(study)
    for text in says:
        assert text in told
    after = told[told.index("its value is that of its best epoch.") : told.index("The trainer cnn is")]
    assert not_said not in after.replace(says[-1], "")


@pytest.mark.parametrize(
    ("trainer", "says"),
    [
        ("cnn", "The loss was the cross-entropy, with examples weighted inversely to the frequency of their class."),
        ({"name": "cnn", "class_weights": "none"}, "the cross-entropy, with the same weight for all examples."),
        ({"name": "cnn", "precision": "float32"}, "Convolutions and dense layers were computed in float32."),
    ],
)
def test_settings_of_the_trainer_are_said_with_what_it_is(sky, trainer, says):
    study = sky(trainer)
    a_trial(study)
    told = methods_of(study)
    assert "The trainer cnn is a convolutional neural network [chollet2015, abadi2016]." in told
    assert says in told


def test_the_precision_of_auto_is_that_of_the_best_trials_weights(sky):
    study = sky("cnn")
    a_trial(study)
    assert "were computed in" not in methods_of(study), "there are no weights that say"
    trial = study.ask()
    study.report(trial, 1, {"val_macro_f1": 0.9})

    def write(folder: Path) -> None:
        (folder / "weights.json").write_text(json.dumps({"precision": "mixed_bfloat16"}))

    study.tell(trial, weights=TrialArtifacts(study.artifacts, trial.number).save_weights(write))
    assert "dense layers were computed in bfloat16, with weights in float32 (mixed_bfloat16)." in methods_of(study)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "at_once", "is_said"),
    [("tpe", "none", 2, True), ("tpe", "none", 1, False), ("random", "asha", 2, True), ("random", "none", 2, False)],
)
def test_that_the_seed_does_not_repeat_a_study_is_said_where_it_is_so(sky, sampler, scheduler, at_once, is_said):
    study = sky(sampler=sampler, scheduler=scheduler)
    for _ in range(2):
        trials = [study.ask() for _ in range(at_once)]
        for trial in trials:
            study.report(trial, 1, {"val_macro_f1": 0.5})
            study.tell(trial)
    assert ("the seed alone does not repeat the study" in methods_of(study)) is is_said
