"""Help pages, completion, and what a misspelt name is answered."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import aifs_tune
from aifs_tune.cli.main import COMMANDS, app
from aifs_tune.study.open import open_study

PAGES = [
    *((each.name or each.function.__name__.replace("_", "-"),) for group in COMMANDS.values() for each in group),
    *(("token", word) for word in ("create", "list", "revoke")),
]


@pytest.fixture
def lab(tmp_path, space) -> Path:
    """A storage in the current folder with two studies, and a sweep file."""
    url = f"sqlite:///{tmp_path}/aifs_tune.db"
    for name in ("furnace", "crystals"):
        open_study(name, space=space, storage=url).storage.close()
    (tmp_path / "furnaces.yaml").write_text("name: furnaces\nspace: {x: {type: float, low: 0, high: 1}}\n")
    return tmp_path


def test_commands_stand_under_titles_with_summaries_of_one_line(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = run("--help").out
    lines = text.splitlines()
    assert run("-h").out == text
    assert max(map(len, lines)) <= 80
    assert "..." not in text.split("Options:")[1]
    assert [line[:-1] for line in lines if line.endswith(":") and line[:1].isalpha()] == [
        "Options",
        *COMMANDS,
        "Examples",
    ]
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ") and line[2] != " "}
    for path in PAGES:
        assert listed[path[0]][0].isupper()


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_every_page_ends_with_an_example_that_can_be_typed(run, path):
    text = run(*path, "-h").out
    assert run(*path, "--help").out == text
    title, *examples = text.rstrip().split("\n\n")[-1].splitlines()
    assert title in ("Example:", "Examples:")
    for example in examples:
        words = shlex.split(example)
        assert words[: len(path) + 1] == ["aifs-tune", *path]
        command = typer.main.get_command(app)
        for name in path:
            command = command.commands[name]
        command.make_context(path[-1], words[len(path) + 1 :])


def test_the_version_is_printed(run):
    assert run("--version").out == f"aifs-tune {aifs_tune.__version__}\n"


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["bst", "furnace"], "Did you mean 'best'?"),
        (["token", "creat"], "Did you mean 'create'?"),
        (["best", "furnaec"], "did you mean furnace?"),
        (["trials", "crystal"], "did you mean crystals?"),
        (["space", "quik_sky"], "did you mean quick_sky?"),
        (["space", "furnace.yaml"], "did you mean furnaces.yaml?"),
        (["run", "quick_sky", "--set", "space.learnin_rate=0.1"], "did you mean learning_rate?"),
        (["run", "quick_sky", "--set", "search.trails=3"], "did you mean trials?"),
        (["run", "quick_sky", "--set", "search.sampler=tpee"], "did you mean tpe?"),
        (["run", "quick_sky", "--set", "trainer.name=ccn"], "did you mean cnn?"),
        (
            ["run", "quick_sky", "--set", "objective.metric=val_los"],
            "did you mean val_loss?",
        ),
        (["trials", "furnace", "--fromat", "json"], "--format"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(lab, run, words, nearest):
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert nearest in ran.err


def completed(folder: Path, text: str, **environment: str) -> list[str]:
    """What a shell offers after ``text``."""
    variables = {"_AIFS_TUNE_COMPLETE": "complete_bash", "COMP_WORDS": text, "COMP_CWORD": str(text.count(" "))}
    done = subprocess.run(
        [sys.executable, "-m", "aifs_tune"],
        cwd=folder,
        env={**os.environ, **variables, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout.split()


def test_a_shell_completes_commands_studies_and_sweep_files(lab):
    assert completed(lab, "aifs-tune rep") == ["report", "reproduce"]
    assert completed(lab, "aifs-tune best f") == ["furnace"]
    assert completed(lab, "aifs-tune run furn") == ["furnaces.yaml"]
    assert completed(lab, "aifs-tune run qui") == ["quick_sky"]
    assert completed(lab, "aifs-tune best f", AIFS_TUNE_STORAGE="sqlite:///nowhere.db") == []
