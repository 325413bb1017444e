"""Studies for reports, with results that are told by hand: nothing is trained."""

from __future__ import annotations

import math
import random

import numpy as np

from aifs_tune.analysis.candidates import BASELINE, Candidate, candidates_of, chosen_candidates
from aifs_tune.analysis.confirmation import start_confirmation
from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.config.cross_validation import SIZES, CrossValidation
from aifs_tune.config.data import DIVISION
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data.sources import prepare
from aifs_tune.execution.confirm import _test_study
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import open_study, start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.study import Study
from aifs_tune.trainers.predictions import Predictions, write_predictions

SCRIPT = "<script>window.hacked=1</script>"
HOSTILE = f'"><img src=x onerror=window.hacked=1>{SCRIPT}'
CHOICES = ["日本語 ☃", SCRIPT, "#panic() $a$ *b* `c` [d](javascript:e)", "\\input{secret} % & _ ~ ^", "=1+2"]
CROSS_VALIDATION = CrossValidation(folds=4, repeats=2)


def sky_spec(**changes: object) -> object:
    """A sweep of a cnn on a small simulated sky."""
    return parse_sweep(
        {
            "name": "sky",
            "trainer": "cnn",
            "description": HOSTILE,
            "data": {"simulate": {"images": 60, "size": 16}, "image_size": 16},
            "search": {"trials": 16, "epochs": 4, "sampler": "random", "scheduler": "asha", "grace_epochs": 1},
            "space": {
                "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True, "default": 1e-3},
                "dropout": {"type": "float", "low": 0.0, "high": 0.8, "default": 0.5, "unit": "fraction"},
                "filters": 8,
            },
            **changes,
        }
    )


def sky_study(storage: Storage) -> StudyRecord:
    """16 trials: complete ones with curves, some stopped early, one failed."""
    study = start_study(storage, sky_spec(), "sky")
    made = prepare(study.spec.data, "images", strict=False, tell=lambda _: None, progress=lambda *_: None)
    study.match_data(made.fingerprint)
    study.record_fact(DIVISION, dict(made.division))
    draw = random.Random(0)
    for number in range(16):
        trial = study.ask()
        worth = 0.9 - 0.1 * (math.log10(trial.params["learning_rate"]) + 2) ** 2 - 0.1 * trial.params["dropout"]
        if number == 5:
            study.tell(trial, state="failed", reason=f"lamp 5 {HOSTILE}\nbroke")
            continue
        for epoch in range(1, 5):
            value = worth * (1 - 0.5 / epoch) + draw.gauss(0, 0.01)
            metrics = {"val_macro_f1": value, "val_loss": 1 - value}
            study.report(trial, epoch, metrics, seconds=0.5 + draw.random(), worker="node:7")
            if number % 4 == 3 and epoch == 2:
                break
        study.tell(trial, state="pruned" if number % 4 == 3 else "complete", reason=None)
    return study


def tell_scores(created: StudyRecord, scores: dict[str, float], spread: float = 0.01) -> None:
    """Tell all trials of a confirmation the score of their configuration, which scatters."""
    created.record_fact(SIZES, [[40, 10]] * CROSS_VALIDATION.n_splits)
    draw = random.Random(1)
    names = {tuple(sorted(each["params"].items())): each["name"] for each in created.fact("candidates")}
    for _ in created.all_trials():
        trial = created.ask()
        params = tuple(sorted((name, value) for name, value in trial.params.items() if name != "split"))
        score = scores[names[params]] + draw.gauss(0, spread)
        created.report(trial, 1, {"val_macro_f1": 0.9, "fold_macro_f1": score})
        created.tell(trial)


def confirm(study: StudyRecord, gains: tuple[float, float] = (0.1, 0.0), name: str = "sky-confirm") -> StudyRecord:
    """Confirm the best two of ``study``, which are better than the baseline by ``gains``."""
    candidates = candidates_of(study, top=2)
    created = start_confirmation(study.storage, study.spec, name, candidates, CROSS_VALIDATION)
    scores = {each.name: 0.6 + gain for each, gain in zip(candidates, (0.0, *gains), strict=True)}
    study.storage.transact(lambda: tell_scores(created, scores), created.name)
    return created


def add_noise(study: StudyRecord) -> None:
    """The noise floor of the default configuration."""
    default = Candidate(BASELINE, None, study.spec.space.default_params())
    tell_scores(
        start_confirmation(study.storage, study.spec, "sky-noise", [default], CROSS_VALIDATION), {BASELINE: 0.6}, 0.05
    )


def evaluate_test_set(study: StudyRecord, classes: tuple[str, ...], targets: tuple[str, ...] = ()) -> None:
    """Evaluate the best configuration on the test set, with some mistakes; ``targets`` are numbers beside classes."""
    leader = candidates_of(study, top=1)[1]
    created = _test_study(study, leader)
    trial = created.ask()
    draw = np.random.default_rng(0)
    y_true = np.arange(30) % len(classes)
    y_pred = draw.dirichlet(np.ones(len(classes)), 30) + 0.3 * np.eye(len(classes))[y_true]
    y_pred = y_pred / y_pred.sum(axis=1, keepdims=True)
    if targets:
        numbers = draw.normal(5, 2, (30, len(targets)))
        y_true = np.concatenate([y_true[:, None], numbers], axis=1)
        y_pred = np.concatenate([y_pred, numbers + draw.normal(0, 0.2, numbers.shape)], axis=1)
    described = tuple({"name": name, "unit": "GeV"} for name in targets)
    found = Predictions(np.arange(30, dtype=np.int32), y_true, y_pred, classes, described)
    weights = TrialArtifacts(created.artifacts, trial.number).save_weights(
        lambda folder: write_predictions(folder, found)
    )
    created.report(trial, 1, {"val_macro_f1": 0.8})
    created.tell(trial, weights=weights)


def hostile_study(url: str, n_trials: int = 24) -> Study:
    """An instrument whose metric, unit, choices and reasons look like markup of every format."""
    study = open_study(
        "hostile",
        storage=url,
        metric=f"güte $x_1$ | {SCRIPT}",
        mode="min",
        sampler="random",
        space={
            "x": {"type": "float", "low": 1e-5, "high": 1.0, "log": True, "unit": "<i>µm</i>", "default": 0.1},
            "solvent": {"type": "choice", "choices": CHOICES},
            "a_parameter_with_a_name_as_long_as_names_are_allowed_to_be_here": {"type": "int", "low": 1, "high": 9},
        },
    )
    draw = random.Random(2)
    for number in range(n_trials):
        trial = study.ask()
        if number % 8 == 7:
            study.tell(trial, state="failed", reason=f"#panic() \\end{{table}} | {HOSTILE} {number}")
        else:
            study.tell(trial, (math.log10(trial.params["x"]) + 2) ** 2 + draw.gauss(0, 0.1), seconds=draw.random())
    return study


def genes_studies(storage: Storage) -> list[StudyRecord]:
    """Two studies of an mlp on the same table: ``genes``, and ``genes-tpe`` with another sampler and search space."""
    made = []
    for name, sampler, dropouts, width in (
        ("genes", "random", (0.1, 0.2, 0.3), {"type": "int", "low": 8, "high": 32}),
        ("genes-tpe", "tpe", (0.4, 0.6), {"type": "int", "low": 8, "high": 64}),
    ):
        document = {
            "name": name,
            "trainer": "mlp",
            "data": {"table": {"bundled": "breast_cancer"}},
            "search": {"sampler": sampler},
            "space": {"dropout": {"type": "float", "low": 0, "high": 0.9, "unit": "fraction"}, "width": width},
        }
        study = start_study(storage, parse_sweep(document), name)
        for dropout in dropouts:
            study.enqueue({"dropout": dropout, "width": 16})
            study.tell(study.ask(), {"val_macro_f1": 0.5 + dropout})
        made.append(study)
    return made


def retrain(first: StudyRecord, others: list[str], scores: list[float]) -> StudyRecord:
    """What ``aifs-tune compare`` leaves: the best of ``first`` and ``others`` trained again, with these scores."""
    candidates = chosen_candidates(first, others)
    created = start_confirmation(first.storage, first.spec, f"{first.name}-compare", candidates, CROSS_VALIDATION)
    tell_scores(created, dict(zip([each.name for each in candidates], scores, strict=True)))
    return created
