"""Every command and example of README and docs runs, in the order it stands there.

Sweeps are made small by options that are added at the end of a ``run`` line; nothing else is changed. Commands run in
this process, on the Ray that it has. Python examples that follow each other share a process, each with its own names.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typed import CommandLine

from aifs_tune.cli.main import app
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.yaml import read_yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(p for p in sorted(DOCS.rglob("*.md")) if "_build" not in p.parts)]
SMALL = ["--epochs", "1", "--set", "data.image_size=24", "--set", "space.filters=8", "--set", "space.dense_units=16"]
NAMES = {"__name__": "__main__"}
BLOCK = re.compile(r"^```(bash|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def small(words: list[str]) -> list[str]:
    """The same command on less: fewer trials and epochs, a smaller sky; two workers in one sweep alone."""
    if words[:2] == ["aifs-tune", "run"]:
        if words[2] == "sky_positions":
            few = ["--set", "data.frames.simulate.images=60", "--set", "data.frames.simulate.size=24", "--workers", "1"]
            return [*words, "--trials", "2", *SMALL, *few]
        if words[2] == "sky_fields":
            keys = {"fields": 40, "size": 64, "bodies": 8}
            few = [text for key, value in keys.items() for text in ("--set", f"data.bodies.simulate.{key}={value}")]
            tiles = ["--set", "data.bodies.tile=64", "--set", "space.filters=8", "--workers", "1"]
            return [*words, "--trials", "2", *SMALL[:2], *few, *tiles]
        if words[2] == "micrographs":
            few = ["--set", "data.simulate.images=60", "--set", "data.simulate.size=24", "--set", "data.image_size=24"]
            return [*words, "--trials", "2", *SMALL[:2], *few, "--workers", "1"]
        if words[2] in ("hazards", "warnings"):
            few = ["--set", "data.series.simulate.steps=800", "--set", "space.filters=8", "--workers", "1"]
            return [*words, "--trials", "2", *SMALL[:2], *few]
        if words[2] in ("quick_sky", "breast_cancer", "particles"):
            return [*words, "--trials", "2", *SMALL[:2], "--workers", "1"]
        return [*words, "--trials", "2", *SMALL]
    if words[:2] == ["aifs-tune", "simulate-sky"]:
        return [*words, "--images", "150", "--size", "24", "--difficulty", "0"]
    return words


def process(words: list[str], folder: Path, code: str | None = None) -> tuple[int, str]:
    """How a Python with these words ended, and what it said."""
    done = subprocess.run([sys.executable, *words], input=code, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, f"{done.stdout}\n{done.stderr}"


def command(line: str, run: CommandLine) -> tuple[int, str]:
    words = small(shlex.split(line, comments=True))
    assert words[0] == "aifs-tune", line
    ran = run(*words[1:])
    return ran.code, f"{ran.out}\n{ran.err}"


def python(codes: list[str], folder: Path) -> tuple[int, str]:
    """Run these examples one after another; what one names, the next does not know."""
    script = "\n".join(
        f"exec(compile({smaller(code)!r}, 'example {n}', 'exec'), {NAMES!r})" for n, code in enumerate(codes)
    )
    return process(["-"], folder, script)


def smaller(code: str) -> str:
    """The same example with a sweep of two trials, one after the other, or on a shorter record."""
    code = code.replace('"celestial_cnn", data="survey")', f'"celestial_cnn", data="survey", overrides={SMALL[3::2]})')
    code = code.replace('what="quasi_periodic", steps=1000', 'what="quasi_periodic", steps=300')
    return code.replace("trials=24, epochs=8", "trials=2, epochs=1, workers=1")


def run_page(page: Path, folder: Path, run: CommandLine) -> int:
    """Run all examples of a page in ``folder``; how many there were."""
    n_run = 0
    steps: list[tuple[str, str]] = []
    for language, text in blocks(page):
        if language == "yaml":
            parse_sweep({"name": "example", "space": {"x": 1.0}} | read_yaml(text, source=page.name).data)
            n_run += 1
        elif language == "python" and text.startswith("# "):  # a file of the reader's: its first line names it
            file = folder / text.splitlines()[0].removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        elif language == "python":
            steps.append((language, text))
        else:  # make is what runs these tests
            steps.extend((language, line) for line in text.splitlines() if not line.startswith("make "))
    for language, of_it in groupby(steps, key=lambda step: step[0]):
        texts = [text for _, text in of_it]
        pieces = [texts] if language == "python" else [[text] for text in texts]
        for piece in pieces:
            code, said = python(piece, folder) if language == "python" else command(piece[0], run)
            assert code == 0, f"{page.name}: {' '.join(piece)}\n{said[-4000:]}"
        n_run += len(texts)
    return n_run


@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("one_ray")
def test_the_readme_runs_from_top_to_bottom(tmp_path, run):
    assert run_page(ROOT / "README.md", tmp_path, run) >= 10


TRAINING = re.compile(r"aifs-tune (run|confirm|noise|reproduce)\b|\.run\(")


BY_HAND = {"hazards.md", "images.md", "materials.md", "particles.md", "sky_fields.md"}
"""Tutorials that ``make soak`` alone runs, as they train; of these, each command and example is read in the others."""


def marked(page: Path) -> Any:
    """The page as a parameter: where it trains, it needs a Ray."""
    is_training = any(TRAINING.search(text) for language, text in blocks(page) if language != "yaml")
    is_by_hand = page.parent.name == "tutorials" and page.name in BY_HAND
    marks = [*[pytest.mark.ray] * is_training, *[pytest.mark.soak] * is_by_hand]
    return pytest.param(page, id=str(page.relative_to(DOCS)), marks=marks)


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    """The folder that a page begins with which does not make it."""
    folder = tmp_path_factory.mktemp("made") / "survey"
    words = small(["aifs-tune", "simulate-sky", str(folder)])
    code, said = process(["-m", "aifs_tune", *words[1:]], folder.parent)
    assert code == 0, said
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [marked(p) for p in PAGES[1:] if blocks(p)])
def test_a_docs_page_runs_from_top_to_bottom(page, tmp_path, run, survey, request):
    if request.node.get_closest_marker("ray"):
        request.getfixturevalue("one_ray")
    text = page.read_text()
    if "survey" in text and "simulate-sky survey" not in text:
        shutil.copytree(survey, tmp_path / "survey")
    assert run_page(page, tmp_path, run) >= 1


@pytest.mark.parametrize("page", [DOCS / "tutorials" / name for name in sorted(BY_HAND)], ids=lambda page: page.stem)
def test_commands_and_imports_of_a_page_that_is_run_by_hand_exist(page):
    commands = typer.main.get_command(app).commands
    for language, text in blocks(page):
        if language == "bash":
            for line in text.splitlines():
                name, *words = shlex.split(line, comments=True)[1:] if line.startswith("aifs-tune ") else ("",)
                if name:
                    commands[name].make_context(name, words)
        elif language == "python":
            for step in ast.parse(text).body:
                if isinstance(step, ast.ImportFrom):
                    home = importlib.import_module(step.module)
                    assert [name.name for name in step.names if not hasattr(home, name.name)] == []


HELP = """
import io, runpy, sys
from contextlib import redirect_stdout

sys.path.insert(0, sys.argv[1])
for script in sys.argv[2:]:
    said = io.StringIO()
    sys.argv = [script, "--help"]
    try:
        with redirect_stdout(said):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, (script, ended.code, said.getvalue())
    name = script.rpartition("/")[2]
    assert f"python benchmarks/{name}" in said.getvalue(), (script, said.getvalue())
"""
"""Asks one script after another, as most of the time goes into what they import."""


def test_every_benchmark_says_how_it_is_used(tmp_path):
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    assert len(scripts) > 10
    code, said = process(["-c", HELP, str(ROOT / "benchmarks"), *map(str, scripts)], tmp_path)
    assert code == 0, said


def test_every_command_is_documented():
    told = "\n".join(page.read_text() for page in PAGES)
    names = [c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands]
    assert [name for name in names if not re.search(rf"aifs-tune {name}(?![\w-])", told)] == []


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_read_in_a_few_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_every_test_that_the_docs_name_exists():
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    named = {name for page in pages for name in re.findall(r"`(?:tests/[\w/]*)?(test_\w+\.py)`", page.read_text())}
    assert len(named) > 20
    there = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    placeholders = {"test_mylab.py", "test_NAME.py"}  # files that the reader writes
    assert named - there <= placeholders


def test_the_tests_that_the_comparison_of_pages_names_exist() -> None:
    table = (DOCS / "how_to" / "service.md").read_text().split("### Beside other pages")[1]
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", table)
    assert len(named) > 10
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / "tests" / "service" / file).read_text(), test
