"""Folders of results of Ray Tune, as files: one of Ray itself is in tests/execution/test_sweep_optuna.py."""

from __future__ import annotations

import csv
import json

import pytest

from aifs_tune import import_ray_tune
from aifs_tune.errors import ConflictError, NotFoundError, RequestError


def trial(folder, params, losses, *, table=False, **more):
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params))
    results = [
        {"loss": loss, "training_iteration": i + 1, "time_this_iter_s": 2.0, "hostname": "n", "pid": 7, **more}
        for i, loss in enumerate(losses)
    ]
    if table:
        with (folder / "progress.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(results[0]))
            writer.writeheader()
            writer.writerows(results)
    else:
        (folder / "result.json").write_text("".join(json.dumps(result) + "\n" for result in results))


def experiment(folder, status, metric=None):
    entries = [[json.dumps({"relative_logdir": name, "status": each}), "{}"] for name, each in status.items()]
    state = {"trial_data": entries, "runner_data": {"_metric": metric}}
    (folder / "experiment_state-1.json").write_text(json.dumps(state))


@pytest.fixture
def lab(tmp_path):
    lab = tmp_path / "my lab"
    trial(lab / "t_1_00001", {"net": {"layers": 1}, "rate": 0.001, "kind": "a"}, [3.0, 2.0, 2.5])
    trial(lab / "t_1_00000", {"net": {"layers": 2}, "rate": 0.5, "kind": None, "extra": 4}, [5.0, 4.0], table=True)
    trial(lab / "t_1_00002", {"net": {"layers": 2}, "rate": 0.1, "kind": None, "extra": 9}, [float("nan"), 1.5])
    return lab


def test_curves_nested_parameters_conditions_and_ranges(lab, url):
    study, left_out = import_ray_tune(lab, mode="min", storage=url)
    assert study.name == "my-lab"
    assert [(t.params.get("net.layers"), t.value, t.epochs) for t in study.all_trials()] == [
        (2, 4.0, 2),
        (1, 2.0, 3),
        (2, 1.5, 2),
    ]
    assert [m.metrics["loss"] for m in study.curve(2)] == [None, 1.5]
    assert (study.trial(1).seconds, study.trial(1).worker) == (6.0, "n:7")
    assert study.best.notes == {"ray_tune_folder": "t_1_00002"}
    space = study.spec.space
    assert (space["rate"].low, space["rate"].high, space["rate"].log) == (0.001, 0.5, True)
    assert (space["extra"].low, space["extra"].high) == (4, 9)
    assert space["extra"].when in ({"net.layers": (2,)}, {"kind": ("null",)})
    assert "which trials a scheduler stopped" in left_out
    assert study.tell(study.ask(), 0.5).value == study.best.value
    with pytest.raises(ConflictError, match="already"):
        import_ray_tune(lab, mode="min", storage=url)


def test_states_torn_lines_text_and_checkpoints_are_named(lab, url):
    experiment(
        lab,
        {"t_1_00000": "TERMINATED", "t_1_00001": "ERROR", "t_1_00002": "RUNNING", "t_1_00003": "PENDING"},
        metric="loss",
    )
    (lab / "t_1_00001" / "error.txt").write_text("Traceback ...\nValueError: too hot\n")
    with (lab / "t_1_00001" / "result.json").open("a") as file:
        file.write(json.dumps({"loss": 2.0, "text": "hot", "training_iteration": 4, "config": {}}) + '\n{"loss": 1')
    (lab / "t_1_00000" / "checkpoint_000001").mkdir()
    study, left_out = import_ray_tune(lab, mode="min", study="ours", storage=url)
    assert [(t.state, t.reason, t.epochs) for t in study.all_trials()] == [
        ("complete", None, 2),
        ("failed", "ValueError: too hot", 4),
    ]
    assert left_out["t_1_00002"] == "is running"
    assert left_out["t_1_00003"] == "is pending, without a folder"
    assert left_out["t_1_00001/result.json, line 5"] == "is not complete"
    assert left_out["t_1_00001: earlier parameters"].startswith("they changed while it trained")
    assert left_out["the result text"] == "is no number, such as 'hot'"
    assert "checkpoints" in left_out


def test_numbers_that_are_repeated_are_ordered_choices(tmp_path, url):
    for i in range(8):
        trial(tmp_path / "lab" / f"t_{i}", {"batch": 2 ** (4 + i % 4), "x": i / 8, "n": i % 3, "f": "same"}, [i])
    space = import_ray_tune(tmp_path / "lab", mode="max", storage=url)[0].spec.space
    assert (space["batch"].choices, space["batch"].ordered) == ((16, 32, 64, 128), True)
    assert (space["x"].type, space["n"].type, space["f"].type) == ("float", "int", "fixed")


def test_a_space_that_is_given_leaves_out_what_is_outside(lab, url):
    space = {
        "net": {"layers": {"type": "int", "low": 1, "high": 4}},
        "rate": {"type": "float", "low": 0.001, "high": 0.2},
        "kind": {"type": "choice", "choices": ["a", None]},
        "extra": {"type": "int", "low": 0, "high": 9, "when": {"kind": None}},
    }
    study, left_out = import_ray_tune(lab, mode="min", space=space, storage=url)
    assert [t.value for t in study.all_trials()] == [2.0, 1.5]
    assert "0.5 is not allowed" in left_out["t_1_00000"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "mode: missing; allowed: max if a large loss is good, min if a small one is"),
        ({"mode": "min", "metric": "los"}, "metric: no trial reported 'los', did you mean loss.*; allowed: loss"),
    ],
)
def test_metric_and_mode_are_checked(lab, url, given, told):
    with pytest.raises(RequestError, match=told):
        import_ray_tune(lab, storage=url, **given)


def test_what_is_no_experiment_or_says_nothing_is_refused(tmp_path, url):
    with pytest.raises(NotFoundError, match="no results of Ray Tune there; allowed: the folder of an experiment"):
        import_ray_tune(tmp_path, mode="min", storage=url)
    trial(tmp_path / "lab" / "t_1", {"x": 1}, [1.0], acc=2.0)
    with pytest.raises(RequestError, match="metric: missing; allowed: loss, acc"):
        import_ray_tune(tmp_path / "lab", mode="min", storage=url)
    with pytest.raises(RequestError, match="no parameter has different values"):
        import_ray_tune(tmp_path / "lab", metric="loss", mode="min", storage=url)
    (tmp_path / "lab" / "t_1" / "params.json").write_text("{")
    with pytest.raises(RequestError, match=r"params\.json: cannot be read"):
        import_ray_tune(tmp_path / "lab", metric="loss", mode="min", storage=url)


def test_the_command_knows_the_folder_by_its_content(lab, url, run):
    told = run("import", str(lab), "--mode", "min", "--study", "ours", "--storage", url)
    assert told.code == 0
    assert "the ranges of " in told.err
    assert "1.5" in told.out
    assert "'low' is no mode; allowed: max, min" in run("import", str(lab), "--mode", "low", "--storage", url).err
    assert "has no data" in run("import", str(lab), "--data", "x", "--mode", "min", "--storage", url).err
    told = run("import", "nowhere", "--metric", "loss", "--storage", url)
    assert "--metric: loss is for the folder of an experiment of Ray Tune; nowhere is none" in told.err
